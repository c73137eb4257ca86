//! Validation of containers: ports, resources, when they are started anew, hooks.

mod environment;
mod mount;
mod probe;

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::{flag, items, name, one_of, pod, rules, text};
use crate::status::{Errors, FieldError};

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

/// The Pod around a container: its spec, and what of it is looked up by name.
pub(super) struct Around<'a> {
    pub(super) spec: &'a Value,
    pub(super) volumes: HashMap<&'a str, &'a Value>,
    pub(super) claims: BTreeSet<&'a str>,
}

impl<'a> Around<'a> {
    pub(super) fn new(spec: &'a Value) -> Self {
        let volumes = items(spec, "volumes").iter().map(|volume| (text(volume, "name"), volume)).collect();
        let claims = items(spec, "resourceClaims").iter().map(|claim| text(claim, "name"));
        Self { spec, volumes, claims: claims.filter(|name| !name.is_empty()).collect() }
    }
}

/// All containers of a Pod's spec at `path`.
pub(super) fn containers(spec: &Value, path: &str, errors: &mut Errors) {
    let around = Around::new(spec);
    if items(spec, "containers").is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut names = HashSet::new();
    let mut host_ports = HashSet::new();
    for list in ["containers", "initContainers"] {
        for (at, container) in items(spec, list).iter().enumerate() {
            let path = format!("{path}.{list}[{at}]");
            let given = text(container, "name");
            let name_path = format!("{path}.name");
            if given.is_empty() {
                errors.push(FieldError::required(name_path, ""));
            } else {
                rules(name::dns_label(given), &name_path, given, errors);
                if !names.insert(given.to_owned()) {
                    errors.push(FieldError::duplicate(name_path, given));
                }
            }
            let mut host_ports_of_init = HashSet::new();
            let host_ports = if list == "containers" { &mut host_ports } else { &mut host_ports_of_init };
            ports(container, &path, flag(spec, "hostNetwork"), host_ports, errors);
            self::container(container, &path, &around, errors);
            if list == "initContainers" {
                init(container, &path, spec, errors);
            } else {
                probe::probes(container, &path, spec, errors);
                lifecycle(container, &path, spec, errors);
                restarts(container, &path, errors);
            }
        }
    }
}

/// A container of any kind, its name, ports and probes aside, in a Pod with this spec.
pub(super) fn container(container: &Value, path: &str, around: &Around<'_>, errors: &mut Errors) {
    if text(container, "image").is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    }
    one_of(container, path, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], true, errors);
    environment::environment(container, path, around, errors);
    mount::mounts(container, path, around, errors);
    mount::devices(container, path, around, errors);
    one_of(container, path, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], true, errors);
    pod::resource::of_container(container, around, &format!("{path}.resources"), errors);
    resize_policies(container, path, around.spec, errors);
    pod::security::of_container(container, around.spec, path, errors);
}

/// What is asked of a Pod's images and not of a template's.
pub(super) fn image_of_pod(container: &Value, path: &str, errors: &mut Errors) {
    let image = text(container, "image");
    if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{path}.image"), image, why));
    }
}

/// What only init containers may not have, unless they stay.
fn init(container: &Value, path: &str, spec: &Value, errors: &mut Errors) {
    let restarts_for_ever = text(container, "restartPolicy") == "Always";
    if restarts_for_ever && !items(container, "restartPolicyRules").is_empty() {
        let why = "restartPolicyRules are not allowed for init containers with restart policy Always";
        errors.push(FieldError::forbidden(format!("{path}.restartPolicyRules"), why));
    } else if container.get("restartPolicy").is_some() {
        restarts(container, path, errors);
    }
    if restarts_for_ever {
        lifecycle(container, path, spec, errors);
        probe::probes(container, path, spec, errors);
        return;
    }
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.get(key).is_some_and(|value| !value.is_null()) {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(format!("{path}.{key}"), why));
        }
    }
}

/// When a container is started anew, where that is not what its Pod says.
fn restarts(container: &Value, path: &str, errors: &mut Errors) {
    let all = items(container, "restartPolicyRules");
    one_of(container, path, "restartPolicy", &["Always", "Never", "OnFailure"], false, errors);
    if text(container, "restartPolicy").is_empty() && !all.is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(format!("{path}.restartPolicy"), why));
    }
    let path = format!("{path}.restartPolicyRules");
    if all.len() > RULES_MAX {
        errors.push(FieldError::too_long(&path, RULES_MAX));
    }
    for (at, rule) in all.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let action = text(rule, "action");
        if action != "Restart" {
            errors.push(FieldError::not_supported(format!("{path}.action"), action, &["Restart"]));
        }
        let path = format!("{path}.exitCodes");
        let Some(codes) = rule.get("exitCodes").filter(|codes| !codes.is_null()) else {
            errors.push(FieldError::required(path, "must be specified"));
            continue;
        };
        let operator = text(codes, "operator");
        if !matches!(operator, "In" | "NotIn") {
            errors.push(FieldError::not_supported(format!("{path}.operator"), operator, &["In", "NotIn"]));
        }
        if items(codes, "values").len() > EXIT_CODES_MAX {
            errors.push(FieldError::too_long(format!("{path}.values"), EXIT_CODES_MAX));
        }
    }
}

/// What becomes of a container whose resources change.
fn resize_policies(container: &Value, path: &str, spec: &Value, errors: &mut Errors) {
    let path = format!("{path}.resizePolicy");
    let mut seen = HashSet::new();
    for (at, policy) in items(container, "resizePolicy").iter().enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if !seen.insert(resource) {
            errors.push(FieldError::duplicate(format!("{path}[{at}]"), resource));
        }
        for (value, valid) in [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])]
        {
            if value.is_empty() {
                errors.push(FieldError::required(&path, ""));
            } else if !valid.contains(&value) {
                errors.push(FieldError::not_supported(&path, value, &valid));
            }
        }
        if text(spec, "restartPolicy") == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(&path, restart, why));
        }
    }
}

/// What is done when a container starts and before it is stopped.
fn lifecycle(container: &Value, path: &str, spec: &Value, errors: &mut Errors) {
    let Some(lifecycle) = container.get("lifecycle") else { return };
    let path = format!("{path}.lifecycle");
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = lifecycle.get(hook).filter(|handler| !handler.is_null()) {
            probe::handler(handler, &format!("{path}.{hook}"), spec, errors);
        }
    }
    let signal = text(lifecycle, "stopSignal");
    if signal.is_empty() {
        return;
    }
    let path = format!("{path}.stopSignal");
    match spec.get("os").map_or("", |os| text(os, "name")) {
        "" => {
            let why = "may not be set for containers with empty `spec.os.name`";
            errors.push(FieldError::forbidden(path, why));
        }
        "linux" if !is_signal(signal) => {
            errors.push(FieldError::invalid(path, signal, "must be a signal of Linux, such as SIGTERM"));
        }
        "windows" if !matches!(signal, "SIGKILL" | "SIGTERM") => {
            errors.push(FieldError::not_supported(path, signal, &["SIGKILL", "SIGTERM"]));
        }
        _ => {}
    }
}

fn is_signal(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    ];
    let within = |prefix: &str, max: u8| {
        let number = name.strip_prefix(prefix).and_then(|number| number.parse::<u8>().ok());
        number.is_some_and(|number| (1..=max).contains(&number))
    };
    name.strip_prefix("SIG").is_some_and(|name| NAMES.contains(&name))
        || within("SIGRTMIN+", 15)
        || within("SIGRTMAX-", 14)
}

fn ports(
    container: &Value,
    path: &str,
    host_network: bool,
    host_ports: &mut HashSet<(i64, String)>,
    errors: &mut Errors,
) {
    let mut names = HashSet::new();
    for (at, port) in items(container, "ports").iter().enumerate() {
        let path = format!("{path}.ports[{at}]");
        let given = text(port, "name");
        if !given.is_empty() {
            rules(name::port_name(given), &format!("{path}.name"), given, errors);
            if !names.insert(given) {
                errors.push(FieldError::duplicate(format!("{path}.name"), given));
            }
        }
        let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or(0);
        if number == 0 {
            errors.push(FieldError::required(format!("{path}.containerPort"), ""));
        } else if let Some(rule) = name::port(number) {
            errors.push(FieldError::invalid(format!("{path}.containerPort"), number, rule));
        }
        one_of(port, &path, "protocol", PROTOCOLS, true, errors);
        let host = port.get("hostPort").and_then(Value::as_i64).unwrap_or(0);
        if host != 0 {
            let host_path = format!("{path}.hostPort");
            if let Some(rule) = name::port(host) {
                errors.push(FieldError::invalid(&host_path, host, rule));
            }
            if host_network && host != number {
                errors.push(FieldError::invalid(
                    &host_path,
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
            if !host_ports.insert((host, format!("{}/{}", text(port, "protocol"), text(port, "hostIP")))) {
                errors.push(FieldError::duplicate(host_path, host));
            }
        }
    }
}
