//! The state machine, step by step.

use serde_json::{Value, json};

use super::status::{Context, status};
use super::*;

#[allow(clippy::needless_pass_by_value)]
fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" }, "spec": spec }))
        .unwrap()
}

fn one(policy: &str) -> Pod {
    pod(json!({ "containers": [{ "name": "c", "image": "i" }], "restartPolicy": policy }))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ended(code: i32, started: i64, finished: i64) -> Ended {
    Ended { id: "id".into(), code, started: at(started), finished: at(finished), ..Ended::default() }
}

fn ready() -> Observed {
    Observed { sandbox: Sandbox::Ready, ..Observed::default() }
}

fn next(pod: &Pod, observed: &Observed, second: i64) -> Plan {
    plan(Desired { pod, ending: false }, observed, at(second))
}

fn pull(container: &str) -> Action {
    Action::Pull { container: container.into() }
}

#[test]
fn sandbox_then_image_then_start() {
    let pod = one("Always");
    let mut observed = Observed::default();
    assert_eq!(next(&pod, &observed, 0).actions, [Action::PrepareSandbox]);
    observed.sandbox = Sandbox::Ready;
    assert_eq!(next(&pod, &observed, 0).actions, [pull("c")]);
    let state = observed.containers.entry("c".into()).or_default();
    state.image = ImageState::Ready;
    assert_eq!(next(&pod, &observed, 0).actions, [Action::Start { container: "c".into() }]);
}

#[test]
fn restarts_pause_longer_each_time_up_to_five_minutes() {
    let pod = one("Always");
    let mut observed = ready();
    let mut pauses = Vec::new();
    let mut now = 0;
    for _ in 0..8 {
        let state = observed.containers.entry("c".into()).or_default();
        state.starting("id".into());
        state.running("id".into(), at(now));
        state.ended(ended(1, now, now + 1));
        now += 1;
        pauses.push(state.pause_s);
        let plan = next(&pod, &observed, now);
        match observed.containers["c"].pause_s {
            0 => assert_eq!(plan.actions, [pull("c")]),
            pause => assert_eq!(plan, Plan { actions: vec![], wake: Some(at(now + i64::from(pause))) }),
        }
    }
    assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
    let state = observed.containers.get_mut("c").unwrap();
    state.starting("id".into());
    state.ended(ended(1, 0, 601));
    assert_eq!(state.pause_s, 0);
    assert_eq!(state.restarts, 8);
}

#[test]
fn policy_decides_about_restarts() {
    for (policy, code, again) in
        [("Always", 0, true), ("OnFailure", 0, false), ("OnFailure", 1, true), ("Never", 1, false)]
    {
        let pod = one(policy);
        let mut observed = ready();
        observed.containers.entry("c".into()).or_default().ended(ended(code, 0, 1));
        let wanted = if again { pull("c") } else { Action::Release };
        assert_eq!(next(&pod, &observed, 1000).actions, [wanted], "{policy} {code}");
        observed.released = !again;
        assert_eq!(next(&pod, &observed, 1000).actions.is_empty(), !again, "{policy} {code}");
    }
}

#[test]
fn init_containers_go_one_by_one_and_a_sidecar_stays() {
    let pod = pod(json!({
        "initContainers": [{ "name": "a" }, { "name": "s", "restartPolicy": "Always" }],
        "containers": [{ "name": "c" }], "restartPolicy": "Never",
    }));
    let mut observed = ready();
    assert_eq!(next(&pod, &observed, 0).actions, [pull("a")]);
    observed.containers.entry("a".into()).or_default().ended(ended(0, 0, 1));
    assert_eq!(next(&pod, &observed, 1).actions, [pull("s")]);
    let sidecar = observed.containers.entry("s".into()).or_default();
    sidecar.running("s".into(), at(1));
    assert_eq!(next(&pod, &observed, 1).actions, []);
    observed.containers.get_mut("s").unwrap().started = true;
    assert_eq!(next(&pod, &observed, 1).actions, [pull("c")]);
    observed.containers.entry("c".into()).or_default().ended(ended(0, 1, 2));
    assert_eq!(next(&pod, &observed, 2).actions, [Action::Stop { container: "s".into(), grace_s: 30 }]);
    observed.containers.get_mut("a").unwrap().ended(ended(3, 0, 1));
    assert_eq!(next(&pod, &observed, 2).actions, [Action::Stop { container: "s".into(), grace_s: 30 }]);
    observed.containers.get_mut("s").unwrap().ended(ended(0, 0, 3));
    assert_eq!(next(&pod, &observed, 3).actions, [Action::Release]);
    assert_eq!(status(&pod, &observed, context(&Value::Null))["phase"], "Failed");
}

#[test]
fn an_ending_pod_stops_then_leaves() {
    let mut pod = one("Always");
    let mut observed = ready();
    let state = observed.containers.entry("c".into()).or_default();
    state.running("id".into(), at(0));
    let ending =
        |pod: &Pod, observed: &Observed, s| plan(Desired { pod, ending: true }, observed, at(s)).actions;
    assert_eq!(ending(&pod, &observed, 0), [Action::Stop { container: "c".into(), grace_s: 30 }]);
    observed.containers.get_mut("c").unwrap().stopping = Some(at(30));
    assert_eq!(ending(&pod, &observed, 1), []);
    pod.metadata.deletion_grace_period_seconds = Some(0);
    assert_eq!(ending(&pod, &observed, 2), [Action::Stop { container: "c".into(), grace_s: 0 }]);
    observed.containers.get_mut("c").unwrap().ended(ended(143, 0, 3));
    assert_eq!(ending(&pod, &observed, 3), [Action::Teardown]);
    observed.sandbox = Sandbox::Removing;
    assert_eq!(ending(&pod, &observed, 3), []);
    observed.sandbox = Sandbox::Stuck { again: at(5) };
    assert_eq!(ending(&pod, &observed, 4), []);
    assert_eq!(ending(&pod, &observed, 5), [Action::Teardown]);
    // A sandbox that never came to be does not hold up its end.
    observed.sandbox = Sandbox::Failed { again: at(90), pause_s: 30, message: String::new() };
    assert_eq!(ending(&pod, &observed, 6), [Action::Teardown]);
}

#[test]
fn an_unhealthy_container_is_stopped_once() {
    let pod = one("Always");
    let mut observed = ready();
    let state = observed.containers.entry("c".into()).or_default();
    state.running("id".into(), at(0));
    state.unhealthy = Some("probe failed".into());
    assert_eq!(next(&pod, &observed, 0).actions, [Action::Stop { container: "c".into(), grace_s: 30 }]);
    observed.containers.get_mut("c").unwrap().stopping = Some(at(30));
    assert_eq!(next(&pod, &observed, 0).actions, []);
}

fn context(before: &Value) -> Context<'_> {
    Context { host_ips: &[], before, now: at(50) }
}

#[test]
fn status_follows_the_containers_and_conditions_keep_their_time() {
    let pod = one("Always");
    let mut observed = ready();
    let pending = status(&pod, &observed, context(&Value::Null));
    assert_eq!(pending["phase"], "Pending");
    assert_eq!(pending["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    let state = observed.containers.entry("c".into()).or_default();
    state.running("id".into(), at(40));
    (state.ready, state.started) = (true, true);
    let before = json!({ "conditions": [
        { "type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:07Z" },
        { "type": "example.org/gate", "status": "True" },
    ] });
    let running = status(&pod, &observed, context(&before));
    assert_eq!(running["phase"], "Running");
    let conditions = running["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!(ready["lastTransitionTime"], "1970-01-01T00:00:07Z");
    assert!(conditions.iter().any(|c| c["type"] == "example.org/gate"));
    let state = observed.containers.get_mut("c").unwrap();
    state.ended(ended(1, 40, 45));
    state.waiting = Some(("CrashLoopBackOff".into(), "back-off 10s".into()));
    let crashed = status(&pod, &observed, context(&running));
    assert_eq!(crashed["phase"], "Running");
    assert_eq!(crashed["containerStatuses"][0]["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(crashed["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
}

#[test]
fn sidecars_end_after_the_containers_one_by_one_from_the_last() {
    let sidecar = |name: &str| json!({ "name": name, "image": "i", "restartPolicy": "Always" });
    let pod = pod(json!({
        "initContainers": [sidecar("first"), sidecar("second")],
        "containers": [{ "name": "c", "image": "i" }],
        "terminationGracePeriodSeconds": 30,
    }));
    let mut observed = Observed { ending: Some(at(0)), ..ready() };
    for name in ["first", "second", "c"] {
        observed.containers.entry(name.into()).or_default().running("id".into(), at(0));
    }
    let ends =
        |observed: &Observed, second| plan(Desired { pod: &pod, ending: true }, observed, at(second)).actions;
    let stop = |container: &str, grace_s| vec![Action::Stop { container: container.into(), grace_s }];
    assert_eq!(ends(&observed, 0), stop("c", 30));
    observed.containers.get_mut("c").unwrap().ended(ended(0, 0, 10));
    assert_eq!(ends(&observed, 10), stop("second", 20));
    observed.containers.get_mut("second").unwrap().stopping = Some(at(30));
    assert_eq!(ends(&observed, 11), []);
    observed.containers.get_mut("second").unwrap().ended(ended(0, 0, 29));
    // The grace is over; a moment is left to every sidecar.
    assert_eq!(ends(&observed, 40), stop("first", 2));
    observed.containers.get_mut("first").unwrap().ended(ended(0, 0, 41));
    assert_eq!(ends(&observed, 41), [Action::Teardown]);
}

#[test]
fn a_pod_beyond_its_deadline_ends_and_is_not_started_again() {
    let pod = pod(
        json!({ "containers": [{ "name": "c" }], "activeDeadlineSeconds": 60, "restartPolicy": "Always" }),
    );
    let mut observed = Observed { started: Some(at(0)), ..ready() };
    observed.containers.entry("c".into()).or_default().running("id".into(), at(1));
    assert_eq!(next(&pod, &observed, 59), Plan { actions: vec![], wake: Some(at(60)) });
    assert!(!is_overdue(&pod, &observed, at(59)) && is_overdue(&pod, &observed, at(60)));
    observed.overdue = true;
    assert_eq!(next(&pod, &observed, 60).actions, [Action::Stop { container: "c".into(), grace_s: 30 }]);
    observed.containers.get_mut("c").unwrap().ended(ended(143, 1, 61));
    assert_eq!(next(&pod, &observed, 61).actions, [Action::Release]);
    observed.released = true;
    assert_eq!(next(&pod, &observed, 999).actions, []);
    let status = status(&pod, &observed, context(&Value::Null));
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
}

#[test]
fn readiness_waits_for_the_gates_of_others() {
    let gated = |conditions: Value| -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p" },
            "spec": { "containers": [{ "name": "c" }], "readinessGates": [{ "conditionType": "example.org/in" }] },
            "status": { "conditions": conditions },
        }))
        .unwrap()
    };
    let mut observed = ready();
    let state = observed.containers.entry("c".into()).or_default();
    state.running("id".into(), at(1));
    state.ready = true;
    let said = |pod: &Pod, type_: &str| {
        let status = status(pod, &observed, context(&Value::Null));
        let all = status["conditions"].as_array().unwrap();
        all.iter().find(|c| c["type"] == type_).map(|c| c["status"].clone()).unwrap()
    };
    let waiting = gated(json!([]));
    assert_eq!((said(&waiting, "ContainersReady"), said(&waiting, "Ready")), (json!("True"), json!("False")));
    let open = gated(json!([{ "type": "example.org/in", "status": "True" }]));
    assert_eq!(said(&open, "Ready"), json!("True"));
}
