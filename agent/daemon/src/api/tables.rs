//! The live tables with names: Services, flows, translations, and each table as it is. Answers are streamed a line a row, so that
//! a full table costs a batch of rows and no more.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde::Serialize;
use tokio::sync::mpsc;
use weft_dataplane::TableError;
use weft_dataplane::live::{self, Connected, Flows, Frontend, Owner, Table, Tracked};
use weft_trace::explain::{party, protocol_text};
use weft_trace::filter::full_name;
use weft_trace::rows::{FlowRow, NatRow, OwnerRow, RawRow, ServiceRow, TableRow, Tail};
use weft_trace::{Names, Party};

use super::answer::{self, Body, BoxError, Refusal, chain, streamed};
use crate::agent::Agent;
use crate::knowledge::Knowledge;
use crate::view::View;

/// Rows that are sent when nobody says how many.
const LIMIT_DEFAULT: u64 = 1_000;
/// Pieces of an answer that wait for a slow reader; the table is read no further meanwhile.
const PIECES_MAX: usize = 4;
/// Bytes of a piece, about.
const PIECE_BYTES: usize = 32 << 10;
/// From so much on a table is nearly full, and its owners are told, in per cent.
const NEARLY_FULL_PERCENT: u64 = 80;
/// Owners that are told of a table.
const OWNERS_MAX: usize = 10;

/// What is wanted of a table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    pod: Option<String>,
    service: Option<String>,
    limit: u64,
    owners: bool,
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut wanted = Self { limit: LIMIT_DEFAULT, ..Self::default() };
        let named = |what, value: &str| {
            full_name(what, value).map(Some).map_err(|error| Refusal::bad_request(error.to_string()))
        };
        for (name, value) in super::query(query) {
            match name.as_str() {
                "pod" => wanted.pod = named("pod", &value)?,
                "service" => wanted.service = named("service", &value)?,
                "owners" => wanted.owners = value == "true",
                "limit" => {
                    let number: u64 = value
                        .parse()
                        .map_err(|_| Refusal::bad_request(format!("limit {value:?} is no number")))?;
                    wanted.limit = if number == 0 { u64::MAX } else { number };
                }
                other => return Err(Refusal::bad_request(format!("unknown parameter {other:?}"))),
            }
        }
        Ok(wanted)
    }
}

/// Lines of an answer, from a thread that reads a table to a reader somewhere.
struct Lines {
    pieces: mpsc::Sender<Result<Bytes, BoxError>>,
    piece: Vec<u8>,
    left: u64,
    left_off: u64,
}

impl Lines {
    /// One more row that is wanted; it is sent, or counted. Breaks off when nobody reads any more.
    fn row(&mut self, row: impl FnOnce() -> Option<Vec<u8>>) -> ControlFlow<()> {
        if self.left == 0 {
            self.left_off += 1;
            return ControlFlow::Continue(());
        }
        let Some(line) = row() else { return ControlFlow::Continue(()) };
        self.left -= 1;
        self.piece.extend(line);
        self.piece.push(b'\n');
        if self.piece.len() >= PIECE_BYTES { self.send() } else { ControlFlow::Continue(()) }
    }

    fn send(&mut self) -> ControlFlow<()> {
        match self.pieces.blocking_send(Ok(std::mem::take(&mut self.piece).into())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn end(mut self, read: Result<(), TableError>) {
        let last = match read {
            Ok(()) => json(&Tail { left_off: self.left_off }),
            Err(error) => {
                // The answer has begun: it ends broken, so that nobody takes it for whole.
                let broken: BoxError = chain(&error).into();
                return drop(self.pieces.blocking_send(Err(broken)));
            }
        };
        self.piece.extend(last.unwrap_or_default());
        self.piece.push(b'\n');
        let _reader_gone = self.send();
    }
}

fn json(row: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(row).ok()
}

/// Streams what `read` gives, from a thread that may block.
fn stream(
    limit: u64,
    read: impl FnOnce(&mut Lines) -> Result<(), TableError> + Send + 'static,
) -> Response<Body> {
    let (pieces, mut receiver) = mpsc::channel(PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        let mut lines = Lines { pieces, piece: Vec::new(), left: limit, left_off: 0 };
        let done = read(&mut lines);
        lines.end(done);
    });
    streamed(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
}

/// Names for rows, looked up one at a time: the view is never held while a reader is waited for.
struct Naming {
    knowledge: Arc<Knowledge>,
    /// Services by the number of their row.
    services: HashMap<u32, String>,
    /// The addresses of the Pod that is wanted.
    pod: Option<HashSet<IpAddr>>,
    service: Option<String>,
}

impl Naming {
    fn new(agent: &Agent, wanted: &Wanted) -> Result<Self, Refusal> {
        let pod = match &wanted.pod {
            None => None,
            Some(name) => {
                let ips = agent.knowledge.view().addresses_of(name);
                if ips.is_empty() {
                    return Err(Refusal::not_found(format!("this node knows no Pod {name} with an address")));
                }
                Some(ips.into_iter().collect())
            }
        };
        let knowledge = agent.knowledge.clone();
        Ok(Self { knowledge, services: HashMap::new(), pod, service: wanted.service.clone() })
    }

    /// Reads the numbers of the Services' rows.
    fn read_services(&mut self, maps: &Path) -> Result<(), TableError> {
        let knowledge = self.knowledge.clone();
        live::frontends(
            maps,
            |_| false,
            |row| {
                if let Some(name) = name_of(&row, &knowledge.view()) {
                    self.services.insert(row.id, name);
                }
                ControlFlow::Continue(())
            },
        )
    }

    fn service(&self, id: u32) -> Option<String> {
        (id != 0).then(|| self.services.get(&id).cloned().unwrap_or_else(|| format!("row {id}")))
    }

    fn party(&self, address: SocketAddr) -> Party {
        party(address, &*self.knowledge.view())
    }

    fn wants(&self, addresses: &[SocketAddr], service_id: u32) -> bool {
        let pod = self.pod.as_ref().is_none_or(|ips| addresses.iter().any(|at| ips.contains(&at.ip())));
        let service =
            || self.service.as_ref().is_none_or(|name| self.services.get(&service_id) == Some(name));
        pod && service()
    }

    fn wants_flow(&self, flow: &Tracked) -> bool {
        let ends = [flow.source, flow.destination, flow.to_source, flow.to_destination];
        self.wants(&ends, flow.service_id)
    }

    fn owner(&self, owner: Owner) -> String {
        match owner {
            Owner::Service(id) => format!("service {}", self.service(id).unwrap_or_else(|| id.to_string())),
            Owner::Address(ip) => {
                let view = self.knowledge.view();
                match (view.pod(ip), view.node(ip)) {
                    (Some((pod, _)), _) => format!("pod {pod}"),
                    (None, Some(node)) => format!("node {node}"),
                    (None, None) => ip.to_string(),
                }
            }
        }
    }
}

/// `NS/NAME` of the Service that a row is for, as the view has it.
fn name_of(row: &Frontend, view: &View) -> Option<String> {
    // A node port is also found at the node's own loopback.
    let at = if row.node_port { SocketAddr::from(([127, 0, 0, 1], row.address.port())) } else { row.address };
    let service = view.service_at(at, row.protocol)?;
    Some(format!("{}/{}", service.namespace, service.name))
}

/// `GET /agent/v1/services`: the table of Services.
pub(crate) async fn services(agent: &Agent, query: &str) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted::parse(query)?;
    let (maps, naming) = (agent.dataplane.maps().to_owned(), Naming::new(agent, &wanted)?);
    Ok(stream(wanted.limit, move |lines| {
        let name = |row: &Frontend| name_of(row, &naming.knowledge.view()).unwrap_or_default();
        let asked = |row: &Frontend| wanted.service.as_ref().is_none_or(|asked| *asked == name(row));
        live::frontends(&maps, asked, |row| {
            if !asked(&row) {
                return ControlFlow::Continue(());
            }
            lines.row(|| json(&service_row(&row, name(&row), &naming)))
        })
    }))
}

fn service_row(row: &Frontend, service: String, naming: &Naming) -> ServiceRow {
    let cluster_ip = service.split_once('/').is_some_and(|(namespace, name)| {
        let view = naming.knowledge.view();
        let ips = view.service(namespace, name).map(|service| service.cluster_ips);
        let own = |bytes: &Bytes| crate::view::address_of(bytes) == Some(row.address.ip());
        ips.is_none_or(|ips| ips.iter().any(own))
    });
    let kind = match (row.node_port, cluster_ip) {
        (true, _) => "NodePort",
        (false, true) => "ClusterIP",
        (false, false) => "External",
    };
    ServiceRow {
        service,
        kind: kind.to_owned(),
        protocol: protocol_text(row.protocol),
        frontend: if row.node_port { format!("*:{}", row.address.port()) } else { row.address.to_string() },
        local: row.local,
        inside: row.inside,
        affinity_seconds: row.affinity_seconds,
        id: row.id,
        backends: row.backends.iter().map(|backend| naming.party(backend.address)).collect(),
    }
}

/// `GET /agent/v1/conntrack`: the table of flows.
pub(crate) async fn conntrack(agent: &Agent, query: &str) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted::parse(query)?;
    let (maps, mut naming) = (agent.dataplane.maps().to_owned(), Naming::new(agent, &wanted)?);
    Ok(stream(wanted.limit, move |lines| {
        naming.read_services(&maps)?;
        let flows = Flows::open(&maps)?;
        flows.each(|flow| naming.wants_flow(flow), |flow| lines.row(|| json(&flow_row(&flow, &naming))))
    }))
}

fn flow_row(flow: &Tracked, naming: &Naming) -> FlowRow {
    FlowRow {
        protocol: protocol_text(flow.protocol),
        source: naming.party(flow.source),
        destination: naming.party(flow.destination),
        service: naming.service(flow.service_id),
        backend: (flow.destination_replaced || flow.direct).then(|| naming.party(flow.to_destination)),
        translated_source: flow.source_replaced.then_some(flow.to_source),
        port_allocated: flow.port_allocated,
        node_port: flow.node_port,
        direct: flow.direct,
        state: flow.state.to_owned(),
        way: flow.way.to_owned(),
        idle_ms: flow.idle_ms,
        packets: flow.packets,
        bytes: flow.bytes,
        answer_packets: flow.answer_packets,
        answer_bytes: flow.answer_bytes,
    }
}

/// `GET /agent/v1/nat`: all that is translated, packet by packet or at connect.
pub(crate) async fn nat(agent: &Agent, query: &str) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted::parse(query)?;
    let (maps, mut naming) = (agent.dataplane.maps().to_owned(), Naming::new(agent, &wanted)?);
    Ok(stream(wanted.limit, move |lines| {
        naming.read_services(&maps)?;
        let translated = |flow: &Tracked| flow.source_replaced || flow.destination_replaced;
        let mut gone = false;
        Flows::open(&maps)?.each(
            |flow| translated(flow) && naming.wants_flow(flow),
            |flow| {
                let sent = lines.row(|| json(&packet_nat(&flow, &naming)));
                gone |= sent.is_break();
                sent
            },
        )?;
        if gone {
            return Ok(());
        }
        live::connected(&maps, |row| {
            if !naming.wants(&[row.destination, row.to_destination], row.service_id) {
                return ControlFlow::Continue(());
            }
            lines.row(|| json(&socket_nat(&row, &naming)))
        })
    }))
}

fn packet_nat(flow: &Tracked, naming: &Naming) -> NatRow {
    NatRow {
        at: "packet".to_owned(),
        protocol: protocol_text(flow.protocol),
        source: Some(naming.party(flow.source)),
        destination: naming.party(flow.destination),
        translated_source: flow.source_replaced.then_some(flow.to_source),
        translated_destination: flow.destination_replaced.then(|| naming.party(flow.to_destination)),
        service: naming.service(flow.service_id),
        socket: None,
        idle_ms: flow.idle_ms,
    }
}

fn socket_nat(row: &Connected, naming: &Naming) -> NatRow {
    NatRow {
        at: "connect".to_owned(),
        protocol: protocol_text(row.protocol),
        source: None,
        destination: naming.party(row.destination),
        translated_source: None,
        translated_destination: Some(naming.party(row.to_destination)),
        service: naming.service(row.service_id),
        socket: Some(format!("{:x}", row.cookie)),
        idle_ms: row.age_ms,
    }
}

/// `GET /agent/v1/maps`: every table, how full it is, and who filled those that nearly are.
pub(crate) async fn list(agent: &Agent, query: &str) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted::parse(query)?;
    let (maps, mut naming) = (agent.dataplane.maps().to_owned(), Naming::new(agent, &wanted)?);
    let read = move || {
        naming.read_services(&maps)?;
        let mut rows = Vec::new();
        for name in Table::names() {
            let Some(table) = Table::open(&maps, name)? else { continue };
            rows.push(table_row(&table, wanted.owners, &naming)?);
        }
        Ok::<_, TableError>(rows)
    };
    let rows = tokio::task::spawn_blocking(read).await.map_err(|error| Refusal::failed(&error))?;
    answer::json(&rows.map_err(|error| Refusal::failed(&error))?)
}

fn table_row(table: &Table, owners: bool, naming: &Naming) -> Result<TableRow, TableError> {
    let overview = table.overview()?;
    let mut row = TableRow {
        name: overview.name,
        kind: overview.kind,
        rows: overview.rows,
        capacity: overview.capacity,
        row_bytes: overview.row_bytes,
        memory_bytes: overview.memory_bytes,
        when_full: overview.when_full,
        owners: Vec::new(),
    };
    if owners || row.percent().is_some_and(|percent| percent >= NEARLY_FULL_PERCENT) {
        row.owners =
            by_name(table.owners()?.into_iter().map(|share| (naming.owner(share.owner), share.rows)));
    }
    Ok(row)
}

/// The largest owners; one of several addresses is one.
fn by_name(shares: impl Iterator<Item = (String, u64)>) -> Vec<OwnerRow> {
    let mut sums: HashMap<String, u64> = HashMap::new();
    for (owner, rows) in shares {
        *sums.entry(owner).or_default() += rows;
    }
    let mut owners: Vec<OwnerRow> = sums.into_iter().map(|(owner, rows)| OwnerRow { owner, rows }).collect();
    owners.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.owner.cmp(&b.owner)));
    owners.truncate(OWNERS_MAX);
    owners
}

/// `GET /agent/v1/maps/NAME`: the rows of a table.
pub(crate) async fn dump(agent: &Agent, name: &str, query: &str) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted::parse(query)?;
    let table = Table::open(agent.dataplane.maps(), name).map_err(|error| Refusal::failed(&error))?;
    let Some(table) = table.filter(Table::has_rows) else {
        let names: Vec<&str> = Table::names().filter(|name| *name != "events").collect();
        return Err(Refusal::not_found(format!(
            "there is no table {name:?} with rows; there are {}",
            names.join(", ")
        )));
    };
    Ok(stream(wanted.limit, move |lines| {
        table.decoded(|row| lines.row(|| json(&RawRow { key: row.key, value: row.value })))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_read_and_the_rest_refused() {
        let wanted = Wanted::parse("pod=a%2Fb&limit=0").expect("understood");
        assert_eq!((wanted.pod.as_deref(), wanted.limit), (Some("a/b"), u64::MAX));
        assert_eq!(Wanted::parse("").expect("understood").limit, LIMIT_DEFAULT);
        for query in ["pod=b", "limit=many", "colour=red"] {
            assert!(Wanted::parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn rows_beyond_the_limit_are_counted_and_a_reader_that_went_ends_the_reading() {
        let (pieces, mut receiver) = mpsc::channel(PIECES_MAX);
        let mut lines = Lines { pieces, piece: Vec::new(), left: 2, left_off: 0 };
        for number in 0..5 {
            assert!(lines.row(|| json(&number)).is_continue());
        }
        lines.end(Ok(()));
        let piece = receiver.try_recv().expect("a piece").expect("whole");
        assert_eq!(&piece[..], b"0\n1\n{\"leftOff\":3}\n");
        let (pieces, receiver) = mpsc::channel(1);
        drop(receiver);
        let mut lines = Lines { pieces, piece: Vec::new(), left: u64::MAX, left_off: 0 };
        let row = || Some(vec![b'x'; PIECE_BYTES]);
        assert!(lines.row(row).is_break());
    }

    #[test]
    fn an_owner_of_two_addresses_is_one() {
        let shares = [("pod a/b", 3), ("pod c/d", 4), ("pod a/b", 2)];
        let owners = by_name(shares.into_iter().map(|(owner, rows)| (owner.to_owned(), rows)));
        assert_eq!(owners[0], OwnerRow { owner: "pod a/b".into(), rows: 5 });
        assert_eq!(owners.len(), 2);
    }
}
