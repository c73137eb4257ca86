//! Rows of every table in words: named fields with addresses, ports and flags as people write them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::{BACKEND_READY, Backend, Slot, SlotKey};
use weft_dataplane_abi::choice::{Choices, ChoicesMany};
use weft_dataplane_abi::config::{
    BALANCE_PACKET, BALANCE_SOCKET, Config, DIRECT_RETURN, FLOW_EVENTS, OUTWARD_HERE,
};
use weft_dataplane_abi::conntrack::{
    FLOW_DESTINATION, FLOW_DIRECT, FLOW_NODE_PORT, FLOW_PORT_ALLOCATED, FLOW_SOURCE, FLOW_TWIN, Flow,
    TCP_SEEN_ACK, TCP_SEEN_FIN, TCP_SEEN_RST, TCP_SEEN_SYN, Tuple,
};
use weft_dataplane_abi::counter::{Counter, dropped_by, seen_by};
use weft_dataplane_abi::dry::Asking;
use weft_dataplane_abi::endpoint::{Endpoint, NETNS_NODE, NETNS_POD, Netns};
use weft_dataplane_abi::fragment::{FragmentKey, FragmentPorts};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::route::{self, NODE_SELF, Node, Route, RouteKey};
use weft_dataplane_abi::service::{
    Affinity, AffinityKey, SCOPE_INSIDE, SCOPE_NODE, SCOPE_V6, SERVICE_CHOICES, SERVICE_LOCAL,
    SERVICE_OUTWARD, SERVICE_SOURCES, SOURCE_KEY_BITS, Service, ServiceKey, Source, SourceKey,
};
use weft_dataplane_abi::socket::{SOCKET_FORWARD, SocketFlow, SocketKey};
use zerocopy::FromBytes;

use super::Decoded;

/// A row in words; none for one that holds nothing, or is of another shape than this build knows.
pub(super) fn row(table: &str, key: &[u8], value: &[u8]) -> Option<Decoded> {
    let (key, value) = match table {
        "config" => (json!({}), config(&read(value)?)),
        "services" => (service_key(&read(key)?), service(&read(value)?)),
        "slots" => slot(&read(key)?, &read(value)?),
        "sources" => source(&read(key)?, &read(value)?),
        "choices" => (json!({ "service": number(key)? }), choices(&read::<Choices>(value)?)),
        "choices_many" => (json!({ "service": number(key)? }), choices(&read::<ChoicesMany>(value)?)),
        "backends" => (json!({ "id": number(key)? }), backend(&read(value)?)?),
        "affinity" => affinity(&read(key)?, &read(value)?),
        "flows" => (tuple(&read(key)?), flow(&read(value)?)),
        "endpoints" => (json!({ "address": ip(read(key)?) }), endpoint(&read(value)?)),
        "routes" => (route_key(&read(key)?), route(&read(value)?)),
        "nodes" => (json!({ "address": ip(read(key)?) }), node(&read(value)?)),
        "netns" => netns(u64::from_ne_bytes(key.try_into().ok()?), &read(value)?),
        "socket_flows" => socket(&read(key)?, &read(value)?),
        "fragments" => fragment(&read(key)?, &read(value)?),
        "counters" => counter(number(key)?, value)?,
        "asking" => {
            let row: Asking = read(value)?;
            (json!({}), json!({ "cookie": row.cookie, "protocol": protocol(row.protocol as u8) }))
        }
        _ => return None,
    };
    Some(Decoded { key, value })
}

/// Where a flow's packets go, in a word.
pub(super) fn way_text(way: u8) -> &'static str {
    match u32::from(way) {
        0 => "",
        route::ROUTE_TUNNEL => "tunnel",
        route::ROUTE_NATIVE => "native",
        route::ROUTE_HOST => "host",
        route::ROUTE_OUTSIDE => "outside",
        route::ROUTE_SERVICE => "service range",
        route::ROUTE_NOWHERE => "nowhere",
        route::ROUTE_POD => "pod",
        route::ROUTE_LOCKED => "no key",
        _ => "unknown",
    }
}

fn read<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    T::read_from_bytes(bytes).ok()
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn ip(address: Address) -> String {
    address.ip().to_string()
}

fn end(address: Address, port: Be16) -> String {
    std::net::SocketAddr::new(address.ip(), port.get()).to_string()
}

fn protocol(number: u8) -> Value {
    match number {
        1 => json!("ICMP"),
        6 => json!("TCP"),
        17 => json!("UDP"),
        132 => json!("SCTP"),
        other => json!(other),
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Names of the bits that are set.
fn flags(bits: u32, names: &[(u32, &str)]) -> Vec<String> {
    names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned()).collect()
}

fn config(row: &Config) -> Value {
    let switches = [
        (BALANCE_SOCKET, "socket"),
        (BALANCE_PACKET, "packet"),
        (FLOW_EVENTS, "events"),
        (OUTWARD_HERE, "outward here"),
        (DIRECT_RETURN, "direct return"),
    ];
    json!({
        "layout": row.layout,
        "flags": flags(row.flags, &switches),
        "node": ip(row.node_v4),
        "nodeV6": ip(row.node_v6),
        "overlay": ip(row.overlay_v4),
        "overlayV6": ip(row.overlay_v6),
        "nodeIndex": row.node_index,
        "overlayInterface": row.overlay_ifindex,
        "uplinkInterface": row.uplink_ifindex,
        "nodePorts": format!("{}-{}", row.node_port_first, row.node_port_last),
        "sourcePorts": format!("{}-{}", row.source_port_first, row.source_port_last),
        "overlayPort": row.overlay_port,
        "epoch": row.epoch,
    })
}

/// How many places each backend has.
fn choices(ids: &[u32]) -> Value {
    let shares = ids.iter().fold(BTreeMap::<u32, usize>::new(), |mut shares, id| {
        *shares.entry(*id).or_default() += 1;
        shares
    });
    json!({ "placesByBackend": shares })
}

fn service_key(key: &ServiceKey) -> Value {
    let scope = match (key.scope & SCOPE_NODE != 0, key.scope & SCOPE_INSIDE != 0) {
        (false, false) => "address",
        (true, false) => "node port",
        (false, true) => "address, from inside",
        (true, true) => "node port, from inside",
    };
    json!({
        "address": match (key.scope & SCOPE_NODE != 0, key.scope & SCOPE_V6 != 0) {
            (false, _) => ip(key.address),
            (true, false) => "*".to_owned(),
            (true, true) => "[*]".to_owned(),
        },
        "port": key.port.get(),
        "protocol": protocol(key.protocol),
        "scope": scope,
    })
}

const SERVICE_FLAGS: [(u32, &str); 4] = [
    (SERVICE_LOCAL, "local"),
    (SERVICE_OUTWARD, "outward"),
    (SERVICE_SOURCES, "sources"),
    (SERVICE_CHOICES, "choices"),
];

fn service(row: &Service) -> Value {
    json!({
        "id": row.id,
        "backends": row.backend_count,
        "flags": flags(row.flags, &SERVICE_FLAGS),
        "affinitySeconds": row.affinity_seconds,
    })
}

fn slot(key: &SlotKey, row: &Slot) -> (Value, Value) {
    (json!({ "service": key.service_id, "index": key.index }), json!({ "backend": row.backend_id }))
}

fn source(key: &SourceKey, row: &Source) -> (Value, Value) {
    let prefix_bits = key.prefix_bits.saturating_sub(SOURCE_KEY_BITS);
    let mut words = route_key(&RouteKey { prefix_bits, address: key.range.address });
    words["service"] = key.range.service_id.into();
    (words, json!({ "allowed": row.allowed != 0 }))
}

fn backend(row: &Backend) -> Option<Value> {
    if row.generation == 0 {
        return None;
    }
    Some(json!({
        "address": end(row.address, row.port),
        "protocol": protocol(row.protocol as u8),
        "flags": flags(row.flags.into(), &[(BACKEND_READY.into(), "ready")]),
        "generation": row.generation,
        "nodeIndex": row.node_index,
    }))
}

fn affinity(key: &AffinityKey, row: &Affinity) -> (Value, Value) {
    let words = key.client.words;
    // A client at connect is a network namespace.
    let client = if words[0].get() == 0 && words[1].get() == 1 {
        let cookie = u64::from(words[3].wire()) << 32 | u64::from(words[2].wire());
        format!("netns {cookie}")
    } else {
        ip(key.client)
    };
    (
        json!({ "client": client, "service": key.service_id }),
        json!({ "backend": row.backend_id, "generation": row.generation, "seenNs": row.seen_ns }),
    )
}

fn tuple(key: &Tuple) -> Value {
    json!({
        "protocol": protocol(key.protocol),
        "source": end(key.source, key.source_port),
        "destination": end(key.destination, key.destination_port),
    })
}

fn flow(row: &Flow) -> Value {
    let names = [
        (FLOW_TWIN.into(), "twin"),
        (FLOW_SOURCE.into(), "source"),
        (FLOW_DESTINATION.into(), "destination"),
        (FLOW_PORT_ALLOCATED.into(), "port allocated"),
        (FLOW_NODE_PORT.into(), "node port"),
        (FLOW_DIRECT.into(), "direct"),
    ];
    let seen = [
        (TCP_SEEN_SYN.into(), "syn"),
        (TCP_SEEN_ACK.into(), "ack"),
        (TCP_SEEN_FIN.into(), "fin"),
        (TCP_SEEN_RST.into(), "rst"),
    ];
    json!({
        "toSource": end(row.to.source, row.to.source_port),
        "toDestination": end(row.to.destination, row.to.destination_port),
        "flags": flags(row.flags.into(), &names),
        "tcpSeen": flags(row.tcp_seen.into(), &seen),
        "way": way_text(row.way),
        "packets": row.packets,
        "bytes": row.bytes,
        "seenNs": row.seen_ns,
        "service": row.service_id,
        "backend": row.backend_id,
        "generation": row.generation,
        "origin": row.origin,
        "epoch": row.epoch,
    })
}

fn endpoint(row: &Endpoint) -> Value {
    json!({
        "interface": row.ifindex,
        "mac": mac(row.mac),
        "gatewayMac": mac(row.gateway_mac),
        "netnsCookie": row.netns_cookie,
        "identity": row.identity,
    })
}

fn route_key(key: &RouteKey) -> Value {
    let bits = if key.address.is_v4() { key.prefix_bits.saturating_sub(96) } else { key.prefix_bits };
    json!({ "range": format!("{}/{bits}", key.address.ip()) })
}

fn route(row: &Route) -> Value {
    let mut value = Map::new();
    value.insert("way".into(), way_text(row.kind as u8).into());
    value.insert("nodeIndex".into(), row.node_index.into());
    if !row.tunnel.is_zero() {
        let by = if row.kind == route::ROUTE_NATIVE { "nextHop" } else { "tunnel" };
        value.insert(by.into(), ip(row.tunnel).into());
    }
    value.into()
}

fn node(row: &Node) -> Value {
    json!({ "index": row.index, "flags": flags(row.flags, &[(NODE_SELF, "self")]) })
}

fn netns(cookie: u64, row: &Netns) -> (Value, Value) {
    let kind = match row.kind {
        NETNS_NODE => "node",
        NETNS_POD => "pod",
        _ => "unknown",
    };
    (json!({ "cookie": cookie }), json!({ "kind": kind }))
}

fn socket(key: &SocketKey, row: &SocketFlow) -> (Value, Value) {
    let direction = if key.direction == SOCKET_FORWARD { "forward" } else { "reverse" };
    let key = json!({
        "cookie": key.cookie,
        "protocol": protocol(key.protocol),
        "address": end(key.address, key.port),
        "direction": direction,
    });
    let value = json!({
        "address": end(row.address, row.port),
        "service": row.service_id,
        "backend": row.backend_id,
        "generation": row.generation,
        "chosenNs": row.chosen_ns,
    });
    (key, value)
}

fn fragment(key: &FragmentKey, row: &FragmentPorts) -> (Value, Value) {
    let key = json!({
        "protocol": protocol(key.protocol as u8),
        "source": ip(key.source),
        "destination": ip(key.destination),
        "identification": key.identification.get(),
    });
    (key, json!({ "sourcePort": row.source_port.get(), "destinationPort": row.destination_port.get() }))
}

fn counter(row: u32, value: &[u8]) -> Option<(Value, Value)> {
    let named =
        Counter::ALL.iter().find(|counter| **counter as u32 == row).map(|counter| counter.text().to_owned());
    let of_hook = || {
        Hook::ALL.iter().find_map(|hook| match row {
            _ if row == seen_by(*hook) => Some(format!("seen_{}", hook.text())),
            _ if row == dropped_by(*hook) => Some(format!("dropped_{}", hook.text())),
            _ => None,
        })
    };
    let name = named.or_else(of_hook)?;
    let words = value.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
    Some((json!({ "counter": name }), json!({ "value": words.fold(0, u64::wrapping_add) })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_dataplane_abi::maps::{MAPS, MapKind};
    use zerocopy::IntoBytes as _;

    #[test]
    fn rows_of_every_table_have_words() {
        for spec in MAPS.iter().filter(|spec| spec.kind != MapKind::RingBuf) {
            // The table of flows is shown row by row, not by bucket.
            let (key, value) = match spec.name {
                "flows" => (size_of::<Tuple>(), size_of::<Flow>()),
                _ => (spec.key_bytes as usize, spec.value_bytes as usize),
            };
            let (key, value) = (vec![0; key], vec![1; value]);
            let decoded = row(spec.name, &key, &value).unwrap_or_else(|| panic!("{}", spec.name));
            assert!(decoded.key.is_object() && decoded.value.is_object(), "{}", spec.name);
            assert!(row(spec.name, &key, &value[1..]).is_none() || spec.kind == MapKind::PerCpuArray);
        }
    }

    #[test]
    fn addresses_ports_and_flags_are_written_as_people_do() {
        let key = ServiceKey {
            address: Address::from(std::net::IpAddr::from([10, 96, 0, 7])),
            port: Be16::new(80),
            protocol: 6,
            scope: 0,
        };
        let value = Service { id: 3, backend_count: 2, flags: SERVICE_LOCAL, affinity_seconds: 0 };
        let row = row("services", key.as_bytes(), value.as_bytes()).expect("a row");
        assert_eq!(row.key["address"], "10.96.0.7");
        assert_eq!(row.key["protocol"], "TCP");
        assert_eq!(row.value["flags"], json!(["local"]));
    }
}
