//! helm 3 and helm 4: a release is installed, upgraded, rolled back and uninstalled, and each step is true in the API.

use serde_json::Value;
use weft_tests::cluster::{COMMAND_MAX, given};
use weft_tests::{Run, Server};

/// A chart of several kinds; the objects of one template are there on request.
const CHART: &[(&str, &str)] = &[
    ("Chart.yaml", "{apiVersion: v2, name: shop, version: 1.2.3, appVersion: '1'}\n"),
    ("values.yaml", "{colour: red, extra: true}\n"),
    (
        "templates/shop.yaml",
        r#"
apiVersion: v1
kind: ServiceAccount
metadata: { name: {{ .Release.Name }} }
---
apiVersion: v1
kind: Secret
metadata: { name: {{ .Release.Name }}-key }
stringData: { key: {{ .Values.colour }} }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: {{ .Release.Name }}, labels: { revision: "{{ .Release.Revision }}" } }
spec:
  replicas: 0
  selector: { matchLabels: { app: {{ .Release.Name }} } }
  template:
    metadata: { labels: { app: {{ .Release.Name }} } }
    spec:
      serviceAccountName: {{ .Release.Name }}
      containers:
        - name: shop
          image: shop
          env: [{ name: COLOUR, value: {{ .Values.colour }} }]
          ports: [{ name: http, containerPort: 8080 }]
---
apiVersion: v1
kind: Service
metadata: { name: {{ .Release.Name }} }
spec:
  selector: { app: {{ .Release.Name }} }
  ports: [{ name: http, port: 80, targetPort: http }]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: {{ .Release.Name }} }
spec:
  rules:
    - host: shop.test
      http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: {{ .Release.Name }}, port: { name: http } } } }] }
---
apiVersion: batch/v1
kind: CronJob
metadata: { name: {{ .Release.Name }} }
spec:
  schedule: "0 3 * * *"
  jobTemplate: { spec: { template: { spec: { restartPolicy: Never, containers: [{ name: tidy, image: shop }] } } } }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: {{ .Release.Name }} }
spec: { minAvailable: 1, selector: { matchLabels: { app: {{ .Release.Name }} } } }
"#,
    ),
    (
        "templates/extra.yaml",
        r#"
{{- if .Values.extra }}
apiVersion: v1
kind: ConfigMap
metadata: { name: {{ .Release.Name }}-extra }
data:
  colour: {{ .Values.colour }}
  # Only a server knows.
  cluster: "{{ (lookup "v1" "Namespace" "" "kube-system").metadata.uid }}"
{{- end }}
"#,
    ),
    (
        "templates/hook.yaml",
        r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-hook
  annotations: { helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation }
data: { revision: "{{ .Release.Revision }}" }
"#,
    ),
];

/// What a release has, beside the ConfigMap on request.
const KINDS: [&str; 6] =
    ["serviceaccount", "deployment", "service", "ingress", "cronjob", "poddisruptionbudget"];

/// One helm and its server.
struct Helm {
    program: String,
    server: Server,
}

impl Helm {
    fn new(program: &str, name: &str) -> Self {
        let server = Server::start(name);
        for (path, content) in CHART {
            server.write("helm", &format!("shop/{path}"), content);
        }
        Self { program: given(program), server }
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        self.server.client(&self.program, "helm").args(args).run(COMMAND_MAX).ok()
    }

    #[track_caller]
    fn says(&self, args: &[&str], words: &[&str]) {
        let said = self.run(args);
        for word in words {
            assert!(said.contains(word), "no {word:?} from helm {args:?}: {said}");
        }
    }

    /// Revisions and their states, as `helm history` tells them.
    #[track_caller]
    fn history(&self) -> Vec<(u64, String)> {
        let history: Value =
            serde_json::from_str(&self.run(&["history", "shop", "-o", "json"])).expect("JSON");
        let entries = history.as_array().expect("a list").iter();
        let told = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        entries.map(|entry| (entry["revision"].as_u64().unwrap_or(0), told(entry, "status"))).collect()
    }

    /// Colour of the Deployment and of the ConfigMap, and what the hook was last made for.
    #[track_caller]
    fn colours(&self) -> (Value, Value, Value) {
        let deployment = self.server.get(&["deployment", "shop"]);
        let colour = &deployment["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
        let extra = self.server.get(&["configmap", "shop-extra"]);
        let hook = self.server.get(&["configmap", "shop-hook"]);
        (colour.clone(), extra["data"]["colour"].clone(), hook["data"]["revision"].clone())
    }

    fn life_of_a_release(&self) {
        self.tries();
        self.says(
            &["install", "shop", "./shop", "--wait", "--timeout", "30s"],
            &["STATUS: deployed", "REVISION: 1"],
        );
        for kind in KINDS {
            let object = self.server.get(&[kind, "shop"]);
            assert_eq!(
                object["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm",
                "{kind}: {object}"
            );
        }
        assert_eq!(self.colours(), ("red".into(), "red".into(), "1".into()));
        let cluster = self.server.get(&["namespace", "kube-system"])["metadata"]["uid"].clone();
        assert_eq!(self.server.get(&["configmap", "shop-extra"])["data"]["cluster"], cluster);
        self.upgrades();
        self.rolls_back();
        self.ends();
    }

    /// `--dry-run=server`: rendered with what the server knows, and nothing is there afterwards.
    fn tries(&self) {
        let cluster = self.server.get(&["namespace", "kube-system"])["metadata"]["uid"].clone();
        let said = self.run(&["install", "shop", "./shop", "--dry-run=server"]);
        assert!(said.contains("MANIFEST:") && said.contains(cluster.as_str().expect("a UID")), "{said}");
        for kind in KINDS {
            assert_eq!(self.server.get(&[kind, "shop"]), Value::Null, "{kind}");
        }
        assert_eq!(self.server.get(&["secrets", "-l", "owner=helm"]), Value::Null);
    }

    /// Changed is what the chart changes, gone what it no longer has, and what others have written stays.
    fn upgrades(&self) {
        self.server.kubectl(&["annotate", "deployment", "shop", "by=somebody"]).ok();
        let before = self.server.get(&["service", "shop"]);
        let blue =
            ["upgrade", "shop", "./shop", "--set", "colour=blue,extra=false", "--wait", "--timeout", "30s"];
        self.says(&blue, &["STATUS: deployed", "REVISION: 2"]);
        assert_eq!(self.colours(), ("blue".into(), Value::Null, "2".into()));
        let deployment = self.server.get(&["deployment", "shop"]);
        assert_eq!(deployment["metadata"]["annotations"]["by"], "somebody");
        assert_eq!(deployment["metadata"]["labels"]["revision"], "2");
        assert_eq!(deployment["metadata"]["generation"], 2);
        let after = self.server.get(&["service", "shop"]);
        assert_eq!(after["spec"], before["spec"]);
        assert_eq!(self.history(), [(1, "superseded".to_owned()), (2, "deployed".to_owned())]);
        self.says(&["get", "values", "shop"], &["colour: blue"]);
        self.says(&["list"], &["shop-1.2.3", "deployed"]);
        let dry = ["upgrade", "shop", "./shop", "--set", "colour=green", "--dry-run=server"];
        self.says(&dry, &["value: green"]);
        assert_eq!(self.colours().0, "blue");
    }

    fn rolls_back(&self) {
        self.says(&["rollback", "shop", "1", "--wait", "--timeout", "30s"], &["Rollback was a success"]);
        let (colour, extra, _) = self.colours();
        assert_eq!((colour, extra), ("red".into(), "red".into()));
        let history = self.history();
        let states: Vec<&str> = history.iter().map(|(_, state)| state.as_str()).collect();
        assert_eq!(states, ["superseded", "superseded", "deployed"], "{history:?}");
        self.says(&["status", "shop"], &["STATUS: deployed", "REVISION: 3"]);
    }

    fn ends(&self) {
        self.says(&["uninstall", "shop", "--wait", "--timeout", "30s"], &["release \"shop\" uninstalled"]);
        for kind in KINDS {
            assert_eq!(self.server.get(&[kind, "shop"]), Value::Null, "{kind}");
        }
        assert_eq!(self.colours().1, Value::Null);
        assert_eq!(self.server.get(&["secrets", "-l", "owner=helm"]), Value::Null);
        let none =
            self.server.client(&self.program, "helm").args(["history", "shop"]).run(COMMAND_MAX).refused();
        assert!(none.contains("not found"), "{none}");
    }
}

#[test]
fn helm_3_leads_a_release_from_install_to_uninstall() {
    let helm = Helm::new("WEFT_HELM_3", "helm-3");
    helm.says(&["version", "--short"], &["v3."]);
    helm.life_of_a_release();
}

#[test]
fn helm_4_leads_a_release_from_install_to_uninstall() {
    let helm = Helm::new("WEFT_HELM_4", "helm-4");
    helm.says(&["version", "--short"], &["v4."]);
    helm.life_of_a_release();
    // It applies on the server, and owns what it applied.
    helm.run(&["install", "shop", "./shop"]);
    let deployment = helm.server.get(&["deployment", "shop", "--show-managed-fields"]);
    let owners = deployment["metadata"]["managedFields"].as_array().expect("owners");
    assert!(owners.iter().any(|o| o["manager"] == "helm" && o["operation"] == "Apply"), "{owners:?}");
    // Somebody else's value is a conflict, which helm tells, and force takes it.
    helm.server.kubectl(&["set", "env", "deployment/shop", "COLOUR=theirs"]).ok();
    let upgrade = ["upgrade", "shop", "./shop", "--set", "colour=blue"];
    let refused = helm.server.client(&helm.program, "helm").args(upgrade).run(COMMAND_MAX).refused();
    assert!(refused.contains("conflict with \"kubectl-set\""), "{refused}");
    helm.run(&[&upgrade[..], &["--force-conflicts"]].concat());
    assert_eq!(helm.colours().0, "blue");
}
