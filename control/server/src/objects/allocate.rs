//! Service addresses and NodePorts: each given once, by a key of its own in the same transaction as the Service.
//!
//! The cache only suggests what is free; the store's `Absent` check is what keeps an address from being given twice,
//! also when several control planes allocate at once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::PoisonError;

use serde::Deserialize;
use serde_json::Value;
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::status::Status;
use weft_api::view::Service;
use weft_controllers::service_address::{self, NodePort, Taken};
use weft_store::store::{Check, Write};

use super::{Objects, layout};
use crate::cache::{Cache, Cached, ChangeType};

/// Changes of Services taken in at once.
const CHANGES_MAX: usize = 1_024;

/// What all Services hold, kept in step with the cache change by change.
#[derive(Default)]
pub(super) struct Held {
    taken: Taken,
    /// Up to where the cache was taken in; none: not at all.
    position: Option<u64>,
}

impl Held {
    fn catch_up(&mut self, cache: &Cache) {
        loop {
            let found = self.position.map(|after| cache.changes(&kind::SERVICE, after, CHANGES_MAX));
            match found {
                Some(Ok(changes)) => {
                    let Some(last) = changes.last() else { return };
                    self.position = Some(last.revision);
                    for change in &changes {
                        let before = change.previous.as_ref().and_then(|s| s.object.view().ok());
                        before.iter().for_each(|service| self.taken.remove(service));
                        if change.change != ChangeType::Deleted {
                            let now = change.object.object.view().ok();
                            now.iter().for_each(|service| self.taken.add(service));
                        }
                    }
                }
                // Never yet, or the ring has moved on.
                Some(Err(_)) | None => {
                    let (services, revision) = cache.list(&kind::SERVICE, None);
                    self.taken = Taken::default();
                    let views = services.iter().filter_map(|s| s.object.view().ok());
                    views.for_each(|service: Service| self.taken.add(&service));
                    self.position = Some(revision);
                }
            }
        }
    }
}

/// What goes into the transaction beside the object.
#[derive(Default)]
pub(super) struct Allocated {
    pub(super) checks: Vec<Check>,
    pub(super) writes: Vec<Write>,
}

/// The keys of what one Service holds.
#[derive(Default, PartialEq)]
struct Holdings {
    addresses: Vec<IpAddr>,
    ports: Vec<NodePort>,
}

impl Holdings {
    fn of(service: &Service) -> Self {
        let addresses = service.spec.cluster_ips.iter().filter_map(|a| a.parse().ok()).collect();
        let mut ports: Vec<NodePort> = service_address::node_ports_of(service).collect();
        ports.sort();
        ports.dedup();
        Self { addresses, ports }
    }

    fn keys(&self) -> HashSet<bytes::Bytes> {
        let addresses = self.addresses.iter().map(|a| layout::address_key(*a));
        addresses.chain(self.ports.iter().map(|(protocol, port)| layout::port_key(protocol, *port))).collect()
    }
}

fn view(object: &Value) -> Result<Service, Status> {
    Service::deserialize(object).map_err(|e| Status::bad_request(e.to_string()))
}

impl Objects {
    /// Gives a Service the addresses and ports it is to have; other kinds get nothing.
    ///
    /// # Errors
    /// 422 when what it asks for is taken or lies outside the ranges, or nothing is left.
    pub(super) fn allocate(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        current: Option<&Value>,
        new: &mut Value,
    ) -> Result<Allocated, Status> {
        if *kind != kind::SERVICE {
            return Ok(Allocated::default());
        }
        let old = current.map(view).transpose()?;
        let held = old.as_ref().map(Holdings::of).unwrap_or_default();
        let random = uuid::Uuid::new_v4().as_u64_pair().1;
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.catch_up(&self.cache);
        service_address::complete(new, old.as_ref(), &services.taken, &self.settings, random)
            .map_err(|errors| Status::invalid(kind, &key.name, &errors))?;
        drop(services);
        let wanted = Holdings::of(&view(new)?);
        if wanted == held {
            return Ok(Allocated::default());
        }
        let (before, after) = (held.keys(), wanted.keys());
        let owner = bytes::Bytes::from(key.to_string());
        let mut allocated = Allocated::default();
        for key in after.difference(&before) {
            allocated.checks.push(Check::Absent(key.clone()));
            allocated.writes.push(Write::Put(key.clone(), owner.clone()));
        }
        allocated.writes.extend(before.difference(&after).map(|key| Write::Delete(key.clone())));
        Ok(allocated)
    }

    /// What must be deleted together with an object.
    pub(super) fn release(object: &Cached) -> Result<Vec<Write>, Status> {
        if *object.object.kind != kind::SERVICE {
            return Ok(Vec::new());
        }
        let service: Service = object.object.view().map_err(Status::internal)?;
        Ok(Holdings::of(&service).keys().into_iter().map(Write::Delete).collect())
    }
}
