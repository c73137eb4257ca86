//! Service addresses and NodePorts: each given once, by a key of its own in the same transaction as the Service.
//!
//! The cache only suggests what is free; the store's `Absent` check is what keeps an address from being given twice,
//! also when several control planes allocate at once.

use std::collections::HashSet;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::status::Status;
use weft_api::view::Service;
use weft_controllers::service_address::{self, Taken};
use weft_store::store::{Check, Write};

use super::{Objects, layout};
use crate::cache::Cached;

/// What goes into the transaction beside the object.
#[derive(Default)]
pub(super) struct Allocated {
    pub(super) checks: Vec<Check>,
    pub(super) writes: Vec<Write>,
}

/// What one Service holds.
#[derive(Default, PartialEq)]
struct Holdings {
    addresses: Vec<IpAddr>,
    ports: Vec<(String, u16)>,
}

impl Holdings {
    fn of(service: &Service) -> Self {
        let addresses = service.spec.cluster_ips.iter().filter_map(|a| a.parse().ok()).collect();
        let mut ports: Vec<(String, u16)> = service
            .spec
            .ports
            .iter()
            .filter(|p| p.node_port != 0)
            .map(|p| (protocol(&p.protocol), p.node_port))
            .collect();
        ports.sort();
        ports.dedup();
        Self { addresses, ports }
    }

    fn keys(&self) -> HashSet<bytes::Bytes> {
        let addresses = self.addresses.iter().map(|a| layout::address_key(*a));
        addresses.chain(self.ports.iter().map(|(protocol, port)| layout::port_key(protocol, *port))).collect()
    }
}

fn protocol(text: &str) -> String {
    if text.is_empty() { "TCP".to_owned() } else { text.to_owned() }
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
        service_address::complete(new, old.as_ref(), &self.taken(key), &self.settings, random)
            .map_err(|errors| Status::invalid(kind, &key.name, &errors))?;
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

    /// Everything that Services hold, but for one of them.
    fn taken(&self, except: &ObjectKey) -> Taken {
        let mut taken = Taken::default();
        let (services, _) = self.cache.list(&kind::SERVICE, None);
        for service in services.iter().filter(|s| s.object.key() != *except) {
            if let Ok(service) = service.object.view::<Service>() {
                taken.add(&service);
            }
        }
        taken
    }
}
