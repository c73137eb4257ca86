//! `bench packet`: runs the bench of single packets and writes its section of the report.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::bench::machine;
use crate::bench::plot::{self, Bar, Line};
use crate::bench::report::{self, Section};
use crate::bench::samples::Spread;
use crate::build_ebpf;
use crate::command::output;
use crate::setup::{self, For};
use crate::workspace::Workspace;

const ROUNDS_MIN: usize = 9;
/// What an established translated packet and a new flow may cost.
const ESTABLISHED_NS_MAX: f64 = 200.0;
const NEW_NS_MAX: f64 = 900.0;

/// Settings of `bench packet`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds that count; every packet is visited in each
    #[arg(long, default_value_t = 25)]
    rounds: usize,
    /// Write no report, only print it
    #[arg(long)]
    dry_run: bool,
}

/// What the bench prints.
#[derive(Debug, Deserialize)]
struct Run {
    rounds: usize,
    cases: Vec<Case>,
    /// What the kernel's own measurement adds to a run.
    stats_ns: f64,
    load: Vec<Load>,
}

/// One packet at one program, a value a round.
#[derive(Debug, Deserialize)]
struct Case {
    hook: String,
    name: String,
    /// The station the walk ended after, or `end`.
    until: String,
    ns: Vec<f64>,
    own_ns: Vec<f64>,
}

/// One program under one load.
#[derive(Debug, Deserialize)]
struct Load {
    load: String,
    hook: String,
    ns: Vec<f64>,
}

/// The walk from a Pod to a Service, and how its cut programs follow each other for a known and for a new flow.
const KNOWN: &str = "established, to a Service";
const NEW: &str = "new, to a Service";
const STATIONS: [(&str, &str); 10] = [
    ("begin", "settings and counters"),
    ("parse", "parse"),
    ("fragment", "fragment"),
    ("find", "track: the flow's row"),
    ("balance", "balance"),
    ("route", "route: where to"),
    ("write", "track: two new rows"),
    ("track", "track: the event"),
    ("translate", "translate"),
    ("end", "route: the way out"),
];

/// Measures and writes the section.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    setup::ensure(&workspace, For::Test)?;
    let object = build_ebpf::build(&workspace)?;
    let with_bench = build_ebpf::build_bench(&workspace)?;
    println!("bench: building and measuring; nothing else should run on this machine now");
    let mut bench = workspace.cargo();
    bench
        .args(["bench", "--quiet", "--locked", "--package", "weft-dataplane", "--bench", "packet", "--"])
        .args(["--rounds", &args.rounds.to_string()])
        .env("WEFT_EBPF_OBJECT", object)
        .env("WEFT_EBPF_BENCH_OBJECT", with_bench);
    let said = output(&mut bench).context("the bench did not come to its end")?;
    let line = said.lines().find(|line| line.starts_with('{')).context("the bench printed no samples")?;
    let run: Run = serde_json::from_str(line).context("the samples are not understood")?;
    let text = text(&run)?;
    print!("{text}");
    if args.dry_run || run.rounds < ROUNDS_MIN {
        println!("bench: nothing is written: a report wants {ROUNDS_MIN} rounds");
        return Ok(());
    }
    report::write(&workspace.root, Section::Packet, &text, &plots(&run))
}

impl Case {
    /// Nanoseconds less the bench's own, round by round.
    fn net(&self) -> Vec<f64> {
        self.ns.iter().zip(&self.own_ns).map(|(all, own)| all - own).collect()
    }

    fn is_whole(&self) -> bool {
        self.until == "end"
    }

    fn begins(&self) -> bool {
        self.name.starts_with("new")
    }
}

fn ns(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |s| format!("{:.0} ({:.0}–{:.0})", s.median, s.low, s.high))
}

fn text(run: &Run) -> Result<String> {
    let mut text = format!(
        "## One packet\n\n\
         Written by `cargo xtask bench packet`. Nanoseconds of one run of the program (`BPF_PROG_TEST_RUN`): in the timed loop a program \
         makes the packet anew, with another source port in every pass where flows are new or in turn, and goes over to the real one \
         by a tail call; what the same loop costs without the walk, in the same round, is taken off. The median of {} rounds, with the \
         quartiles. Every pass is checked by the counters, the last by its verdict and its packet. A redirect is only noted by such a \
         run: what the kernel does after the verdict is not in it, nor what it does for the tunnel, which knows no neighbour here and goes by its \
         device; under load the programs put packets in and take them out themselves, and that is in their numbers. The program at the uplink's driver, `xdp_uplink`, does that itself: next \
         hop, tunnel and frame are in its numbers, and no packet of the stack's has to be made before or after it.\n\n{}\n\
         | program | packet | ns |\n| --- | --- | ---: |\n",
        run.rounds,
        machine::describe()
    );
    for case in run.cases.iter().filter(|case| case.is_whole()) {
        let _ = writeln!(text, "| {} | {} | {} |", case.hook, case.name, ns(Spread::of(&case.net())));
    }
    let _ = writeln!(text, "\n![Established packets](packet-established.svg)\n![New flows](packet-new.svg)");
    text += "\n### Station by station\n\n\
        `from_pod`, to a Service: what a walk that ends after the station costs more than the one that ends before it.\n\n\
        | station | established, ns | new, ns |\n| --- | ---: | ---: |\n";
    let (known, fresh) = (shares(run, KNOWN)?, shares(run, NEW)?);
    for (until, name) in STATIONS {
        let share = |shares: &[(&str, Option<Spread>)]| {
            ns(shares.iter().find(|(other, _)| *other == until).and_then(|(_, spread)| *spread))
        };
        let _ = writeln!(text, "| {name} | {} | {} |", share(&known), share(&fresh));
    }
    let _ = write!(
        text,
        "\n### Under load\n\n\
         The same programs between Pods of two machines with 1,000 Services, by the per-packet path: `run_time_ns / run_cnt` as the kernel \
         counts them, less the {:.0} ns that its measuring adds to an empty program. Packets are cold here, and some must be copied \
         before they may be changed.\n\n| load | program | ns |\n| --- | --- | ---: |\n",
        run.stats_ns
    );
    for load in &run.load {
        let net: Vec<f64> = load.ns.iter().map(|ns| ns - run.stats_ns).collect();
        let _ = writeln!(text, "| {} | {} | {} |", load.load, load.hook, ns(Spread::of(&net)));
    }
    text +=
        "\n### What is promised\n\n| packet | measured, ns | promised, at most |\n| --- | ---: | ---: |\n";
    for (hook, name, promised) in [
        ("from_pod", KNOWN, ESTABLISHED_NS_MAX),
        ("from_uplink", "established, to a node port", ESTABLISHED_NS_MAX),
        ("from_overlay", "established, a Service's answer", ESTABLISHED_NS_MAX),
        ("from_pod", NEW, NEW_NS_MAX),
        ("from_uplink", "new, to a node port", NEW_NS_MAX),
        ("from_overlay", "new, to a Pod here", NEW_NS_MAX),
    ] {
        let case = find(run, hook, name, "end")?;
        let _ = writeln!(text, "| {hook}: {name} | {} | {promised:.0} |", ns(Spread::of(&case.net())));
    }
    Ok(text)
}

fn find<'a>(run: &'a Run, hook: &str, name: &str, until: &str) -> Result<&'a Case> {
    run.cases
        .iter()
        .find(|case| case.hook == hook && case.name == name && case.until == until)
        .with_context(|| format!("no samples of {hook}: {name} until {until}"))
}

/// What each station of a walk costs: the difference of two walks, round by round.
fn shares(run: &Run, name: &str) -> Result<Vec<(&'static str, Option<Spread>)>> {
    let cut = |until: &str| run.cases.iter().find(|case| case.name == name && case.until == until);
    let mut before: Option<Vec<f64>> = None;
    let mut shares = Vec::new();
    for (until, _) in STATIONS {
        // Both hooks that are measured have such a case; the cut walks are from_pod's.
        let case = if until == "end" { Some(find(run, "from_pod", name, until)?) } else { cut(until) };
        let Some(case) = case else { continue };
        let net = case.net();
        let share = match &before {
            Some(before) => net.iter().zip(before).map(|(now, before)| now - before).collect(),
            None => net.clone(),
        };
        shares.push((until, Spread::of(&share)));
        before = Some(net);
    }
    Ok(shares)
}

fn plots(run: &Run) -> Vec<(String, String)> {
    let bars = |begins: bool| -> Vec<Bar> {
        let cases = run.cases.iter().filter(|case| case.is_whole() && case.begins() == begins);
        cases
            .filter_map(|case| {
                let value = Spread::of(&case.net())?;
                Some(Bar { label: format!("{}: {}", case.hook, case.name), value })
            })
            .collect()
    };
    let plot = |title: &str, begins: bool, line: f64| {
        plot::bars_to(title, &bars(begins), Line { at: line, decimals: 0 })
    };
    vec![
        (
            "packet-established.svg".to_owned(),
            plot("ns per packet; the line is what an established one may cost", false, ESTABLISHED_NS_MAX),
        ),
        (
            "packet-new.svg".to_owned(),
            plot("ns per new flow; the line is what one may cost", true, NEW_NS_MAX),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(hook: &str, name: &str, until: &str, ns: f64) -> Case {
        Case {
            hook: hook.into(),
            name: name.into(),
            until: until.into(),
            ns: vec![ns + 50.0, ns + 70.0],
            own_ns: vec![50.0, 70.0],
        }
    }

    fn run() -> Run {
        let mut cases = vec![
            case("from_uplink", "established, to a node port", "end", 150.0),
            case("from_overlay", "established, a Service's answer", "end", 160.0),
            case("from_uplink", "new, to a node port", "end", 700.0),
            case("from_overlay", "new, to a Pod here", "end", 650.0),
            case("from_pod", KNOWN, "end", 180.0),
            case("from_pod", NEW, "end", 800.0),
        ];
        for (until, ns) in
            [("begin", 5.0), ("parse", 20.0), ("fragment", 21.0), ("find", 60.0), ("translate", 170.0)]
        {
            cases.push(case("from_pod", KNOWN, until, ns));
            cases.push(case("from_pod", NEW, until, ns));
        }
        let load = vec![Load { load: "requests".into(), hook: "from_pod".into(), ns: vec![400.0, 402.0] }];
        Run { rounds: 2, cases, stats_ns: 60.0, load }
    }

    #[test]
    fn the_section_takes_the_benchs_own_cost_off_and_has_every_station_and_promise() {
        let text = text(&run()).unwrap();
        for line in [
            "| from_pod | established, to a Service | 180 (180–180) |",
            "| track: the flow's row | 39 (39–39) | 39 (39–39) |",
            "| translate | 110 (110–110) | 110 (110–110) |",
            "| balance | – | – |",
            "| route: the way out | 10 (10–10) | 630 (630–630) |",
            "| requests | from_pod | 341 (340–342) |",
            "| from_pod: new, to a Service | 800 (800–800) | 900 |",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
        assert_eq!(plots(&run()).len(), 2);
    }

    #[test]
    fn a_packet_that_is_missing_makes_no_report() {
        let mut run = run();
        run.cases.retain(|case| case.hook != "from_overlay");
        assert!(text(&run).is_err());
    }
}
