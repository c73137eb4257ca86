//! Commands that delete.

use crate::row::{Row, row};

/// The first of them.
pub(crate) const FIRST: &str = "del-pod";

pub(crate) const ROWS: &[Row] =
    &[
        row(FIRST, "delete pod r1").says(&["pod \"r1\" deleted"]).then(&[("pods/r1", "", "null")]),
        row("del-nowait", "delete cm cmx --wait=false").says(&["configmap \"cmx\" deleted"]).then(&[(
            "configmaps/cmx",
            "",
            "null",
        )]),
        row("del-cascade-fg", "delete deploy app --cascade=foreground")
            .says(&["deployment.apps \"app\" deleted"])
            .then(&[
                ("apps/deployments/app", "", "null"),
                ("apps/replicasets?labelSelector=app=app", "/items/0", "null"),
                ("pods?labelSelector=app=app", "/items/0", "null"),
            ]),
        row("del-cascade-orphan", "delete deploy d2 --cascade=orphan")
            .says(&["deployment.apps \"d2\" deleted"])
            .then(&[
                ("apps/deployments/d2", "", "null"),
                ("apps/replicasets?labelSelector=app=d2", "/items/0/metadata/uid", "\"*\""),
                ("apps/replicasets?labelSelector=app=d2", "/items/0/metadata/ownerReferences", "null"),
            ]),
        row("del-force", "delete pod wf --grace-period=0 --force")
            .says(&["Immediate deletion does not wait", "pod \"wf\" force deleted"])
            .then(&[("pods/wf", "", "null")]),
        row("del-sel", "delete pods -l app=p1").says(&["pod \"r5\" deleted", "!p1\""]).then(&[
            ("pods/r5", "", "null"),
            ("pods/p1", "/metadata", r#"{"name":"p1","deletionTimestamp":null}"#),
        ]),
        row("del-all", "delete secret --all")
            .says(&["secret \"s1\" deleted"])
            .then(&[("secrets", "/items/0", "null")]),
        row("del-f", "delete -f cm.yaml --ignore-not-found")
            .says(&["configmap \"newcm\" deleted"])
            .then(&[("configmaps/newcm", "", "null")]),
        row("del-ns", "delete ns foo").says(&["namespace \"foo\" deleted"]).then(&[(
            "/api/v1/namespaces/foo",
            "",
            "null",
        )]),
    ];
