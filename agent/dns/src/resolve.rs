//! What a name stands for, as a Pod would find it: by the cluster's table and the search list of the Pod's namespace. No I/O.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::answer::{Answer, answer};
use crate::records::Records;

/// Names with fewer dots are looked for in the search list first (`ndots` of Kubernetes' resolv.conf).
const DOTS_MIN: usize = 5;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The whole name that was found.
    pub name: String,
    /// Its addresses; none for a name without any (a headless Service without endpoints).
    pub addresses: Vec<IpAddr>,
}

/// Why a name stands for nothing that is known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// No Service, and no endpoint of one, has the name.
    #[error("the cluster's DNS has no name {0}")]
    Nothing(String),
    /// It leads out of the cluster.
    #[error("{0} is no name of this cluster: other name servers know it; give its address")]
    Outside(String),
}

/// Finds a name for a Pod of `namespace`.
///
/// # Errors
/// It stands for nothing that is known here.
pub fn resolve(records: &Records, name: &str, namespace: &str) -> Result<Resolved, Unresolved> {
    let domain = records.domain();
    let absolute = name.strip_suffix('.');
    let mut candidates = Vec::new();
    if let Some(absolute) = absolute {
        candidates.push(absolute.to_owned());
    } else {
        let searched = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
        candidates.extend(searched.iter().map(|suffix| format!("{name}.{suffix}")));
        let at = if name.matches('.').count() < DOTS_MIN { candidates.len() } else { 0 };
        candidates.insert(at, name.to_owned());
    }
    let mut outside = false;
    for candidate in candidates {
        match ask(records, &candidate) {
            Some(Found::Addresses(addresses)) => return Ok(Resolved { name: candidate, addresses }),
            Some(Found::Outside(target)) => return Err(Unresolved::Outside(target)),
            Some(Found::Elsewhere) => outside = true,
            None => {}
        }
    }
    // A name of one label is hardly a name of the outside.
    if outside && name.trim_end_matches('.').contains('.') {
        Err(Unresolved::Outside(name.to_owned()))
    } else {
        Err(Unresolved::Nothing(name.to_owned()))
    }
}

enum Found {
    Addresses(Vec<IpAddr>),
    /// An alias of a name outside.
    Outside(String),
    /// Not the cluster's to answer.
    Elsewhere,
}

fn ask(records: &Records, name: &str) -> Option<Found> {
    let name = Name::from_utf8(format!("{name}.")).ok()?;
    let mut found = None;
    for type_ in [RecordType::A, RecordType::AAAA] {
        let mut query = Message::new(0, MessageType::Query, OpCode::Query);
        query.add_queries([Query::query(name.clone(), type_)]);
        match answer(&query, records, 0) {
            Answer::Forward => return Some(Found::Elsewhere),
            Answer::Chase(_, target) => return Some(Found::Outside(target.to_utf8())),
            Answer::Reply(reply) => {
                let exists = reply.metadata.response_code == hickory_proto::op::ResponseCode::NoError;
                let addresses = reply.answers.iter().filter_map(|record| match &record.data {
                    RData::A(a) => Some(IpAddr::V4(a.0)),
                    RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                    _ => None,
                });
                if exists {
                    found.get_or_insert_with(Vec::new).extend(addresses);
                }
            }
        }
    }
    found.map(Found::Addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::DnsService;

    fn records() -> Records {
        let mut records = Records::new("cluster.local");
        records.put(DnsService {
            namespace: "shop".into(),
            name: "web".into(),
            cluster_ips: [[10, 96, 0, 7].into()].into(),
            ..DnsService::default()
        });
        records.put(DnsService {
            namespace: "shop".into(),
            name: "away".into(),
            external_name: Some("example.org".into()),
            ..DnsService::default()
        });
        records
    }

    #[test]
    fn a_name_is_found_as_a_pod_would_find_it() {
        let records = records();
        let found = |name: &str, namespace: &str| resolve(&records, name, namespace).map(|found| found.name);
        let whole = Ok("web.shop.svc.cluster.local".to_owned());
        assert_eq!(found("web", "shop"), whole);
        assert_eq!(found("web.shop", "default"), whole);
        assert_eq!(found("web.shop.svc", "default"), whole);
        assert_eq!(found("web.shop.svc.cluster.local", "default"), whole);
        assert_eq!(found("web.shop.svc.cluster.local.", "default"), whole);
        let addresses = resolve(&records, "web", "shop").unwrap().addresses;
        assert_eq!(addresses, ["10.96.0.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn what_is_not_known_here_is_said() {
        let records = records();
        assert_eq!(resolve(&records, "web", "default"), Err(Unresolved::Nothing("web".into())));
        assert_eq!(resolve(&records, "example.org", "shop"), Err(Unresolved::Outside("example.org".into())));
        assert_eq!(resolve(&records, "away", "shop"), Err(Unresolved::Outside("example.org.".into())));
    }
}
