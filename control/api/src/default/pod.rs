//! Defaults of a Pod and of Pod templates.

use serde_json::{Map, Value, json};

use super::{made, object, objects, set, set_number};

pub(crate) fn pod(pod: &mut Map<String, Value>) {
    if let Some(spec) = made(pod, "spec") {
        self::spec(spec);
        set(spec, "enableServiceLinks", true);
        for list in ["containers", "initContainers"] {
            for container in objects(spec, list) {
                requests_from_limits(container);
            }
        }
    }
    if let Some(status) = made(pod, "status") {
        set(status, "phase", "Pending");
    }
}

/// Makes selectors of the keys whose values a new Pod's own labels have.
pub(crate) fn select_by_own_labels(pod: &mut Map<String, Value>, old: Option<&Value>) {
    if old.is_some() {
        return;
    }
    let labels = pod.get("metadata").and_then(|meta| meta.get("labels")).cloned().unwrap_or_default();
    let Some(spec) = object(pod, "spec") else { return };
    for constraint in objects(spec, "topologySpreadConstraints") {
        own_labels(constraint, &labels);
    }
    let Some(affinity) = object(spec, "affinity") else { return };
    for key in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = object(affinity, key) else { continue };
        for term in objects(pods, "requiredDuringSchedulingIgnoredDuringExecution") {
            own_labels(term, &labels);
        }
        for preferred in objects(pods, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = object(preferred, "podAffinityTerm") {
                own_labels(term, &labels);
            }
        }
    }
}

fn own_labels(term: &mut Map<String, Value>, labels: &Value) {
    let mut expressions = Vec::new();
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for (key, value) in keys.filter_map(|key| Some((key, labels.get(key)?))) {
            expressions.push(json!({ "key": key, "operator": operator, "values": [value] }));
        }
    }
    let Some(selector) = object(term, "labelSelector").filter(|_| !expressions.is_empty()) else { return };
    let all = selector.entry("matchExpressions").or_insert(Value::Null);
    match all.as_array_mut() {
        Some(all) => all.append(&mut expressions),
        None => *all = expressions.into(),
    }
}

pub(super) fn spec(spec: &mut Map<String, Value>) {
    set(spec, "restartPolicy", "Always");
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "schedulerName", "default-scheduler");
    made(spec, "securityContext");
    // The two names of one field.
    let account = ["serviceAccountName", "serviceAccount"]
        .into_iter()
        .find_map(|key| spec.get(key).and_then(Value::as_str).filter(|a| !a.is_empty()).map(str::to_owned));
    if let Some(account) = account {
        spec.insert("serviceAccountName".into(), account.clone().into());
        spec.insert("serviceAccount".into(), account.into());
    }
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in objects(spec, list) {
            self::container(container, host_network);
        }
    }
    for volume in objects(spec, "volumes") {
        self::volume(volume);
    }
}

fn container(container: &mut Map<String, Value>, host_network: bool) {
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    let image = container.get("image").and_then(Value::as_str).unwrap_or("");
    let policy = if pulls_always(image) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", policy);
    made(container, "resources");
    for port in objects(container, "ports") {
        set(port, "protocol", "TCP");
        if host_network && let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
            set_number(port, "hostPort", number);
        }
    }
    for variable in objects(container, "env") {
        if let Some(source) = object(variable, "valueFrom") {
            if let Some(field) = object(source, "fieldRef") {
                set(field, "apiVersion", "v1");
            }
            if let Some(field) = object(source, "resourceFieldRef") {
                set(field, "divisor", "0");
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(http) = object(lifecycle, name).and_then(|h| object(h, "httpGet")) {
                http_get(http);
            }
        }
    }
}

/// An image with the tag `latest` or none is pulled anew at each start; one with a digest is not.
fn pulls_always(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn probe(probe: &mut Map<String, Value>) {
    set_number(probe, "timeoutSeconds", 1);
    set_number(probe, "periodSeconds", 10);
    set_number(probe, "successThreshold", 1);
    set_number(probe, "failureThreshold", 3);
    if let Some(http) = object(probe, "httpGet") {
        http_get(http);
    }
    if let Some(grpc) = object(probe, "grpc")
        && grpc.get("service").is_none_or(Value::is_null)
    {
        grpc.insert("service".into(), "".into());
    }
}

fn http_get(http: &mut Map<String, Value>) {
    set(http, "path", "/");
    set(http, "scheme", "HTTP");
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.keys().all(|k| k == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    const MODE: i64 = 0o644;
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object(volume, source) {
            set(source, "defaultMode", MODE);
        }
    }
    if let Some(host) = object(volume, "hostPath")
        && host.get("type").is_none_or(Value::is_null)
    {
        host.insert("type".into(), "".into());
    }
    if let Some(downward) = object(volume, "downwardAPI") {
        downward_items(downward);
    }
    if let Some(projected) = object(volume, "projected") {
        for source in objects(projected, "sources") {
            if let Some(token) = object(source, "serviceAccountToken") {
                set(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = object(source, "downwardAPI") {
                downward_items(downward);
            }
        }
    }
}

fn downward_items(source: &mut Map<String, Value>) {
    for item in objects(source, "items") {
        if let Some(field) = object(item, "fieldRef") {
            set(field, "apiVersion", "v1");
        }
        if let Some(field) = object(item, "resourceFieldRef") {
            set(field, "divisor", "0");
        }
    }
}

/// A limit without a request is the request too.
fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(resources) = object(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if let Some(requests) = made(resources, "requests") {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}
