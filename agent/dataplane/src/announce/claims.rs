//! Which addresses this machine claims on its network, and what it says about them: ARP's rules for conflicts (RFC 5227), for
//! both families. Pure: frames in, frames out, time is an argument. The frames themselves stand in `arp.rs` and `ndp.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{arp, ndp};

/// An Ethernet address, in wire order.
pub(super) type Mac = [u8; 6];

/// A new claim is announced so often: one frame may be lost, a switch may still be learning.
const ANNOUNCEMENTS: u8 = 3;
/// The wait between two of them (RFC 5227's `ANNOUNCE_INTERVAL` is 2 s; a moved address is to be found sooner).
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// A claim is defended at most so often (`DEFEND_INTERVAL`).
const DEFEND_EVERY: Duration = Duration::from_secs(10);

/// One frame, with its Ethernet header.
pub(super) type Frame = Vec<u8>;

/// What one machine tells another of addresses, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Message {
    /// Whether it asks who has `target`.
    pub(super) asks: bool,
    pub(super) sender_mac: Mac,
    /// The address that the sender says is its own; unspecified when it says none.
    pub(super) sender: IpAddr,
    pub(super) target: IpAddr,
}

impl Message {
    /// Reads a frame with its Ethernet header; none when it is no such message.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        arp::read(frame).or_else(|| ndp::read(frame))
    }
}

/// The answer to one who asks for an address.
fn reply(mac: Mac, address: IpAddr, to: &Message) -> Option<Frame> {
    match (address, to.sender) {
        (IpAddr::V4(address), IpAddr::V4(sender)) => Some(arp::reply(mac, address, (to.sender_mac, sender))),
        (IpAddr::V6(address), IpAddr::V6(sender)) => Some(ndp::reply(mac, address, (to.sender_mac, sender))),
        _ => None,
    }
}

/// Tells all that an address is here.
fn announcement(mac: Mac, address: IpAddr) -> Vec<Frame> {
    match address {
        IpAddr::V4(address) => arp::announcement(mac, address).into(),
        IpAddr::V6(address) => vec![ndp::announcement(mac, address)],
    }
}

/// How a claim stands.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    /// Another machine has it, and nobody who must know has said that it is still ours: nothing is answered.
    yielded: bool,
    announcements_left: u8,
    announce_at: Option<Instant>,
    defended_at: Option<Instant>,
}

/// The claims of one machine on one network. Bounded by who sets them.
#[derive(Debug)]
pub(super) struct Claims {
    mac: Mac,
    claims: BTreeMap<IpAddr, Claim>,
    confirmed: bool,
    conflict: Option<Conflict>,
}

/// Two machines say that an address is theirs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Conflict {
    pub(super) address: IpAddr,
    pub(super) other: Mac,
}

impl Claims {
    /// None yet.
    pub(super) fn new(mac: Mac) -> Self {
        Self { mac, claims: BTreeMap::new(), confirmed: false, conflict: None }
    }

    /// From now on these addresses are claimed, and no others.
    ///
    /// `confirmed`: whoever gives the claims says so now. Claims of an older word are answered for but not announced, and
    /// yield to any other machine that has the address: the control plane may have moved it meanwhile.
    pub(super) fn set(&mut self, wanted: &BTreeSet<IpAddr>, confirmed: bool, now: Instant) {
        let first_word = confirmed && !self.confirmed;
        self.confirmed = confirmed;
        self.claims.retain(|address, _| wanted.contains(address));
        for address in wanted {
            let known = self.claims.contains_key(address);
            let claim = self.claims.entry(*address).or_default();
            if confirmed && (!known || first_word) {
                claim.yielded = false;
                claim.announcements_left = ANNOUNCEMENTS;
                claim.announce_at = Some(now);
            }
        }
    }

    /// When [`Self::due`] has something to say next.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.claims.values().filter_map(|claim| claim.announce_at).min()
    }

    /// The announcements whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Frame> {
        let mut frames = Vec::new();
        for (address, claim) in &mut self.claims {
            if claim.announce_at.is_none_or(|at| at > now) {
                continue;
            }
            claim.announcements_left = claim.announcements_left.saturating_sub(1);
            claim.announce_at = (claim.announcements_left > 0).then(|| now + ANNOUNCE_EVERY);
            frames.extend(announcement(self.mac, *address));
        }
        frames
    }

    /// What is answered to a frame.
    pub(super) fn heard(&mut self, frame: &[u8], now: Instant) -> Vec<Frame> {
        let Some(message) = Message::read(frame) else { return Vec::new() };
        if message.sender_mac == self.mac {
            return Vec::new();
        }
        if self.claims.contains_key(&message.sender) {
            return self.contested(&message, now).unwrap_or_default();
        }
        let asked = message.asks && message.sender != message.target;
        match self.claims.get(&message.target) {
            Some(claim) if asked && !claim.yielded => {
                reply(self.mac, message.target, &message).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Another machine has said that an address of ours is its own. Ours is the last word, once the other is silent.
    fn contested(&mut self, message: &Message, now: Instant) -> Option<Vec<Frame>> {
        let (mac, confirmed) = (self.mac, self.confirmed);
        let claim = self.claims.get_mut(&message.sender)?;
        if !confirmed {
            claim.yielded = true;
            return None;
        }
        if claim.announce_at.is_none() {
            claim.announcements_left = 1;
            claim.announce_at = Some(now + ANNOUNCE_EVERY);
        }
        if claim.defended_at.is_some_and(|at| now.duration_since(at) < DEFEND_EVERY) {
            return None;
        }
        claim.defended_at = Some(now);
        self.conflict = Some(Conflict { address: message.sender, other: message.sender_mac });
        Some(announcement(mac, message.sender))
    }

    /// A conflict that came up since this was asked last, at most one for each [`DEFEND_EVERY`] and address.
    pub(super) fn take_conflict(&mut self) -> Option<Conflict> {
        self.conflict.take()
    }

    /// The addresses that are answered for.
    #[cfg(test)]
    fn answered(&self) -> Vec<IpAddr> {
        let kept = self.claims.iter().filter(|(_, claim)| !claim.yielded);
        kept.map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::arp::{BROADCAST, FRAME_BYTES, REQUEST, frame};
    use super::*;

    const OURS: Mac = [2, 0, 0, 0, 0, 1];
    const THEIRS: Mac = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn asks(from: Ipv4Addr, target: Ipv4Addr) -> Frame {
        frame(BROADCAST, THEIRS, REQUEST, from, ([0; 6], target))
    }

    fn claims(confirmed: bool, now: Instant) -> Claims {
        let mut claims = Claims::new(OURS);
        claims.set(&[ADDRESS.into()].into(), confirmed, now);
        claims
    }

    #[test]
    fn who_asks_for_a_claimed_address_is_answered_and_nobody_else() {
        let now = Instant::now();
        let mut claims = claims(true, now);
        let answers = claims.heard(&asks(OTHER, ADDRESS), now);
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((&answer[..6], &answer[6..12]), (&THEIRS[..], &OURS[..]));
        let said = Message::read(answer).unwrap();
        let (sender, target) = (ADDRESS.into(), OTHER.into());
        assert_eq!(said, Message { asks: false, sender_mac: OURS, sender, target });
        assert_eq!(
            claims.heard(&asks(Ipv4Addr::UNSPECIFIED, ADDRESS), now).len(),
            1,
            "a probe is a question"
        );
        assert!(claims.heard(&asks(ADDRESS.min(OTHER), OTHER), now).is_empty());
        for cut in 0..FRAME_BYTES {
            assert!(claims.heard(&asks(OTHER, ADDRESS)[..cut], now).is_empty());
        }
        claims.set(&BTreeSet::new(), true, now);
        assert!(claims.heard(&asks(OTHER, ADDRESS), now).is_empty());
    }

    #[test]
    fn a_claim_is_announced_in_both_forms_three_times() {
        let mut now = Instant::now();
        let mut claims = claims(true, now);
        for _ in 0..ANNOUNCEMENTS {
            assert_eq!(claims.next_at(), Some(now));
            let said = claims.due(now);
            let asks: Vec<bool> = said.iter().map(|f| Message::read(f).unwrap().asks).collect();
            assert_eq!(asks, [true, false]);
            let sender = |frame: &Frame| Message::read(frame).unwrap().sender;
            assert!(said.iter().all(|frame| frame[..6] == BROADCAST && sender(frame) == ADDRESS));
            assert!(claims.due(now).is_empty());
            now += ANNOUNCE_EVERY;
        }
        assert_eq!((claims.next_at(), claims.due(now).len()), (None, 0));
        claims.set(&[ADDRESS.into()].into(), true, now);
        assert_eq!(claims.next_at(), None, "what was claimed before is not announced anew");
    }

    #[test]
    fn an_unconfirmed_claim_is_quiet_and_yields_until_it_is_confirmed() {
        let now = Instant::now();
        let mut claims = claims(false, now);
        assert_eq!(claims.next_at(), None, "an old word takes nothing over");
        assert_eq!(claims.heard(&asks(OTHER, ADDRESS), now).len(), 1, "but it is answered for");
        assert!(claims.heard(&asks(ADDRESS, ADDRESS), now).is_empty());
        assert!(claims.answered().is_empty());
        assert!(claims.heard(&asks(OTHER, ADDRESS), now).is_empty(), "yielded");
        claims.set(&[ADDRESS.into()].into(), false, now);
        assert!(claims.answered().is_empty());
        claims.set(&[ADDRESS.into()].into(), true, now);
        assert_eq!((claims.answered(), claims.next_at()), (vec![ADDRESS.into()], Some(now)));
    }

    #[test]
    fn a_confirmed_claim_is_defended_now_and_then() {
        let now = Instant::now();
        let mut claims = claims(true, now);
        while let Some(at) = claims.next_at() {
            claims.due(at);
        }
        assert_eq!(claims.heard(&asks(ADDRESS, ADDRESS), now).len(), 2);
        assert_eq!(claims.take_conflict(), Some(Conflict { address: ADDRESS.into(), other: THEIRS }));
        assert!(claims.heard(&asks(ADDRESS, ADDRESS), now + Duration::from_millis(1)).is_empty(), "no war");
        assert_eq!(claims.take_conflict(), None);
        assert_eq!(claims.due(now + ANNOUNCE_EVERY).len(), 2, "the last word");
        assert_eq!(claims.next_at(), None);
        assert_eq!(claims.heard(&asks(ADDRESS, OTHER), now + DEFEND_EVERY).len(), 2);
        assert_eq!(claims.answered(), [IpAddr::V4(ADDRESS)]);
        let own = frame(BROADCAST, OURS, REQUEST, ADDRESS, ([0; 6], ADDRESS));
        assert!(claims.heard(&own, now + DEFEND_EVERY * 3).is_empty(), "one does not fight oneself");
    }

    #[test]
    fn ipv6_addresses_are_claimed_by_the_same_rules() {
        const SIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
        let (mut now, neighbour) = (Instant::now(), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9));
        let mut claims = Claims::new(OURS);
        claims.set(&[SIX.into(), ADDRESS.into()].into(), true, now);
        for _ in 0..ANNOUNCEMENTS {
            assert_eq!(claims.due(now).len(), 3, "two of ARP, one of IPv6");
            now += ANNOUNCE_EVERY;
        }
        assert_eq!(claims.next_at(), None);
        let asks = |target| ndp::solicitation(THEIRS, neighbour, target);
        let [answer] = &claims.heard(&asks(SIX), now)[..] else { panic!("no answer, or many") };
        assert_eq!((&answer[..6], Message::read(answer).unwrap().sender), (&THEIRS[..], IpAddr::V6(SIX)));
        assert!(claims.heard(&asks(neighbour), now).is_empty());
        // Another machine says that it has it.
        assert_eq!(claims.heard(&ndp::announcement(THEIRS, SIX), now).len(), 1, "defended");
        assert_eq!(claims.take_conflict(), Some(Conflict { address: SIX.into(), other: THEIRS }));
        assert!(claims.heard(&ndp::announcement(OURS, SIX), now).is_empty(), "one does not fight oneself");
    }
}
