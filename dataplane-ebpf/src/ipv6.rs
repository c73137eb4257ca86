//! IPv6's reader and writer: its header and the extension headers behind it (RFC 8200), and its addresses put into a packet.
//! All stations between the two are the same for both families.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::Tuple;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be32;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::station::Station;

use crate::context::{Context, Editable};
use crate::origin;
use crate::parse::{self, ICMP, L3, MALFORMED, Message, Packet, Piece, TRANSPORT_BYTES};
use crate::translate;
use crate::verdict::{Step, Verdict, drop};
use crate::walk::Walk;

/// The header without what may follow it.
pub(crate) const IP_BYTES: usize = 40;
/// Where the transport header is when no extension header is before it.
pub(crate) const L4: usize = L3 + IP_BYTES;

/// Extension headers, by the numbers they have as the next header.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// How many of them are read: one of each kind, and the destination's options twice (RFC 8200, section 4.1), and one more.
const EXTENSIONS_MAX: u32 = 6;
/// Where the transport header may begin at most.
const L4_MAX: u32 = 0xff;

/// ICMPv6 types (RFC 4443).
const UNREACHABLE: u8 = 1;
const PARAMETER: u8 = 4;
const ECHO: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// An IPv6 header.
#[repr(C, packed(2))]
#[derive(Clone, Copy)]
pub(crate) struct Ipv6 {
    pub(crate) version_class_flow: u32,
    pub(crate) payload_bytes: u16,
    pub(crate) next: u8,
    pub(crate) hops: u8,
    pub(crate) source: [u32; 4],
    pub(crate) destination: [u32; 4],
}

const _: () = assert!(size_of::<Ipv6>() == IP_BYTES);

/// What an ICMPv6 type is here.
#[inline(always)]
pub(crate) const fn message(kind: u8) -> Message {
    match kind {
        ECHO => Message::Ask,
        ECHO_REPLY => Message::Answer,
        UNREACHABLE..=PARAMETER => Message::Error,
        _ => Message::Other,
    }
}

/// Reads the headers into the walk's tuple, which is clear. What is of the link alone passes.
#[inline(always)]
pub(crate) fn headers(walk: &mut Walk) -> Step<&'static mut Packet> {
    let scratch = &mut *walk.scratch;
    match read_ipv6(walk.context, &raw mut scratch.tuple, &raw mut scratch.packet) {
        READ => Ok(parse::in_scratch(walk)),
        OF_LINK => of_link(walk),
        UNREAD => unread(walk),
        _ => Err(MALFORMED),
    }
}

/// What [`read_ipv6`] answers.
const READ: u32 = 0;
const MALFORMED_IT_IS: u32 = 1;
const UNREAD: u32 = 2;
const OF_LINK: u32 = 3;

/// Reads header, extension headers and the start of what they carry: the ends into the tuple, which is clear, all else into
/// the packet. The verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_ipv6(skb: *mut __sk_buff, tuple: *mut Tuple, packet: *mut Packet) -> u32 {
    if tuple.is_null() || packet.is_null() {
        return MALFORMED_IT_IS;
    }
    // SAFETY: callers give what is in their scratch.
    match read(skb, unsafe { &mut *tuple }) {
        Ok(read) => {
            parse::put(packet, &read);
            READ
        }
        Err(why) => why,
    }
}

#[inline(always)]
fn read(skb: *mut __sk_buff, tuple: &mut Tuple) -> Result<Packet, u32> {
    if parse::linear_of(skb, L4 + TRANSPORT_BYTES).is_err() {
        return Err(MALFORMED_IT_IS);
    }
    let mut packet = fixed(skb, tuple)?;
    if is_extension(packet.protocol) {
        packet = extensions(skb, packet.protocol).ok_or(UNREAD)?;
        if parse::linear_of(skb, packet.l4() + TRANSPORT_BYTES).is_err() {
            return Err(MALFORMED_IT_IS);
        }
    }
    tuple.protocol = packet.protocol;
    if packet.piece != Piece::Later
        && packet.protocol != ICMP
        && parse::transport(skb, tuple, &mut packet).is_err()
    {
        return Err(MALFORMED_IT_IS);
    }
    Ok(packet)
}

/// Reads the header itself; what is behind it is taken for its protocol.
#[inline(always)]
fn fixed<C: Context>(context: C, tuple: &mut Tuple) -> Result<Packet, u32> {
    let ip = parse::at_of::<Ipv6>(context, L3).ok_or(MALFORMED_IT_IS)?;
    // SAFETY: within the packet, and its fields are aligned to two bytes as the type says.
    let ip = unsafe { *ip };
    if u32::from_be(ip.version_class_flow) >> 28 != 6 {
        return Err(MALFORMED_IT_IS);
    }
    tuple.source = address(ip.source);
    tuple.destination = address(ip.destination);
    if is_of_link(&tuple.destination) {
        return Err(OF_LINK);
    }
    Ok(Packet::new(L4 as u8, ip.next, Piece::Whole, Be32::new(0)))
}

/// Reads the header and a transport that follows it at once into the tuple, which is clear; none for all else.
#[inline(always)]
pub(crate) fn plain<C: Context>(walk: &mut Walk<C>) -> Option<&'static mut Packet> {
    if !walk.context.pull(L4 + TRANSPORT_BYTES) {
        return None;
    }
    let tuple = &mut walk.scratch.tuple;
    let mut packet = fixed(walk.context, tuple).ok()?;
    tuple.protocol = packet.protocol;
    if !packet.ports_may_change() {
        return None;
    }
    parse::transport(walk.context, tuple, &mut packet).ok()?;
    parse::put(&raw mut walk.scratch.packet, &packet);
    Some(parse::in_scratch(walk))
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// Walks over the extension headers to the packet's protocol; none when they cannot be read.
#[inline(always)]
fn extensions(skb: *mut __sk_buff, first: u8) -> Option<Packet> {
    let mut next = first;
    let mut at = L4 as u32;
    let (mut piece, mut identification) = (Piece::Whole, Be32::new(0));
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(next) || piece == Piece::Later {
            break;
        }
        let mut header = [0u32; 2];
        // SAFETY: the helper checks the offset, and writes as many bytes as said.
        if unsafe { bpf_skb_load_bytes(skb.cast(), at, header.as_mut_ptr().cast(), 8) } != 0 {
            return None;
        }
        let bytes = header[0].to_ne_bytes();
        match next {
            FRAGMENT => {
                let place = u16::from_be_bytes([bytes[2], bytes[3]]);
                piece = match (place & 0xfff8, place & 1) {
                    (0, 0) => piece,
                    (0, _) => Piece::First,
                    _ => Piece::Later,
                };
                identification = Be32::from_wire(header[1]);
                at += 8;
            }
            // A route that is not used up leads elsewhere than it says.
            ROUTING if bytes[3] != 0 => return None,
            _ => at += (u32::from(bytes[1]) + 1) * 8,
        }
        next = bytes[0];
        if at > L4_MAX {
            return None;
        }
    }
    if is_extension(next) {
        return None;
    }
    Some(Packet::new(at as u8, next, piece, identification))
}

/// Headers that are not read to their end: the host judges what comes from outside, and what it sends there itself.
#[inline(always)]
fn unread<T>(walk: &Walk) -> Step<T> {
    match walk.hook {
        Hook::FromUplink | Hook::ToUplink => Err(Verdict::Next),
        _ => drop(Station::Parse, Reason::HeadersUnread),
    }
}

/// Whether an address is one that no router leads to: link-local, or of many.
#[inline(always)]
fn is_of_link(address: &Address) -> bool {
    let first = address.words[0].get();
    first & 0xffc0_0000 == 0xfe80_0000 || first >> 24 == 0xff
}

/// Neighbours speak to each other: their stacks' own, as ARP is. A Pod does so as itself, and nobody does through the tunnel.
#[inline(always)]
fn of_link<T>(walk: &mut Walk) -> Step<T> {
    let source = walk.scratch.tuple.source;
    match walk.hook {
        Hook::FromOverlay => return drop(Station::Parse, Reason::NotHere),
        Hook::FromPod if !source.is_zero() && !is_of_link(&source) => origin::is_true(walk)?,
        _ => {}
    }
    Err(Verdict::Next)
}

/// An address as it stands in a packet's memory.
#[inline(always)]
pub(crate) const fn address(words: [u32; 4]) -> Address {
    Address {
        words: [
            Be32::from_wire(words[0]),
            Be32::from_wire(words[1]),
            Be32::from_wire(words[2]),
            Be32::from_wire(words[3]),
        ],
    }
}

/// Adds the difference of two addresses to a sum.
#[inline(always)]
pub(crate) const fn difference(sum: u64, old: &Address, new: &Address) -> u64 {
    let mut sum = sum;
    let mut i = 0;
    while i < 4 {
        sum = translate::difference(sum, old.words[i].wire(), new.words[i].wire());
        i += 1;
    }
    sum
}

/// The sum of an address's words, not folded.
#[inline(always)]
pub(crate) const fn sum(address: &Address) -> u64 {
    let words = words(address);
    words[0] as u64 + words[1] as u64 + words[2] as u64 + words[3] as u64
}

/// Folds a sum of many differences to 32 bits.
#[inline(always)]
pub(crate) const fn folded(sum: u64) -> u32 {
    translate::folded((sum & 0xffff_ffff) + (sum >> 32))
}

/// Writes the header's addresses.
#[inline(always)]
pub(crate) fn addresses_into<C: Editable>(
    walk: &Walk<C>,
    l3: usize,
    source: &Address,
    destination: &Address,
) -> Option<()> {
    let ip = parse::at::<Ipv6>(walk, l3)?;
    // SAFETY: within the packet, aligned as the type says.
    unsafe {
        (*ip).source = words(source);
        (*ip).destination = words(destination);
    }
    Some(())
}

#[inline(always)]
pub(crate) const fn words(address: &Address) -> [u32; 4] {
    let words = &address.words;
    [words[0].wire(), words[1].wire(), words[2].wire(), words[3].wire()]
}

/// Tells the kernel what became of the sum of the whole packet, where the device has given one: nothing in an IPv6 header
/// makes up for its addresses. The helper for transport checksums takes the change off, as if something did; this puts it
/// back, or on, for a fragment that has no checksum of its own.
#[inline(always)]
pub(crate) fn sum_changed<C: Editable>(walk: &Walk<C>, difference: u32) {
    walk.context.sum_changed(difference);
}
