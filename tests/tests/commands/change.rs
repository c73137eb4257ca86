//! Commands that change what is there.

use crate::row::{Row, row};

const WEB: &str = "apps/deployments/web";
const CONTAINER: &str = "/spec/template/spec/containers/0";
const REPLICAS: &str = "/spec/replicas";
/// What the controller says it has seen; the next command that speaks of revisions relies on it.
const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";
const N1: &str = "/api/v1/nodes/n1";
const N2: &str = "/api/v1/nodes/n2";

pub(crate) const ROWS: &[Row] = &[
    row("replace", "replace -f cm-replaced.yaml")
        .says(&["configmap/newcm replaced"])
        .then(&[("configmaps/newcm", "/data/c", "\"d\""), ("configmaps/newcm", "/data/a", "null")]),
    row("replace-force", "replace --force -f cm.yaml")
        .says(&["configmap \"newcm\" deleted", "configmap/newcm replaced"])
        .then(&[("configmaps/newcm", "/data/a", "\"b\""), ("configmaps/newcm", "/data/c", "null")]),
    row("edit", "edit cm cm1")
        .says(&["configmap/cm1 edited"])
        .then(&[("configmaps/cm1", "/data/word", "\"second\"")]),
    row(
        "patch-strategic",
        r#"patch deploy web -p '{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"nginx:9"}]}}}}'"#,
    )
    .says(&["deployment.apps/web patched"])
    .then(&[(WEB, CONTAINER, r#"{"name":"c","image":"nginx:9","imagePullPolicy":"IfNotPresent"}"#), (WEB, REVISION, "\"2\"")]),
    row("patch-merge", r#"patch deploy web --type=merge -p '{"spec":{"replicas":3}}'"#)
        .says(&["deployment.apps/web patched"])
        .then(&[(WEB, REPLICAS, "3")]),
    row("patch-json", r#"patch deploy web --type=json -p '[{"op":"replace","path":"/spec/replicas","value":2}]'"#)
        .says(&["deployment.apps/web patched"])
        .then(&[(WEB, REPLICAS, "2")]),
    row("patch-sub", r#"patch deploy web --subresource=scale --type=merge -p '{"spec":{"replicas":5}}'"#)
        .says(&["patched"])
        .then(&[(WEB, REPLICAS, "5")]),
    row("set-image", "set image deploy/web c=nginx:8")
        .says(&["deployment.apps/web image updated"])
        .then(&[(WEB, CONTAINER, r#"{"image":"nginx:8"}"#), (WEB, REVISION, "\"3\"")]),
    row("set-env", "set env deploy/web A=B")
        .says(&["deployment.apps/web env updated"])
        .then(&[(WEB, CONTAINER, r#"{"env":[{"name":"A","value":"B"}]}"#), (WEB, REVISION, "\"4\"")]),
    row("scale", "scale deploy web --replicas=4")
        .says(&["deployment.apps/web scaled"])
        .then(&[(WEB, REPLICAS, "4")]),
    // No Pod runs here: of a Deployment that wants none.
    row("rollout-status", "rollout status deploy/none --timeout=5s").says(&["successfully rolled out"]),
    // It waits until there are as many Pods, and a roll-out that waits for its own to run has more.
    row("scale-rs", "scale deploy none --replicas=2 --current-replicas=0 --timeout=5s")
        .says(&["deployment.apps/none scaled"])
        .then(&[("apps/deployments/none", REPLICAS, "2"), ("apps/deployments/none", "/status/replicas", "2")]),
    row("rollout-restart", "rollout restart deploy/web").says(&["deployment.apps/web restarted"]).then(&[
        (WEB, "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt", "\"*\""),
        (WEB, REVISION, "\"5\""),
    ]),
    row("rollout-history", "rollout history deploy/web").says(&["REVISION", "CHANGE-CAUSE", "1 ", "5 "]),
    row("rollout-history-rev", "rollout history deploy/web --revision=1")
        .says(&["with revision #1", "Pod Template:", "nginx:1"]),
    row("rollout-undo", "rollout undo deploy/web").says(&["deployment.apps/web rolled back"]).then(&[
        (WEB, "/spec/template/metadata/annotations", "null"),
        (WEB, CONTAINER, r#"{"image":"nginx:8"}"#),
        (WEB, REVISION, "\"6\""),
    ]),
    row("rollout-pause", "rollout pause deploy/web")
        .says(&["deployment.apps/web paused"])
        .then(&[(WEB, "/spec/paused", "true")]),
    row("rollout-resume", "rollout resume deploy/web")
        .says(&["deployment.apps/web resumed"])
        .then(&[(WEB, "/spec/paused", "null")]),
    row("label", "label pod p1 k=v")
        .says(&["pod/p1 labeled"])
        .then(&[("pods/p1", "/metadata/labels", r#"{"app":"one","k":"v"}"#)]),
    row("label-ow", "label pod p1 k=w --overwrite")
        .says(&["pod/p1 labeled"])
        .then(&[("pods/p1", "/metadata/labels/k", "\"w\"")]),
    row("annotate", "annotate pod p1 k=v")
        .says(&["pod/p1 annotate"])
        .then(&[("pods/p1", "/metadata/annotations/k", "\"v\"")]),
    row("taint", "taint node n1 k=v:NoSchedule")
        .says(&["node/n1 tainted"])
        .then(&[(N1, "/spec/taints", r#"[{"key":"k","value":"v","effect":"NoSchedule"}]"#)]),
    row("cordon", "cordon n1").says(&["node/n1 cordoned"]).then(&[(N1, "/spec/unschedulable", "true")]),
    row("uncordon", "uncordon n1").says(&["node/n1 uncordoned"]).then(&[(N1, "/spec/unschedulable", "null")]),
    row("drain-dry", "drain n1 --force --dry-run=server")
        .says(&["cordoned (server dry run)", "evicting pod default/p1 (server dry run)", "drained (server dry run)"])
        .then(&[(N1, "/spec/unschedulable", "null"), ("pods/p1", "/metadata", r#"{"name":"p1","deletionTimestamp":null}"#)]),
    // The only Pod there has ended, so it goes without an agent.
    row("drain", "drain n2 --ignore-daemonsets --force --delete-emptydir-data --timeout=10s")
        .says(&["node/n2 cordoned", "evicting pod default/done", "node/n2 drained"])
        .then(&[(N2, "/spec/unschedulable", "true"), ("pods/done", "", "null")]),
    row("csr-approve", "certificate approve csr1")
        .says(&["certificatesigningrequest.certificates.k8s.io/csr1 approved"])
        .then(&[(
            "/apis/certificates.k8s.io/v1/certificatesigningrequests/csr1",
            "/status/conditions",
            r#"[{"type":"Approved","status":"True","reason":"KubectlApprove"}]"#,
        )]),
];
