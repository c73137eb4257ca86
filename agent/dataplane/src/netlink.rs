//! The few rtnetlink requests this crate makes, each idempotent and with its subject in the error. Decides nothing.

use std::net::IpAddr;
use std::os::fd::RawFd;

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::tc::TcHandle;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder};
use thiserror::Error;
use tokio::task::JoinHandle;

/// Marks routes as made by Weft in the kernel's tables (`rtm_protocol`; 0xE7 is in nobody's list).
pub(crate) const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(0xe7);

/// An Ethernet address, in wire order.
pub(crate) type Mac = [u8; 6];

/// Why a request to the kernel's network configuration failed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// No netlink socket could be had.
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// The kernel refused.
    #[error("cannot {action} {subject}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// On what.
        subject: String,
        /// What the kernel said.
        #[source]
        source: Box<rtnetlink::Error>,
    },
    /// A device that must be there is not.
    #[error("no network device {0} here")]
    NoDevice(String),
}

impl NetlinkError {
    /// The errno the kernel answered with, if it did.
    fn errno(source: &rtnetlink::Error) -> Option<i32> {
        match source {
            rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
            _ => None,
        }
    }
}

fn refused(action: &'static str, subject: impl ToString) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    move |source| NetlinkError::Refused { action, subject: subject.to_string(), source: Box::new(source) }
}

/// A network device as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu_bytes: u32,
    pub(crate) up: bool,
    pub(crate) alias: String,
    pub(crate) ethernet: bool,
    /// UDP port of a VXLAN device.
    pub(crate) vxlan_port: Option<u16>,
    /// One of a pair of virtual devices.
    pub(crate) veth: bool,
}

impl Device {
    fn of(message: &LinkMessage) -> Self {
        let mut device = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu_bytes: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            alias: String::new(),
            ethernet: message.header.link_layer_type == netlink_packet_route::link::LinkLayerType::Ether,
            vxlan_port: None,
            veth: false,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => device.mtu_bytes = *mtu,
                LinkAttribute::IfAlias(alias) => device.alias.clone_from(alias),
                LinkAttribute::Address(bytes) => device.mac = Mac::try_from(bytes.as_slice()).ok(),
                LinkAttribute::LinkInfo(infos) => {
                    device.vxlan_port = infos.iter().find_map(vxlan_port);
                    device.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
                }
                _ => {}
            }
        }
        device
    }
}

fn vxlan_port(info: &LinkInfo) -> Option<u16> {
    let LinkInfo::Data(InfoData::Vxlan(attributes)) = info else { return None };
    attributes.iter().find_map(|attribute| match attribute {
        InfoVxlan::Port(port) => Some(*port),
        _ => None,
    })
}

/// How a veth pair is to be made.
pub(crate) struct VethPair<'a> {
    pub(crate) name: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) mac: Mac,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: Mac,
    /// Namespace the peer is born in, as an open file; `None`: the same as the device's.
    pub(crate) peer_namespace: Option<RawFd>,
    pub(crate) mtu_bytes: u32,
}

/// A netlink socket in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    handle: rtnetlink::Handle,
    driver: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Netlink {
    /// Opens the socket; must be called inside a tokio runtime.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Socket)?;
        Ok(Self { handle, driver: tokio::spawn(connection) })
    }

    /// The device of that name, `None` when there is none.
    pub(crate) async fn device(&self, name: &str) -> Result<Option<Device>, NetlinkError> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        match found.try_next().await {
            Ok(message) => Ok(message.as_ref().map(Device::of)),
            Err(error) if NetlinkError::errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(refused("look up device", name)(error)),
        }
    }

    /// The device of that name, which must be there.
    pub(crate) async fn existing(&self, name: &str) -> Result<Device, NetlinkError> {
        self.device(name).await?.ok_or_else(|| NetlinkError::NoDevice(name.to_owned()))
    }

    /// All devices.
    pub(crate) async fn devices(&self) -> Result<Vec<Device>, NetlinkError> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(refused("list", "network devices"))?;
        Ok(messages.iter().map(Device::of).collect())
    }

    /// Makes a veth pair.
    pub(crate) async fn add_veth(&self, pair: &VethPair<'_>) -> Result<(), NetlinkError> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(pair.peer_name.to_owned())
            .mtu(pair.mtu_bytes)
            .address(pair.peer_mac.to_vec());
        if let Some(namespace) = pair.peer_namespace {
            peer = peer.setns_by_fd(namespace);
        }
        let message = LinkVeth::new(pair.name, pair.peer_name)
            .mtu(pair.mtu_bytes)
            .address(pair.mac.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(refused("make the veth pair of", pair.name))?;
        let alias = LinkUnspec::new_with_name(pair.name).alias(pair.alias).build();
        self.handle.link().change(alias).execute().await.map_err(refused("set the alias of", pair.name))
    }

    /// Makes a VXLAN device without an identifier of its own: every packet brings its tunnel key. It asks for no
    /// neighbour: what the node sends through it is addressed to the MAC it has itself.
    pub(crate) async fn add_vxlan(
        &self,
        name: &str,
        udp_port: u16,
        mtu_bytes: u32,
        mac: Mac,
    ) -> Result<(), NetlinkError> {
        let message = LinkMessageBuilder::<LinkVxlan>::new(name)
            .collect_metadata(true)
            .learning(false)
            .port(udp_port)
            .udp_csum(false)
            .arp(false)
            .mtu(mtu_bytes)
            .address(mac.to_vec())
            .build();
        self.handle.link().add(message).execute().await.map_err(refused("make the VXLAN device", name))
    }

    /// Brings a device up.
    pub(crate) async fn up(&self, device: &Device) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(device.index).up().build();
        self.handle.link().change(message).execute().await.map_err(refused("bring up", &device.name))
    }

    /// Sets a device's MTU in bytes.
    pub(crate) async fn set_mtu(&self, device: &Device, mtu_bytes: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(device.index).mtu(mtu_bytes).build();
        self.handle.link().change(message).execute().await.map_err(refused("set the MTU of", &device.name))
    }

    /// Deletes a device; one that is gone already is no error.
    pub(crate) async fn delete(&self, device: &Device) -> Result<(), NetlinkError> {
        match self.handle.link().del(device.index).execute().await {
            Err(error) if NetlinkError::errno(&error) == Some(libc::ENODEV) => Ok(()),
            other => other.map_err(refused("delete", &device.name)),
        }
    }

    /// Gives a device an address, to be used at once: that nobody else has it is known.
    pub(crate) async fn add_address(&self, device: &Device, net: IpNet) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(device.index, net.addr(), net.prefix_len()).replace();
        if net.addr().is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request.execute().await.map_err(refused("add the address", format!("{net} to {}", device.name)))
    }

    /// Index of the device that holds an address.
    pub(crate) async fn device_of_address(&self, address: IpAddr) -> Result<Option<u32>, NetlinkError> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(refused("list addresses for", address))?;
        Ok(messages.into_iter().find_map(|message| {
            message
                .attributes
                .iter()
                .any(|attribute| {
                    matches!(attribute, AddressAttribute::Address(ip) | AddressAttribute::Local(ip) if *ip == address)
                })
                .then_some(message.header.index)
        }))
    }

    /// The addresses of a device, each with the length of its network's prefix.
    pub(crate) async fn networks(&self, device: &Device) -> Result<Vec<IpNet>, NetlinkError> {
        let request = self.handle.address().get().set_link_index_filter(device.index).execute();
        let messages: Vec<_> =
            request.try_collect().await.map_err(refused("list addresses of", &device.name))?;
        let network = |message: &netlink_packet_route::address::AddressMessage| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            })?;
            IpNet::new(address, message.header.prefix_len).ok()
        };
        Ok(messages.iter().filter(|m| m.header.index == device.index).filter_map(network).collect())
    }

    /// Index of the device of the default route of a family.
    pub(crate) async fn device_of_default_route(&self, v6: bool) -> Result<Option<u32>, NetlinkError> {
        let routes = self.routes(v6).await?;
        Ok(routes.iter().find_map(|route| {
            let wanted = route.header.destination_prefix_length == 0
                && route.header.kind == RouteType::Unicast
                && route.header.table == libc::RT_TABLE_MAIN;
            wanted.then(|| output_device(route)).flatten()
        }))
    }

    /// Destinations of the routes this crate made through a device.
    pub(crate) async fn own_routes(&self, device: &Device) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut own = Vec::new();
        for v6 in [false, true] {
            for route in self.routes(v6).await? {
                if route.header.protocol == ROUTE_PROTOCOL && output_device(&route) == Some(device.index) {
                    own.push(route);
                }
            }
        }
        Ok(own)
    }

    async fn routes(&self, v6: bool) -> Result<Vec<RouteMessage>, NetlinkError> {
        let filter = if v6 {
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()
        } else {
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()
        };
        self.handle.route().get(filter).execute().try_collect().await.map_err(refused("list", "routes"))
    }

    /// Puts a route: to `to` through `device`, by `via` if given (taken as on the link), with the node's packets
    /// leaving as `source` if given.
    pub(crate) async fn put_route(
        &self,
        to: IpNet,
        device: &Device,
        via: Option<IpAddr>,
        source: Option<IpAddr>,
    ) -> Result<(), NetlinkError> {
        let failed = || refused("put the route to", format!("{to} through {}", device.name));
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .output_interface(device.index)
            .protocol(ROUTE_PROTOCOL)
            .scope(if via.is_some() { RouteScope::Universe } else { RouteScope::Link });
        let invalid = |_| rtnetlink::Error::InvalidNla("mixed address families".to_owned());
        builder =
            builder.destination_prefix(to.network(), to.prefix_len()).map_err(|e| failed()(invalid(e)))?;
        if let Some(via) = via {
            builder = builder.gateway(via).map_err(|e| failed()(invalid(e)))?.onlink();
        }
        if let Some(source) = source {
            builder = builder.pref_source(source).map_err(|e| failed()(invalid(e)))?;
        }
        let request = self.handle.route().add(builder.build()).replace();
        request.execute().await.map_err(failed())
    }

    /// Deletes a route as listed; one that is gone already is no error.
    pub(crate) async fn delete_route(&self, route: RouteMessage) -> Result<(), NetlinkError> {
        match self.handle.route().del(route).execute().await {
            Err(error) if NetlinkError::errno(&error) == Some(libc::ESRCH) => Ok(()),
            other => other.map_err(refused("delete", "a route")),
        }
    }

    /// Whether anybody has a classifier on a device's clsact qdisc.
    pub(crate) async fn has_classifiers(&self, device: &Device) -> Result<bool, NetlinkError> {
        let index = device.index.cast_signed();
        let mut filters = self.handle.traffic_filter(index);
        for mut found in [filters.get().ingress().execute().boxed(), filters.get().egress().execute().boxed()]
        {
            match found.try_next().await {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(true),
                Err(error) => return Err(refused("list the classifiers of", &device.name)(error)),
            }
        }
        Ok(false)
    }

    /// Deletes a device's clsact qdisc.
    pub(crate) async fn delete_clsact(&self, device: &Device) -> Result<(), NetlinkError> {
        let mut request = self.handle.qdisc().del(device.index.cast_signed());
        // Of `clsact` the parent and the handle's major are the same for every device (`TC_H_CLSACT`).
        request.message_mut().header.parent = TcHandle::CLSACT;
        request.message_mut().header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
        request.execute().await.map_err(refused("delete the clsact qdisc of", &device.name))
    }

    /// Puts a permanent neighbour entry.
    pub(crate) async fn put_neighbour(
        &self,
        device: &Device,
        address: IpAddr,
        mac: Mac,
    ) -> Result<(), NetlinkError> {
        let request = self.handle.neighbours().add(device.index, address).link_layer_address(&mac).replace();
        request.execute().await.map_err(refused("put the neighbour", format!("{address} on {}", device.name)))
    }
}

/// The destination of a listed route.
pub(crate) fn destination(route: &RouteMessage) -> Option<IpNet> {
    use netlink_packet_route::route::RouteAddress;
    let length = route.header.destination_prefix_length;
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => IpNet::new((*ip).into(), length).ok(),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => IpNet::new((*ip).into(), length).ok(),
        _ => None,
    })
}

fn output_device(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}
