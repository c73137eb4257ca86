//! Rows of the sets, of what they are made from, of Jobs and CronJobs.

use serde_json::json;

use super::*;

fn template() -> Value {
    json!({"metadata": {"labels": {"p": "q"}}, "spec": {"nodeSelector": {"disk": "ssd"},
        "containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}})
}

#[test]
fn sets() {
    let object = json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template()},
        "status": {"readyReplicas": 2, "desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3,
            "updatedNumberScheduled": 2, "numberAvailable": 1}});
    assert_eq!(cells(&kind::STATEFUL_SET, object.clone()), ["x", "2/3", "5m", "a,b", "i:1,j"]);
    assert_eq!(
        cells(&kind::DAEMON_SET, object),
        [
            json!("x"),
            json!(5),
            json!(4),
            json!(3),
            json!(2),
            json!(1),
            json!("disk=ssd"),
            json!("5m"),
            json!("a,b"),
            json!("i:1,j"),
            json!("app=web")
        ]
    );
    assert_eq!(cells(&kind::DAEMON_SET, json!({}))[6], "<none>");
}

#[test]
fn replication_controllers() {
    let object = json!({"spec": {"replicas": 3, "selector": {"app": "web", "tier": "1"}, "template": template()},
        "status": {"replicas": 2, "readyReplicas": 1}});
    assert_eq!(
        cells(&kind::REPLICATION_CONTROLLER, object),
        [
            json!("x"),
            json!(3),
            json!(2),
            json!(1),
            json!("5m"),
            json!("a,b"),
            json!("i:1,j"),
            json!("app=web,tier=1")
        ]
    );
}

#[test]
fn what_is_kept_to_make_objects_from() {
    let owned = |owner: Value| json!({"metadata": {"ownerReferences": [owner]}, "revision": 4});
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true});
    assert_eq!(
        cells(&kind::CONTROLLER_REVISION, owned(owner)),
        [json!("x"), json!("statefulset.apps/web"), json!(4), json!("5m")]
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "controller": true});
    assert_eq!(cells(&kind::CONTROLLER_REVISION, owned(pod))[1], "pod/web");
    let other = json!({"apiVersion": "v1", "kind": "Pod", "name": "web"});
    assert_eq!(cells(&kind::CONTROLLER_REVISION, owned(other))[1], "<none>");
    assert_eq!(cells(&kind::POD_TEMPLATE, json!({"template": template()})), ["x", "a,b", "i:1,j", "p=q"]);
}

#[test]
fn jobs() {
    let spec = json!({"completions": 3, "selector": {"matchLabels": {"u": "1"}}, "template": template()});
    let job = |status: Value| cells(&kind::JOB, json!({"spec": spec, "status": status}));
    assert_eq!(
        job(json!({"succeeded": 1, "startTime": "2024-01-01T00:01:00Z"})),
        ["x", "Running", "1/3", "4m", "5m", "a,b", "i:1,j", "u=1"]
    );
    let condition = |type_: &str| json!([{"type": type_, "status": "True"}]);
    let ended = json!({"startTime": "2024-01-01T00:01:00Z", "completionTime": "2024-01-01T00:01:30Z",
        "conditions": condition("Complete")});
    assert_eq!(job(ended)[1..4], ["Complete", "0/3", "30s"]);
    assert_eq!(job(json!({}))[3], "");
    for type_ in ["Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"] {
        assert_eq!(job(json!({"conditions": condition(type_)}))[1], type_);
    }
    let completions =
        |spec: Value| cells(&kind::JOB, json!({"spec": spec, "status": {"succeeded": 2}}))[2].clone();
    assert_eq!(completions(json!({"parallelism": 4})), "2/1 of 4");
    assert_eq!(completions(json!({"parallelism": 1})), "2/1");
    let going = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:30Z"}});
    assert_eq!(cells(&kind::JOB, going)[1], "Terminating");
}

#[test]
fn cron_jobs() {
    let object = json!({"spec": {"schedule": "* * * * *", "suspend": true, "timeZone": "UTC", "jobTemplate": {"spec": {"template": template()}}},
        "status": {"active": [{}, {}], "lastScheduleTime": "2024-01-01T00:04:00Z"}});
    assert_eq!(
        cells(&kind::CRON_JOB, object),
        [
            json!("x"),
            json!("* * * * *"),
            json!("UTC"),
            json!("True"),
            json!(2),
            json!("60s"),
            json!("5m"),
            json!("a,b"),
            json!("i:1,j"),
            json!("<none>")
        ]
    );
    let idle = cells(&kind::CRON_JOB, json!({"spec": {"suspend": false}}));
    assert_eq!(idle[2..6], [json!("<none>"), json!("False"), json!(0), json!("<none>")]);
    assert_eq!(columns(&kind::CRON_JOB)[3]["type"], "boolean");
}
