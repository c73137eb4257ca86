//! The same for the program at the uplink's driver, in a place of its own whose routes and neighbours the kernel knows.

use std::time::Duration;

use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use weft_dataplane_abi::conntrack::Tuple;
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::XDP_UPLINK;

use crate::bench::{Bench, PEER};
use crate::driver::{self, PASS, Place, TX};
use crate::frame::{ACK, TCP};

/// Bytes of the program's row, whose fields [`Frames::plan`] writes in their order (`dataplane-ebpf/src/bench/frame.rs`).
const PLAN_BYTES: usize = 136;
const FRAME_BYTES_MAX: usize = 128;
/// Places in the table of programs.
const NOTHING: u32 = 0;
const UPLINK: u32 = 1;
/// Passes of an established flow.
const PASSES: u32 = 50_000;
/// How often a case is begun again at most, when the program has left a packet to the stack, as it does now and then.
const TRIES_MAX: usize = 20;

/// One packet of an established flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// A client's, which goes into the tunnel.
    Asked,
    /// The backend's, which comes out of the tunnel.
    Answered,
}

impl Case {
    pub(crate) const ALL: [Self; 2] = [Self::Asked, Self::Answered];

    /// Its name in the samples.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Asked => "established, to a node port, a Pod of another node",
            Self::Answered => "established, a node port's answer from another node",
        }
    }
}

/// The place, and a bench with the programs of the loop.
pub(crate) struct Frames {
    place: Place,
    bench: Bench,
    /// Keeps the programs in the table.
    _programs: ProgramArray<MapData>,
}

impl Frames {
    /// All programs in the kernel and in the table.
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let mut bench = place.within(driver::furnished);
        let table = bench.ebpf.take_map("bench_frame_programs").expect("the table of programs");
        let mut table = ProgramArray::try_from(table).expect("a table of programs");
        for name in ["bench_frame_step", "bench_frame_nothing"] {
            program(&mut bench, name).load().unwrap_or_else(|error| panic!("{name}: {error:#?}"));
        }
        for (at, name) in [(NOTHING, "bench_frame_nothing"), (UPLINK, XDP_UPLINK)] {
            let fd = program(&mut bench, name).fd().expect("loaded").try_clone().expect("a descriptor");
            table.set(at, &fd, 0).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        Self { place, bench, _programs: table }
    }

    /// Nanoseconds of a pass of a case, and of a pass that calls nothing.
    pub(crate) fn measure(&mut self, case: Case) -> [f64; 2] {
        let Self { place, bench, .. } = self;
        place.within(|| {
            let mut one = CpuSet::new();
            one.set(0).expect("a CPU");
            sched_setaffinity(Pid::from_raw(0), &one).expect("pinned");
            bench.forget_flows();
            let (key, packet) = opened(bench, case);
            plan(bench, &packet, NOTHING);
            let (verdict, _, own) = run(bench, &packet);
            assert_eq!(verdict, PASS, "{}: the loop alone", case.text());
            plan(bench, &packet, UPLINK);
            for _ in 0..TRIES_MAX {
                driver::seen_now(bench, &key);
                let (carried, translated) = counts(bench);
                let (verdict, _, all) = run(bench, &packet);
                let (carried, translated) = (counts(bench).0 - carried, counts(bench).1 - translated);
                assert!(verdict == TX || verdict == PASS, "{}: {verdict}", case.text());
                if carried == u64::from(PASSES) {
                    assert_eq!((verdict, translated), (TX, carried), "{}", case.text());
                    bench.events();
                    return [all, own].map(|time| time.as_nanos() as f64);
                }
            }
            panic!("{}: never were all packets carried", case.text());
        })
    }
}

/// Begins the flow by the stack's program. Its row's key, and the frame.
fn opened(bench: &mut Bench, case: Case) -> (Tuple, Vec<u8>) {
    let flow = driver::begun(bench, TCP, false);
    match case {
        Case::Asked => (driver::key(TCP, false), driver::for_uplink(&driver::asked(TCP, false, ACK))),
        Case::Answered => {
            let key = driver::settled(bench, &flow, u32::from(PEER));
            let inner = driver::answered(TCP, false, &flow);
            (key, driver::for_uplink(&driver::in_tunnel(PEER, &inner)))
        }
    }
}

/// Packets carried, and translated.
fn counts(bench: &mut Bench) -> (u64, u64) {
    (bench.counter(Counter::XdpCarried), bench.counter(Counter::PacketsTranslated))
}

fn plan(bench: &mut Bench, packet: &[u8], program: u32) {
    let mut row = [0; PLAN_BYTES];
    row[..packet.len()].copy_from_slice(packet);
    let bytes = u32::try_from(packet.len()).expect("a short frame");
    for (place, word) in [bytes, program].into_iter().enumerate() {
        let at = FRAME_BYTES_MAX + 4 * place;
        row[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    let map = bench.ebpf.map_mut("bench_frame").expect("the map bench_frame");
    let mut map: Array<&mut MapData, [u8; PLAN_BYTES]> = Array::try_from(map).expect("an array");
    map.set(0, row, 0).expect("the plan");
}

fn run(bench: &mut Bench, packet: &[u8]) -> (u32, Vec<u8>, Duration) {
    let mut out = vec![0; packet.len() + 64];
    let mut options = TestRunOptions::new();
    options.data_in = Some(packet);
    options.data_out = Some(&mut out);
    options.repeat = PASSES;
    let result = program(bench, "bench_frame_step").test_run(options).expect("a test run");
    out.truncate(result.data_size_out as usize);
    (result.return_value, out, result.duration)
}

fn program<'a>(bench: &'a mut Bench, name: &str) -> &'a mut Xdp {
    let program = bench.ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name}"));
    program.try_into().expect("an XDP program")
}
