//! A node's tables, read from outside by their pins: what a packet would find, not what an agent says.

use std::error::Error;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use weft_dataplane_abi::LAYOUT;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::{BACKEND_READY, Backend, SlotKey};
use weft_dataplane_abi::maps::MAPS;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::service::{SCOPE_CLUSTER, Service, ServiceKey};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::objects::{ENDPOINTS, PORT, service_ip};

const KEY: usize = size_of::<ServiceKey>();
const SERVICE: usize = size_of::<Service>();
const BACKEND: usize = size_of::<Backend>();
/// Services that are looked at before all are counted.
const LOOKED_AT: usize = 16;
const TCP: u8 = 6;

/// How many of the Services a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Some,
    /// All that were looked at.
    Enough,
}

/// The tables that a new flow goes through.
pub(crate) struct Tables {
    services: HashMap<MapData, [u8; KEY], [u8; SERVICE]>,
    slots: HashMap<MapData, [u8; 8], [u8; 4]>,
    backends: Array<MapData, [u8; BACKEND]>,
}

fn directory(pins: &Path) -> PathBuf {
    pins.join(format!("maps-{LAYOUT}"))
}

fn open(pins: &Path, name: &str) -> Result<Map, MapError> {
    Map::from_map_data(MapData::from_pin(directory(pins).join(name))?)
}

fn bytes<T: IntoBytes + Immutable, const N: usize>(value: &T) -> [u8; N] {
    value.as_bytes().try_into().expect("the row's size")
}

impl Tables {
    /// Opens the tables below an agent's directory of pins.
    pub(crate) fn open(pins: &Path) -> Result<Self, MapError> {
        Ok(Self {
            services: HashMap::try_from(open(pins, "services")?)?,
            slots: HashMap::try_from(open(pins, "slots")?)?,
            backends: Array::try_from(open(pins, "backends")?)?,
        })
    }

    fn service(&self, service: usize) -> Result<Option<Service>, MapError> {
        let key = ServiceKey {
            address: Address::v4(service_ip(service)),
            port: Be16::new(PORT),
            protocol: TCP,
            scope: SCOPE_CLUSTER,
        };
        let row = found(self.services.get(&bytes(&key), 0))?;
        Ok(row.and_then(|row| Service::read_from_bytes(&row).ok()))
    }

    /// Whether one of the Service's backends has this address.
    pub(crate) fn leads_to(&self, service: usize, address: Ipv4Addr) -> Result<bool, Box<dyn Error>> {
        let Some(row) = self.service(service)? else { return Ok(false) };
        for index in 0..row.backend_count {
            let slot = bytes(&SlotKey { service_id: row.id, index });
            let Some(slot) = found(self.slots.get(&slot, 0))? else { continue };
            let backend = self.backends.get(&u32::from_ne_bytes(slot), 0)?;
            let backend = Backend::read_from_bytes(&backend).map_err(|_| "a backend of another size")?;
            if backend.address == Address::v4(address) && backend.flags & BACKEND_READY != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks at some of so many Services.
    pub(crate) fn seen(&self, services: usize) -> Result<Seen, MapError> {
        let mut whole = 0;
        for number in 0..LOOKED_AT {
            let row = self.service(number * (services - 1) / (LOOKED_AT - 1))?;
            whole += usize::from(row.is_some_and(|row| row.backend_count as usize == ENDPOINTS));
        }
        Ok(match whole {
            0 => Seen::Nothing,
            LOOKED_AT => Seen::Enough,
            _ => Seen::Some,
        })
    }

    /// Whether all of so many Services are there with all their endpoints: a Service's slots are written before its count.
    pub(crate) fn has_all(&self, services: usize) -> Result<bool, Box<dyn Error>> {
        if self.seen(services)? != Seen::Enough {
            return Ok(false);
        }
        for service in 0..services {
            match self.service(service)? {
                Some(row) if row.backend_count as usize == ENDPOINTS => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn found<T>(row: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match row {
        Ok(row) => Ok(Some(row)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Memory of all the node's tables, as the kernel accounts for it.
pub(crate) fn memory_bytes(pins: &Path) -> Result<u64, Box<dyn Error>> {
    let mut all = 0;
    for spec in MAPS.iter().filter(|spec| spec.pinned) {
        let data = MapData::from_pin(directory(pins).join(spec.name))?;
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("memlock:")).ok_or("no line of memory")?;
        all += line.trim().parse::<u64>()?;
    }
    Ok(all)
}
