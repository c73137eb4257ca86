//! `bench dataplane`: runs the bench of paths and writes its section of the report with its plots.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::bench::machine;
use crate::bench::plot::{self, Bar};
use crate::bench::report::{self, Section};
use crate::bench::samples::Spread;
use crate::build_ebpf;
use crate::command::output;
use crate::setup::{self, For};
use crate::workspace::Workspace;

const ROUNDS_MIN: u32 = 9;

/// Settings of `bench dataplane`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds that count; every path is visited in each
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Time of one measurement, ms
    #[arg(long, default_value_t = 300)]
    milliseconds: u32,
    /// Numbers of Services
    #[arg(long, default_value = "1,1000,10000")]
    services: String,
    /// Write no report, only print it
    #[arg(long)]
    dry_run: bool,
}

/// What the bench prints.
#[derive(Debug, Deserialize)]
struct Run {
    rounds: u32,
    milliseconds: u32,
    paths: Vec<Samples>,
}

/// Samples of one path, a value a round.
#[derive(Debug, Deserialize)]
struct Samples {
    path: String,
    crosses: bool,
    services: u32,
    failures: Vec<String>,
    #[serde(default)]
    rr: Vec<f64>,
    #[serde(default)]
    rr_cpu_ns: Vec<f64>,
    #[serde(default)]
    crr: Vec<f64>,
    #[serde(default)]
    stream: Vec<f64>,
}

/// One thing that was measured, and how it is read.
struct Measure {
    title: &'static str,
    file: &'static str,
    of: fn(&Samples) -> &[f64],
}

const MEASURES: [Measure; 4] = [
    Measure { title: "Requests per second on one connection", file: "requests", of: |s| &s.rr },
    Measure { title: "New connections per second", file: "connections", of: |s| &s.crr },
    Measure { title: "Throughput of one connection", file: "throughput", of: |s| &s.stream },
    Measure { title: "CPU time per request (less is better)", file: "cpu", of: |s| &s.rr_cpu_ns },
];

/// Measures and writes the report.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    setup::ensure(&workspace, For::Test)?;
    build_ebpf::build(&workspace)?;
    println!("bench: building and measuring; nothing else should run on this machine now");
    let mut bench = workspace.cargo();
    bench
        .args(["bench", "--quiet", "--locked", "--package", "weft-dataplane", "--bench", "dataplane", "--"])
        .args(["--rounds", &args.rounds.to_string()])
        .args(["--milliseconds", &args.milliseconds.to_string()])
        .args(["--services", &args.services])
        .env("WEFT_EBPF_OBJECT", workspace.ebpf_object());
    let said = output(&mut bench).context("the bench did not come to its end")?;
    let line = said.lines().find(|line| line.starts_with('{')).context("the bench printed no samples")?;
    let run: Run = serde_json::from_str(line).context("the samples are not understood")?;
    let report = report(&run)?;
    print!("{report}");
    if args.dry_run || run.rounds < ROUNDS_MIN {
        println!("bench: nothing is written: a report wants {ROUNDS_MIN} rounds");
        return Ok(());
    }
    report::write(&workspace.root, Section::Paths, &report, &plots(&run)?)
}

fn plots(run: &Run) -> Result<Vec<(String, String)>> {
    let mut plots = Vec::new();
    for measure in &MEASURES {
        for crosses in [false, true] {
            plots.push((plot_name(measure, crosses), plot_of(run, measure, crosses)?));
        }
    }
    Ok(plots)
}

fn plot_name(measure: &Measure, crosses: bool) -> String {
    format!("dataplane-{}-{}.svg", if crosses { "across" } else { "same" }, measure.file)
}

/// What the paths of one or of two machines are compared with.
fn base(run: &Run, crosses: bool) -> Result<&Samples> {
    let name = if crosses { "kernel VXLAN" } else { "D0: kernel routing" };
    run.paths.iter().find(|path| path.path == name).with_context(|| format!("no samples of {name}"))
}

fn label(path: &Samples) -> String {
    match path.services {
        0 => path.path.clone(),
        1 => format!("{}, 1 Service", path.path),
        count => format!("{}, {count} Services", path.path),
    }
}

fn plot_of(run: &Run, measure: &Measure, crosses: bool) -> Result<String> {
    let base = base(run, crosses)?;
    let bars: Vec<Bar> = run
        .paths
        .iter()
        .filter(|path| path.crosses == crosses)
        .filter_map(|path| {
            let value = Spread::of_ratios((measure.of)(path), (measure.of)(base))?;
            Some(Bar { label: label(path), value })
        })
        .collect();
    Ok(plot::bars(&format!("{}, × {}", measure.title, base.path), &bars))
}

fn report(run: &Run) -> Result<String> {
    for path in &run.paths {
        if let Some(failure) = path.failures.first() {
            bail!("{} failed {} times: {failure}", label(path), path.failures.len());
        }
    }
    let mut text = format!(
        "## Paths\n\n\
         Written by `cargo xtask bench dataplane`. Ratios are taken round by round, between paths of the same round; a cell is the \
         median of {} rounds of {} ms, with the quartiles.\n\n{}\n\
         Both ends of a request run on one CPU, so that the path is measured and not the distance of two CPUs; a stream has a CPU \
         for each end. The target is the last Service. iptables and nftables hold what kube-proxy would write for as many.\n",
        run.rounds,
        run.milliseconds,
        machine::describe()
    );
    for crosses in [false, true] {
        let base = base(run, crosses)?;
        let title = if crosses { "Across nodes" } else { "On one node" };
        let _ = write!(
            text,
            "\n### {title}\n\n× {}: {}\n\n| path | requests | connections | throughput | CPU per request |\n\
             | --- | ---: | ---: | ---: | ---: |\n",
            base.path,
            absolute(base)
        );
        for path in run.paths.iter().filter(|path| path.crosses == crosses) {
            let cells: Vec<String> = MEASURES
                .iter()
                .map(|measure| {
                    Spread::of_ratios((measure.of)(path), (measure.of)(base))
                        .map_or_else(|| "–".to_owned(), |spread| spread.to_string())
                })
                .collect();
            let _ = writeln!(text, "| {} | {} |", label(path), cells.join(" | "));
        }
        let _ = writeln!(text);
        for measure in &MEASURES {
            let _ = writeln!(text, "![{}]({})", measure.title, plot_name(measure, crosses));
        }
    }
    text += &wanted(run)?;
    Ok(text)
}

/// What 1.00 is in plain numbers.
fn absolute(base: &Samples) -> String {
    let median = |values: &[f64]| Spread::of(values).map_or(f64::NAN, |spread| spread.median);
    format!(
        "{:.0} requests/s, {:.0} connections/s, {:.1} Gbit/s, {:.1} µs of CPU a request",
        median(&base.rr),
        median(&base.crr),
        median(&base.stream) * 8e-9,
        median(&base.rr_cpu_ns) / 1e3
    )
}

/// The ratios that the design promises, each from pairs of the same round.
fn wanted(run: &Run) -> Result<String> {
    let most = run.paths.iter().map(|path| path.services).max().unwrap_or(0);
    let find = |name: &str, crosses: bool, services: u32| {
        run.paths
            .iter()
            .find(|path| path.path == name && path.crosses == crosses && path.services == services)
            .with_context(|| format!("no samples of {name}"))
    };
    let (d0, d1) = (find("D0: kernel routing", false, 0)?, find("D1: Weft, no Service", false, 0)?);
    let mut rows = vec![("same node, requests: D1 / D0".to_owned(), Spread::of_ratios(&d1.rr, &d0.rr), 1.05)];
    for name in ["ClusterIP, socket path", "ClusterIP, per-packet path"] {
        let path = find(name, false, most)?;
        let iptables = find("iptables", false, most)?;
        rows.push((format!("requests: {} / D1", label(path)), Spread::of_ratios(&path.rr, &d1.rr), 0.97));
        rows.push((
            format!("connections: {} / D0", label(path)),
            Spread::of_ratios(&path.crr, &d0.crr),
            0.95,
        ));
        rows.push((
            format!("connections: {} / iptables", label(path)),
            Spread::of_ratios(&path.crr, &iptables.crr),
            1.4,
        ));
    }
    if let (Ok(far), Ok(vxlan)) = (find("D1: Weft, no Service", true, 0), find("kernel VXLAN", true, 0)) {
        rows.push((
            "across nodes, requests: D1 / the kernel's VXLAN".to_owned(),
            Spread::of_ratios(&far.rr, &vxlan.rr),
            1.0,
        ));
    }
    let mut text =
        "\n### What is promised\n\n| ratio | measured | promised |\n| --- | ---: | ---: |\n".to_owned();
    for (name, measured, promised) in rows {
        let measured = measured.map_or_else(|| "–".to_owned(), |spread| spread.to_string());
        let _ = writeln!(text, "| {name} | {measured} | {promised:.2} |");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(path: &str, crosses: bool, services: u32, factor: f64) -> Samples {
        let of = |unit: f64| vec![unit * factor, 2.0 * unit * factor];
        Samples {
            path: path.into(),
            crosses,
            services,
            failures: Vec::new(),
            rr: of(10.0),
            rr_cpu_ns: of(100.0),
            crr: of(5.0),
            stream: of(1e9),
        }
    }

    fn run() -> Run {
        let paths = vec![
            samples("D0: kernel routing", false, 0, 1.0),
            samples("D1: Weft, no Service", false, 0, 1.1),
            samples("iptables", false, 7, 0.5),
            samples("ClusterIP, socket path", false, 7, 1.0),
            samples("ClusterIP, per-packet path", false, 7, 0.9),
            samples("kernel VXLAN", true, 0, 0.5),
        ];
        Run { rounds: 2, milliseconds: 1, paths }
    }

    #[test]
    fn the_report_has_every_path_and_every_promise() {
        let text = report(&run()).unwrap();
        for line in [
            "| D1: Weft, no Service | 1.10 (1.10–1.10) |",
            "| same node, requests: D1 / D0 | 1.10 (1.10–1.10) | 1.05 |",
            "| connections: ClusterIP, per-packet path, 7 Services / iptables | 1.80 (1.80–1.80) | 1.40 |",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn a_path_that_failed_makes_no_report() {
        let mut run = run();
        run.paths[2].failures.push("reset".into());
        assert!(report(&run).unwrap_err().to_string().contains("iptables, 7 Services failed 1 times: reset"));
    }
}
