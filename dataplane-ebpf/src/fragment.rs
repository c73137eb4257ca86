//! Station *fragment*: the first fragment's ports, for those that follow it.

use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::fragment::FragmentPorts;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::station::Station;

use crate::dry::dry;
use crate::maps::{self, FRAGMENTS};
use crate::origin;
use crate::parse::{Packet, Piece};
use crate::verdict::{Step, drop};
use crate::walk::Walk;
use crate::words::copy;

/// Remembers the ports of a first fragment, and gives them to a later one. One that overtook its first is dropped.
#[inline(always)]
pub(crate) fn ports(walk: &mut Walk, packet: &mut Packet) -> Step<()> {
    if packet.piece == Piece::Whole {
        return Ok(());
    }
    // Before anything is remembered: nobody writes another's ports.
    origin::is_true(walk)?;
    let scratch = &mut *walk.scratch;
    let key = &mut scratch.fragment_key;
    copy(&mut key.source, &scratch.tuple.source);
    copy(&mut key.destination, &scratch.tuple.destination);
    key.identification = packet.identification;
    key.protocol = u32::from(packet.protocol);
    if packet.piece == Piece::First {
        let ports = FragmentPorts {
            source_port: scratch.tuple.source_port,
            destination_port: scratch.tuple.destination_port,
        };
        // A failed insert shows as a drop of the fragments that follow, with its own reason.
        if !dry() {
            let _ = FRAGMENTS.insert(&*key, &ports, 0);
        }
        return Ok(());
    }
    let Some(ports) = FRAGMENTS.get_ptr(&*key) else {
        return drop(Station::Fragment, Reason::FragmentUnknown);
    };
    // SAFETY: a row reused under us gives ports of another packet, which no flow then knows; no row has pointers.
    let ports = unsafe { *ports };
    scratch.tuple.source_port = ports.source_port;
    scratch.tuple.destination_port = ports.destination_port;
    maps::count(Counter::FragmentsJoined);
    Ok(())
}
