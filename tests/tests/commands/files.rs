//! What the commands find: files in the directory where they are typed, and a cluster with one of everything.

use weft_tests::until;

use crate::Kubectl;
use crate::api::Api;

pub(crate) const FILES: &[(&str, &str)] = &[
    ("base.yaml", BASE),
    ("cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: newcm }\ndata: { a: b }\n"),
    ("cm-replaced.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: newcm }\ndata: { c: d }\n"),
    ("cm_b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: ssacm }\ndata: { a: b }\n"),
    ("dep.yaml", DEPLOYMENT),
    ("dep2.yaml", DEPLOYMENT_CHANGED),
    ("dep-ssa.yaml", DEPLOYMENT_APPLIED),
    ("prune1.yaml", PRUNE_TWO),
    ("prune.yaml", PRUNE_ONE),
    ("role.yaml", ROLE),
    (
        "kz/kustomization.yaml",
        "configMapGenerator: [{name: kzcm, literals: [a=b]}]\ngeneratorOptions: {disableNameSuffixHash: true}\n",
    ),
];

/// Makes what the commands find, and says of Pods what an agent would.
pub(crate) fn prepare(kubectl: &Kubectl, api: &Api) {
    until("the namespace's account", crate::COMMAND_MAX, || {
        (!api.get("serviceaccounts/default").is_null()).then_some(())
    });
    kubectl.run("create -f base.yaml").ok();
    kubectl.run("apply -f prune1.yaml").ok();
    for (pod, status) in [("p1", RUNNING), ("done", r#"{"status":{"phase":"Succeeded"}}"#)] {
        let line = format!("patch pod {pod} --subresource=status --type=merge -p '{status}'");
        kubectl.run(&line).ok();
    }
    api.holds(&("apps/deployments/web", "/metadata/annotations/deployment.kubernetes.io~1revision", "\"1\""))
        .expect("the first revision");
    api.holds(&("pods?labelSelector=app=web", "/items/0", "\"*\"")).expect("a Pod of the Deployment");
}

const RUNNING: &str = r#"{"status":{"phase":"Running","podIP":"10.244.0.9","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"c","ready":true,"restartCount":0,"image":"nginx","imageID":"","state":{"running":{}}}]}}"#;

const BASE: &str = r"
apiVersion: v1
kind: Node
metadata: { name: n1, labels: { kubernetes.io/hostname: n1 } }
---
apiVersion: v1
kind: Node
metadata: { name: n2, labels: { kubernetes.io/hostname: n2 } }
---
apiVersion: v1
kind: Pod
metadata: { name: p1, labels: { app: one } }
spec: { nodeName: n1, containers: [{ name: c, image: nginx }] }
---
apiVersion: v1
kind: Pod
metadata: { name: done }
spec: { nodeName: n2, restartPolicy: Never, containers: [{ name: c, image: nginx }] }
---
apiVersion: v1
kind: Event
metadata: { name: p1.tried, namespace: default }
involvedObject: { apiVersion: v1, kind: Pod, name: p1, namespace: default }
type: Normal
reason: Tried
message: somebody tried it
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: c, image: 'nginx:1' }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: none }
spec:
  replicas: 0
  selector: { matchLabels: { app: none } }
  template:
    metadata: { labels: { app: none } }
    spec: { containers: [{ name: c, image: 'nginx:1' }] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
---
{ apiVersion: v1, kind: ConfigMap, metadata: { name: cm0 } }
---
{ apiVersion: v1, kind: ConfigMap, metadata: { name: cm1 }, data: { word: first } }
---
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: { name: csr1 }
spec:
  signerName: weft.test/signer
  usages: [client auth]
  request: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIY01JR0RBZ0VBTUNFeERqQU1CZ05WQkFNTUJYSnZZbTkwTVE4d0RRWURWUVFLREFaeWIySnZkSE13V1RBVApCZ2NxaGtqT1BRSUJCZ2dxaGtqT1BRTUJCd05DQUFTeUY1UE5sbkQ3WW1IeS9wZE1qdGljbG9uVEJjZytJdG1SCjZQMFg2ejBNdlBzNkVMOFFLM1hqdVpjMjZLZjRQRkduVWRZUDQyNGYzR1pNWk8ycEQ2TnZvQUF3Q2dZSUtvWkkKemowRUF3SURTQUF3UlFJaEFQQTFBOXRpMGpTR1FVdHlRY1RUc0JwaWlxZlhDSTR3MjR1YjRIMlRWcWpwQWlCcwpoUEpyWjJSSE1NY1A4WjROenBsRXI2Z3U1aUg0YmdOaWxhalo2MmJkbHc9PQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K
";

const DEPLOYMENT: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  selector: { matchLabels: { app: app } }
  template:
    metadata: { labels: { app: app } }
    spec:
      containers:
        - { name: c, image: 'nginx:1', env: [{ name: A, value: a }, { name: B, value: b }] }
";

/// Another image, and one variable less.
const DEPLOYMENT_CHANGED: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  selector: { matchLabels: { app: app } }
  template:
    metadata: { labels: { app: app } }
    spec:
      containers:
        - { name: c, image: 'nginx:2', env: [{ name: B, value: b }] }
";

const DEPLOYMENT_APPLIED: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: { name: app, labels: { by: server } }
";

const PRUNE_TWO: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: { name: keep, labels: { app: zz } }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: prune, labels: { app: zz } }
";

const PRUNE_ONE: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: { name: keep, labels: { app: zz } }
";

const ROLE: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: rr, namespace: default }
rules: [{ apiGroups: [''], resources: [pods], verbs: [get] }]
";
