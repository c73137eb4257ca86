//! Columns of Jobs and CronJobs.

use jiff::Timestamp;
use serde_json::Value;

use super::workload::{containers, selector};
use super::{
    AGE, Column, NAME, NONE, Printer, UNSET, age_of, at, boolean, count, list, name, number, or, printer,
    since, text, wide,
};
use crate::time::human_seconds;

const CONTAINERS: Column = wide("Containers", "Names of each container in the template.");
const IMAGES: Column = wide("Images", "Images referenced by each container in the template.");
const SELECTOR: Column = wide("Selector", "The label selector of the pods.");

pub(crate) static JOB: Printer = printer(
    &[
        NAME,
        text("Status", "Status of the job."),
        text("Completions", "Pods that succeeded, of how many."),
        text("Duration", "Time required to complete the job."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    job,
);

fn job(job: &Value, now: Timestamp) -> Vec<Value> {
    let number = |pointer: &str| job.pointer(pointer).and_then(Value::as_i64);
    let succeeded = count(job, "/status/succeeded");
    let completions = match (number("/spec/completions"), number("/spec/parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, Some(parallelism)) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    };
    let time = |pointer: &str| at(job, pointer).parse::<Timestamp>().ok();
    let duration = time("/status/startTime").map(|start| {
        let end = time("/status/completionTime").unwrap_or(now);
        human_seconds(end.as_second().saturating_sub(start.as_second()))
    });
    let [containers, images] = containers(list(job, "/spec/template/spec/containers"));
    vec![
        name(job),
        status(job).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        age_of(job, now),
        containers,
        images,
        selector(job.pointer("/spec/selector")),
    ]
}

fn status(job: &Value) -> &'static str {
    let holds = |type_: &str| {
        let conditions = list(job, "/status/conditions");
        conditions.iter().any(|c| at(c, "/type") == type_ && at(c, "/status") == "True")
    };
    if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if !at(job, "/metadata/deletionTimestamp").is_empty() {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else if holds("FailureTarget") {
        "FailureTarget"
    } else if holds("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

pub(crate) static CRON_JOB: Printer = printer(
    &[
        NAME,
        text("Schedule", "When Jobs are made, as cron says it."),
        text("Timezone", "The time zone of the schedule."),
        boolean("Suspend", "Whether no Jobs are made for now."),
        number("Active", "Jobs that run."),
        text("Last Schedule", "When a Job was last made."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cron_job,
);

fn cron_job(cron_job: &Value, now: Timestamp) -> Vec<Value> {
    let suspend = match cron_job.pointer("/spec/suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => UNSET,
    };
    let last = at(cron_job, "/status/lastScheduleTime");
    let last = if last.is_empty() { NONE.to_owned() } else { since(last, now) };
    let [containers, images] = containers(list(cron_job, "/spec/jobTemplate/spec/template/spec/containers"));
    vec![
        name(cron_job),
        at(cron_job, "/spec/schedule").into(),
        or(at(cron_job, "/spec/timeZone"), NONE),
        suspend.into(),
        list(cron_job, "/status/active").len().into(),
        last.into(),
        age_of(cron_job, now),
        containers,
        images,
        selector(cron_job.pointer("/spec/jobTemplate/spec/selector")),
    ]
}
