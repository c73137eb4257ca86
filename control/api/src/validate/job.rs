//! Validation of Jobs.

mod indexes;
mod policy;
mod status;

use serde_json::{Value, json};

use super::selector::label_selector;
use super::{IMMUTABLE, Rules, fixed, flag, name, not_negative, one_of, rules, same, text, workload};
use crate::default::job::{CONTROLLER_UID_LABELS, JOB_NAME_LABELS};
use crate::kind::Subresource;
use crate::selector::Selector;
use crate::status::{Errors, FieldError};
use crate::view::LabelSelector;

/// Bounds of Jobs whose Pods are numbered.
const PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
/// Above so many completions with a limit for each of them, the bounds are closer.
const COMPLETIONS_MANY: i64 = 100_000;
const PARALLELISM_OF_MANY_MAX: i64 = 10_000;
const FAILED_INDEXES_OF_MANY_MAX: i64 = 10_000;
const MANAGER_BYTES_MAX: usize = 63;

/// A Job.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| create(object, errors),
    update: |new, old, _, errors| update(new, old, errors),
    status: status::status,
};

/// What is asked of a change of its status.
pub(crate) fn status_change(part: Subresource, new: &Value, old: &Value, errors: &mut Errors) {
    if part == Subresource::Status {
        status::change(new, old, errors);
    }
}

fn create(job: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = job.get("spec").unwrap_or(&empty);
    generated(job, errors);
    self::spec(spec, "spec", errors);
    selector(spec, errors);
    let completions = spec.get("completions").and_then(Value::as_i64).filter(|count| *count > 0);
    if let Some(completions) = completions.filter(|_| is_indexed(spec)) {
        let name = job.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("");
        let last = format!("{name}-{}", completions - 1);
        if !name::dns_label(&last).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {last}");
            errors.push(FieldError::invalid("metadata.name", name, why));
        }
    }
}

fn is_indexed(spec: &Value) -> bool {
    text(spec, "completionMode") == "Indexed"
}

/// A selector that was not asked for by hand is the server's own, and the template has its labels.
fn generated(job: &Value, errors: &mut Errors) {
    let spec = &job["spec"];
    if flag(spec, "manualSelector") || spec["selector"].is_null() {
        return;
    }
    let meta = &job["metadata"];
    let (uid, name) = (text(meta, "uid"), text(meta, "name"));
    if uid.is_empty() {
        errors.push(FieldError::required("metadata.uid", ""));
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let wanted = || {
        let uids = CONTROLLER_UID_LABELS.iter().map(|key| (*key, uid));
        uids.chain(JOB_NAME_LABELS.iter().map(|key| (*key, name)))
    };
    for (key, value) in wanted() {
        let path = format!("spec.template.metadata.labels[{key}]");
        let why = format!("must be '{value}'");
        match labels.get(key).and_then(Value::as_str) {
            None => errors.push(FieldError::required(path, &why)),
            Some(found) if found != value => errors.push(FieldError::invalid(path, labels.clone(), why)),
            Some(_) => {}
        }
    }
    let expected = wanted().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let read = serde_json::from_value::<LabelSelector>(spec["selector"].clone()).ok();
    let read = read.and_then(|selector| Selector::from_label_selector(&selector).ok());
    if read.is_some_and(|selector| !selector.matches(&expected)) {
        let why = "`selector` not auto-generated";
        errors.push(FieldError::invalid("spec.selector", spec["selector"].clone(), why));
    }
}

fn selector(spec: &Value, errors: &mut Errors) {
    let Some(selector) = spec.get("selector").filter(|s| !s.is_null()) else {
        errors.push(FieldError::required("spec.selector", ""));
        return;
    };
    if let Some(read) = label_selector(selector, "spec.selector", errors) {
        workload::matched(&read, &spec["template"], errors);
    }
}

/// A Job's spec at `path`, without its selector.
pub(super) fn spec(spec: &Value, path: &str, errors: &mut Errors) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, path, key, errors);
    }
    let is_set = |key: &str| spec.get(key).is_some_and(|value| !value.is_null());
    if is_set("maxFailedIndexes") && !is_set("backoffLimitPerIndex") {
        let why = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(format!("{path}.backoffLimitPerIndex"), why));
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str) {
        managed_by(manager, &format!("{path}.managedBy"), errors);
    }
    one_of(spec, path, "completionMode", &["NonIndexed", "Indexed"], false, errors);
    if is_indexed(spec) {
        indexed(spec, path, errors);
    } else {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            if is_set(key) {
                let why = "requires indexed completion mode";
                errors.push(FieldError::invalid(format!("{path}.{key}"), spec[key].clone(), why));
            }
        }
    }
    if is_set("podFailurePolicy") {
        policy::failure(spec, path, errors);
    }
    if is_set("successPolicy") && is_indexed(spec) {
        policy::success(spec, path, errors);
    }
    let replacements: &[&str] =
        if is_set("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    one_of(spec, path, "podReplacementPolicy", replacements, false, errors);
    let empty = Value::Null;
    let template = spec.get("template").unwrap_or(&empty);
    workload::template(template, &format!("{path}.template"), errors);
    restart_policy(template, path, is_set("podFailurePolicy"), errors);
}

/// Pods of a Job end, and stay ended where their failures are judged.
fn restart_policy(template: &Value, path: &str, judged: bool, errors: &mut Errors) {
    let policy = template.pointer("/spec/restartPolicy").and_then(Value::as_str).unwrap_or("");
    let path = format!("{path}.template.spec.restartPolicy");
    match policy {
        "Always" | "" => {
            errors.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if judged => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(path, policy, why));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(FieldError::not_supported(path, other, &["OnFailure", "Never"])),
    }
}

/// The bounds of a Job whose Pods are numbered.
fn indexed(spec: &Value, path: &str, errors: &mut Errors) {
    let number = |key: &str| spec.get(key).and_then(Value::as_i64);
    let completions = number("completions");
    if completions.is_none() {
        let why = "when completion mode is Indexed";
        errors.push(FieldError::required(format!("{path}.completions"), why));
    }
    let mut at_most = |key: &str, max: i64, when: &str| {
        if let Some(number) = number(key).filter(|number| *number > max) {
            let why = format!("must be less than or equal to {max}{when}");
            errors.push(FieldError::invalid(format!("{path}.{key}"), number, why));
        }
    };
    at_most("parallelism", PARALLELISM_MAX, " when completion mode is Indexed");
    at_most("maxFailedIndexes", FAILED_INDEXES_MAX, "");
    if number("maxFailedIndexes").is_some_and(|failed| completions.is_some_and(|all| failed > all)) {
        let why = "must be less than or equal to completions";
        let value = spec["maxFailedIndexes"].clone();
        errors.push(FieldError::invalid(format!("{path}.maxFailedIndexes"), value, why));
    }
    if completions.is_some_and(|all| all > COMPLETIONS_MANY) && number("backoffLimitPerIndex").is_some() {
        if number("maxFailedIndexes").is_none() {
            let why = format!("must be specified when completions is above {COMPLETIONS_MANY}");
            errors.push(FieldError::required(format!("{path}.maxFailedIndexes"), &why));
        }
        let when =
            format!(" when completions are above {COMPLETIONS_MANY} and used with backoff limit per index");
        for (key, max) in
            [("parallelism", PARALLELISM_OF_MANY_MAX), ("maxFailedIndexes", FAILED_INDEXES_OF_MANY_MAX)]
        {
            if let Some(number) = number(key).filter(|number| *number > max) {
                let why = format!("must be less than or equal to {max}{when}");
                errors.push(FieldError::invalid(format!("{path}.{key}"), number, why));
            }
        }
    }
}

/// `example.com/name`: who runs the Job in place of the server.
fn managed_by(manager: &str, path: &str, errors: &mut Errors) {
    if manager.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if let Some((domain, name)) = manager.split_once('/').filter(|(_, name)| !name.is_empty()) {
        rules(name::dns_subdomain(domain), path, domain, errors);
        let fits = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:@".contains(c);
        if !name.chars().all(fits) {
            errors.push(FieldError::invalid(path, name, "Invalid path"));
        }
    } else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, manager, why));
    }
    if manager.len() > MANAGER_BYTES_MAX {
        errors.push(FieldError::too_long(path, MANAGER_BYTES_MAX));
    }
}

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let (spec, was) = (new.get("spec").unwrap_or(&empty), old.get("spec").unwrap_or(&empty));
    self::spec(spec, "spec", errors);
    selector(spec, errors);
    if !is_indexed(spec) {
        fixed(spec, was, "spec", "completions", errors);
    } else if spec["completions"] != was["completions"]
        && !spec["completions"].is_null()
        && spec["completions"] != spec["parallelism"]
    {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid("spec.completions", spec["completions"].clone(), why));
    }
    fixed(spec, was, "spec", "selector", errors);
    let may_move = flag(was, "suspend") && old.pointer("/status/startTime").is_none_or(Value::is_null);
    let held = |template: &Value| if may_move { without_directives(template) } else { template.clone() };
    if !same(&held(&spec["template"]), &held(&was["template"])) {
        errors.push(FieldError::invalid("spec.template", spec["template"].clone(), IMMUTABLE));
    }
    for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        fixed(spec, was, "spec", key, errors);
    }
}

/// A template without what says where its Pods may run: a queue may choose that before a Job starts.
fn without_directives(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("labels");
        meta.remove("annotations");
    }
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        for key in ["nodeSelector", "tolerations", "schedulingGates"] {
            spec.remove(key);
        }
        if let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) {
            affinity.insert("nodeAffinity".into(), json!(null));
        }
    }
    template
}
