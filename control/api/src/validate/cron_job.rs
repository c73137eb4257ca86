//! Validation of CronJobs.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::{Rules, flag, job, not_negative, one_of, text};
use crate::schedule::Schedule;
use crate::status::{Errors, FieldError};

/// The Job's name has a time behind that of its CronJob.
const NAME_CHARS_MAX: usize = 52;

/// A CronJob.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| {
        spec(object, None, errors);
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("");
        if name.len() > NAME_CHARS_MAX {
            let why = format!("must be no more than {NAME_CHARS_MAX} characters");
            errors.push(FieldError::invalid("metadata.name", name, why));
        }
    },
    update: |new, old, _, errors| spec(new, Some(&old["spec"]), errors),
    status: |_, _| {},
};

fn spec(cron_job: &Value, old: Option<&Value>, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = cron_job.get("spec").unwrap_or(&empty);
    schedule(spec, old.is_some_and(|old| text(old, "schedule").contains("TZ")), errors);
    not_negative(spec, "spec", "startingDeadlineSeconds", errors);
    if old.is_none_or(|old| old.get("timeZone") != spec.get("timeZone")) {
        time_zone(spec, errors);
    }
    one_of(spec, "spec", "concurrencyPolicy", &["Allow", "Forbid", "Replace"], true, errors);
    let job = spec.pointer("/jobTemplate/spec").unwrap_or(&empty);
    job::spec(job, "spec.jobTemplate.spec", errors);
    if let Some(selector) = job.get("selector").filter(|s| !s.is_null()) {
        let why = "`selector` will be auto-generated";
        errors.push(FieldError::invalid("spec.jobTemplate.spec.selector", selector.clone(), why));
    }
    if flag(job, "manualSelector") {
        let path = "spec.jobTemplate.spec.manualSelector";
        errors.push(FieldError::not_supported(path, true, &["nil", "false"]));
    }
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(spec, "spec", key, errors);
    }
}

/// A schedule; one with a zone in it is of old, and stays.
fn schedule(spec: &Value, had_zone: bool, errors: &mut Errors) {
    let path = "spec.schedule";
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let has_zone = schedule.contains("TZ");
    let fields = if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        schedule.split_once(' ').map_or("", |(_, fields)| fields.trim())
    } else {
        schedule
    };
    if let Err(why) = Schedule::parse(fields) {
        errors.push(FieldError::invalid(path, schedule, why));
    }
    if has_zone && !had_zone {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(path, schedule, why));
    } else if has_zone && !spec["timeZone"].is_null() {
        let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(FieldError::invalid(path, schedule, why));
    }
}

fn time_zone(spec: &Value, errors: &mut Errors) {
    const PART_CHARS_MAX: usize = 14;
    let path = "spec.timeZone";
    let Some(zone) = spec.get("timeZone").and_then(Value::as_str) else { return };
    let is_part = |part: &str| {
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b'+');
        (1..=PART_CHARS_MAX).contains(&part.len())
            && part.bytes().all(fits)
            && !part.starts_with('-')
            && !matches!(part, "." | "..")
    };
    if zone.is_empty() {
        errors.push(FieldError::invalid(path, zone, "timeZone must be nil or non-empty string"));
    } else if zone.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(FieldError::invalid(path, zone, why));
    } else if !zone.split('/').all(is_part) || TimeZone::get(zone).is_err() {
        errors.push(FieldError::invalid(path, zone, format!("unknown time zone {zone}")));
    }
}
