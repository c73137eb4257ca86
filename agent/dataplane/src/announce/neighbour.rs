//! Whether a machine of this network is there: its kernel answers ARP, whatever becomes of the programs on it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::arp::{self, FRAME_BYTES};
use super::{AnnounceError, ETH_P_ARP, open, receive, send};
use crate::netlink::Netlink;

/// Questions that may stay without an answer.
const QUESTIONS: u32 = 3;
/// How long each is waited for.
const WAIT: Duration = Duration::from_millis(120);

/// Asks for the machine with an address on the network of a device; none when the address is not of that network, so that
/// silence would say nothing. Takes up to a third of a second when nobody answers.
///
/// # Errors
/// There is no such device, it is not Ethernet, or the socket is refused.
pub async fn neighbour_answers(device: &str, address: Ipv4Addr) -> Result<Option<bool>, AnnounceError> {
    let netlink = Netlink::open()?;
    let device = netlink.existing(device).await?;
    let networks = netlink.networks(&device).await?;
    if networks.iter().any(|network| network.addr() == IpAddr::V4(address)) {
        return Ok(Some(true));
    }
    if !networks.iter().any(|network| network.contains(&IpAddr::V4(address))) {
        return Ok(None);
    }
    let (socket, mac) = open(&device, ETH_P_ARP)?;
    for _ in 0..QUESTIONS {
        send(&socket, &[arp::probe(mac, address)]);
        let end = Instant::now() + WAIT;
        while let Ok(Ok(mut ready)) = timeout_at(end, socket.readable()).await {
            let mut frame = [0; FRAME_BYTES];
            let Ok(Ok(bytes)) = ready.try_io(|socket| receive(socket.get_ref(), &mut frame)) else {
                continue;
            };
            // Whatever it says itself will do.
            let message = arp::read(&frame[..bytes]);
            if message.is_some_and(|message| message.sender == address && message.sender_mac != mac) {
                return Ok(Some(true));
            }
        }
    }
    Ok(Some(false))
}
