//! Station *parse*, second half: who sent a packet, whether he may, and whether it is for this machine.

use aya_ebpf::programs::TcContext;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{CIPHER_MARK, ENCRYPTED};
use weft_dataplane_abi::conntrack::ORIGIN_UPLINK;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{OVERLAY_DIRECT_MAC, OVERLAY_RETURN_MAC, OVERLAY_SOURCE_MAC};
use weft_dataplane_abi::station::Station;

use crate::dry::dry;
use crate::maps;
use crate::native;
use crate::parse;
use crate::tunnel;
use crate::verdict::{Step, Verdict, drop};
use crate::walk::Walk;

/// `PACKET_OTHERHOST`: the frame has another device's address.
const OTHER_HOST: u32 = 3;

/// A packet out of the tunnel: the node it came from, not checked yet. All that comes out of it has a key; what has none
/// was put there on this node, and goes up when one of our programs did so.
#[inline(always)]
pub(crate) fn of_tunnel(walk: &mut Walk) -> Step<()> {
    if tunnel::other_end(walk).is_some() {
        return was_encrypted(walk);
    }
    if has_source(walk, OVERLAY_RETURN_MAC) {
        return Err(Verdict::Next);
    }
    drop(Station::Parse, Reason::UnknownTunnelSource)
}

/// Where nodes encrypt, the tunnel takes only what was decrypted here.
#[inline(always)]
fn was_encrypted(walk: &Walk) -> Step<()> {
    if walk.config.flags & ENCRYPTED != 0 {
        // SAFETY: the context is valid for the whole program.
        let mark = unsafe { &raw mut (*walk.context).mark };
        // SAFETY: as above.
        if unsafe { mark.read_volatile() } != CIPHER_MARK && !dry() {
            return drop(Station::Parse, Reason::InClear);
        }
        // SAFETY: as above. It has said what it was for.
        unsafe { mark.write_volatile(0) };
    }
    Ok(())
}

/// A packet that was decrypted here: the mark stays with it until the tunnel.
#[inline(always)]
pub(crate) fn mark(ctx: &TcContext) {
    // SAFETY: the context is valid for the whole program.
    unsafe { (&raw mut (*ctx.skb.skb).mark).write_volatile(CIPHER_MARK) };
}

/// A Pod speaks with its own address only, and the tunnel takes packets from nodes only. What this finds is kept with
/// the flow; packets of other origin are looked at again.
#[inline(always)]
pub(crate) fn is_true(walk: &mut Walk) -> Step<()> {
    let hook = walk.hook;
    match hook {
        Hook::FromPod => match maps::endpoint(&walk.scratch.tuple.source) {
            Some(endpoint) if endpoint.ifindex == walk.origin => {
                walk.scratch.netns_cookie = endpoint.netns_cookie;
                Ok(())
            }
            _ => drop(Station::Parse, Reason::ForeignSource),
        },
        Hook::FromOverlay => match maps::node(&walk.scratch.outer) {
            Some(_) => Ok(()),
            None => drop(Station::Parse, Reason::UnknownTunnelSource),
        },
        // By the uplink anybody may send: what is no other node's Pod's is the host's own.
        Hook::FromUplink if walk.origin == ORIGIN_UPLINK && !native::is_peers(walk) => Err(Verdict::Next),
        _ => Ok(()),
    }
}

/// A switch that does not know yet where a frame's device is sends it to all: what is for another machine is not served here.
#[inline(always)]
pub(crate) fn not_overheard(walk: &Walk) -> Step<()> {
    // SAFETY: the context is valid.
    if unsafe { (*walk.context).pkt_type } == OTHER_HOST { Err(Verdict::Next) } else { Ok(()) }
}

/// What another of our programs has sent on to this device bears a source MAC of the overlay's: its walk is over.
#[inline(always)]
pub(crate) fn not_yet_walked(walk: &Walk) -> Step<()> {
    if has_source(walk, OVERLAY_SOURCE_MAC) || is_direct(walk) { Err(Verdict::Next) } else { Ok(()) }
}

/// Whether a packet is as it came from outside to the node that sent it on.
#[inline(always)]
pub(crate) fn is_direct(walk: &Walk) -> bool {
    has_source(walk, OVERLAY_DIRECT_MAC)
}

/// Whether an address is one of the node's at the tunnel's other end.
#[inline(always)]
pub(crate) fn is_senders(walk: &Walk, address: &Address) -> bool {
    match (maps::node(&walk.scratch.outer), maps::node(address)) {
        (Some(sender), Some(node)) => sender.index == node.index,
        _ => false,
    }
}

#[inline(always)]
fn has_source(walk: &Walk, mac: [u8; 6]) -> bool {
    let Some(frame) = parse::at::<[u16; 6]>(walk, 0) else { return false };
    // SAFETY: within the packet; frames are aligned to two bytes.
    let frame = unsafe { *frame };
    frame[3] == u16::from_ne_bytes([mac[0], mac[1]])
        && frame[4] == u16::from_ne_bytes([mac[2], mac[3]])
        && frame[5] == u16::from_ne_bytes([mac[4], mac[5]])
}
