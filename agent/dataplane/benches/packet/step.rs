//! The timed loop: a program of the bench makes the packet anew and goes over to the one that is measured. Every pass is
//! checked by what the programs count, the last one by its verdict and its packet.

use std::time::Duration;

use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::sys::{Stats, enable_stats};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use weft_dataplane_abi::conntrack::Tuple;
use weft_dataplane_abi::counter::{Counter, dropped_by, seen_by};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps::FLOWS;
use weft_dataplane_abi::order::Be16;

use crate::bench::{Bench, DROP, NEXT, REDIRECT};
use crate::cases::{Case, Opening, Until, furnish};
use crate::frame;

/// Bytes of the program's row, whose fields [`plan`] writes in their order (`dataplane-ebpf/src/bench.rs`).
const PLAN_BYTES: usize = 80;
const FRAME_BYTES: usize = 64;
/// Place of the program that does nothing in the table of programs; the others follow.
const NOTHING: u32 = 0;
const FIRST_CUT: u32 = 32;
/// Passes for the bench's own cost.
const OWN_PASSES: u32 = 50_000;

/// What is counted, over which every pass is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    seen: u64,
    dropped: u64,
    begun: u64,
    translated: u64,
}

/// A bench of single packets with the programs of the loop.
pub(crate) struct Step {
    bench: Bench,
    /// Keeps the programs in the table.
    _programs: ProgramArray<MapData>,
    /// Clients so far whose flows are in the table that is to be full.
    clients: u32,
}

impl Step {
    /// All programs in the kernel and in the table, one CPU for all that follows.
    pub(crate) fn new() -> Self {
        let mut one = CpuSet::new();
        one.set(0).expect("a CPU");
        sched_setaffinity(Pid::from_raw(0), &one).expect("pinned");
        let mut bench = Bench::new().expect("an object");
        furnish(&mut bench);
        let table = bench.ebpf.take_map("bench_programs").expect("the table of programs");
        let mut table = ProgramArray::try_from(table).expect("a table of programs");
        for name in
            ["bench_step", "bench_nothing"].into_iter().chain(Until::ALL.iter().filter_map(|u| u.program()))
        {
            let program = classifier(&mut bench, name);
            program.load().unwrap_or_else(|error| panic!("{name}: {error:#?}"));
        }
        let mut put = |bench: &mut Bench, place: u32, name: &str| {
            let program = classifier(bench, name).fd().expect("loaded").try_clone().expect("a descriptor");
            table.set(place, &program, 0).unwrap_or_else(|error| panic!("{name}: {error}"));
        };
        put(&mut bench, NOTHING, "bench_nothing");
        for hook in Hook::ALL.iter().filter(|hook| !hook.is_socket()) {
            put(&mut bench, *hook as u32, hook.text());
        }
        for until in Until::ALL {
            if let Some(name) = until.program() {
                put(&mut bench, FIRST_CUT + until as u32, name);
            }
        }
        Self { bench, _programs: table, clients: 0 }
    }

    /// Begins more of a case's flows than the table holds.
    pub(crate) fn fill(&mut self, case: &Case) {
        let mut rows = 0;
        while rows <= 2 * FLOWS.capacity * 8 {
            self.measure(case);
            rows += 2 * case.passes;
        }
    }

    /// Nanoseconds of a pass of a case, and of a pass that calls nothing.
    pub(crate) fn measure(&mut self, case: &Case) -> [f64; 2] {
        if !case.full {
            self.forget_flows();
        }
        for opening in &case.openings {
            self.open(opening);
        }
        let mut packet = case.packet.clone();
        if case.answers {
            packet = self.answer(case);
        }
        if case.full {
            // Another client's flows each time, so that none is known.
            self.clients += 1;
            packet[frame::L3 + 13..frame::L3 + 16].copy_from_slice(&self.clients.to_be_bytes()[1..]);
        }
        let called = match case.until {
            Until::End => case.hook as u32,
            other => FIRST_CUT + other as u32,
        };
        self.plan(&packet, case.ports, NOTHING, case.tunnel_from);
        let (verdict, _, own) = self.run(&packet, OWN_PASSES);
        assert_eq!(verdict, NEXT, "{}: the loop alone", case.name);
        self.plan(&packet, case.ports, called, case.tunnel_from);
        let before = self.counts(case.hook);
        let (verdict, after, all) = self.run(&packet, case.passes);
        self.check(case, before, verdict, &after);
        self.bench.events();
        [all, own].map(|time| time.as_nanos() as f64)
    }

    fn check(&mut self, case: &Case, before: Counts, verdict: u32, after: &[u8]) {
        let now = self.counts(case.hook);
        let passes = u64::from(case.passes);
        let each = |really: bool| if really { passes } else { 0 };
        let counted = Counts {
            seen: now.seen - before.seen,
            dropped: now.dropped - before.dropped,
            begun: now.begun - before.begun,
            translated: now.translated - before.translated,
        };
        let wanted = Counts {
            seen: passes,
            dropped: each(case.verdict == DROP),
            begun: each(case.begins),
            translated: each(case.translated),
        };
        assert_eq!((verdict, counted), (case.verdict, wanted), "{} until {}", case.name, case.until.text());
        if let Some(ends) = case.leaves_with {
            assert_eq!(frame::ends(after), ends, "{}", case.name);
            frame::assert_valid(after);
        }
    }

    /// The packet of a case that answers, to the port that was drawn for what it answers.
    fn answer(&mut self, case: &Case) -> Vec<u8> {
        let (source, source_port, destination, destination_port) = frame::ends(&case.openings[0].packet);
        let asked = Tuple {
            source: source.into(),
            destination: destination.into(),
            source_port: Be16::new(source_port),
            destination_port: Be16::new(destination_port),
            protocol: frame::TCP,
            reserved: [0; 3],
        };
        let drawn = self.bench.flow(&asked).expect("the flow").to.source_port.get();
        let (source, source_port, destination, _) = frame::ends(&case.packet);
        frame::tcp((source, source_port, destination, drawn), frame::ACK)
    }

    /// Sends what a flow begins with, each port once.
    fn open(&mut self, opening: &Opening) {
        self.plan(&opening.packet, opening.ports, opening.hook as u32, opening.tunnel_from);
        let (verdict, _, _) = self.run(&opening.packet, opening.ports.max(1));
        assert!(verdict == REDIRECT || verdict == NEXT, "what begins the flow ends with {verdict}");
        self.bench.events();
    }

    fn plan(&mut self, packet: &[u8], ports: u32, program: u32, tunnel_from: u32) {
        assert!(ports == 0 || ports.is_power_of_two());
        let mut row = [0; PLAN_BYTES];
        row[..FRAME_BYTES].copy_from_slice(&packet[..FRAME_BYTES]);
        for (place, word) in [0, ports, program, tunnel_from].into_iter().enumerate() {
            let at = FRAME_BYTES + 4 * place;
            row[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        let map = self.bench.ebpf.map_mut("bench_plan").expect("the map bench_plan");
        let mut map: Array<&mut MapData, [u8; PLAN_BYTES]> = Array::try_from(map).expect("an array");
        map.set(0, row, 0).expect("the plan");
    }

    fn run(&mut self, packet: &[u8], passes: u32) -> (u32, Vec<u8>, Duration) {
        let mut out = vec![0; packet.len() + 64];
        let mut options = TestRunOptions::new();
        options.data_in = Some(packet);
        options.data_out = Some(&mut out);
        options.repeat = passes;
        let result = classifier(&mut self.bench, "bench_step").test_run(options).expect("a test run");
        out.truncate(result.data_size_out as usize);
        (result.return_value, out, result.duration)
    }

    /// What one run counts more than it takes when the kernel measures programs: the clock itself, and the loop's step.
    pub(crate) fn stats_ns(&mut self) -> f64 {
        let _on = enable_stats(Stats::RunTime).expect("statistics");
        let packet = frame::tcp((crate::bench::POD_A, 1, crate::bench::POD_B, 80), frame::ACK);
        let before = classifier(&mut self.bench, "bench_nothing").info().expect("its numbers");
        let mut out = vec![0; packet.len() + 64];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&packet);
        options.data_out = Some(&mut out);
        options.repeat = OWN_PASSES;
        classifier(&mut self.bench, "bench_nothing").test_run(options).expect("a test run");
        let after = classifier(&mut self.bench, "bench_nothing").info().expect("its numbers");
        let runs = after.run_count() - before.run_count();
        assert!(runs >= u64::from(OWN_PASSES), "{runs} runs were counted");
        (after.run_time() - before.run_time()).as_nanos() as f64 / runs as f64
    }

    fn counts(&self, hook: Hook) -> Counts {
        let map = self.bench.ebpf.map("counters").expect("the map counters");
        let map: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map).expect("a per-CPU array");
        let read = |row: u32| map.get(&row, 0).expect("a counter").iter().sum();
        Counts {
            seen: read(seen_by(hook)),
            dropped: read(dropped_by(hook)),
            begun: read(Counter::FlowsBegun as u32),
            translated: read(Counter::PacketsTranslated as u32),
        }
    }

    fn forget_flows(&mut self) {
        self.bench.forget_flows();
    }
}

fn classifier<'a>(bench: &'a mut Bench, name: &str) -> &'a mut SchedClassifier {
    let program = bench.ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name}"));
    program.try_into().expect("a tc program")
}
