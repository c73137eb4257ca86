//! What Pods and their templates should not say: old names, what hides or overlaps something else, what selects nothing.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_json::Value;

use super::{COMPARED_MAX, Warnings, at, cut, fraction, list, old_label};
use crate::validate::name;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
/// Volumes that nothing mounts any more.
const OLD_VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The warnings about a Pod or a template, which stands at `path`.
pub(super) fn pod(pod: &Value, path: &str, warnings: &mut Warnings) {
    nodes(pod, path, warnings);
    for (at, constraint) in list(pod, "/spec/topologySpreadConstraints").iter().enumerate() {
        let path = format!("{path}spec.topologySpreadConstraints[{at}]");
        let key = super::at(constraint, "/topologyKey");
        if let Some(why) = old_label(key) {
            warnings.push(format!("{path}.topologyKey: {key} is {why}"));
        }
        selects_nothing(constraint, &path, warnings);
    }
    for (key, why) in OLD_ANNOTATIONS {
        if pod["metadata"]["annotations"].get(*key).is_some() {
            warnings.push(format!("{path}metadata.annotations[{key}]: {why}"));
        }
    }
    for (at, volume) in list(pod, "/spec/volumes").iter().enumerate() {
        for (key, why) in OLD_VOLUMES.iter().filter(|(key, _)| volume.get(*key).is_some_and(|v| !v.is_null()))
        {
            let shown = if *key == "storageos" { "storageOS" } else { key };
            warnings.push(format!("{path}spec.volumes[{at}].{shown}: {why}"));
        }
    }
    overlapping_paths(pod, warnings);
    twice(pod, "hostAliases", "ip", path, warnings);
    twice(pod, "imagePullSecrets", "name", path, warnings);
    for resource in ["memory", "ephemeral-storage"] {
        let value = pod["spec"]["overhead"].get(resource);
        fraction(value, &format!("{path}spec.overhead[{resource}]"), warnings);
    }
    containers(pod, path, warnings);
    ports(pod, path, warnings);
    for key in ["podAffinity", "podAntiAffinity"] {
        let path = format!("{path}spec.affinity.{key}");
        for (at, term) in list(pod, &format!("/spec/affinity/{key}/{REQUIRED}")).iter().enumerate() {
            selects_nothing(term, &format!("{path}.{REQUIRED}[{at}]"), warnings);
        }
        for (at, term) in list(pod, &format!("/spec/affinity/{key}/{PREFERRED}")).iter().enumerate() {
            let path = format!("{path}.{PREFERRED}[{at}].podAffinityTerm");
            selects_nothing(&term["podAffinityTerm"], &path, warnings);
        }
    }
}

/// Old labels of the nodes that are wanted.
fn nodes(pod: &Value, path: &str, warnings: &mut Warnings) {
    for (key, _) in pod["spec"]["nodeSelector"].as_object().into_iter().flatten() {
        if let Some(why) = old_label(key) {
            warnings.push(format!("{path}spec.nodeSelector[{key}]: {why}"));
        }
    }
    let nodes = "/spec/affinity/nodeAffinity";
    let path = format!("{path}spec.affinity.nodeAffinity");
    for (at, term) in list(pod, &format!("{nodes}/{REQUIRED}/nodeSelectorTerms")).iter().enumerate() {
        node_term(term, false, &format!("{path}.{REQUIRED}.nodeSelectorTerms[{at}]"), warnings);
    }
    for (at, term) in list(pod, &format!("{nodes}/{PREFERRED}")).iter().enumerate() {
        node_term(&term["preference"], true, &format!("{path}.{PREFERRED}[{at}].preference"), warnings);
    }
}

fn node_term(term: &Value, with_values: bool, path: &str, warnings: &mut Warnings) {
    for (at, expression) in list(term, "/matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{at}]");
        let key = super::at(expression, "/key");
        if let Some(why) = old_label(key) {
            warnings.push(format!("{path}.key: {key} is {why}"));
        }
        for (at, value) in list(expression, "/values").iter().enumerate().filter(|_| with_values) {
            let value = value.as_str().unwrap_or("");
            for rule in name::label_value(value) {
                warnings.push(format!("{path}.values[{at}]: {value} is invalid, {rule}"));
            }
        }
    }
}

fn selects_nothing(term: &Value, path: &str, warnings: &mut Warnings) {
    if term.get("labelSelector").is_none_or(Value::is_null) {
        warnings.push(format!("{path}.labelSelector: a null labelSelector results in matching no pod"));
    }
}

/// What is in a list twice by `key`.
fn twice(pod: &Value, key: &str, field: &str, path: &str, warnings: &mut Warnings) {
    let mut seen = HashSet::new();
    for (n, item) in list(pod, &format!("/spec/{key}")).iter().enumerate() {
        let value = at(item, &format!("/{field}"));
        if !seen.insert(value) {
            warnings.push(format!("{path}spec.{key}[{n}].{field}: duplicate {field} \"{value}\""));
        }
    }
}

/// Every container with its path, those that start first at the front.
fn each<'a>(pod: &'a Value, path: &'a str) -> impl Iterator<Item = (String, &'a Value)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |key| {
        let all = list(pod, &format!("/spec/{key}")).iter().enumerate();
        all.map(move |(at, container)| (format!("{path}spec.{key}[{at}]"), container))
    })
}

fn containers(pod: &Value, path: &str, warnings: &mut Warnings) {
    for (path, container) in each(pod, path) {
        for resource in ["memory", "ephemeral-storage"] {
            for part in ["limits", "requests"] {
                let value = container["resources"][part].get(resource);
                fraction(value, &format!("{path}.resources.{part}[{resource}]"), warnings);
            }
        }
        let mut seen = HashSet::new();
        for (n, variable) in list(container, "/env").iter().enumerate() {
            let (name, value) = (at(variable, "/name"), at(variable, "/value"));
            // One that is made of the one before hides nothing.
            let reference = format!("$({name})");
            let extends =
                variable.get("valueFrom").is_none() && value != reference && value.contains(&reference);
            if !seen.insert(name) && !extends {
                warnings.push(format!(
                    "{path}.env[{n}]: hides previous definition of \"{name}\", which may be dropped when using apply"
                ));
            }
        }
    }
}

/// Ports that are there twice, by number or by name.
fn ports(pod: &Value, path: &str, warnings: &mut Warnings) {
    /// Where it stands, and its number and address on the node.
    type OnNode<'a> = (String, i64, &'a str);
    let mut numbers: HashMap<(i64, &str), Vec<OnNode<'_>>> = HashMap::new();
    for (path, container) in each(pod, path) {
        for (n, port) in list(container, "/ports").iter().enumerate() {
            if warnings.is_full() {
                return;
            }
            let path = format!("{path}.ports[{n}]");
            let (host, ip) = (port["hostPort"].as_i64().unwrap_or(0), at(port, "/hostIP"));
            if !ip.is_empty() && host == 0 {
                warnings.push(format!("{path}: hostIP set without hostPort: {port}"));
            }
            let key = (port["containerPort"].as_i64().unwrap_or(0), at(port, "/protocol"));
            let others = numbers.entry(key).or_default();
            for (other_path, other_host, other_ip) in others.iter() {
                let how = match (host, *other_host) {
                    (a, b) if a == b && ip == *other_ip => "duplicate",
                    (0, _) | (_, 0) => "overlapping",
                    (a, b) if a == b && ip.is_empty() != other_ip.is_empty() => "dangerously ambiguous",
                    _ => continue,
                };
                warnings.push(format!("{path}: {how} port definition with {other_path}"));
            }
            if others.len() < COMPARED_MAX {
                others.push((path, host, ip));
            }
        }
    }
    let mut names: HashMap<&str, String> = HashMap::new();
    for (path, container) in each(pod, path) {
        for (n, port) in list(container, "/ports").iter().enumerate() {
            let (path, name) = (format!("{path}.ports[{n}]"), at(port, "/name"));
            match names.get(name).filter(|_| !name.is_empty()) {
                Some(first) => warnings.push(format!(
                    "{path}: duplicate port name \"{name}\" with {first}, services and probes that select ports by name will use {first}"
                )),
                None => {
                    names.insert(name, path);
                }
            }
        }
    }
}

/// Files of one volume that lie over each other.
fn overlapping_paths(pod: &Value, warnings: &mut Warnings) {
    for volume in list(pod, "/spec/volumes") {
        for (key, noun, named) in [
            ("configMap", "ConfigMap", "/name"),
            ("secret", "Secret", "/secretName"),
            ("downwardAPI", "DownwardAPI", ""),
        ] {
            let source = &volume[key];
            let what = if named.is_empty() {
                noun.to_owned()
            } else {
                format!("{noun} {:?}", cut(at(source, named)))
            };
            let paths = list(source, "/items").iter().map(|item| (at(item, "/path"), Rc::from("")));
            overlaps(at(volume, "/name"), &what, paths, warnings);
        }
        let sources = list(volume, "/projected/sources").iter().flat_map(projected);
        overlaps(at(volume, "/name"), "Projected", sources, warnings);
    }
}

/// The paths of a part of a projected volume, each with whose it is.
fn projected(source: &Value) -> Vec<(&str, Rc<str>)> {
    let mut paths = Vec::new();
    for (key, noun) in [("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")] {
        let own = &source[key];
        let name = cut(at(own, "/name"));
        let whose: Rc<str> =
            if key == "downwardAPI" { noun.into() } else { format!("{noun} {name:?}").into() };
        paths.extend(list(own, "/items").iter().map(|item| (at(item, "/path"), Rc::clone(&whose))));
    }
    for (pointer, whose) in [
        ("/serviceAccountToken/path", "ServiceAccountToken"),
        ("/podCertificate/certificateChainPath", "PodCertificate chain"),
        ("/podCertificate/keyPath", "PodCertificate key"),
        ("/podCertificate/credentialBundlePath", "PodCertificate credential bundle"),
    ] {
        paths.push((at(source, pointer), whose.into()));
    }
    let bundle = &source["clusterTrustBundle"];
    let name = [at(bundle, "/name"), at(bundle, "/signerName")].into_iter().find(|name| !name.is_empty());
    let whose = format!("ClusterTrustBundle {:?}", cut(name.unwrap_or("")));
    paths.push((at(bundle, "/path"), whose.into()));
    paths
}

fn overlaps<'a>(
    volume: &str,
    what: &str,
    paths: impl Iterator<Item = (&'a str, Rc<str>)>,
    warnings: &mut Warnings,
) {
    let volume = cut(volume);
    let mut before: Vec<(&str, Rc<str>)> = Vec::new();
    let shown = |(path, whose): &(&str, Rc<str>)| {
        let path = cut(path);
        if whose.is_empty() { format!("{path:?}") } else { format!("{path:?} ({whose})") }
    };
    let is_below = |path: &str, other: &str| {
        path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    for (path, whose) in paths.filter(|(path, _)| !path.is_empty()) {
        if warnings.is_full() {
            return;
        }
        let own = (path.trim_end_matches('/'), whose);
        for other in &before {
            if is_below(own.0, other.0) || is_below(other.0, own.0) {
                let body = format!("{} with {}", shown(&own), shown(other));
                warnings.push(format!("volume {volume:?} ({what}): overlapping paths: {body}"));
            }
        }
        if before.len() < COMPARED_MAX {
            before.push(own);
        }
    }
}
