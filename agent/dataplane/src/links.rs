//! The node's own devices, addresses, routes and kernel settings. Idempotent: what is there already is kept.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;
use weft_dataplane_abi::route::OVERLAY_MAC;

use crate::clsact;
use crate::config::Config;
use crate::desired::{Peer, TunnelEnd};
use crate::mtu::{Carriage, Mtu};
use crate::netlink::{Device, Netlink, NetlinkError, destination};
use crate::reach::Reach;
use crate::sysctl::{self, SysctlError};

/// Address Pods know as their gateway, IPv4: link-local (RFC 3927), on no device.
pub(crate) const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// Address Pods know as their gateway, IPv6.
pub(crate) const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
/// What outer addresses a VXLAN device needs: none of its own; programs give each packet its key.
const LOOPBACK: &str = "lo";

/// Why the node's devices are not as they should be.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The kernel refused a device, address or route.
    #[error("network configuration of the node")]
    Netlink(#[from] NetlinkError),
    /// The kernel refused a setting.
    #[error("network settings of the node")]
    Sysctl(#[from] SysctlError),
    /// No device leads to the other nodes.
    #[error("no device has the node's address and there is no default route; name the uplink")]
    NoUplink,
    /// There is a device of that name which is somebody else's.
    #[error(
        "device {0} is there and is not this agent's VXLAN device; remove it or choose another device prefix"
    )]
    Foreign(String),
}

/// The node's devices, as found or made.
#[derive(Clone, Debug)]
pub(crate) struct NodeLinks {
    pub(crate) uplink: Device,
    pub(crate) vxlan: Device,
    /// How other nodes are reached.
    pub(crate) reach: Reach,
    /// The devices that encrypt, where nodes do.
    pub(crate) ciphers: Vec<Device>,
    pub(crate) mtu: Mtu,
}

/// How other nodes are reached by this uplink.
pub(crate) async fn reach(netlink: &Netlink, config: &Config, uplink: &Device) -> Result<Reach, LinkError> {
    Ok(Reach::new(config, netlink.networks(uplink).await?))
}

/// Makes the node's devices, addresses and settings as they should be, for the other nodes that are known.
pub(crate) async fn prepare<'a>(
    netlink: &Netlink,
    config: &Config,
    (uplink, reach): (Device, Reach),
    peers: impl Iterator<Item = &'a Peer>,
) -> Result<NodeLinks, LinkError> {
    let mtu = reach.mtu(config, uplink.mtu_bytes, peers);
    let ciphers = ciphers(netlink, config, &uplink).await?;
    let loopback = netlink.existing(LOOPBACK).await?;
    if !loopback.up {
        netlink.up(&loopback).await?;
    }
    let vxlan = vxlan(netlink, config, mtu.tunnel_bytes).await?;
    settings(config, &uplink, &vxlan)?;
    for v6 in [false, true] {
        if let Some(address) = config.overlay_address(v6) {
            netlink.add_address(&vxlan, IpNet::from(address)).await?;
        }
    }
    for address in &config.answered_here {
        // Not on the loopback device: its addresses would become the source of what the node sends through devices
        // that have none of their own.
        netlink.add_address(&vxlan, IpNet::from(*address)).await?;
    }
    for range in config.service_cidrs.iter().filter(|range| address_for(config, range).is_some()) {
        // Processes that no socket hook serves reach Services by the programs of this device.
        netlink.put_route(*range, &vxlan, None, address_for(config, range)).await?;
    }
    Ok(NodeLinks { uplink, vxlan, reach, ciphers, mtu })
}

fn address_for(config: &Config, range: &IpNet) -> Option<IpAddr> {
    config.overlay_address(range.addr().is_ipv6())
}

/// The device towards the other nodes.
pub(crate) async fn uplink(netlink: &Netlink, config: &Config) -> Result<Device, LinkError> {
    if let Some(name) = &config.uplink {
        return Ok(netlink.existing(name).await?);
    }
    let mut index = None;
    for address in &config.node.addresses {
        index = match index {
            None => netlink.device_of_address(*address).await?,
            found => found,
        };
    }
    for v6 in [false, true] {
        index = match index {
            None => netlink.device_of_default_route(v6).await?,
            found => found,
        };
    }
    let index = index.ok_or(LinkError::NoUplink)?;
    let devices = netlink.devices().await?;
    devices
        .into_iter()
        .find(|device| device.index == index && device.name != LOOPBACK)
        .ok_or(LinkError::NoUplink)
}

/// The devices that encrypt, which whoever encrypts has made: with the node's address inside. Those that are left from when nodes
/// encrypted, or did so otherwise, go.
async fn ciphers(netlink: &Netlink, config: &Config, uplink: &Device) -> Result<Vec<Device>, LinkError> {
    let names = config.cipher_devices();
    for name in config.every_cipher_device().iter().filter(|name| !names.contains(name)) {
        if let Some(left) = netlink.device(name).await? {
            netlink.delete(&left).await?;
        }
    }
    let Some(inner) = config.inner_address() else { return Ok(Vec::new()) };
    let mut devices = Vec::with_capacity(names.len());
    for name in names {
        let device = netlink.existing(&name).await?;
        let mtu_bytes = uplink.mtu_bytes.saturating_sub(config.encryption_bytes);
        if device.mtu_bytes != mtu_bytes {
            netlink.set_mtu(&device, mtu_bytes).await?;
        }
        sysctl::set(&format!("ipv4/conf/{name}/rp_filter"), "0")?;
        // Nothing but the tunnel's packets.
        sysctl::set_if_there(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
        netlink.add_address(&device, IpNet::from(inner)).await?;
        netlink.up(&device).await?;
        devices.push(Device { mtu_bytes, up: true, ..device });
    }
    Ok(devices)
}

async fn vxlan(netlink: &Netlink, config: &Config, mtu_bytes: u32) -> Result<Device, LinkError> {
    let name = config.vxlan_device();
    let there = netlink.device(&name).await?;
    let other_port = |device: &&Device| {
        device.mac == Some(OVERLAY_MAC) && device.vxlan_port.is_some_and(|port| port != config.vxlan_port)
    };
    if let Some(device) = there.as_ref().filter(other_port) {
        // The port is given to a device at its birth.
        netlink.delete(device).await?;
        netlink.add_vxlan(&name, config.vxlan_port, mtu_bytes, OVERLAY_MAC).await?;
    } else if there.is_none() {
        netlink.add_vxlan(&name, config.vxlan_port, mtu_bytes, OVERLAY_MAC).await?;
    }
    let device = netlink.existing(&name).await?;
    if device.mac != Some(OVERLAY_MAC) || !device.ethernet {
        return Err(LinkError::Foreign(name));
    }
    if device.mtu_bytes != mtu_bytes {
        netlink.set_mtu(&device, mtu_bytes).await?;
    }
    netlink.up(&device).await?;
    Ok(Device { mtu_bytes, up: true, ..device })
}

fn settings(config: &Config, uplink: &Device, vxlan: &Device) -> Result<(), LinkError> {
    sysctl::set("ipv4/ip_forward", "1")?;
    for device in ["all", "default", &uplink.name, &vxlan.name] {
        // Answers may come by another way than questions went.
        sysctl::set(&format!("ipv4/conf/{device}/rp_filter"), "0")?;
    }
    // What the node sends to a Service may come back to it, with its own address as the source.
    sysctl::set(&format!("ipv4/conf/{}/accept_local", vxlan.name), "1")?;
    if config.node.pod_cidrs.iter().any(|range| range.addr().is_ipv6()) {
        sysctl::forward_v6(&uplink.name)?;
        sysctl::given_v6(&vxlan.name)?;
    }
    sysctl::reserve_ports(&[config.node_ports, config.source_ports])?;
    Ok(())
}

/// Routes for the node's own packets to another node's Pods.
pub(crate) async fn put_peer(
    netlink: &Netlink,
    config: &Config,
    links: &NodeLinks,
    peer: &Peer,
) -> Result<(), LinkError> {
    for range in &peer.pod_cidrs {
        let (device, via) = device_to(links, peer, range);
        netlink.put_route(*range, device, via, address_for(config, range)).await?;
    }
    if let ([cipher], TunnelEnd::Inner(inner)) = (&links.ciphers[..], peer.end) {
        netlink.put_route(IpNet::from(inner), cipher, None, config.inner_address()).await?;
    }
    Ok(())
}

/// By which device the node's own packets leave to a range, and by which neighbour.
fn device_to<'a>(links: &'a NodeLinks, peer: &Peer, range: &IpNet) -> (&'a Device, Option<IpAddr>) {
    match links.reach.way(peer, range) {
        Some((Carriage::Direct, neighbour)) => (&links.uplink, Some(neighbour)),
        _ => (&links.vxlan, None),
    }
}

/// Removes the routes to Pods of nodes that are not among `peers`, and those by another device than they are to go by.
pub(crate) async fn keep_peers(
    netlink: &Netlink,
    config: &Config,
    links: &NodeLinks,
    peers: impl Iterator<Item = &Peer>,
) -> Result<(), LinkError> {
    let peers: Vec<&Peer> = peers.collect();
    let services = config.service_cidrs.iter().map(|range| (links.vxlan.index, range.trunc()));
    let pods = peers.iter().flat_map(|peer| peer.pod_cidrs.iter().map(move |range| (*peer, range)));
    let pods = pods.map(|(peer, range)| (device_to(links, peer, range).0.index, range.trunc()));
    let inner = peers.iter().filter_map(|peer| match (&links.ciphers[..], peer.end) {
        ([cipher], TunnelEnd::Inner(inner)) => Some((cipher.index, IpNet::from(inner))),
        _ => None,
    });
    let kept: HashSet<(u32, IpNet)> = services.chain(pods).chain(inner).collect();
    for device in [&links.vxlan, &links.uplink].into_iter().chain(&links.ciphers) {
        for route in netlink.own_routes(device).await? {
            if destination(&route).is_some_and(|range| !kept.contains(&(device.index, range))) {
                netlink.delete_route(route).await?;
            }
        }
    }
    Ok(())
}

/// Removes every device whose name begins as this node's do and that this crate makes, our classifiers of the others, and our
/// routes.
pub(crate) async fn remove_all(netlink: &Netlink, config: &Config) -> Result<(), LinkError> {
    for device in netlink.devices().await? {
        if device.name == config.vxlan_device()
            || config.every_cipher_device().contains(&device.name)
            || device.alias.starts_with(crate::pods::ALIAS)
        {
            netlink.delete(&device).await?;
        } else {
            clsact::remove(netlink, &device).await?;
        }
    }
    // Those through our own devices went with them.
    if let Ok(uplink) = uplink(netlink, config).await {
        for route in netlink.own_routes(&uplink).await? {
            netlink.delete_route(route).await?;
        }
    }
    Ok(())
}
