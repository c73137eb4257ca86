//! What a user should know of an object that is taken as it is: warnings for the answer to a write, in Kubernetes' words.
//! Pure.

mod pod;
mod service;

use serde_json::{Map, Value};

use crate::kind::{self, Kind};
use crate::object::Object;
use crate::quantity::Quantity;
use crate::validate::name;

/// Where the kinds that make Pods have their template, as a pointer and as messages name it.
const TEMPLATES: &[(&Kind, &str, &str)] = &[
    (&kind::DEPLOYMENT, "/spec/template", "spec.template."),
    (&kind::REPLICA_SET, "/spec/template", "spec.template."),
    (&kind::STATEFUL_SET, "/spec/template", "spec.template."),
    (&kind::DAEMON_SET, "/spec/template", "spec.template."),
    (&kind::REPLICATION_CONTROLLER, "/spec/template", "spec.template."),
    (&kind::JOB, "/spec/template", "spec.template."),
    (&kind::CRON_JOB, "/spec/jobTemplate/spec/template", "spec.jobTemplate.spec.template."),
    (&kind::POD_TEMPLATE, "/template", "template."),
];
/// Kinds whose names become those of Pods.
const NAMING: &[&Kind] = &[&kind::DEPLOYMENT, &kind::REPLICA_SET, &kind::REPLICATION_CONTROLLER, &kind::JOB];
/// Labels of nodes that have other names by now.
const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
/// How many things of one place are compared with each other.
const COMPARED_MAX: usize = 128;
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The warnings about an object as it was stored; `is_new` if it was made, and not changed. Of a changed workload, `template`
/// is the one that it had (see [`template`]): who did not change it, reads nothing about it.
#[must_use]
pub fn of(object: &Object, is_new: bool, template: Option<&Value>) -> Vec<String> {
    if !is_warned_of(object.kind, is_new) {
        return Vec::new();
    }
    let value: Value = object.view().unwrap_or_default();
    let now = pointer(object.kind).and_then(|pointer| value.pointer(pointer));
    if !is_new && template.is_some() && template == now {
        return Vec::new();
    }
    of_value(object.kind, &value, is_new).into_bounded()
}

/// The template of a kind that makes Pods.
#[must_use]
pub fn template(kind: &Kind, object: &Map<String, Value>) -> Option<Value> {
    let mut steps = pointer(kind)?.split('/').skip(1);
    let first = object.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step)).cloned()
}

fn pointer(kind: &Kind) -> Option<&'static str> {
    TEMPLATES.iter().find(|(other, ..)| *other == kind).map(|(_, pointer, _)| *pointer)
}

/// Most warnings of an object, and bytes of all together: what an answer's head bears.
const WARNINGS_MAX: usize = 64;
const ALL_BYTES_MAX: usize = 4096;
/// What is kept of each where all are too much, characters.
const ONE_CHARS_MAX: usize = 256;

/// Takes warnings as long as an answer's head bears them, however many a hostile object makes.
#[derive(Default)]
struct Warnings {
    all: Vec<String>,
    /// Of all, each cut.
    cut_bytes: usize,
}

impl Warnings {
    fn push(&mut self, mut warning: String) {
        if self.is_full() {
            return;
        }
        self.cut_bytes += cut(&warning).len();
        // One more byte than may go out: so it is seen that this was too much.
        warning.truncate(warning.floor_char_boundary(ALL_BYTES_MAX + 1 + char::MAX_LEN_UTF8));
        self.all.push(warning);
    }

    /// Whether nothing more is taken.
    fn is_full(&self) -> bool {
        self.all.len() >= WARNINGS_MAX || self.cut_bytes > ALL_BYTES_MAX
    }

    /// As much as an answer's head bears: where it is too much, each is cut, and the last are left out.
    fn into_bounded(mut self) -> Vec<String> {
        if self.all.iter().map(String::len).sum::<usize>() <= ALL_BYTES_MAX {
            return self.all;
        }
        let mut bytes = 0;
        self.all.retain_mut(|warning| {
            warning.truncate(cut(warning).len());
            bytes += warning.len();
            bytes <= ALL_BYTES_MAX
        });
        self.all
    }
}

/// The beginning of a text, as much of it as one warning shows.
fn cut(text: &str) -> &str {
    text.char_indices().nth(ONE_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

/// Whether there is anything to look for. Pods are changed by programs, who read no warnings.
fn is_warned_of(kind: &'static Kind, is_new: bool) -> bool {
    let kinds = [
        &kind::SERVICE,
        &kind::ENDPOINTS,
        &kind::SERVICE_ACCOUNT,
        &kind::INGRESS,
        &kind::RUNTIME_CLASS,
        &kind::PERSISTENT_VOLUME,
        &kind::PERSISTENT_VOLUME_CLAIM,
    ];
    *kind == kind::POD && is_new
        || kinds.contains(&kind)
        || TEMPLATES.iter().any(|(other, ..)| *other == kind)
}

fn of_value(kind: &'static Kind, object: &Value, is_new: bool) -> Warnings {
    let mut warnings = Warnings::default();
    if let Some((_, pointer, path)) = TEMPLATES.iter().find(|(other, ..)| *other == kind) {
        named(kind, object, is_new, &mut warnings);
        pod::pod(object.pointer(pointer).unwrap_or(&Value::Null), path, &mut warnings);
        return warnings;
    }
    let annotation = |key: &str| object["metadata"]["annotations"].get(key).is_some();
    match kind {
        kind if *kind == kind::POD => {
            named(kind, object, is_new, &mut warnings);
            pod::pod(object, "", &mut warnings);
        }
        kind if *kind == kind::SERVICE => service::service(object, &mut warnings),
        kind if *kind == kind::ENDPOINTS => {
            let why = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
            warnings.push(why.to_owned());
        }
        kind if *kind == kind::SERVICE_ACCOUNT => {
            let key = "kubernetes.io/enforce-mountable-secrets";
            if annotation(key) {
                warnings.push(format!(
                    "metadata.annotations[{key}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
                ));
            }
        }
        kind if *kind == kind::INGRESS => {
            if is_new && annotation("kubernetes.io/ingress.class") {
                let why = "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead";
                warnings.push(why.to_owned());
            }
        }
        kind if *kind == kind::RUNTIME_CLASS => {
            let selector = object.pointer("/scheduling/nodeSelector").and_then(Value::as_object);
            for why in selector.into_iter().flatten().filter_map(|(key, _)| old_label(key)) {
                warnings.push(format!("scheduling.nodeSelector: {why}"));
            }
        }
        _ => volume(object, &mut warnings),
    }
    warnings
}

/// A name that becomes that of Pods, and with that of hosts.
fn named(kind: &Kind, object: &Value, is_new: bool, warnings: &mut Warnings) {
    let broken = name::dns_label(at(object, "/metadata/name"));
    if !is_new || broken.is_empty() {
        return;
    }
    let used = match kind {
        kind if *kind == kind::POD => "the Pod's hostname",
        kind if NAMING.contains(&kind) => "Pod names and hostnames",
        _ => return,
    };
    warnings.push(format!(
        "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
        broken.join(" ")
    ));
}

/// Volumes and claims.
fn volume(object: &Value, warnings: &mut Warnings) {
    if object["metadata"]["annotations"].get(CLASS_ANNOTATION).is_some() {
        warnings.push(format!(
            "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    if at(object, "/spec/persistentVolumeReclaimPolicy") == "Recycle" {
        let why = "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
                   approach is to use dynamic provisioning.";
        warnings.push(why.to_owned());
    }
    for (pointer, path) in [
        ("/spec/capacity/storage", "spec.capacity[storage]"),
        ("/spec/resources/requests/storage", "spec.resources.requests[storage]"),
        ("/spec/resources/limits/storage", "spec.resources.limits[storage]"),
    ] {
        fraction(object.pointer(pointer), path, warnings);
    }
}

/// Bytes are whole.
fn fraction(value: Option<&Value>, path: &str, warnings: &mut Warnings) {
    let Some(quantity) = value.and_then(|value| Quantity::from_value(value).ok()) else { return };
    if !quantity.is_whole() {
        warnings.push(format!("{path}: fractional byte value \"{quantity}\" is invalid, must be an integer"));
    }
}

/// What should stand for an old label of nodes.
fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(label, _)| *label == key).map(|(_, why)| *why)
}

/// The text at a pointer, empty if there is none.
fn at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The items of a list at a pointer.
fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
