//! Jobs and CronJobs.

use serde_json::json;

use super::*;

fn job() -> Value {
    json!({"spec": {"template": {"metadata": {}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})
}

fn indexed() -> Value {
    with(&job(), &[("/spec/completionMode", json!("Indexed")), ("/spec/completions", json!(5))])
}

/// As it is stored.
fn stored(mut job: Value) -> Value {
    job["metadata"] = json!({"name": "x", "namespace": "default", "uid": "u"});
    crate::default::apply(&kind::JOB, &mut job);
    crate::default::prepare(&kind::JOB, &mut job, None);
    job
}

fn changed(old: &Value, changes: &[(&str, Value)]) -> Vec<String> {
    updated(&kind::JOB, &with(old, changes), old)
}

#[test]
fn jobs() {
    assert_eq!(created(&kind::JOB, job()), Vec::<String>::new());
    for (change, said) in [
        (
            ("/spec/parallelism", json!(-1)),
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            ("/spec/completionMode", json!("Some")),
            "spec.completionMode: Unsupported value: \"Some\": supported values: \"Indexed\", \"NonIndexed\"",
        ),
        (
            ("/spec/podReplacementPolicy", json!("Never")),
            "spec.podReplacementPolicy: Unsupported value: \"Never\": supported values: \"Failed\", \"TerminatingOrFailed\"",
        ),
        (
            ("/spec/backoffLimitPerIndex", json!(1)),
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        ),
        (
            ("/spec/successPolicy", json!({"rules": []})),
            "spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode",
        ),
        (
            ("/spec/managedBy", json!("me")),
            "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        (
            ("/spec/template/spec/restartPolicy", json!("Always")),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        (("/spec/template/spec/containers", json!([])), "spec.template.spec.containers: Required value"),
    ] {
        assert_eq!(created(&kind::JOB, with(&job(), &[change])), [said]);
    }
}

#[test]
fn numbered_jobs_have_bounds() {
    assert!(created(&kind::JOB, indexed()).is_empty());
    for (changes, said) in [
        (
            vec![("/spec/completions", Value::Null), ("/spec/parallelism", json!(1))],
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            vec![("/spec/parallelism", json!(100_001))],
            "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
        ),
        (
            vec![("/spec/maxFailedIndexes", json!(6)), ("/spec/backoffLimitPerIndex", json!(1))],
            "spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions",
        ),
        (
            vec![("/spec/maxFailedIndexes", json!(1))],
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        ),
        (
            vec![("/spec/completions", json!(100_001)), ("/spec/backoffLimitPerIndex", json!(1))],
            "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
        ),
    ] {
        assert_eq!(created(&kind::JOB, with(&indexed(), &changes)), [said]);
    }
    let mut long = with(&indexed(), &[("/spec/completions", json!(100))]);
    long["metadata"]["name"] = "a".repeat(61).into();
    let said = created(&kind::JOB, long);
    assert!(
        said.len() == 1 && said[0].contains("will not able to create pod with invalid DNS label"),
        "{said:?}"
    );
}

#[test]
fn a_jobs_selector_is_its_own() {
    let mut by_hand = job();
    by_hand["spec"]["manualSelector"] = true.into();
    assert_eq!(created(&kind::JOB, by_hand.clone()), ["spec.selector: Required value"]);
    by_hand["spec"]["selector"] = json!({"matchLabels": {"a": "b"}});
    assert_eq!(
        created(&kind::JOB, by_hand.clone()),
        ["spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`"]
    );
    by_hand["spec"]["template"]["metadata"]["labels"] = json!({"a": "b"});
    assert!(created(&kind::JOB, by_hand).is_empty());
    let foreign =
        with(&job(), &[("/spec/template/metadata/labels", json!({"controller-uid": "v", "job-name": "x"}))]);
    assert_eq!(
        created(&kind::JOB, foreign),
        [
            "spec.template.metadata.labels[controller-uid]: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"x\",\"controller-uid\":\"v\",\"job-name\":\"x\"}: must be 'u'"
        ]
    );
    let selecting = with(&job(), &[("/spec/selector", json!({"matchLabels": {"a": "b"}}))]);
    let said = created(&kind::JOB, selecting);
    assert!(said[0].ends_with("`selector` not auto-generated"), "{said:?}");
}

#[test]
fn failures_are_judged_by_rules() {
    let path = "spec.podFailurePolicy.rules[0]";
    let judged = |rule: Value| {
        created(&kind::JOB, with(&job(), &[("/spec/podFailurePolicy", json!({"rules": [rule]}))]))
    };
    let codes = json!({"operator": "In", "values": [1, 2]});
    assert!(judged(json!({"action": "FailJob", "onExitCodes": codes})).is_empty());
    assert!(
        judged(json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]})).is_empty()
    );
    for (rule, said) in [
        (
            json!({"action": "Panic", "onExitCodes": codes}),
            ".action: Unsupported value: \"Panic\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
        ),
        (
            json!({"onExitCodes": codes}),
            ".action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
        ),
        (
            json!({"action": "FailIndex", "onExitCodes": codes}),
            ".action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
        ),
        (
            json!({"action": "Count"}),
            ": Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ),
        (
            json!({"action": "Count", "onExitCodes": codes, "onPodConditions": [{"type": "A"}]}),
            ": Invalid value: specifying both OnExitCodes and OnPodConditions is not supported",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [0]}}),
            ".onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [2, 1]}}),
            ".onExitCodes.values: Invalid value: [2,1]: must be ordered",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [1, 1]}}),
            ".onExitCodes.values[1]: Duplicate value: 1",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [1], "containerName": "d"}}),
            ".onExitCodes.containerName: Invalid value: \"d\": must be one of the container or initContainer names in the pod template",
        ),
        (
            json!({"action": "Count", "onPodConditions": [{"type": "A", "status": "Maybe"}]}),
            ".onPodConditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
        ),
    ] {
        assert_eq!(judged(rule), [format!("{path}{said}")]);
    }
    let many = json!({"rules": vec![json!({"action": "FailJob", "onExitCodes": codes}); 21]});
    assert_eq!(
        created(&kind::JOB, with(&job(), &[("/spec/podFailurePolicy", many)])),
        ["spec.podFailurePolicy.rules: Too many: 21: must have at most 20 items"]
    );
    let rules = json!({"rules": [{"action": "FailJob", "onExitCodes": codes}]});
    let restarting =
        [("/spec/podFailurePolicy", rules), ("/spec/template/spec/restartPolicy", json!("OnFailure"))];
    assert_eq!(
        created(&kind::JOB, with(&job(), &restarting)),
        [
            "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified"
        ]
    );
}

#[test]
fn success_is_judged_by_rules() {
    let path = "spec.successPolicy.rules[0]";
    let judged = |rules: Value| {
        created(&kind::JOB, with(&indexed(), &[("/spec/successPolicy", json!({"rules": rules}))]))
    };
    assert!(judged(json!([{"succeededIndexes": "0,2-4", "succeededCount": 4}])).is_empty());
    assert_eq!(
        judged(json!([])),
        [
            "spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified"
        ]
    );
    for (rule, said) in [
        (json!({}), ": Required value: at least one of succeededCount or succeededIndexes must be specified"),
        (
            json!({"succeededIndexes": "5"}),
            ".succeededIndexes: Invalid value: \"5\": error parsing succeededIndexes: too large index: \"5\"",
        ),
        (
            json!({"succeededCount": 6}),
            ".succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
        ),
        (
            json!({"succeededIndexes": "0-1", "succeededCount": 3}),
            ".succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
        ),
    ] {
        assert_eq!(judged(json!([rule])), [format!("{path}{said}")]);
    }
}

#[test]
fn a_job_hardly_changes() {
    let old = stored(job());
    let free =
        [("/spec/parallelism", json!(3)), ("/spec/backoffLimit", json!(1)), ("/spec/suspend", json!(true))];
    assert_eq!(changed(&old, &free), Vec::<String>::new());
    for (pointer, value) in [
        ("/spec/completions", json!(2)),
        ("/spec/managedBy", json!("a.b/c")),
        ("/spec/selector", json!({"matchLabels": {"job-name": "x"}})),
        ("/spec/template/spec/containers/0/image", json!("j")),
    ] {
        let said = changed(&old, &[(pointer, value)]);
        assert!(said.len() == 1 && said[0].ends_with("field is immutable"), "{pointer}: {said:?}");
    }
    let numbered = stored(indexed());
    assert!(
        changed(&numbered, &[("/spec/completions", json!(7)), ("/spec/parallelism", json!(7))]).is_empty()
    );
    assert_eq!(
        changed(&numbered, &[("/spec/completions", json!(7))]),
        ["spec.completions: Invalid value: 7: can only be modified in tandem with spec.parallelism"]
    );
}

#[test]
fn where_a_job_runs_may_be_said_until_it_starts() {
    let waiting = stored(with(&job(), &[("/spec/suspend", json!(true))]));
    let move_ = [("/spec/template/spec/nodeSelector", json!({"a": "b"}))];
    assert_eq!(changed(&waiting, &move_), Vec::<String>::new());
    let image = [("/spec/template/spec/containers/0/image", json!("j"))];
    assert_eq!(changed(&waiting, &image).len(), 1);
    let mut begun = waiting.clone();
    begun["status"] = json!({"startTime": "2024-01-01T00:00:00Z"});
    assert_eq!(changed(&begun, &move_).len(), 1);
    assert_eq!(changed(&stored(job()), &move_).len(), 1);
}

#[test]
fn a_jobs_status_agrees_with_itself() {
    let condition = |type_: &str| json!({"type": type_, "status": "True"});
    let ended = json!({"startTime": "2024-01-01T00:00:00Z", "completionTime": "2024-01-01T00:01:00Z", "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
    assert_eq!(with_status(&kind::JOB, &ended), Vec::<String>::new());
    for (change, said) in [
        (("/active", json!(1)), "status.active: Invalid value: 1: active>0 is invalid for finished job"),
        (
            ("/completionTime", json!("2023-01-01T00:00:00Z")),
            "status.completionTime: Invalid value: \"2023-01-01T00:00:00Z\": completionTime cannot be set before startTime",
        ),
        (
            ("/completionTime", Value::Null),
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            ("/startTime", Value::Null),
            "status.startTime: Required value: startTime is required for finished job",
        ),
        (
            ("/conditions", json!([condition("Complete")])),
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (
            ("/conditions", json!([])),
            "status.completionTime: Invalid value: \"2024-01-01T00:01:00Z\": cannot set completionTime when there is no Complete=True condition",
        ),
        (
            ("/uncountedTerminatedPods", json!({"failed": ["a"]})),
            "status.uncountedTerminatedPods: Invalid value: {\"failed\":[\"a\"]}: uncountedTerminatedPods needs to be empty for finished job",
        ),
        (
            ("/completedIndexes", json!("1")),
            "status.completedIndexes: Invalid value: \"1\": cannot set non-empty completedIndexes when non-indexed completion mode",
        ),
    ] {
        assert_eq!(with_status(&kind::JOB, &with(&ended, &[change])), [said]);
    }
    assert_eq!(
        with_status(&kind::JOB, &json!({"ready": 2, "active": 1})),
        ["status.ready: Invalid value: 2: cannot set more ready pods than active"]
    );
    let failed = json!({"startTime": "2024-01-01T00:00:00Z", "conditions": [condition("Failed")]});
    assert_eq!(
        with_status(&kind::JOB, &failed),
        [
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition"
        ]
    );
}

#[test]
fn a_jobs_status_goes_forward() {
    let condition = |type_: &str| json!({"type": type_, "status": "True"});
    let old = json!({"spec": {}, "status": {"startTime": "2024-01-01T00:00:00Z", "completionTime": "2024-01-01T00:01:00Z",
        "succeeded": 2, "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}});
    let said = |changes: &[(&str, Value)]| told(&update_status(&kind::JOB, &with(&old, changes), &old));
    assert_eq!(said(&[]), Vec::<String>::new());
    assert_eq!(
        said(&[("/status/succeeded", json!(1))]),
        ["status.succeeded: Invalid value: 1: cannot decrease the succeeded counter"]
    );
    assert_eq!(
        said(&[("/status/completionTime", json!("2024-01-01T00:02:00Z"))]),
        ["status.completionTime: Invalid value: \"2024-01-01T00:02:00Z\": completionTime cannot be mutated"]
    );
    assert_eq!(
        said(&[("/status/startTime", json!("2023-01-01T00:00:00Z"))]),
        ["status.startTime: Required value: startTime cannot be removed for unsuspended job"]
    );
    let suspended = [("/spec/suspend", json!(true)), ("/status/startTime", json!("2023-01-01T00:00:00Z"))];
    assert_eq!(said(&suspended), Vec::<String>::new());
    assert_eq!(
        said(&[("/status/conditions", json!([])), ("/status/completionTime", Value::Null)]),
        [
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ]
    );
}

fn cron_job() -> Value {
    json!({"spec": {"schedule": "*/5 * * * *", "jobTemplate": job()}})
}

#[test]
fn cron_jobs() {
    let kind = &kind::CRON_JOB;
    assert_eq!(created(kind, cron_job()), Vec::<String>::new());
    assert!(created(kind, with(&cron_job(), &[("/spec/timeZone", json!("Europe/Berlin"))])).is_empty());
    for (change, said) in [
        (("/spec/schedule", json!("")), "spec.schedule: Required value"),
        (
            ("/spec/schedule", json!("* * * *")),
            "spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]",
        ),
        (
            ("/spec/schedule", json!("TZ=UTC * * * * *")),
            "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ),
        (
            ("/spec/timeZone", json!("Europe/Atlantis")),
            "spec.timeZone: Invalid value: \"Europe/Atlantis\": unknown time zone Europe/Atlantis",
        ),
        (
            ("/spec/timeZone", json!("../UTC")),
            "spec.timeZone: Invalid value: \"../UTC\": unknown time zone ../UTC",
        ),
        (
            ("/spec/timeZone", json!("local")),
            "spec.timeZone: Invalid value: \"local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ),
        (
            ("/spec/concurrencyPolicy", json!("Sometimes")),
            "spec.concurrencyPolicy: Unsupported value: \"Sometimes\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ),
        (
            ("/spec/failedJobsHistoryLimit", json!(-1)),
            "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            ("/spec/jobTemplate/spec/selector", json!({"matchLabels": {}})),
            "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{}}: `selector` will be auto-generated",
        ),
        (
            ("/spec/jobTemplate/spec/manualSelector", json!(true)),
            "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"false\", \"nil\"",
        ),
        (
            ("/spec/jobTemplate/spec/template/spec/restartPolicy", json!("Always")),
            "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
    ] {
        assert_eq!(created(kind, with(&cron_job(), &[change])), [said]);
    }
    let mut long = cron_job();
    long["metadata"]["name"] = "a".repeat(53).into();
    assert_eq!(
        created(kind, long),
        [format!("metadata.name: Invalid value: \"{}\": must be no more than 52 characters", "a".repeat(53))]
    );
    let zoned = with(&cron_job(), &[("/spec/schedule", json!("TZ=UTC 1 * * * *"))]);
    assert!(
        updated(kind, &with(&zoned, &[("/spec/suspend", json!(true))]), &zoned).is_empty(),
        "it was so before"
    );
}
