//! What a question is answered: the cluster's own names from the table, all others are somebody else's to answer.
//!
//! The names are those of the Kubernetes DNS specification, version 1.1.0. No I/O.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::records::{DnsEndpoint, DnsService, Protocol, Records, undashed};

/// How long answers may be kept, seconds: Services change often.
pub const TTL_SECONDS: u32 = 5;
/// Largest UDP answer, bytes: what fits every path without fragments (DNS flag day 2020).
pub const UDP_BYTES_MAX: u16 = 1232;
/// Largest UDP answer to a client without EDNS, bytes (RFC 1035).
pub const UDP_BYTES_PLAIN: u16 = 512;
/// CNAMEs followed within the cluster.
const CNAMES_MAX: usize = 8;

/// What is to be done about a query.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Answer {
    /// Send this.
    Reply(Box<Message>),
    /// Not a name of the cluster: ask the node's resolvers.
    Forward,
    /// The reply so far ends in a CNAME that leads out of the cluster: ask for it, and append the answers.
    Chase(Box<Message>, Name),
}

/// Decides a query. `turn` turns the order of several addresses, so that clients that take the first are spread.
pub fn answer(query: &Message, records: &Records, turn: usize) -> Answer {
    let mut reply = reply_to(query);
    if query.metadata.message_type != MessageType::Query {
        return refuse(reply, ResponseCode::FormErr);
    }
    if query.metadata.op_code != OpCode::Query {
        return refuse(reply, ResponseCode::NotImp);
    }
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(reply, ResponseCode::BADVERS);
    }
    let [question] = &query.queries[..] else { return refuse(reply, ResponseCode::FormErr) };
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return Answer::Forward;
    }
    let (name, type_) = (question.name(), question.query_type());
    if matches!(type_, RecordType::AXFR | RecordType::IXFR) {
        return refuse(reply, ResponseCode::Refused);
    }
    if type_ == RecordType::PTR
        && let Some(address) = reverse_address(name)
    {
        return pointers(reply, name, address, records);
    }
    let Some(labels) = inner_labels(name, records.domain()) else { return Answer::Forward };
    reply.metadata.authoritative = true;
    let mut found = look_up(name, &labels, type_, records, turn);
    let mut followed = 0;
    while let Found::Alias(target) = found {
        let owner = reply.answers.last().map_or(name, |record| match &record.data {
            RData::CNAME(CNAME(target)) => target,
            _ => name,
        });
        reply.answers.push(Record::from_rdata(
            owner.clone(),
            TTL_SECONDS,
            RData::CNAME(CNAME(target.clone())),
        ));
        if type_ == RecordType::CNAME {
            return Answer::Reply(Box::new(reply));
        }
        let Some(labels) = inner_labels(&target, records.domain()) else {
            return Answer::Chase(Box::new(reply), target);
        };
        followed += 1;
        if followed > CNAMES_MAX {
            return refuse(reply, ResponseCode::ServFail);
        }
        found = look_up(&target, &labels, type_, records, turn);
    }
    match found {
        Found::Records(answers, additionals) if !answers.is_empty() => {
            reply.answers.extend(answers);
            reply.additionals.extend(additionals);
        }
        Found::Records(..) | Found::Alias(_) => reply.authorities.extend(authority(records)),
        Found::Nothing => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.authorities.extend(authority(records));
        }
    }
    Answer::Reply(Box::new(reply))
}

/// An empty reply to a query: same id, same question, EDNS if the query has it.
pub fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&query.metadata);
    reply.metadata.recursion_available = true;
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX).set_version(0);
        reply.set_edns(edns);
    }
    reply
}

/// A reply that only says why there is none.
pub fn failure(query: &Message, code: ResponseCode) -> Message {
    let mut reply = reply_to(query);
    reply.metadata.response_code = code;
    reply
}

/// Largest UDP answer the client takes, bytes.
pub fn udp_bytes_max(query: &Message) -> usize {
    let asked = query.edns.as_ref().map_or(UDP_BYTES_PLAIN, Edns::max_payload);
    asked.clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX).into()
}

/// The bytes of a reply, at most `bytes_max`: what does not fit is left out from the end, and said by the TC bit.
///
/// # Errors
/// The message cannot be written (a name or a record is out of bounds).
pub fn encode(mut reply: Message, bytes_max: usize) -> Result<Vec<u8>, hickory_proto::ProtoError> {
    let mut bytes = reply.to_vec()?;
    if bytes.len() > bytes_max {
        // Additional records are a courtesy, no part of the answer.
        reply.additionals.clear();
        bytes = reply.to_vec()?;
    }
    while bytes.len() > bytes_max {
        reply.metadata.truncation = true;
        let keep = reply.answers.len() * bytes_max / (bytes.len() + 1);
        reply.answers.truncate(keep);
        if reply.answers.is_empty() {
            reply.authorities.clear();
            return reply.to_vec();
        }
        bytes = reply.to_vec()?;
    }
    Ok(bytes)
}

fn refuse(mut reply: Message, code: ResponseCode) -> Answer {
    reply.metadata.response_code = code;
    Answer::Reply(Box::new(reply))
}

/// The labels in front of the cluster domain, lower case; none for a name outside it.
fn inner_labels(name: &Name, domain: &str) -> Option<Vec<String>> {
    let mut labels: Vec<String> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    for expected in domain.rsplit('.') {
        if labels.pop()? != expected {
            return None;
        }
    }
    Some(labels)
}

/// What a name within the cluster stands for.
enum Found {
    /// The name is there; these are its records of the asked type, perhaps none, and helpful others.
    Records(Vec<Record>, Vec<Record>),
    /// The name is another's alias.
    Alias(Name),
    /// No such name.
    Nothing,
}

impl Found {
    /// The name is there without records of this type.
    fn empty() -> Self {
        Self::Records(Vec::new(), Vec::new())
    }
}

fn look_up(name: &Name, labels: &[String], type_: RecordType, records: &Records, turn: usize) -> Found {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels[..] {
        [] => apex(name, type_, records),
        ["dns-version"] if type_ == RecordType::TXT => {
            let text = RData::TXT(TXT::new(vec!["1.1.0".to_owned()]));
            Found::Records(vec![Record::from_rdata(name.clone(), TTL_SECONDS, text)], Vec::new())
        }
        ["dns-version" | "svc" | "pod"] => Found::empty(),
        [namespace, "svc" | "pod"] if records.has_namespace(namespace) => Found::empty(),
        [address, _, "pod"] => match undashed(address) {
            Some(address) => Found::Records(addresses(name, &[address], type_, 0), Vec::new()),
            None => Found::Nothing,
        },
        [.., service, namespace, "svc"] => match records.service(namespace, service) {
            Some(service) => within(name, &labels[..labels.len() - 3], service, type_, records, turn),
            None => Found::Nothing,
        },
        _ => Found::Nothing,
    }
}

/// The cluster domain itself.
fn apex(name: &Name, type_: RecordType, records: &Records) -> Found {
    match type_ {
        RecordType::SOA => Found::Records(authority(records).into_iter().collect(), Vec::new()),
        RecordType::NS => {
            let server = absolute("ns.dns", records).map(|server| RData::NS(NS(server)));
            let record = server.map(|data| Record::from_rdata(name.clone(), TTL_SECONDS, data));
            Found::Records(record.into_iter().collect(), Vec::new())
        }
        _ => Found::empty(),
    }
}

/// A Service's name, or one below it.
fn within(
    name: &Name,
    below: &[&str],
    service: &DnsService,
    type_: RecordType,
    records: &Records,
    turn: usize,
) -> Found {
    if let Some(target) = &service.external_name {
        return match (below, Name::from_utf8(format!("{}.", target.trim_end_matches('.')))) {
            ([], Ok(target)) => Found::Alias(target),
            _ => Found::Nothing,
        };
    }
    let published = |end: &&DnsEndpoint| end.ready || service.publish_not_ready;
    match *below {
        [] if type_ == RecordType::SRV => srv(name, service, None, records),
        [] if service.headless => {
            let ips: Vec<IpAddr> =
                service.endpoints.iter().filter(published).map(|end| end.address).collect();
            Found::Records(addresses(name, &ips, type_, turn), Vec::new())
        }
        [] => Found::Records(addresses(name, &service.cluster_ips, type_, 0), Vec::new()),
        ["_tcp" | "_udp" | "_sctp"] => {
            let has = service.ports.iter().any(|port| Some(port.protocol.label()) == below.first().copied());
            if has { Found::empty() } else { Found::Nothing }
        }
        [port, protocol] if port.starts_with('_') => {
            let port = port.trim_start_matches('_');
            let port = service.ports.iter().find(|p| {
                !p.name.is_empty() && p.name.eq_ignore_ascii_case(port) && p.protocol.label() == protocol
            });
            match port {
                Some(_) if type_ != RecordType::SRV && type_ != RecordType::ANY => Found::empty(),
                Some(port) => srv(name, service, Some((&port.name, port.protocol)), records),
                None => Found::Nothing,
            }
        }
        [host] => {
            let mine = service.endpoints.iter().filter(published).filter(|end| end.label() == host);
            let ips: Vec<IpAddr> = mine.map(|end| end.address).collect();
            if ips.is_empty() {
                Found::Nothing
            } else {
                Found::Records(addresses(name, &ips, type_, turn), Vec::new())
            }
        }
        _ => Found::Nothing,
    }
}

/// SRV records of one port, or of all named ones, with the addresses of their targets.
fn srv(name: &Name, service: &DnsService, only: Option<(&str, Protocol)>, records: &Records) -> Found {
    let ports =
        service.ports.iter().filter(|port| only.is_none_or(|one| (port.name.as_str(), port.protocol) == one));
    let own = format!("{}.{}.svc", service.name, service.namespace);
    let mut answers: Vec<Record> = Vec::new();
    let mut additionals: Vec<Record> = Vec::new();
    let mut add = |port: u16, target: &str, ips: &[IpAddr]| {
        let Some(target) = absolute(target, records) else { return };
        let data = RData::SRV(SRV::new(0, 100, port, target.clone()));
        let record = Record::from_rdata(name.clone(), TTL_SECONDS, data);
        // A host with an address of each family is one target.
        if !answers.contains(&record) {
            answers.push(record);
        }
        for record in addresses(&target, ips, RecordType::ANY, 0) {
            if !additionals.contains(&record) {
                additionals.push(record);
            }
        }
    };
    for port in ports {
        if !service.headless {
            add(port.port, &own, &service.cluster_ips);
            continue;
        }
        for end in service.endpoints.iter().filter(|end| end.ready || service.publish_not_ready) {
            let number = end
                .ports
                .iter()
                .find(|(name, _)| *name == port.name)
                .map_or(port.port, |(_, number)| *number);
            add(number, &format!("{}.{own}", end.label()), &[end.address]);
        }
    }
    Found::Records(answers, additionals)
}

/// Address records of the asked type.
fn addresses(name: &Name, ips: &[IpAddr], type_: RecordType, turn: usize) -> Vec<Record> {
    let mut found: Vec<Record> = ips
        .iter()
        .filter_map(|ip| match (ip, type_) {
            (IpAddr::V4(ip), RecordType::A | RecordType::ANY) => Some(RData::A(A(*ip))),
            (IpAddr::V6(ip), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(*ip))),
            _ => None,
        })
        .map(|data| Record::from_rdata(name.clone(), TTL_SECONDS, data))
        .collect();
    if !found.is_empty() {
        let by = turn % found.len();
        found.rotate_left(by);
    }
    found
}

/// The address a reverse name asks for; none for names that are not one whole address.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// Names of an address; an address that no Service has is somebody else's.
fn pointers(mut reply: Message, name: &Name, address: IpAddr, records: &Records) -> Answer {
    let targets = records.names_of(address).filter_map(|inner| absolute(&inner, records));
    let found = targets.map(|target| Record::from_rdata(name.clone(), TTL_SECONDS, RData::PTR(PTR(target))));
    reply.answers.extend(found);
    if reply.answers.is_empty() {
        return Answer::Forward;
    }
    reply.metadata.authoritative = true;
    Answer::Reply(Box::new(reply))
}

/// A name within the cluster domain, absolute.
fn absolute(inner: &str, records: &Records) -> Option<Name> {
    Name::from_utf8(format!("{inner}.{}.", records.domain())).ok()
}

/// The zone's SOA: how long a "no" may be kept stands in it.
fn authority(records: &Records) -> Option<Record> {
    let apex = Name::from_utf8(format!("{}.", records.domain())).ok()?;
    let soa = SOA::new(
        absolute("ns.dns", records)?,
        absolute("hostmaster", records)?,
        records.serial(),
        7200,
        1800,
        86400,
        TTL_SECONDS,
    );
    Some(Record::from_rdata(apex, TTL_SECONDS, RData::SOA(soa)))
}

#[cfg(test)]
mod tests;
