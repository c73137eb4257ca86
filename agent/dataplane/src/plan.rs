//! What is installed, who owns it, and the writes a change needs: ids are given here, stably and bounded. Pure.

mod backends;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use thiserror::Error;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::Backend;
use weft_dataplane_abi::service::{SERVICE_OUTWARD, Service as ServiceValue, ServiceKey};

use crate::config::Capacities;
use crate::desired::{Change, Desired, Peer, Service, ServiceName};
use crate::diff::{Write, diff};
use crate::plan::backends::Backends;
use crate::reach::Reach;
use crate::rows::{self, Place, Rows, ServiceRow, Wanted};

/// How many rows of one table a set has.
type Count = fn(&Rows) -> usize;
/// What room a table has.
type Room = fn(&Capacities) -> u32;

/// The tables that others than Services have rows in.
const HELD: [(&str, Room, Count); 4] = [
    ("routes", |room| room.routes_max, |rows| rows.routes.len()),
    ("nodes", |room| room.nodes_max, |rows| rows.nodes.len()),
    ("endpoints", |room| room.endpoints_max, |rows| rows.endpoints.len()),
    ("netns", |room| room.namespaces_max, |rows| rows.netns.len()),
];

/// Why a change could not be taken in; nothing of the thing it names was written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// A table of the kernel has no room.
    #[error("{what}: table {map} is full at {capacity} rows; raise its capacity")]
    Full {
        /// What had to go in.
        what: String,
        /// Which table.
        map: &'static str,
        /// Its rows.
        capacity: u32,
    },
    /// Two Services want the same address and port.
    #[error("{service}: {protocol} port {port} on {address} is {owner}'s")]
    Taken {
        /// The Service that came later.
        service: Box<ServiceName>,
        /// The address; unspecified for a NodePort.
        address: std::net::IpAddr,
        /// Port, host byte order.
        port: u16,
        /// IP protocol number.
        protocol: u8,
        /// The Service that has it.
        owner: Box<ServiceName>,
    },
}

/// A Service's port, as events and tables of the kernel name it by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortName {
    /// The Service.
    pub service: ServiceName,
    /// Its port, host byte order.
    pub port: u16,
}

/// Things other than Services that own rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// This node.
    Node,
    /// Another node, by name.
    Peer(String),
    /// A Pod, by UID.
    Pod(String),
}

/// A part of a change: one thing comes, or goes.
#[derive(Debug)]
pub struct Step<'a>(Kind<'a>);

#[derive(Debug)]
enum Kind<'a> {
    Put(&'a Arc<Service>),
    Remove(ServiceName),
    PutPeer(&'a Peer),
    LetGo(Holder),
    DropAdopted,
}

/// The rows of one Service: few, so a list of them is small and fast.
type ServiceRows = Vec<(ServiceKey, ServiceRow)>;

/// The mirror of the kernel's rows and their owners.
#[derive(Debug)]
pub struct Planner {
    node: String,
    capacities: Capacities,
    services: HashMap<ServiceName, ServiceRows>,
    owners: HashMap<ServiceKey, ServiceName>,
    ports: HashMap<u32, Arc<PortName>>,
    backends: Backends,
    service_id_next: u32,
    slots: usize,
    sources: usize,
    /// Rows for the outside at this node's own addresses.
    outward_here: HashSet<ServiceKey>,
    node_indexes: HashMap<String, u32>,
    node_indexes_used: HashSet<u32>,
    node_index_next: u32,
    holders: HashMap<Holder, Rows>,
    /// Rows of all holders together, in the order of [`HELD`].
    held: [usize; HELD.len()],
    /// Services that could not be taken in, or not all of their rows, and why. They are tried again after every change.
    refused: BTreeMap<ServiceName, (Arc<Service>, Vec<PlanError>)>,
    adopted: Rows,
    /// How other nodes are reached; it may change under their rows.
    reach: Reach,
}

impl Planner {
    /// Begins with what the kernel holds: nothing on a fresh node, everything from before after a restart.
    /// `generations` are those of all backend rows ever used.
    #[must_use]
    pub fn adopt(node: &str, capacities: Capacities, kernel: Rows, generations: &HashMap<u32, u32>) -> Self {
        let backends =
            Backends::adopt(capacities.backends_max, &kernel.backends, generations, kernel.services.values());
        let ids = kernel.services.values().map(|row| row.value.id.wrapping_add(1));
        Self {
            node: node.to_owned(),
            capacities,
            services: HashMap::new(),
            owners: HashMap::new(),
            ports: HashMap::new(),
            backends,
            service_id_next: ids.max().unwrap_or(1).max(1),
            slots: kernel.services.values().map(|row| row.backends.len()).sum(),
            sources: kernel.services.values().map(|row| row.sources.len()).sum(),
            outward_here: HashSet::new(),
            node_indexes: HashMap::new(),
            node_indexes_used: HashSet::new(),
            node_index_next: kernel.nodes.values().map(|row| row.index).max().unwrap_or(0) + 1,
            holders: HashMap::new(),
            held: [0; HELD.len()],
            refused: BTreeMap::new(),
            adopted: Rows { backends: HashMap::new(), ..kernel },
            reach: Reach::default(),
        }
    }

    /// The writes for a change, and what of it could not be done.
    pub fn change(&mut self, change: &Change) -> (Vec<Write>, Vec<PlanError>) {
        let (mut writes, mut errors) = (Vec::new(), Vec::new());
        for step in self.steps(change) {
            let (more, failed) = self.step(step);
            writes.extend(more);
            errors.extend(failed);
        }
        if !writes.is_empty() {
            writes.extend(self.try_refused());
        }
        errors.extend(self.refused_of(change));
        (writes, errors)
    }

    /// A change as steps to be taken one after the other, each with few writes: a complete view has very many together.
    /// [`Planner::try_refused`] and [`Planner::refused_of`] are to follow the last.
    #[must_use]
    pub fn steps<'a>(&self, change: &'a Change) -> Vec<Step<'a>> {
        let step = match change {
            Change::ReplaceAll(desired) => return self.replace_all(desired),
            Change::PutService(service) => Kind::Put(service),
            Change::RemoveService(name) => Kind::Remove(name.clone()),
            Change::PutPeer(peer) => Kind::PutPeer(peer),
            Change::RemovePeer(name) => Kind::LetGo(Holder::Peer(name.clone())),
            // Names of addresses live in user space until policy needs their identities.
            Change::PutAddress(..) | Change::RemoveAddress(_) => return Vec::new(),
        };
        vec![Step(step)]
    }

    /// A complete view as steps: what is not in it goes.
    #[must_use]
    pub fn replace_all<'a>(&self, desired: &'a Desired) -> Vec<Step<'a>> {
        let known = self.services.keys().chain(self.refused.keys());
        // Host ports come and go with their Pods.
        let gone = known.filter(|name| !desired.services.contains_key(*name) && !name.is_of_pod());
        let gone = gone.cloned().map(Kind::Remove);
        let peers_gone = self
            .holders
            .keys()
            .filter(|holder| matches!(holder, Holder::Peer(name) if !desired.peers.contains_key(name)));
        let peers_gone = peers_gone.cloned().map(Kind::LetGo);
        let gone = gone.map(Step);
        let after = peers_gone.chain([Kind::DropAdopted]).map(Step);
        gone.chain(Self::put_all(desired)).chain(after).collect()
    }

    /// A view that may lack something, as steps: nothing goes.
    #[must_use]
    pub fn put_all(desired: &Desired) -> Vec<Step<'_>> {
        let peers = desired.peers.values().map(Kind::PutPeer);
        peers.chain(desired.services.values().map(Kind::Put)).map(Step).collect()
    }

    /// Takes one step: its writes, and what of it could not be done.
    pub fn step(&mut self, step: Step<'_>) -> (Vec<Write>, Vec<PlanError>) {
        let writes = match step.0 {
            Kind::Put(service) => self.put_service(service),
            Kind::Remove(name) => self.remove_service(&name),
            Kind::PutPeer(peer) => return self.put_peer(peer),
            Kind::LetGo(holder) => self.remove(&holder),
            Kind::DropAdopted => self.drop_adopted(),
        };
        (writes, Vec::new())
    }

    /// Tries once more what was refused: what one Service gave up may be what another waits for.
    pub fn try_refused(&mut self) -> Vec<Write> {
        let waiting: Vec<Arc<Service>> = self.refused.values().map(|(service, _)| service.clone()).collect();
        waiting.iter().flat_map(|service| self.put_service(service)).collect()
    }

    /// What is refused of a change.
    #[must_use]
    pub fn refused_of(&self, change: &Change) -> Vec<PlanError> {
        let asked = |name: &ServiceName| match change {
            Change::ReplaceAll(_) => true,
            Change::PutService(service) => service.name == *name,
            _ => false,
        };
        let refused = self.refused.iter().filter(|(name, _)| asked(name));
        refused.flat_map(|(_, (_, errors))| errors.iter().cloned()).collect()
    }

    /// Drops what was there before a restart and nobody put again.
    fn drop_adopted(&mut self) -> Vec<Write> {
        let mut writes = self.drop_adopted_services();
        let adopted = std::mem::take(&mut self.adopted);
        let nodes_and_routes = Rows { nodes: adopted.nodes, routes: adopted.routes, ..Rows::default() };
        writes.extend(diff(&nodes_and_routes, &Rows::default()));
        writes
    }

    fn drop_adopted_services(&mut self) -> Vec<Write> {
        let old = std::mem::take(&mut self.adopted.services).into_iter().collect();
        self.swap_services(old, Vec::new())
    }

    /// Drops Pods' rows from before a restart that nobody put again.
    pub fn drop_adopted_pods(&mut self) -> Vec<Write> {
        let endpoints = std::mem::take(&mut self.adopted.endpoints);
        let netns = std::mem::take(&mut self.adopted.netns);
        diff(&Rows { endpoints, netns, ..Rows::default() }, &Rows::default())
    }

    fn put_service(&mut self, service: &Arc<Service>) -> Vec<Write> {
        let name = &service.name;
        let mut errors = Vec::new();
        let mut wanted = rows::wanted(service, &self.node);
        wanted.retain(|row| match self.owners.get(&row.key) {
            Some(owner) if owner != name => {
                errors.push(PlanError::Taken {
                    service: Box::new(name.clone()),
                    address: row.key.address.ip(),
                    port: row.key.port.get(),
                    protocol: row.key.protocol,
                    owner: Box::new(owner.clone()),
                });
                false
            }
            _ => true,
        });
        if let Err(error) = self.room_for(name, &wanted) {
            errors.push(error);
            self.refused.insert(name.clone(), (service.clone(), errors));
            return Vec::new();
        }
        if errors.is_empty() {
            self.refused.remove(name);
        } else {
            self.refused.insert(name.clone(), (service.clone(), errors));
        }
        let mut old = self.services.remove(name).unwrap_or_default();
        for row in &wanted {
            if let Some(adopted) = self.adopted.services.remove(&row.key) {
                old.push((row.key, adopted));
            }
        }
        let new: ServiceRows = wanted.into_iter().map(|row| (row.key, self.row(row, &old))).collect();
        for (key, row) in &new {
            self.owners.insert(*key, name.clone());
            let port = PortName { service: name.clone(), port: key.port.get() };
            self.ports.insert(row.value.id, Arc::new(port));
        }
        for (key, row) in old.iter().filter(|(key, _)| of(&new, key).is_none()) {
            self.owners.remove(key);
            self.ports.remove(&row.value.id);
        }
        self.services.insert(name.clone(), new.clone());
        self.swap_services(old, new)
    }

    fn remove_service(&mut self, name: &ServiceName) -> Vec<Write> {
        self.refused.remove(name);
        let old = self.services.remove(name).unwrap_or_default();
        for (key, row) in &old {
            self.owners.remove(key);
            self.ports.remove(&row.value.id);
        }
        self.swap_services(old, Vec::new())
    }

    /// The row of a wanted one: its id kept where it has one, and those of its backends.
    fn row(&mut self, wanted: Wanted, old: &ServiceRows) -> ServiceRow {
        let old = of(old, &wanted.key);
        let id = old.map_or_else(
            || {
                self.service_id_next = self.service_id_next.wrapping_add(1).max(2);
                self.service_id_next - 1
            },
            |row| row.value.id,
        );
        let held: HashMap<Place, u32> = old
            .into_iter()
            .flat_map(|row| self.backends.of(row))
            .map(|(id, row)| (backends::place(&row), id))
            .collect();
        let mut ids = Vec::with_capacity(wanted.backends.len());
        for (place, node) in wanted.backends {
            let known = held.get(&place).copied();
            ids.extend(known.or_else(|| self.take(id, wanted.key.protocol, place, &node)));
        }
        let value = ServiceValue {
            id,
            backend_count: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            flags: wanted.flags,
            affinity_seconds: wanted.affinity_seconds,
        };
        ServiceRow { value, backends: ids, sources: wanted.sources, filled: true }
    }

    fn take(&mut self, service_id: u32, protocol: u8, place: Place, node: &str) -> Option<u32> {
        let node_index = if node.is_empty() { 0 } else { self.node_index(node, None) };
        self.backends.take(service_id, place, protocol, node_index)
    }

    /// The writes from old rows to new ones whose backends are taken already; gives back those that are in none of the new
    /// ones.
    fn swap_services(&mut self, old: ServiceRows, new: ServiceRows) -> Vec<Write> {
        let slots = |rows: &ServiceRows| rows.iter().map(|(_, row)| row.backends.len()).sum();
        let (slots_old, slots_new): (usize, usize) = (slots(&old), slots(&new));
        self.slots = (self.slots + slots_new).saturating_sub(slots_old);
        let sources = |rows: &ServiceRows| rows.iter().map(|(_, row)| row.sources.len()).sum::<usize>();
        self.sources = (self.sources + sources(&new)).saturating_sub(sources(&old));
        for (key, _) in &old {
            self.outward_here.remove(key);
        }
        for (key, row) in &new {
            if self.is_outward_here(key, row) {
                self.outward_here.insert(*key);
            }
        }
        let rows = |rows: &ServiceRows| -> HashMap<u32, Backend> {
            rows.iter().flat_map(|(_, row)| self.backends.of(row)).collect()
        };
        let (held_old, held_new) = (rows(&old), rows(&new));
        for id in held_old.keys().filter(|id| !held_new.contains_key(id)) {
            self.backends.release(*id);
        }
        let set = |services: ServiceRows, backends| Rows {
            services: services.into_iter().collect(),
            backends,
            ..Rows::default()
        };
        diff(&set(old, held_old), &set(new, held_new))
    }

    fn is_outward_here(&self, key: &ServiceKey, row: &ServiceRow) -> bool {
        let own = self.holders.get(&Holder::Node);
        row.value.flags & SERVICE_OUTWARD != 0
            && own.is_some_and(|rows| rows.nodes.contains_key(&key.address))
    }

    /// Whether the outside knows anything at this node's own addresses: host ports, or Services' external addresses.
    #[must_use]
    pub fn outward_here(&self) -> bool {
        !self.outward_here.is_empty()
            || self.adopted.services.iter().any(|(key, row)| self.is_outward_here(key, row))
    }

    fn room_for(&self, name: &ServiceName, wanted: &[Wanted]) -> Result<(), PlanError> {
        let full = |map, capacity| PlanError::Full { what: format!("Service {name}"), map, capacity };
        let own = self.services.get(name);
        let rows_own = own.map_or(0, Vec::len);
        let adopted = wanted.iter().filter(|row| self.adopted.services.contains_key(&row.key)).count();
        let rows = (self.owners.len() + self.adopted.services.len() + wanted.len())
            .saturating_sub(rows_own + adopted);
        if rows > self.capacities.services_max as usize {
            return Err(full("services", self.capacities.services_max));
        }
        let slots_own: usize = own.into_iter().flatten().map(|(_, row)| row.backends.len()).sum();
        let slots_wanted: usize = wanted.iter().map(|row| row.backends.len()).sum();
        if (self.slots + slots_wanted).saturating_sub(slots_own) > self.capacities.slots_max as usize {
            return Err(full("slots", self.capacities.slots_max));
        }
        let sources_own: usize = own.into_iter().flatten().map(|(_, row)| row.sources.len()).sum();
        let sources_wanted: usize = wanted.iter().map(|row| row.sources.len()).sum();
        if (self.sources + sources_wanted).saturating_sub(sources_own) > self.capacities.sources_max as usize
        {
            return Err(full("sources", self.capacities.sources_max));
        }
        let unknown = |row: &Wanted| {
            let there = own.and_then(|own| of(own, &row.key)).or_else(|| self.adopted.services.get(&row.key));
            let held: HashSet<Place> = there
                .into_iter()
                .flat_map(|row| self.backends.of(row))
                .map(|(_, row)| backends::place(&row))
                .collect();
            row.backends.iter().filter(|(place, _)| !held.contains(place)).count()
        };
        if wanted.iter().map(unknown).sum::<usize>() > self.backends.left() {
            return Err(full("backends", self.capacities.backends_max));
        }
        Ok(())
    }

    /// Says how other nodes are reached: by the tunnel until it is said. Their rows are those of before until they are put again.
    pub fn set_reach(&mut self, reach: Reach) {
        self.reach = reach;
    }

    /// The index of a node: kept while this planner lives, taken over from the kernel's row of `address` if free.
    pub fn node_index(&mut self, name: &str, address: Option<Address>) -> u32 {
        if let Some(index) = self.node_indexes.get(name) {
            return *index;
        }
        let kept = address
            .and_then(|address| self.adopted.nodes.get(&address))
            .map(|row| row.index)
            .filter(|index| !self.node_indexes_used.contains(index));
        let index = kept.unwrap_or_else(|| {
            self.node_index_next += 1;
            self.node_index_next - 1
        });
        self.node_indexes_used.insert(index);
        self.node_indexes.insert(name.to_owned(), index);
        index
    }

    fn put_peer(&mut self, peer: &Peer) -> (Vec<Write>, Vec<PlanError>) {
        let index = self.node_index(&peer.name, peer.addresses.first().map(|ip| Address::from(*ip)));
        match self.put(Holder::Peer(peer.name.clone()), rows::of_peer(peer, index, &self.reach)) {
            Ok(writes) => (writes, Vec::new()),
            Err(error) => (Vec::new(), vec![error]),
        }
    }

    /// Makes `rows` the rows of a holder.
    ///
    /// # Errors
    /// A table has no room; nothing changes then.
    pub fn put(&mut self, holder: Holder, rows: Rows) -> Result<Vec<Write>, PlanError> {
        self.room_for_rows(&holder, &rows)?;
        let mut old = self.let_go(&holder);
        take_over(&mut self.adopted.routes, &rows.routes, &mut old.routes);
        take_over(&mut self.adopted.nodes, &rows.nodes, &mut old.nodes);
        take_over(&mut self.adopted.endpoints, &rows.endpoints, &mut old.endpoints);
        take_over(&mut self.adopted.netns, &rows.netns, &mut old.netns);
        self.spare_shared(&mut old, &rows);
        let writes = diff(&old, &rows);
        for (held, (_, _, count)) in self.held.iter_mut().zip(HELD) {
            *held += count(&rows);
        }
        self.holders.insert(holder, rows);
        Ok(writes)
    }

    /// Removes a holder's rows, those excepted that another one has too.
    pub fn remove(&mut self, holder: &Holder) -> Vec<Write> {
        let mut old = self.let_go(holder);
        self.spare_shared(&mut old, &Rows::default());
        diff(&old, &Rows::default())
    }

    fn let_go(&mut self, holder: &Holder) -> Rows {
        let old = self.holders.remove(holder).unwrap_or_default();
        for (held, (_, _, count)) in self.held.iter_mut().zip(HELD) {
            *held -= count(&old);
        }
        old
    }

    fn spare_shared(&self, old: &mut Rows, new: &Rows) {
        let stays = old.routes.keys().all(|key| new.routes.contains_key(key))
            && old.nodes.keys().all(|key| new.nodes.contains_key(key))
            && old.endpoints.keys().all(|key| new.endpoints.contains_key(key))
            && old.netns.keys().all(|key| new.netns.contains_key(key));
        if stays {
            return;
        }
        for other in self.holders.values() {
            old.routes.retain(|key, _| new.routes.contains_key(key) || !other.routes.contains_key(key));
            old.nodes.retain(|key, _| new.nodes.contains_key(key) || !other.nodes.contains_key(key));
            old.endpoints
                .retain(|key, _| new.endpoints.contains_key(key) || !other.endpoints.contains_key(key));
            old.netns.retain(|key, _| new.netns.contains_key(key) || !other.netns.contains_key(key));
        }
    }

    fn room_for_rows(&self, holder: &Holder, rows: &Rows) -> Result<(), PlanError> {
        let own = self.holders.get(holder);
        for (held, (map, room, count)) in self.held.iter().zip(HELD) {
            let (capacity, wanted) = (room(&self.capacities), count(rows));
            if wanted > 0 && held - own.map_or(0, count) + wanted > capacity as usize {
                return Err(PlanError::Full { what: format!("{holder:?}"), map, capacity });
            }
        }
        Ok(())
    }

    /// The Service port that has a number; `None` for one that is gone.
    #[must_use]
    pub fn port_of(&self, service_id: u32) -> Option<Arc<PortName>> {
        self.ports.get(&service_id).cloned()
    }

    /// Rows in use: services, slots, backends.
    #[must_use]
    pub fn fill(&self) -> (usize, usize, usize) {
        (self.owners.len() + self.adopted.services.len(), self.slots, self.backends.used())
    }

    /// All rows of Services, each with its name and the backends by slot.
    pub fn service_rows(&self) -> impl Iterator<Item = (&ServiceName, &ServiceKey, &ServiceRow)> {
        self.services.iter().flat_map(|(name, rows)| rows.iter().map(move |(key, row)| (name, key, row)))
    }

    /// Address and port of a backend.
    #[must_use]
    pub fn backend(&self, id: u32) -> Option<Place> {
        self.backends.place(id)
    }
}

fn of<'a>(rows: &'a ServiceRows, key: &ServiceKey) -> Option<&'a ServiceRow> {
    rows.iter().find(|(other, _)| other == key).map(|(_, row)| row)
}

fn take_over<K: Copy + Eq + std::hash::Hash, V>(
    adopted: &mut HashMap<K, V>,
    wanted: &HashMap<K, V>,
    old: &mut HashMap<K, V>,
) {
    for key in wanted.keys() {
        if let Some(value) = adopted.remove(key) {
            old.insert(*key, value);
        }
    }
}

#[cfg(test)]
mod tests;
