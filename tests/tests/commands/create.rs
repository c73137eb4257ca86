//! Commands that make something, and apply in its ways.

use crate::row::{Row, row};

const IMAGE: &str = "/spec/template/spec/containers/0/image";
const LAST_APPLIED: &str = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";

pub(crate) const ROWS: &[Row] = &[
    row("create-f", "create -f cm.yaml").says(&["configmap/newcm created"]).then(&[
        ("configmaps/newcm", "/data", r#"{"a":"b"}"#),
        (
            "configmaps/newcm",
            "/metadata/managedFields",
            r#"[{"manager":"kubectl-create","operation":"Update"}]"#,
        ),
    ]),
    row("create-f-ssapply", "create -f dep.yaml --save-config --dry-run=server")
        .says(&["deployment.apps/app created (server dry run)"])
        .then(&[("apps/deployments/app", "", "null")]),
    row("create-deploy", "create deployment d2 --image=nginx").says(&["deployment.apps/d2 created"]).then(&[
        ("apps/deployments/d2", IMAGE, "\"nginx\""),
        ("apps/deployments/d2", "/spec/replicas", "1"),
        (
            "apps/replicasets?labelSelector=app=d2",
            "/items",
            r#"[{"metadata":{"ownerReferences":[{"name":"d2"}]}}]"#,
        ),
    ]),
    row("create-ns", "create ns foo").says(&["namespace/foo created"]).then(&[(
        "/api/v1/namespaces/foo",
        "/status/phase",
        "\"Active\"",
    )]),
    row("create-sa", "create sa robot").says(&["serviceaccount/robot created"]).then(&[(
        "serviceaccounts/robot",
        "/metadata/uid",
        "\"*\"",
    )]),
    row("create-cm", "create configmap cmx --from-literal=a=b").says(&["configmap/cmx created"]).then(&[(
        "configmaps/cmx",
        "/data/a",
        "\"b\"",
    )]),
    row("create-secret", "create secret generic s1 --from-literal=a=b")
        .says(&["secret/s1 created"])
        .then(&[("secrets/s1", "/data/a", "\"Yg==\""), ("secrets/s1", "/type", "\"Opaque\"")]),
    row("create-job", "create job jj --image=busybox -- true").says(&["job.batch/jj created"]).then(&[(
        "/apis/batch/v1/namespaces/default/jobs/jj",
        "/spec/template/spec",
        r#"{"restartPolicy":"Never","containers":[{"name":"jj","command":["true"]}]}"#,
    )]),
    row("create-role", "create role r1 --verb=get --resource=pods")
        .says(&["role.rbac.authorization.k8s.io/r1 created"])
        .then(&[(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/r1",
            "/rules/0",
            r#"{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}"#,
        )]),
    row("create-quota", "create quota q --hard=pods=1").says(&["resourcequota/q created"]).then(&[(
        "resourcequotas/q",
        "/spec/hard/pods",
        "\"1\"",
    )]),
    row("apply-new", "apply -f dep.yaml").says(&["deployment.apps/app created"]).then(&[
        ("apps/deployments/app", IMAGE, "\"nginx:1\""),
        ("apps/deployments/app", LAST_APPLIED, "\"*\""),
    ]),
    row("apply-change", "apply -f dep2.yaml").says(&["deployment.apps/app configured"]).then(&[
        ("apps/deployments/app", IMAGE, "\"nginx:2\""),
        ("apps/deployments/app", "/spec/template/spec/containers/0/env/0", r#"{"name":"B","value":"b"}"#),
        ("apps/deployments/app", "/spec/template/spec/containers/0/env/1", "null"),
        ("apps/deployments/app", "/metadata/generation", "2"),
    ]),
    row("apply-noop", "apply -f dep2.yaml").says(&["deployment.apps/app unchanged"]).then(&[(
        "apps/deployments/app",
        "/metadata/generation",
        "2",
    )]),
    row("apply-dry", "apply --dry-run=server -f dep.yaml")
        .says(&["deployment.apps/app configured (server dry run)"])
        .then(&[("apps/deployments/app", IMAGE, "\"nginx:2\"")]),
    row("diff", "diff -f dep.yaml").ends(1).says(&[
        "-        image: nginx:2",
        "+        image: nginx:1",
        "+        - name: A",
    ]),
    row("diff-ssa", "diff --server-side -f dep-ssa.yaml")
        .ends(1)
        .says(&["+    by: server", "!-        image"]),
    row("apply-ssa", "apply --server-side -f cm_b.yaml").says(&["configmap/ssacm serverside-applied"]).then(
        &[
            ("configmaps/ssacm", "/data/a", "\"b\""),
            (
                "configmaps/ssacm",
                "/metadata/managedFields/0",
                r#"{"manager":"kubectl","operation":"Apply","fieldsV1":{"f:data":{"f:a":{}}}}"#,
            ),
        ],
    ),
    row("apply-ssa-dry", "apply --server-side --dry-run=server -f cm_b.yaml")
        .says(&["configmap/ssacm serverside-applied (server dry run)"]),
    row("apply-prune", "apply --prune -l app=zz --prune-allowlist=core/v1/ConfigMap -f prune.yaml")
        .says(&["configmap/keep unchanged", "configmap/prune pruned"])
        .then(&[("configmaps/prune", "", "null"), ("configmaps/keep", "/metadata/uid", "\"*\"")]),
    row("kustomize", "apply -k kz").says(&["configmap/kzcm created"]).then(&[(
        "configmaps/kzcm",
        "/data/a",
        "\"b\"",
    )]),
    row("run", "run r1 --image=busybox").says(&["pod/r1 created"]).then(&[(
        "pods/r1",
        "/spec/containers/0",
        r#"{"name":"r1","image":"busybox"}"#,
    )]),
    row("run-dry", "run r4 --image=x --dry-run=client -o yaml")
        .says(&["kind: Pod", "image: x"])
        .then(&[("pods/r4", "", "null")]),
    row("run-again", "run r5 --image=busybox -l app=p1").says(&["pod/r5 created"]).then(&[(
        "pods/r5",
        "/metadata/labels",
        r#"{"app":"p1"}"#,
    )]),
    row("run-again2", "run wf --image=x").says(&["pod/wf created"]),
    row("expose", "expose deploy web --port=80 --name=web2").says(&["service/web2 exposed"]).then(&[
        ("services/web2", "/spec/selector", r#"{"app":"web"}"#),
        ("services/web2", "/spec/ports/0", r#"{"port":80,"targetPort":80,"protocol":"TCP"}"#),
        ("services/web2", "/spec/clusterIP", "\"*\""),
    ]),
    // By autoscaling/v1 until 1.31, by v2 since.
    row("autoscale", "autoscale deploy web --min=1 --max=3")
        .says(&["horizontalpodautoscaler.autoscaling/web autoscaled"])
        .then(&[(
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/web",
            "/spec",
            r#"{"minReplicas":1,"maxReplicas":3,"scaleTargetRef":{"kind":"Deployment","name":"web"}}"#,
        )]),
    row("token", "create token default").says(&["eyJ"]),
    row("token-bound", "create token default --duration=10m --audience=a").says(&["eyJ"]),
    row("auth-reconcile", "auth reconcile -f role.yaml")
        .says(&["role.rbac.authorization.k8s.io/rr reconciled"])
        .then(&[(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/rr",
            "/rules/0/verbs",
            r#"["get"]"#,
        )]),
    // The recording talks with the container; what ends at the API is that it is asked for.
    row("debug", "debug r1 --image=busybox --container=dbg --attach=false -- sh").then(&[(
        "pods/r1",
        "/spec/ephemeralContainers",
        r#"[{"name":"dbg","image":"busybox"}]"#,
    )]),
    row("debug-node", "debug node/n1 --image=busybox --attach=false")
        .says(&["Creating debugging pod node-debugger-n1-"])
        .then(&[(
            "pods?fieldSelector=spec.nodeName=n1",
            "/items",
            r#"[{"spec":{"hostNetwork":true,"hostPID":true}}]"#,
        )]),
    row("debug-copy", "debug r1 --copy-to=r1copy --image=busybox --attach=false").then(&[(
        "pods/r1copy",
        "/spec/containers",
        r#"[{"image":"busybox"}]"#,
    )]),
];
