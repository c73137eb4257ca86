//! What the scheduler sees of the cluster: nodes, what is asked of each already, and the Pods that matter for spreading.

use std::collections::BTreeMap;

use serde_json::Value;
use weft_api::quantity::Quantity;
use weft_api::view::{Container, Node, Pod};

/// Quantities by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// What a Pod without a CPU request counts as when nodes are compared, thousandths of a core.
const CPU_ASSUMED_MILLI: i64 = 100;
/// What a Pod without a memory request counts as when nodes are compared, bytes.
const MEMORY_ASSUMED_BYTES: i64 = 200 << 20;

/// What the Pods of one node ask of it. Kept up by adding and removing Pods one at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// Sum of requests.
    pub requested: Amounts,
    /// Sum of CPU with an assumed amount where nothing is requested, thousandths of a core; for comparing nodes only.
    pub cpu_assumed_milli: i64,
    /// Sum of memory likewise, bytes.
    pub memory_assumed_bytes: i64,
    /// Number of Pods.
    pub pods: u32,
    /// How many Pods hold each host port, by protocol and port.
    pub host_ports: BTreeMap<(String, u16), u32>,
}

impl NodeLoad {
    /// Takes in a Pod.
    pub fn add(&mut self, pod: &Pod) {
        let requests = requests_of(pod);
        self.cpu_assumed_milli = self.cpu_assumed_milli.saturating_add(cpu_assumed_milli(&requests));
        self.memory_assumed_bytes = self.memory_assumed_bytes.saturating_add(memory_assumed_bytes(&requests));
        for (name, amount) in requests {
            let sum = self.requested.entry(name).or_default();
            *sum = *sum + amount;
        }
        self.pods += 1;
        for port in host_ports(pod) {
            *self.host_ports.entry(port).or_default() += 1;
        }
    }

    /// Takes out a Pod that was added before.
    pub fn remove(&mut self, pod: &Pod) {
        let requests = requests_of(pod);
        self.cpu_assumed_milli = self.cpu_assumed_milli.saturating_sub(cpu_assumed_milli(&requests));
        self.memory_assumed_bytes = self.memory_assumed_bytes.saturating_sub(memory_assumed_bytes(&requests));
        for (name, amount) in requests {
            if let Some(sum) = self.requested.get_mut(&name) {
                *sum = *sum - amount;
                if sum.is_zero() {
                    self.requested.remove(&name);
                }
            }
        }
        self.pods = self.pods.saturating_sub(1);
        for port in host_ports(pod) {
            if let Some(count) = self.host_ports.get_mut(&port) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.host_ports.remove(&port);
                }
            }
        }
    }

    /// Whether no Pod is left.
    pub fn is_empty(&self) -> bool {
        self.pods == 0
    }
}

/// One node and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct NodeInfo<'a> {
    /// The node.
    pub node: &'a Node,
    /// What its Pods ask of it; none: it has no Pods.
    pub load: Option<&'a NodeLoad>,
}

impl NodeInfo<'_> {
    /// What Pods may use of a resource in all; zero when the node has none of it.
    pub fn allocatable(&self, resource: &str) -> Quantity {
        let status = &self.node.status;
        let text = status.allocatable.get(resource).or_else(|| status.capacity.get(resource));
        text.and_then(|text| Quantity::parse(text).ok()).unwrap_or_default()
    }

    /// What is asked already.
    pub fn requested(&self, resource: &str) -> Quantity {
        self.load.and_then(|load| load.requested.get(resource)).copied().unwrap_or_default()
    }
}

/// What a decision is made on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot<'a> {
    /// Every node.
    pub nodes: Vec<NodeInfo<'a>>,
    /// Bound Pods of the Pod's namespace that are neither terminating nor ended, for topology spread constraints and
    /// Pod affinity. May be empty when the Pod has neither.
    pub namespace_pods: Vec<&'a Pod>,
    /// Bound Pods with the same controller, likewise.
    pub siblings: Vec<&'a Pod>,
}

/// What a Pod asks of its node: the sum of its containers and sidecars, or what its hungriest init container needs
/// beside the sidecars started before it, whichever is more.
pub fn requests_of(pod: &Pod) -> Amounts {
    let mut running = Amounts::new();
    for container in &pod.spec.containers {
        add(&mut running, &container_requests(container));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in &pod.spec.init_containers {
        let requests = container_requests(container);
        if container.restart_policy == "Always" {
            add(&mut running, &requests);
            add(&mut sidecars, &requests);
            raise(&mut starting, &sidecars);
        } else {
            let mut step = sidecars.clone();
            add(&mut step, &requests);
            raise(&mut starting, &step);
        }
    }
    raise(&mut running, &starting);
    running
}

/// A container's requests; where only a limit is given, the limit.
fn container_requests(container: &Container) -> Amounts {
    let read = |(name, value): (&String, &Value)| Some((name.clone(), Quantity::from_value(value).ok()?));
    let mut amounts: Amounts = container.resources.limits.iter().filter_map(read).collect();
    amounts.extend(container.resources.requests.iter().filter_map(read));
    amounts
}

fn add(sum: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let entry = sum.entry(name.clone()).or_default();
        *entry = *entry + *amount;
    }
}

fn raise(most: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let entry = most.entry(name.clone()).or_default();
        *entry = (*entry).max(*amount);
    }
}

/// A Pod's CPU for comparing nodes, thousandths of a core.
pub(crate) fn cpu_assumed_milli(requests: &Amounts) -> i64 {
    requests.get("cpu").map_or(CPU_ASSUMED_MILLI, |cpu| cpu.milli_ceil())
}

/// A Pod's memory for comparing nodes, bytes.
pub(crate) fn memory_assumed_bytes(requests: &Amounts) -> i64 {
    requests.get("memory").map_or(MEMORY_ASSUMED_BYTES, |memory| memory.units_ceil())
}

/// The host ports a Pod holds; with the host's network every container port is one.
pub(crate) fn host_ports(pod: &Pod) -> Vec<(String, u16)> {
    let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    containers
        .flat_map(|container| &container.ports)
        .filter_map(|port| {
            let number = match port.host_port {
                0 if pod.spec.host_network => port.container_port,
                number => number,
            };
            let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
            (number != 0).then(|| (protocol.to_owned(), number))
        })
        .collect()
}
