//! Which ConfigMaps, Secrets and ServiceAccounts a Pod refers to.

use std::collections::BTreeSet;

use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::view::Pod;

/// The kinds Pods refer to.
pub(super) static KINDS: [&Kind; 3] = [&kind::CONFIG_MAP, &kind::SECRET, &kind::SERVICE_ACCOUNT];

/// An object that a Pod refers to; it need not be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reference {
    pub(super) kind: &'static Kind,
    pub(super) key: ObjectKey,
}

impl Ord for Reference {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.kind.kind, &self.key).cmp(&(other.kind.kind, &other.key))
    }
}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Everything the Pod's runtime has to read: env, envFrom, volumes, pull secrets, and its ServiceAccount.
pub(super) fn references(pod: &Pod) -> BTreeSet<Reference> {
    let mut names: BTreeSet<(bool, &str)> = BTreeSet::new();
    let spec = &pod.spec;
    for container in spec.containers.iter().chain(&spec.init_containers) {
        for source in container.env.iter().filter_map(|env| env.value_from.as_ref()) {
            names.extend(source.config_map_key_ref.iter().map(|r| (false, r.name.as_str())));
            names.extend(source.secret_key_ref.iter().map(|r| (true, r.name.as_str())));
        }
        for from in &container.env_from {
            names.extend(from.config_map_ref.iter().map(|r| (false, r.name.as_str())));
            names.extend(from.secret_ref.iter().map(|r| (true, r.name.as_str())));
        }
    }
    for volume in &spec.volumes {
        names.extend(volume.config_map.iter().map(|v| (false, v.name.as_str())));
        names.extend(volume.secret.iter().map(|v| (true, v.name.as_str())));
        for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
            names.extend(source.config_map.iter().map(|v| (false, v.name.as_str())));
            names.extend(source.secret.iter().map(|v| (true, v.name.as_str())));
        }
    }
    names.extend(spec.image_pull_secrets.iter().map(|r| (true, r.name.as_str())));

    let namespace = &pod.metadata.namespace;
    let reference = |kind: &'static Kind, name: &str| Reference {
        kind,
        key: ObjectKey::namespaced(namespace.clone(), name),
    };
    let account = if spec.service_account_name.is_empty() { "default" } else { &spec.service_account_name };
    names
        .into_iter()
        .filter(|(_, name)| !name.is_empty())
        .map(|(secret, name)| reference(if secret { &kind::SECRET } else { &kind::CONFIG_MAP }, name))
        .chain([reference(&kind::SERVICE_ACCOUNT, account)])
        .collect()
}
