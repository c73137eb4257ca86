//! A Pod's link to the node: veth pair, addresses, routes, and what is remembered of it across a restart.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::endpoint::{Endpoint, NETNS_POD, Netns};

use crate::config::Config;
use crate::host_ports::HostPort;
use crate::links::{GATEWAY_V4, GATEWAY_V6};
use crate::netlink::{Device, Mac, Netlink, NetlinkError, VethPair};
use crate::netns::{self, NamespaceError};
use crate::rows::Rows;
use crate::sysctl::{self, SysctlError};

/// What the alias of a Pod's device begins with; the Pod's UID follows.
pub(crate) const ALIAS: &str = "weft-pod:";
/// Name of a Pod's device inside the Pod.
const INSIDE: &str = "eth0";

/// A Pod that is to be linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// UID of the Pod object.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its network namespace, pinned as a file.
    pub netns: PathBuf,
    /// Its addresses, at most one per family.
    pub ips: Vec<IpAddr>,
    /// Ports of the node that lead to it.
    pub host_ports: Vec<HostPort>,
}

/// A Pod that is linked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLink {
    /// UID of the Pod object.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its network namespace, pinned as a file.
    pub netns: PathBuf,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Ports of the node that lead to it.
    #[serde(default)]
    pub host_ports: Vec<HostPort>,
    /// Name of the host's end of its veth pair.
    pub device: String,
    /// Interface index of the host's end.
    pub ifindex: u32,
    /// MAC address of the Pod's end.
    pub mac: [u8; 6],
    /// MAC address of the host's end.
    pub gateway_mac: [u8; 6],
    /// Cookie of its network namespace.
    pub netns_cookie: u64,
}

/// Why a Pod could not be linked or unlinked.
#[derive(Debug, Error)]
pub enum PodError {
    /// It has no address.
    #[error("Pod {0} has no address")]
    NoAddress(String),
    /// Its UID cannot stand in a file's name.
    #[error("{0:?} is no UID")]
    Uid(String),
    /// Its namespace could not be entered.
    #[error("network namespace of Pod {pod}")]
    Namespace {
        /// `namespace/name`.
        pod: String,
        /// Why.
        #[source]
        source: NamespaceError,
    },
    /// A device, address or route was refused.
    #[error("network configuration of Pod {pod}")]
    Netlink {
        /// `namespace/name`.
        pod: String,
        /// Why.
        #[source]
        source: NetlinkError,
    },
    /// A setting was refused.
    #[error("network settings of Pod {pod}")]
    Sysctl {
        /// `namespace/name`.
        pod: String,
        /// Why.
        #[source]
        source: SysctlError,
    },
    /// Something about its namespace could not be read.
    #[error("network namespace of Pod {pod}")]
    Read {
        /// `namespace/name`.
        pod: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is remembered of it could not be written.
    #[error("state file {}", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The programs could not be attached to its device.
    #[error(transparent)]
    Attach(#[from] crate::attach::AttachError),
    /// Its rows have no room.
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    /// Its rows could not be written.
    #[error(transparent)]
    Table(#[from] crate::tables::TableError),
    /// The dataplane has stopped.
    #[error("the dataplane has stopped")]
    Stopped,
}

impl PodLink {
    /// The rows of a linked Pod.
    pub(crate) fn rows(&self) -> Rows {
        let mut rows = Rows::default();
        let endpoint = Endpoint {
            netns_cookie: self.netns_cookie,
            ifindex: self.ifindex,
            identity: 0,
            mac: self.mac,
            gateway_mac: self.gateway_mac,
            reserved: 0,
        };
        rows.endpoints.extend(self.ips.iter().map(|ip| (Address::from(*ip), endpoint)));
        rows.netns.insert(self.netns_cookie, Netns { kind: NETNS_POD, reserved: 0 });
        rows
    }
}

/// Name of the host's end for a Pod: the prefix and ten hexadecimal digits of the UID's FNV-1a hash.
pub(crate) fn device_name(prefix: &str, uid: &str) -> String {
    format!("{prefix}{:010x}", hash(uid) & 0xff_ffff_ffff)
}

fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A locally administered address made of the UID, so that a Pod keeps it.
fn mac(uid: &str, end: u8) -> Mac {
    let bytes = hash(uid).to_be_bytes();
    [0x0a, end, bytes[4], bytes[5], bytes[6], bytes[7]]
}

/// Links a Pod, or adopts its link from before a restart.
pub(crate) async fn link(
    netlink: &Netlink,
    config: &Config,
    pod: &PodNetwork,
    mtu_bytes: u32,
) -> Result<PodLink, PodError> {
    let name = format!("{}/{}", pod.namespace, pod.name);
    if pod.ips.is_empty() {
        return Err(PodError::NoAddress(name));
    }
    let refused = |source| PodError::Netlink { pod: name.clone(), source };
    let device_name = device_name(&config.device_prefix, &pod.uid);
    let (inner, outer) = (mac(&pod.uid, 1), mac(&pod.uid, 2));
    let (complete, cookie) = inside(pod, outer, None).await?;
    let mut device = netlink.device(&device_name).await.map_err(refused)?;
    if let Some(half) = &device
        && !complete
    {
        // Its other end went with a namespace that is no more, or the agent died between two steps.
        netlink.delete(half).await.map_err(refused)?;
        device = None;
    }
    if device.is_none() {
        let file = File::open(&pod.netns).map_err(|source| PodError::Read { pod: name.clone(), source })?;
        let pair = VethPair {
            name: &device_name,
            alias: &format!("{ALIAS}{}", pod.uid),
            mac: outer,
            peer_name: INSIDE,
            peer_mac: inner,
            peer_namespace: Some(file.as_raw_fd()),
            mtu_bytes,
        };
        netlink.add_veth(&pair).await.map_err(refused)?;
    }
    inside(pod, outer, Some(mtu_bytes)).await?;
    let device = netlink.existing(&device_name).await.map_err(refused)?;
    if device.mtu_bytes != mtu_bytes {
        netlink.set_mtu(&device, mtu_bytes).await.map_err(refused)?;
    }
    outside(netlink, config, pod, &device, inner).await?;
    Ok(PodLink {
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        netns: pod.netns.clone(),
        ips: pod.ips.clone(),
        host_ports: pod.host_ports.clone(),
        device: device_name,
        ifindex: device.index,
        mac: inner,
        gateway_mac: outer,
        netns_cookie: cookie,
    })
}

/// The node's side: device up, a route to each address, and the Pod's MAC known without asking.
async fn outside(
    netlink: &Netlink,
    config: &Config,
    pod: &PodNetwork,
    device: &Device,
    inner: Mac,
) -> Result<(), PodError> {
    let name = format!("{}/{}", pod.namespace, pod.name);
    let refused = |source| PodError::Netlink { pod: name.clone(), source };
    let set = || {
        sysctl::set(&format!("ipv4/conf/{}/rp_filter", device.name), "0")?;
        // No Pod is a router of its node's.
        sysctl::set_if_there(&format!("ipv6/conf/{}/accept_ra", device.name), "0")?;
        if pod.ips.iter().any(IpAddr::is_ipv6) { sysctl::given_v6(&device.name) } else { Ok(()) }
    };
    set().map_err(|source| PodError::Sysctl { pod: name.clone(), source })?;
    netlink.up(device).await.map_err(refused)?;
    for ip in &pod.ips {
        netlink.put_neighbour(device, *ip, inner).await.map_err(refused)?;
        // The node meets its own Pods with its own address: what one of its processes answers by a socket that is bound to
        // no address must come from the address that was asked, which is that one for a Service's backend here.
        let (own, overlay) = (config.node_address(ip.is_ipv6()), config.overlay_address(ip.is_ipv6()));
        let route = IpNet::from(*ip);
        if own.is_none() || netlink.put_route(route, device, None, own).await.is_err() {
            // An address that is on none of the node's devices is no source.
            netlink.put_route(route, device, None, overlay).await.map_err(refused)?;
        }
    }
    Ok(())
}

/// Runs on a thread inside the Pod's namespace: with an MTU, configures what is there; without, only looks. Says
/// whether the Pod's device is there, and the namespace's cookie.
async fn inside(pod: &PodNetwork, gateway: Mac, mtu_bytes: Option<u32>) -> Result<(bool, u64), PodError> {
    let pod = pod.clone();
    let worker = tokio::task::spawn_blocking(move || {
        let name = format!("{}/{}", pod.namespace, pod.name);
        netns::within(&pod.netns, || inside_thread(&pod, gateway, mtu_bytes))
            .map_err(|source| PodError::Namespace { pod: name, source })?
    });
    worker.await.map_err(|_| PodError::Stopped)?
}

fn inside_thread(pod: &PodNetwork, gateway: Mac, mtu_bytes: Option<u32>) -> Result<(bool, u64), PodError> {
    let name = format!("{}/{}", pod.namespace, pod.name);
    let read = |source| PodError::Read { pod: name.clone(), source };
    let cookie = netns::current_cookie().map_err(read)?;
    if mtu_bytes.is_some() && pod.ips.iter().any(IpAddr::is_ipv6) {
        let set = || ["all", "lo", INSIDE].into_iter().try_for_each(sysctl::given_v6);
        set().map_err(|source| PodError::Sysctl { pod: name.clone(), source })?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(read)?;
    let configured = runtime.block_on(async {
        let netlink = Netlink::open()?;
        match mtu_bytes {
            Some(mtu_bytes) => configure(&netlink, pod, gateway, mtu_bytes).await.map(|()| true),
            None => netlink.device(INSIDE).await.map(|device| device.is_some()),
        }
    });
    Ok((configured.map_err(|source| PodError::Netlink { pod: name, source })?, cookie))
}

async fn configure(
    netlink: &Netlink,
    pod: &PodNetwork,
    gateway: Mac,
    mtu_bytes: u32,
) -> Result<(), NetlinkError> {
    let loopback = netlink.existing("lo").await?;
    netlink.up(&loopback).await?;
    let device = netlink.existing(INSIDE).await?;
    if device.mtu_bytes != mtu_bytes {
        netlink.set_mtu(&device, mtu_bytes).await?;
    }
    netlink.up(&device).await?;
    for ip in &pod.ips {
        netlink.add_address(&device, IpNet::from(*ip)).await?;
        let (via, everywhere) = match ip {
            IpAddr::V4(_) => (GATEWAY_V4, IpAddr::from([0; 4])),
            IpAddr::V6(_) => (GATEWAY_V6, IpAddr::from([0; 16])),
        };
        netlink.put_neighbour(&device, via, gateway).await?;
        if let Ok(all) = IpNet::new(everywhere, 0) {
            netlink.put_route(all, &device, Some(via), None).await?;
        }
    }
    Ok(())
}

/// Gives both ends of a Pod's veth another MTU.
pub(crate) async fn resize(netlink: &Netlink, pod: &PodLink, mtu_bytes: u32) -> Result<(), PodError> {
    let name = format!("{}/{}", pod.namespace, pod.name);
    let (netns, inner) = (pod.netns.clone(), name.clone());
    let worker = tokio::task::spawn_blocking(move || {
        netns::within(&netns, || resize_inside(&inner, mtu_bytes))
            .map_err(|source| PodError::Namespace { pod: inner.clone(), source })?
    });
    worker.await.map_err(|_| PodError::Stopped)??;
    let set = async {
        let device = netlink.existing(&pod.device).await?;
        netlink.set_mtu(&device, mtu_bytes).await
    };
    set.await.map_err(|source| PodError::Netlink { pod: name, source })
}

fn resize_inside(pod: &str, mtu_bytes: u32) -> Result<(), PodError> {
    let read = |source| PodError::Read { pod: pod.to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(read)?;
    let set = runtime.block_on(async {
        let netlink = Netlink::open()?;
        let device = netlink.existing(INSIDE).await?;
        netlink.set_mtu(&device, mtu_bytes).await
    });
    set.map_err(|source| PodError::Netlink { pod: pod.to_owned(), source })
}

/// Removes a Pod's device; the Pod's end goes with it.
pub(crate) async fn unlink(netlink: &Netlink, device: &str, pod: &str) -> Result<(), PodError> {
    let refused = |source| PodError::Netlink { pod: pod.to_owned(), source };
    match netlink.device(device).await.map_err(refused)? {
        Some(device) => netlink.delete(&device).await.map_err(refused),
        None => Ok(()),
    }
}

/// What is remembered of Pods across a restart: a file each, in a directory that a reboot empties.
#[derive(Clone, Debug)]
pub(crate) struct PodFiles {
    directory: PathBuf,
}

impl PodFiles {
    /// The files below the state directory, which is made.
    pub(crate) fn open(state: &Path) -> Result<Self, PodError> {
        let directory = state.join("pods");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| PodError::State { path: directory.clone(), source })?;
        Ok(Self { directory })
    }

    fn path(&self, uid: &str) -> Result<PathBuf, PodError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if uid.is_empty() || uid.len() > 128 || !uid.bytes().all(plain) {
            return Err(PodError::Uid(uid.to_owned()));
        }
        Ok(self.directory.join(format!("{uid}.json")))
    }

    /// Remembers a Pod: written aside, then renamed, so that no half is ever read.
    pub(crate) fn write(&self, pod: &PodLink) -> Result<(), PodError> {
        let path = self.path(&pod.uid)?;
        let aside = path.with_extension("new");
        let failed = |source| PodError::State { path: path.clone(), source };
        let text = serde_json::to_vec(pod).map_err(|error| failed(error.into()))?;
        let mut file = fs::OpenOptions::new();
        let mut file =
            file.write(true).create(true).truncate(true).mode(0o600).open(&aside).map_err(failed)?;
        io::Write::write_all(&mut file, &text).map_err(failed)?;
        fs::rename(&aside, &path).map_err(failed)
    }

    /// Forgets a Pod.
    pub(crate) fn remove(&self, uid: &str) -> Result<(), PodError> {
        let path = self.path(uid)?;
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PodError::State { path, source }),
            _ => Ok(()),
        }
    }

    /// All Pods remembered; a file that cannot be read is one of a Pod that must be linked anew, and is removed.
    pub(crate) fn read(&self) -> Result<Vec<PodLink>, PodError> {
        let failed = |source| PodError::State { path: self.directory.clone(), source };
        let mut pods = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match fs::read(&path).ok().and_then(|text| serde_json::from_slice::<PodLink>(&text).ok()) {
                Some(pod) => pods.push(pod),
                None => drop(fs::remove_file(&path)),
            }
        }
        pods.sort_by(|a, b| a.uid.cmp(&b.uid));
        Ok(pods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> PodLink {
        PodLink {
            uid: uid.into(),
            namespace: "default".into(),
            name: "web-0".into(),
            netns: "/run/netns/web-0".into(),
            ips: vec![IpAddr::from([10, 244, 1, 2])],
            host_ports: Vec::new(),
            device: device_name("weft", uid),
            ifindex: 7,
            mac: mac(uid, 1),
            gateway_mac: mac(uid, 2),
            netns_cookie: 4711,
        }
    }

    #[test]
    fn device_names_fit_and_differ() {
        let first = device_name("weft", "0d1c7dbb-1111-4a7b-8f1e-0a5d1a3f0001");
        let second = device_name("weft", "0d1c7dbb-1111-4a7b-8f1e-0a5d1a3f0002");
        assert!(first.len() <= 15 && first != second, "{first} {second}");
    }

    #[test]
    fn pods_are_remembered_and_broken_files_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = PodFiles::open(directory.path()).expect("open");
        files.write(&pod("a-1")).expect("written");
        files.write(&pod("b-2")).expect("written");
        fs::write(directory.path().join("pods/c-3.json"), b"{").expect("written");
        assert_eq!(files.read().expect("read"), vec![pod("a-1"), pod("b-2")]);
        assert!(!directory.path().join("pods/c-3.json").exists());
        files.remove("a-1").expect("removed");
        files.remove("a-1").expect("removed twice");
        assert_eq!(files.read().expect("read").len(), 1);
        assert!(matches!(files.remove("../x"), Err(PodError::Uid(_))));
    }

    #[test]
    fn a_pod_has_a_row_per_address_and_one_for_its_namespace() {
        let rows = pod("a-1").rows();
        assert_eq!((rows.endpoints.len(), rows.netns.len()), (1, 1));
    }
}
