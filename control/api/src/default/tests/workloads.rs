//! Defaults of the sets, of Jobs and CronJobs, and what the server says of them.

use serde_json::json;

use super::*;

#[test]
fn stateful_set() {
    let set = defaulted(
        &kind::STATEFUL_SET,
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}, "volumeClaimTemplates": [{"metadata": {"name": "d"}}]}}),
    );
    let spec = &set["spec"];
    for (key, value) in [
        ("replicas", json!(1)),
        ("podManagementPolicy", json!("OrderedReady")),
        ("revisionHistoryLimit", json!(10)),
        ("updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})),
        ("persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"})),
        (
            "volumeClaimTemplates",
            json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d"},
                "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}]),
        ),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(set["status"], json!({"replicas": 0, "availableReplicas": 0}));
    let by_hand = defaulted(&kind::STATEFUL_SET, json!({"spec": {"updateStrategy": {"type": "OnDelete"}}}));
    assert_eq!(by_hand["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
}

#[test]
fn daemon_set() {
    let set = defaulted(&kind::DAEMON_SET, json!({"spec": {"template": {}}}));
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    );
    assert_eq!(set["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(
        set["status"],
        json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0})
    );
}

#[test]
fn a_daemon_sets_templates_are_counted() {
    let count =
        |set: &Value| set["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    let mut set = json!({"metadata": {"name": "d"}, "spec": {"template": {"a": 1}}});
    prepare(&kind::DAEMON_SET, &mut set, None);
    assert_eq!(count(&set), "1");
    let old = set.clone();
    set["spec"]["minReadySeconds"] = 5.into();
    // Nobody else counts.
    set["metadata"]["annotations"] = json!({"deprecated.daemonset.template.generation": "9"});
    prepare(&kind::DAEMON_SET, &mut set, Some(&old));
    assert_eq!(count(&set), "1");
    set["spec"]["template"]["a"] = 2.into();
    prepare(&kind::DAEMON_SET, &mut set, Some(&old));
    assert_eq!(count(&set), "2");
}

#[test]
fn replication_controller() {
    let controller = defaulted(
        &kind::REPLICATION_CONTROLLER,
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
    );
    assert_eq!(controller["spec"]["selector"], json!({"a": "b"}));
    assert_eq!(controller["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(controller["spec"]["replicas"], 1);
    let said = json!({"metadata": {"labels": {"c": "d"}}, "spec": {"selector": {"e": "f"}, "template": {"metadata": {"labels": {"a": "b"}}}}});
    let said = defaulted(&kind::REPLICATION_CONTROLLER, said);
    assert_eq!(said["spec"]["selector"], json!({"e": "f"}));
    assert_eq!(said["metadata"]["labels"], json!({"c": "d"}));
}

#[test]
fn pod_template() {
    let template =
        defaulted(&kind::POD_TEMPLATE, json!({"template": {"spec": {"containers": [{"name": "c"}]}}}));
    assert_eq!(template["template"]["spec"]["dnsPolicy"], "ClusterFirst");
}

#[test]
fn job() {
    let job = defaulted(&kind::JOB, json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}));
    let spec = &job["spec"];
    for (key, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("manualSelector", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    let parallel = defaulted(&kind::JOB, json!({"spec": {"parallelism": 3, "backoffLimitPerIndex": 1}}));
    assert!(parallel["spec"].get("completions").is_none(), "any number of successes");
    assert_eq!(parallel["spec"]["backoffLimit"], i32::MAX);
    let judged = json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "A"}]}]});
    let judged = defaulted(&kind::JOB, json!({"spec": {"podFailurePolicy": judged}}));
    assert_eq!(judged["spec"]["podReplacementPolicy"], "Failed");
    assert_eq!(judged["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"], "True");
}

#[test]
fn a_new_job_selects_its_own_pods() {
    let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"metadata": {}}}});
    prepare(&kind::JOB, &mut job, None);
    assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}));
    let labels = json!({"batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "j", "controller-uid": "u", "job-name": "j"});
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(job["metadata"]["labels"], labels, "it has none of its own");
    let by_hand =
        json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"manualSelector": true, "template": {}}});
    let mut prepared = by_hand.clone();
    prepare(&kind::JOB, &mut prepared, None);
    assert_eq!(prepared, by_hand);
    let mut changed = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}}});
    prepare(&kind::JOB, &mut changed, Some(&job));
    assert!(changed["spec"].get("selector").is_none(), "an update says all of it");
}

#[test]
fn cron_job() {
    let cron_job = defaulted(
        &kind::CRON_JOB,
        json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}}}),
    );
    let spec = &cron_job["spec"];
    for (key, value) in [
        ("concurrencyPolicy", json!("Allow")),
        ("suspend", json!(false)),
        ("successfulJobsHistoryLimit", json!(3)),
        ("failedJobsHistoryLimit", json!(1)),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    let job = &spec["jobTemplate"]["spec"];
    assert_eq!(job["template"]["spec"]["terminationGracePeriodSeconds"], 30);
    assert!(job.get("completions").is_none(), "what the Job gets when it is made");
}
