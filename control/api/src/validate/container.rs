//! Validation of containers: ports, environment, resources, mounts, probes, hooks.

use std::collections::HashSet;

use serde_json::Value;

use super::{entries, flag, items, name, not_negative, one_of, pod, port_or_name, rules, text};
use crate::quantity::Quantity;
use crate::status::FieldError;

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// All containers of a Pod's spec at `path`.
pub(super) fn containers(spec: &Value, path: &str, volumes: &HashSet<String>, errors: &mut Vec<FieldError>) {
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
            self::container(container, &path, volumes, errors);
            if list == "initContainers" {
                init(container, &path, errors);
            } else {
                probe(container, &path, "livenessProbe", true, errors);
                probe(container, &path, "startupProbe", true, errors);
                probe(container, &path, "readinessProbe", false, errors);
            }
        }
    }
}

/// The image of a container.
pub(super) fn image(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let image = text(container, "image");
    let path = format!("{path}.image");
    if image.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if image.trim() != image {
        errors.push(FieldError::invalid(path, image, "must not have leading or trailing whitespace"));
    }
}

/// A container of any kind, its name, ports and probes aside.
pub(super) fn container(
    container: &Value,
    path: &str,
    volumes: &HashSet<String>,
    errors: &mut Vec<FieldError>,
) {
    image(container, path, errors);
    one_of(container, path, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], true, errors);
    one_of(container, path, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], true, errors);
    environment(container, path, errors);
    resources(container.get("resources").unwrap_or(&Value::Null), &format!("{path}.resources"), errors);
    mounts(container, path, volumes, errors);
    let context = container.get("securityContext").unwrap_or(&Value::Null);
    let context_path = format!("{path}.securityContext");
    pod::security(context, &context_path, errors);
    if flag(context, "privileged") && context.get("allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(FieldError::invalid(context_path, context.clone(), why));
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = container.get("lifecycle").and_then(|l| l.get(hook)) {
            self::handler(handler, &format!("{path}.lifecycle.{hook}"), errors);
        }
    }
}

/// What only init containers may not have.
fn init(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    one_of(container, path, "restartPolicy", &["Always", "Never", "OnFailure"], false, errors);
    let sidecar = text(container, "restartPolicy") == "Always";
    for key in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        if container.get(key).is_none() {
            continue;
        }
        if !sidecar {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(format!("{path}.{key}"), why));
        } else if key != "lifecycle" {
            probe(container, path, key, key != "readinessProbe", errors);
        }
    }
}

fn ports(
    container: &Value,
    path: &str,
    host_network: bool,
    host_ports: &mut HashSet<(i64, String)>,
    errors: &mut Vec<FieldError>,
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

fn environment(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (at, variable) in items(container, "env").iter().enumerate() {
        let path = format!("{path}.env[{at}]");
        let given = text(variable, "name");
        if given.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else {
            rules(name::env_name(given), &format!("{path}.name"), given, errors);
        }
        if let Some(source) = variable.get("valueFrom") {
            value_from(variable, source, &path, errors);
        }
    }
    for (at, source) in items(container, "envFrom").iter().enumerate() {
        let path = format!("{path}.envFrom[{at}]");
        let named = ["configMapRef", "secretRef"].map(|key| source.get(key).map(|r| (key, r)));
        match named {
            [None, None] => {
                let why = "must specify one of: `configMapRef` or `secretRef`";
                errors.push(FieldError::invalid(path, "", why));
            }
            [Some(_), Some(_)] => {
                errors.push(FieldError::invalid(
                    path,
                    "",
                    "may not have more than one field specified at a time",
                ));
            }
            [Some((key, reference)), None] | [None, Some((key, reference))] => {
                if text(reference, "name").is_empty() {
                    errors.push(FieldError::required(format!("{path}.{key}.name"), ""));
                }
            }
        }
    }
}

fn value_from(variable: &Value, source: &Value, path: &str, errors: &mut Vec<FieldError>) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    const SOURCES: &[&str] =
        &["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let path = format!("{path}.valueFrom");
    if !text(variable, "value").is_empty() {
        errors.push(FieldError::invalid(&path, "", "may not be specified when `value` is not empty"));
    }
    match SOURCES.iter().filter(|key| source.get(**key).is_some()).count() {
        0 => {
            let why =
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            errors.push(FieldError::invalid(&path, "", why));
        }
        1 => {}
        _ => errors.push(FieldError::invalid(
            &path,
            "",
            "may not have more than one field specified at a time",
        )),
    }
    if let Some(field) = source.get("fieldRef") {
        let field_path = text(field, "fieldPath");
        let at = format!("{path}.fieldRef.fieldPath");
        let subscripted =
            field_path.starts_with("metadata.labels['") || field_path.starts_with("metadata.annotations['");
        if field_path.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if !FIELDS.contains(&field_path) && !subscripted {
            errors.push(FieldError::not_supported(at, field_path, FIELDS));
        }
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = source.get(key) {
            for part in ["name", "key"] {
                if text(reference, part).is_empty() {
                    errors.push(FieldError::required(format!("{path}.{key}.{part}"), ""));
                }
            }
        }
    }
    if let Some(reference) = source.get("resourceFieldRef")
        && text(reference, "resource").is_empty()
    {
        errors.push(FieldError::required(format!("{path}.resourceFieldRef.resource"), ""));
    }
}

/// The resources of a container.
pub(super) fn resources(resources: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for list in ["limits", "requests"] {
        for (resource, amount) in entries(resources, list) {
            let at = format!("{path}.{list}[{resource}]");
            rules(name::qualified(resource), &format!("{path}.{list}"), resource, errors);
            let standard = matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage" | "storage")
                || resource.starts_with("hugepages-");
            if !standard && !resource.contains('/') {
                for rule in [
                    "must be a standard resource type or fully qualified",
                    "must be a standard resource for containers",
                ] {
                    errors.push(FieldError::invalid(&at, resource.as_str(), rule));
                }
            }
            match Quantity::from_value(amount) {
                Ok(quantity) if quantity.is_negative() => {
                    errors.push(FieldError::invalid(
                        at,
                        amount.clone(),
                        "must be greater than or equal to 0",
                    ));
                }
                Ok(_) => {}
                Err(error) => errors.push(FieldError::invalid(at, amount.clone(), error)),
            }
        }
    }
    for (resource, amount) in entries(resources, "requests") {
        let limit = resources.get("limits").and_then(|l| l.get(resource));
        let Some(limit) = limit.and_then(|l| Quantity::from_value(l).ok()) else { continue };
        if Quantity::from_value(amount).is_ok_and(|request| request > limit) {
            let why = format!("must be less than or equal to {resource} limit of {limit}");
            errors.push(FieldError::invalid(format!("{path}.requests"), amount.clone(), why));
        }
    }
}

fn mounts(container: &Value, path: &str, volumes: &HashSet<String>, errors: &mut Vec<FieldError>) {
    let mut paths = HashSet::new();
    for (at, mount) in items(container, "volumeMounts").iter().enumerate() {
        let path = format!("{path}.volumeMounts[{at}]");
        let volume = text(mount, "name");
        if volume.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !volumes.contains(volume) {
            errors.push(FieldError::not_found(format!("{path}.name"), volume));
        }
        let target = text(mount, "mountPath");
        if target.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        } else if !paths.insert(target) {
            errors.push(FieldError::invalid(format!("{path}.mountPath"), target, "must be unique"));
        }
        let sub = text(mount, "subPath");
        super::volume::relative_path(sub, &format!("{path}.subPath"), errors);
    }
}

fn probe(container: &Value, path: &str, key: &str, once: bool, errors: &mut Vec<FieldError>) {
    let Some(probe) = container.get(key) else { return };
    let path = format!("{path}.{key}");
    handler(probe, &path, errors);
    for number in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        not_negative(probe, &path, number, errors);
    }
    let successes = probe.get("successThreshold").and_then(Value::as_i64).unwrap_or(1);
    if once && successes != 1 {
        errors.push(FieldError::invalid(format!("{path}.successThreshold"), successes, "must be 1"));
    }
    if let Some(grace) =
        probe.get("terminationGracePeriodSeconds").and_then(Value::as_i64).filter(|g| *g <= 0)
    {
        let path = format!("{path}.terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(path, grace, "must be greater than 0"));
    }
}

fn handler(handler: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let given: Vec<&str> = HANDLERS.iter().copied().filter(|key| handler.get(*key).is_some()).collect();
    if given.is_empty() {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
    for second in given.iter().skip(1) {
        let why = "may not specify more than 1 handler type";
        errors.push(FieldError::forbidden(format!("{path}.{second}"), why));
    }
    let Some((first, action)) = given.first().and_then(|key| Some((*key, handler.get(*key)?))) else {
        return;
    };
    let path = format!("{path}.{first}");
    match first {
        "exec" if items(action, "command").is_empty() => {
            errors.push(FieldError::required(format!("{path}.command"), ""));
        }
        "httpGet" => {
            if text(action, "path").is_empty() {
                errors.push(FieldError::required(format!("{path}.path"), ""));
            }
            port_or_name(&action["port"], &format!("{path}.port"), errors);
            one_of(action, &path, "scheme", &["HTTP", "HTTPS"], false, errors);
        }
        "tcpSocket" | "grpc" => port_or_name(&action["port"], &format!("{path}.port"), errors),
        _ => {}
    }
}
