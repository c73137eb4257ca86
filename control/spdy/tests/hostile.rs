//! Whatever a peer sends, and however it is cut: no panic, the same events, and no more held than the limits say.

use proptest::prelude::*;
use weft_spdy::{Connection, Event, Headers, Limits, ResetStatus, Role};

const LIMITS: Limits =
    Limits { streams_max: 8, control_bytes_max: 2048, header_bytes_max: 4096, chunk_bytes_max: 512 };

/// What an end may do.
#[derive(Clone, Debug)]
enum Deed {
    Open(String, String),
    Data(usize, Vec<u8>),
    Finish(usize),
    Reset(usize),
    Ping,
}

fn deed() -> impl Strategy<Value = Deed> {
    let text = "[a-z]{1,12}";
    prop_oneof![
        3 => (text, ".{0,40}").prop_map(|(name, value)| Deed::Open(name, value)),
        4 => (0..6usize, prop::collection::vec(any::<u8>(), 0..1500)).prop_map(|(s, b)| Deed::Data(s, b)),
        1 => (0..6usize).prop_map(Deed::Finish),
        1 => (0..6usize).prop_map(Deed::Reset),
        1 => Just(Deed::Ping),
    ]
}

/// The bytes of a client that does all this.
fn bytes(deeds: &[Deed]) -> Vec<u8> {
    let mut client = Connection::new(Role::Client, LIMITS);
    let mut streams = Vec::new();
    for deed in deeds {
        let stream = |at: &usize| streams.get(*at).copied().unwrap_or(0);
        match deed {
            Deed::Open(name, value) => {
                streams.extend(client.open(&Headers::default().with(name, value)));
            }
            Deed::Data(at, bytes) => {
                client.data(stream(at), bytes);
            }
            Deed::Finish(at) => client.finish(stream(at)),
            Deed::Reset(at) => client.reset(stream(at), ResetStatus::CANCEL),
            Deed::Ping => client.ping(),
        }
    }
    client.take_output().to_vec()
}

/// What a server makes of them, cut into pieces of these lengths; pieces of data joined.
fn heard(bytes: &[u8], cuts: &[usize]) -> (Vec<Event>, Vec<u8>, bool) {
    let mut server = Connection::new(Role::Server, LIMITS);
    let mut events = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    let mut held = true;
    while !rest.is_empty() {
        let (piece, further) = rest.split_at((*cuts.next().unwrap_or(&1)).clamp(1, rest.len()));
        rest = further;
        if server.receive(piece, &mut events).is_err() {
            held = false;
            break;
        }
        assert!(server.streams() <= LIMITS.streams_max);
    }
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Data { stream, bytes }), Event::Data { stream: s, bytes: more }) if *stream == s => {
                assert!(more.len() <= LIMITS.chunk_bytes_max);
                *bytes = [&bytes[..], &more[..]].concat().into();
            }
            (_, event) => joined.push(event),
        }
    }
    (joined, server.take_output().to_vec(), held)
}

proptest! {
    #[test]
    fn however_it_is_cut_it_says_the_same(
        deeds in prop::collection::vec(deed(), 0..40),
        cuts in prop::collection::vec(1..700usize, 1..20),
    ) {
        let bytes = bytes(&deeds);
        let whole = heard(&bytes, &[usize::MAX]);
        prop_assert!(whole.2, "what this library says it understands");
        prop_assert_eq!(&heard(&bytes, &cuts), &whole);
        prop_assert_eq!(&heard(&bytes, &[1]), &whole);
    }

}

proptest! {
    // Each case is cut at every byte.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_ends_early_waits_for_more(deeds in prop::collection::vec(deed(), 1..8)) {
        let bytes = bytes(&deeds);
        let all = heard(&bytes, &[usize::MAX]).0.len();
        for end in 0..bytes.len() {
            let (events, _, held) = heard(&bytes[..end], &[usize::MAX]);
            prop_assert!(held && events.len() <= all, "cut at {}", end);
        }
    }
}

proptest! {

    #[test]
    fn garbage_ends_in_an_error_or_in_silence(
        mut garbage in prop::collection::vec(any::<u8>(), 0..3000),
        control in any::<bool>(),
    ) {
        if control && garbage.len() > 8 {
            // A head that is taken, so that what follows is looked at.
            let (kind, flags) = (garbage[3] % 10, garbage[4]);
            let length = u8::try_from(garbage.len().min(255) - 8).unwrap_or(0);
            garbage[..8].copy_from_slice(&[0x80, 3, 0, kind, flags, 0, 0, length]);
        }
        let (events, said, _) = heard(&garbage, &[usize::MAX]);
        prop_assert!(events.len() <= garbage.len());
        // What is said besides answers is one GOAWAY.
        prop_assert!(said.len() <= garbage.len() + 16);
    }

    #[test]
    fn a_byte_that_flips_breaks_nothing_here(
        deeds in prop::collection::vec(deed(), 1..12),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let mut bytes = bytes(&deeds);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            heard(&bytes, &[usize::MAX]);
        }
    }
}
