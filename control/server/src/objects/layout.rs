//! Where things lie in the store: the one place that builds and reads keys.
//!
//! | key | what |
//! | --- | --- |
//! | `o/<group>/<plural>/<namespace>/<name>` | an object; the core group is `core`, a cluster-scoped object has an empty namespace |
//! | `a/ip/<address>` | the Service that has a Service address |
//! | `a/port/<protocol>/<port>` | the Service that has a NodePort |
//! | `layout` | the number of this table, in decimal: [`LAYOUT`] |

use std::net::IpAddr;

use bytes::Bytes;
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};

/// The number of what stands above, and of how values are written. A build that lays out otherwise has another one, and the step
/// that leads to it; a store of before the number was written has the first.
pub(crate) const LAYOUT: u32 = 1;

/// Where the number stands, in a store of either backend and in its backups.
pub(crate) const LAYOUT_KEY: &str = "layout";

fn group(kind: &Kind) -> &'static str {
    if kind.group.is_empty() { "core" } else { kind.group }
}

/// What the key of every object begins with.
pub(crate) fn objects_prefix() -> Bytes {
    Bytes::from_static(b"o/")
}

/// What the keys of a kind begin with, those of one namespace if it is given.
pub(crate) fn kind_prefix(kind: &Kind, namespace: Option<&str>) -> Bytes {
    match namespace {
        None => format!("o/{}/{}/", group(kind), kind.plural),
        Some(namespace) => format!("o/{}/{}/{namespace}/", group(kind), kind.plural),
    }
    .into()
}

/// The key of an object.
pub(crate) fn object_key(kind: &Kind, key: &ObjectKey) -> Bytes {
    format!("o/{}/{}/{}/{}", group(kind), kind.plural, key.namespace, key.name).into()
}

/// The kind of an object's key, if it is served.
pub(crate) fn kind_of(key: &[u8]) -> Option<&'static Kind> {
    let text = std::str::from_utf8(key).ok()?;
    let mut parts = text.strip_prefix("o/")?.splitn(3, '/');
    let (group_name, plural) = (parts.next()?, parts.next()?);
    kind::by_plural(if group_name == "core" { "" } else { group_name }, plural)
}

/// Who has a Service address.
pub(crate) fn address_key(address: IpAddr) -> Bytes {
    format!("a/ip/{address}").into()
}

/// Who has a NodePort.
pub(crate) fn port_key(protocol: &str, port: u16) -> Bytes {
    format!("a/port/{protocol}/{port}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_api::kind::KINDS;

    #[test]
    fn every_kind_is_found_again_by_its_key() {
        for kind in KINDS {
            let key = object_key(kind, &ObjectKey::namespaced("ns", "name"));
            assert_eq!(kind_of(&key), Some(*kind));
            assert!(key.starts_with(&kind_prefix(kind, Some("ns"))));
        }
        assert_eq!(object_key(&kind::NODE, &ObjectKey::cluster("n")), "o/core/nodes//n");
        assert_eq!(kind_of(b"a/ip/10.96.0.1"), None);
    }
}
