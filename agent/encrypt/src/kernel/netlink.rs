//! The few requests to the kernel that its WireGuard takes, each waited for. Decides nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::net::Ipv4Addr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage, WireguardPeer};
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use super::KernelError;

/// Marks routes as this module's (`rtm_protocol`; the dataplane's own are 0xE7).
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(0xe8);
/// The name that the kernel has its WireGuard under.
const FAMILY: &str = "wireguard";

fn refused(action: &'static str, subject: &str) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Refused { action, subject: subject.to_owned(), source }
}

fn socket(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Asks, and waits for all of the answer.
fn ask<T>(socket: &Socket, message: T, flags: u16) -> io::Result<Vec<T>>
where
    T: NetlinkSerializable + NetlinkDeserializable + Debug,
    NetlinkPayload<T>: From<T>,
{
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let unread = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut answers = Vec::new();
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = received.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<T>::deserialize(rest).map_err(unread)?;
            let length = (answer.header.length as usize).next_multiple_of(4);
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                NetlinkPayload::Done(_) => return Ok(answers),
                // Of the kind that only acknowledges, too.
                NetlinkPayload::Error(error) => {
                    return if error.code.is_none() { Ok(answers) } else { Err(error.to_io()) };
                }
                _ => {}
            }
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

/// WireGuard's own requests.
#[derive(Debug)]
pub(super) struct Generic {
    socket: Socket,
    family: u16,
}

impl Generic {
    /// Fails where the kernel has no WireGuard, and no module that it may load.
    pub(super) fn open() -> Result<Self, KernelError> {
        let failed = || refused("find WireGuard in", "this kernel");
        let socket = socket(NETLINK_GENERIC).map_err(failed())?;
        let question = GenlMessage::from_payload(GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())],
        });
        let answers = ask(&socket, question, NLM_F_ACK).map_err(failed())?;
        let family = answers.iter().flat_map(|answer| &answer.payload.nlas).find_map(|it| match it {
            GenlCtrlAttrs::FamilyId(family) => Some(*family),
            _ => None,
        });
        let family = family.ok_or_else(|| KernelError::Answer(FAMILY.to_owned()))?;
        Ok(Self { socket, family })
    }

    fn message(
        &self,
        cmd: WireguardCmd,
        attributes: Vec<WireguardAttribute>,
    ) -> GenlMessage<WireguardMessage> {
        let mut message = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
        message.set_resolved_family_id(self.family);
        message
    }

    /// Changes what is said of a device, and nothing else of it.
    pub(super) fn set(
        &self,
        device: &str,
        mut attributes: Vec<WireguardAttribute>,
    ) -> Result<(), KernelError> {
        attributes.insert(0, WireguardAttribute::IfName(device.to_owned()));
        let message = self.message(WireguardCmd::SetDevice, attributes);
        ask(&self.socket, message, NLM_F_ACK).map(drop).map_err(refused("tell keys and peers to", device))
    }

    /// A device's peers.
    pub(super) fn peers(&self, device: &str) -> Result<Vec<WireguardPeer>, KernelError> {
        let named = vec![WireguardAttribute::IfName(device.to_owned())];
        let message = self.message(WireguardCmd::GetDevice, named);
        let answers =
            ask(&self.socket, message, NLM_F_DUMP).map_err(refused("ask for the peers of", device))?;
        let attributes = answers.into_iter().flat_map(|answer| answer.payload.attributes);
        let peers = attributes.filter_map(|attribute| match attribute {
            WireguardAttribute::Peers(peers) => Some(peers),
            _ => None,
        });
        Ok(peers.flatten().collect())
    }
}

/// Devices and routes.
#[derive(Debug)]
pub(super) struct Routes {
    socket: Socket,
}

impl Routes {
    pub(super) fn open() -> Result<Self, KernelError> {
        let socket = socket(NETLINK_ROUTE).map_err(refused("open", "a netlink socket"))?;
        Ok(Self { socket })
    }

    /// A device's index; none if there is no such device.
    pub(super) fn index_of(&self, device: &str) -> Result<Option<u32>, KernelError> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(device.to_owned())];
        let answers = match ask(&self.socket, RouteNetlinkMessage::GetLink(link), NLM_F_ACK) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            answers => answers.map_err(refused("look up device", device))?,
        };
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
            _ => None,
        }))
    }

    /// Makes a device of WireGuard's.
    pub(super) fn make(&self, device: &str) -> Result<(), KernelError> {
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(device.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]),
        ];
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let made = ask(&self.socket, RouteNetlinkMessage::NewLink(link), flags);
        made.map(drop).map_err(refused("make device", device))
    }

    /// This module's routes: destination and device.
    pub(super) fn own(&self) -> Result<BTreeMap<Ipv4Addr, u32>, KernelError> {
        let mut every = RouteMessage::default();
        every.header.address_family = AddressFamily::Inet;
        let answers = ask(&self.socket, RouteNetlinkMessage::GetRoute(every), NLM_F_DUMP)
            .map_err(refused("list", "routes"))?;
        let routes = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) if route.header.protocol == ROUTE_PROTOCOL => {
                Some((destination(&route)?, device(&route)?))
            }
            _ => None,
        });
        Ok(routes.collect())
    }

    /// Has packets to an address go into a device, and nowhere else.
    pub(super) fn lead(&self, to: Ipv4Addr, index: u32, source: Ipv4Addr) -> Result<(), KernelError> {
        let mut message = route(to, index);
        message.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(source)));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let put = ask(&self.socket, RouteNetlinkMessage::NewRoute(message), flags);
        put.map(drop).map_err(refused("put the route to", &to.to_string()))
    }

    pub(super) fn remove(&self, to: Ipv4Addr, index: u32) -> Result<(), KernelError> {
        let removed = ask(&self.socket, RouteNetlinkMessage::DelRoute(route(to, index)), NLM_F_ACK);
        match removed {
            // It went with its device.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.map(drop).map_err(refused("remove the route to", &to.to_string())),
        }
    }
}

fn route(to: Ipv4Addr, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: 32,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: ROUTE_PROTOCOL,
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes =
        vec![RouteAttribute::Destination(RouteAddress::Inet(to)), RouteAttribute::Oif(index)];
    message
}

fn destination(route: &RouteMessage) -> Option<Ipv4Addr> {
    route.attributes.iter().find_map(|it| match it {
        RouteAttribute::Destination(RouteAddress::Inet(to)) => Some(*to),
        _ => None,
    })
}

fn device(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|it| match it {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}
