//! What the kernel said of a packet, put into words station by station. Pure: what is known is an argument.

use std::net::{IpAddr, SocketAddr};

use weft_dataplane::desired::Protocol;
use weft_dataplane::dry::ask::Asked;
use weft_dataplane::dry::{Answer, Exit, NO_LOCAL_BACKEND, NO_SERVICE, Passage, TOO_LARGE, Way};
use weft_trace::explain::party;
use weft_trace::{Names, Outcome, Party, Probe, Step};

use crate::view::View;

/// Not a reason to end: what is special about a packet that goes on.
const HAIRPIN: &str = "hairpin: the sender is its own backend";

/// All that is known.
pub(super) struct Facts<'a> {
    pub(super) node: &'a str,
    /// `NS/NAME` of the sender.
    pub(super) pod: String,
    pub(super) ips: &'a [IpAddr],
    pub(super) protocol: Protocol,
    pub(super) bytes: u32,
    pub(super) to: SocketAddr,
    /// How the address was found.
    pub(super) found: Option<String>,
    pub(super) socket_lb: bool,
    pub(super) asked: Asked,
    pub(super) walked: Option<Answer>,
    /// First and last node port.
    pub(super) node_ports: (u16, u16),
    /// Backends of the row that decides.
    pub(super) backends: Option<u32>,
    /// A process of the node listens on the port.
    pub(super) listening: Option<bool>,
}

/// An answer as it grows.
struct Telling<'a> {
    facts: &'a Facts<'a>,
    view: &'a View,
    steps: Vec<Step>,
    unknown: Vec<String>,
    /// How it ends, once it has ended: outcome, program, station, reason.
    end: Option<(Outcome, String, String, String)>,
}

/// Puts it into words.
pub(super) fn explain(facts: &Facts<'_>, view: &View) -> Probe {
    let mut telling = Telling { facts, view, steps: Vec::new(), unknown: Vec::new(), end: None };
    telling.all();
    let Telling { steps, unknown, end, .. } = telling;
    let last = steps.last().cloned();
    let (outcome, hook, station, reason) = end.unwrap_or_else(|| {
        let (hook, station) = last.map(|step| (step.hook, step.station)).unwrap_or_default();
        (Outcome::Forwarded, hook, station, String::new())
    });
    let source = facts.ips.iter().find(|ip| ip.is_ipv4() == facts.to.is_ipv4()).or(facts.ips.first());
    let source = SocketAddr::new(source.copied().unwrap_or(IpAddr::from([0; 4])), facts.asked.source_port);
    Probe {
        node: facts.node.to_owned(),
        protocol: facts.protocol.to_string(),
        bytes: facts.bytes,
        source: Party { address: source, pod: Some(facts.pod.clone()), node: Some(facts.node.to_owned()) },
        destination: party(facts.to, view),
        service: view.service_at(facts.to, facts.protocol.number()),
        outcome,
        hook,
        station,
        reason,
        steps,
        unknown,
    }
}

impl Telling<'_> {
    fn all(&mut self) {
        if let Some(found) = &self.facts.found {
            self.step("pod", "", found.clone());
        }
        self.socket();
        if self.ended() {
            return;
        }
        let Some(answer) = &self.facts.walked else { return };
        for passage in &answer.passages {
            self.passage(passage);
            if self.ended() {
                return;
            }
        }
        if let (Some(exit), Some(first)) = (&answer.exit, answer.passages.first()) {
            self.size(exit, first);
        }
        if !self.ended()
            && let Some(first) = answer.passages.first()
        {
            self.beyond(first);
        }
    }

    fn ended(&self) -> bool {
        self.end.is_some()
    }

    fn step(&mut self, hook: &str, station: &str, text: impl Into<String>) {
        self.steps.push(Step {
            hook: hook.to_owned(),
            station: station.to_owned(),
            outcome: Outcome::Forwarded,
            text: text.into(),
        });
    }

    /// The last step: it ends here.
    fn ends(&mut self, outcome: Outcome, hook: &str, station: &str, reason: &str, text: impl Into<String>) {
        self.step(hook, station, text);
        if let Some(step) = self.steps.last_mut() {
            step.outcome = outcome;
        }
        self.end = Some((outcome, hook.to_owned(), station.to_owned(), reason.to_owned()));
    }

    fn name(&self, address: SocketAddr) -> String {
        party(address, self.view).to_string()
    }

    fn service(&self) -> Option<String> {
        let service = self.view.service_at(self.facts.to, self.facts.protocol.number())?;
        Some(format!("{}/{}", service.namespace, service.name))
    }

    fn one_of(&self) -> String {
        match self.facts.backends {
            None | Some(0 | 1) => String::new(),
            Some(all) => format!(", this time, of {all}"),
        }
    }

    /// The socket station, and the Pod's own stack.
    fn socket(&mut self) {
        let hook = if self.facts.to.is_ipv6() { "connect6" } else { "connect4" };
        let asked = &self.facts.asked;
        let to = self.facts.to;
        if let Some(reason) = &asked.reason {
            let service = self.service().unwrap_or_else(|| to.to_string());
            let text = format!("service {service}: {reason}; connect fails with ECONNREFUSED");
            return self.ends(Outcome::Refused, hook, "socket", reason, text);
        }
        if let Some(error) = &asked.error {
            let text = format!("the Pod's own stack does not connect: {error}");
            return self.ends(Outcome::Refused, "pod", "", error, text);
        }
        match asked.peer {
            Some(peer) if peer != to => {
                let service = self.service().unwrap_or_else(|| to.to_string());
                let (backend, one_of) = (self.name(peer), self.one_of());
                let tcp = if self.facts.protocol == Protocol::Tcp {
                    " (asked with a datagram socket for the TCP row: nothing is sent)"
                } else {
                    ""
                };
                self.step(hook, "socket", format!("service {service} -> {backend}{one_of}{tcp}"));
                if self.facts.ips.contains(&peer.ip()) {
                    self.step("pod", "", "the backend is the sender itself: the packet stays in the Pod, on its loopback, and no packet program sees it");
                    let (hook, station) = (hook.to_owned(), "socket".to_owned());
                    self.end = Some((Outcome::Forwarded, hook, station, HAIRPIN.to_owned()));
                }
            }
            _ if !self.facts.socket_lb => {
                self.step(hook, "socket", "balancing at connect is off: the address stays");
            }
            _ => self.step(hook, "socket", self.no_service_text()),
        }
        if !self.ended() && asked.mtu_bytes != 0 && self.facts.bytes > asked.mtu_bytes {
            let text = format!(
                "the Pod's own stack sends at most {} bytes there in one piece, these are {}: {}",
                asked.mtu_bytes,
                self.facts.bytes,
                self.too_large_text()
            );
            self.ends(Outcome::Refused, "pod", "socket", TOO_LARGE, text);
        }
    }

    fn too_large_text(&self) -> &'static str {
        match self.facts.protocol {
            Protocol::Udp => "a socket that forbids cutting gets EMSGSIZE, others send it in fragments",
            _ => {
                "TCP makes its segments fit, unless something on the way lowers what passes without saying so"
            }
        }
    }

    fn no_service_text(&self) -> String {
        let to = self.facts.to;
        if self.is_node_port() {
            return format!("no service has node port {}: the address stays", to.port());
        }
        match self.service() {
            Some(service) => {
                format!("service {service} is left to the packet programs, or to the node it names")
            }
            None => "not a Service's address: it stays".to_owned(),
        }
    }

    /// The destination is a node's address, with a port that only Services use.
    fn is_node_port(&self) -> bool {
        self.view.node(self.facts.to.ip()).is_some()
            && (self.facts.node_ports.0..=self.facts.node_ports.1).contains(&self.facts.to.port())
            && self.service().is_none()
    }

    /// One program, station by station.
    fn passage(&mut self, passage: &Passage) {
        let hook = passage.hook;
        if hook != "from_pod" {
            return self.step(hook, "", format!("on {}: goes on untouched", passage.device));
        }
        let dropped = |station: &str| passage.station == station;
        if dropped("parse") {
            return self.dropped(passage);
        }
        let source = self.name(passage.source);
        self.step(hook, "parse", format!("on {}: the source is the Pod's own, {source}", passage.device));
        if dropped("fragment") {
            return self.dropped(passage);
        }
        self.step(hook, "track", passage.known);
        if dropped("balance") {
            return self.dropped(passage);
        }
        let new = passage.known == "new flow" || passage.known.contains("begins anew");
        if passage.service_id != 0 {
            let service = self.service().unwrap_or_else(|| passage.destination.to_string());
            let (backend, one_of) = (self.name(passage.to_destination), self.one_of());
            self.step(hook, "balance", format!("service {service} -> {backend}{one_of}"));
        } else if new
            && passage.way == Way::Host
            && self.is_node_port()
            && passage.destination == self.facts.to
        {
            self.unknown_node_port(passage);
            return;
        } else if new {
            self.step(hook, "balance", "not a Service's address");
        }
        if dropped("route") {
            return self.dropped(passage);
        }
        self.step(hook, "route", self.way_text(passage));
        if !passage.station.is_empty() {
            return self.dropped(passage);
        }
        self.step(hook, "translate", translated(passage));
    }

    fn dropped(&mut self, passage: &Passage) {
        let (outcome, text) = match passage.end {
            "refused" => (Outcome::Refused, "answered with a reset, or \"port unreachable\""),
            _ => (Outcome::Dropped, "dropped, without a word to the sender"),
        };
        let service = match self.service() {
            Some(service) if passage.station == "balance" => format!("service {service}: "),
            _ => String::new(),
        };
        let text = format!("{service}{}; {text}", passage.reason);
        self.ends(outcome, passage.hook, passage.station, passage.reason, text);
    }

    /// A node port that no Service has goes up into the node's stack, like any other port of the node.
    fn unknown_node_port(&mut self, passage: &Passage) {
        let port = self.facts.to.port();
        if self.facts.listening == Some(true) {
            let text = format!("no service has node port {port}, but a process of the node listens on it");
            return self.step(passage.hook, "balance", text);
        }
        let text =
            format!("no service has node port {port}: up into the node's own stack, where nobody listens");
        self.ends(Outcome::Refused, passage.hook, "balance", NO_SERVICE, text);
    }

    fn way_text(&self, passage: &Passage) -> String {
        let to = self.name(passage.to_destination);
        match passage.way {
            Way::Pod => format!("{to} is on this node: straight into it"),
            Way::Tunnel(node) => {
                let name = self.view.node(node).unwrap_or_else(|| "a node".to_owned());
                format!("through the tunnel to {name} ({node})")
            }
            Way::Native(node) => {
                let name = self.view.node(node).unwrap_or_else(|| "a node".to_owned());
                format!("as it is to {name} ({node}), a neighbour on the uplink")
            }
            Way::Host => format!("{to} is this node: up into its own stack"),
            Way::Outside => format!("{to} is outside the overlay: out of the uplink, as the node itself"),
            Way::Service => "in the Service range".to_owned(),
            Way::Nowhere => "in the cluster's Pod range".to_owned(),
            Way::None => "not looked for".to_owned(),
        }
    }

    /// The device it leaves by, and what that takes.
    fn size(&mut self, exit: &Exit, first: &Passage) {
        if self.facts.bytes <= exit.mtu_bytes {
            return;
        }
        let text = format!(
            "{} takes {} bytes, these are {}: {}",
            exit.device,
            exit.mtu_bytes,
            self.facts.bytes,
            self.too_large_text()
        );
        self.ends(Outcome::Dropped, first.hook, "route", TOO_LARGE, text);
    }

    /// What lies behind this node, as far as it knows.
    fn beyond(&mut self, first: &Passage) {
        let to = first.to_destination;
        if first.way == Way::Pod && self.facts.ips.contains(&to.ip()) {
            self.step(
                "pod",
                "",
                "back into the sender, which sees the node as its client, so that the answers come back here",
            );
            let (hook, station) = (first.hook.to_owned(), "translate".to_owned());
            self.end = Some((Outcome::Forwarded, hook, station, HAIRPIN.to_owned()));
            return;
        }
        match first.way {
            Way::Pod => {
                self.step("pod", "", format!("delivered to {}", self.name(to)));
                self.unknown.push(format!("whether a process of the Pod listens on port {}", to.port()));
            }
            Way::Host => self.host(first),
            Way::Tunnel(node) => self.other_node("from_overlay", node, to),
            Way::Native(node) => self.other_node("from_uplink", node, to),
            Way::Outside => self.outside(first),
            Way::None | Way::Service | Way::Nowhere => {}
        }
    }

    fn host(&mut self, first: &Passage) {
        let port = first.to_destination.port();
        match self.facts.listening {
            Some(false) if port == self.facts.to.port() => {
                let text = format!("nobody of the node listens on port {port}");
                self.ends(Outcome::Refused, "node", "", "nobody listens on this port of the node", text);
            }
            Some(true) => self.step("node", "", format!("a process of the node listens on port {port}")),
            _ => self.unknown.push(format!("whether a process of the node listens on port {port}")),
        }
    }

    fn other_node(&mut self, hook: &str, node: IpAddr, to: SocketAddr) {
        let name = self.view.node(node).unwrap_or_else(|| node.to_string());
        match self.view.pod(to.ip()) {
            Some((pod, place)) if place == name => {
                self.step(hook, "route", format!("as far as this node knows, {name} hands it to {pod}"));
            }
            Some((pod, place)) => {
                let text =
                    format!("{name} has the address's range, but this node knows {pod} to be on {place}");
                self.step(hook, "route", text);
            }
            None => {
                let text =
                    format!("{name} has the address's range, but this node knows no Pod with the address");
                self.step(hook, "route", text);
            }
        }
        self.unknown.push(format!("the tables of {name}: agentctl --node {name} map endpoints"));
    }

    /// Out of the uplink: to a port of another node, or away.
    fn outside(&mut self, first: &Passage) {
        let to = first.to_destination;
        let Some(node) = self.view.node(to.ip()) else {
            self.step(
                "wire",
                "",
                format!("to {to} as {}: what lies there is not the cluster's", first.to_source),
            );
            self.unknown.push(format!("whether {} answers", to.ip()));
            return;
        };
        let Some(service) = self.view.service_at(to, self.facts.protocol.number()) else {
            if self.is_node_port() {
                let text = format!(
                    "as far as this node knows, no service has node port {}: {node}'s own stack answers",
                    to.port()
                );
                self.ends(Outcome::Refused, "from_uplink", "balance", NO_SERVICE, text);
                self.unknown.push(format!("whether a process of {node} listens on port {}", to.port()));
                return;
            }
            self.step("wire", "", format!("to {node}, as {}", first.to_source));
            self.unknown.push(format!("whether a process of {node} listens on port {}", to.port()));
            return;
        };
        let name = format!("{}/{}", service.namespace, service.name);
        self.unknown
            .push(format!("the tables of {node}: agentctl --node {node} service list --service {name}"));
        let local = self.view.with_endpoints(&service.namespace, &service.name).is_some_and(|row| {
            row.external_local
                && !row.endpoints.iter().any(|end| end.node == node && (end.ready || end.serving))
        });
        if local {
            let text = format!(
                "as far as this node knows, {name} has the policy Local and no backend on {node}: dropped there"
            );
            return self.ends(Outcome::Dropped, "from_uplink", "balance", NO_LOCAL_BACKEND, text);
        }
        self.step("from_uplink", "balance", format!("{node} chooses a backend of {name}"));
    }
}

fn translated(passage: &Passage) -> String {
    let mut changes = Vec::new();
    if passage.source != passage.to_source {
        changes.push(format!("source {} becomes {}", passage.source, passage.to_source));
    }
    if passage.destination != passage.to_destination {
        changes.push(format!("destination {} becomes {}", passage.destination, passage.to_destination));
    }
    if changes.is_empty() { "nothing is replaced".to_owned() } else { changes.join(", ") }
}

#[cfg(test)]
mod tests;
