//! `bench programming`: a cluster of three nodes, Services by the thousand, and how long a change takes from the API into the
//! last kernel's tables; then an agent that starts empty. Writes its section of the report.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::Value;

use crate::bench::machine;
use crate::bench::memory::{self, Memory};
use crate::bench::plot::{self, Bar, Line};
use crate::bench::report::{self, Section};
use crate::bench::samples::{Spread, percentile};
use crate::command::{output, run as run_command, wait_for};
use crate::setup;
use crate::up::daemons;
use crate::up::machine::{Cluster, Machine, Record};
use crate::workspace::Workspace;

const NODES: u8 = 3;
/// The node whose agent is started empty.
const EMPTIED: Machine = Machine::Node(NODES);
const CHANGE_MS_MAX: f64 = 20.0;
const EMPTY_SECONDS_MAX: f64 = 1.5;
const RSS_MB_MAX: f64 = 60.0;
/// Fewer samples have no 99th percentile.
const SAMPLES_MIN: usize = 200;
const GONE_MAX: Duration = Duration::from_secs(30);
/// What an agent has after its start to give memory back.
const REST: Duration = Duration::from_secs(3);

/// Settings of `bench programming`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Numbers of Services, each with ten endpoints, rising
    #[arg(long, default_value = "1000,10000", value_delimiter = ',')]
    services: Vec<usize>,
    /// Changes that are measured at each
    #[arg(long, default_value_t = 500)]
    samples: usize,
    /// How often an agent is started empty
    #[arg(long, default_value_t = 7)]
    starts: usize,
    /// Take the programs as they were built last
    #[arg(long)]
    no_build: bool,
    /// Write no report, only print it
    #[arg(long)]
    dry_run: bool,
    /// The cluster's name
    #[arg(long, default_value = "bench")]
    name: String,
}

/// Changes at one number of Services, milliseconds each.
#[derive(Debug, Deserialize)]
struct Changes {
    services: usize,
    first_ms: Vec<f64>,
    last_ms: Vec<f64>,
}

/// What filling the cluster took.
#[derive(Debug, Deserialize)]
struct Filled {
    objects: usize,
    seconds: f64,
}

/// When an empty agent's tables were there, on the clock of all processes.
#[derive(Debug, Deserialize)]
struct Steps {
    tables_ns: u64,
    first_ns: u64,
    all_ns: u64,
    map_bytes: u64,
}

/// One start of an empty agent.
#[derive(Clone, Copy, Debug)]
struct Start {
    tables_s: f64,
    first_s: f64,
    all_s: f64,
    rss: Memory,
    map_bytes: u64,
}

/// All that was measured.
#[derive(Debug)]
struct Run {
    filled: Filled,
    changes: Vec<Changes>,
    starts: Vec<Start>,
}

/// A cluster that is removed when this goes.
struct Up {
    workspace: Workspace,
    cluster: Cluster,
    bench: PathBuf,
}

/// Measures and writes the section.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.services.is_sorted() && args.services.first().is_some_and(|count| *count > 16),
        "rising numbers above 16"
    );
    ensure!(args.starts > 0 && args.samples > 0, "at least one start and one sample");
    let workspace = Workspace::find()?;
    let bench = build(&workspace)?;
    let up = Up::new(workspace, args, bench)?;
    let run = measure(&up, args)?;
    let text = text(&run)?;
    print!("{text}");
    if args.dry_run || args.samples < SAMPLES_MIN {
        println!("bench: nothing is written: a report wants {SAMPLES_MIN} samples");
        return Ok(());
    }
    report::write(&up.workspace.root, Section::Programming, &text, &[plot(&run)])
}

/// Builds the bench and gives its path: it is started many times.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["bench", "--quiet", "--locked", "--package", "weft-dataplane", "--bench", "programming"]);
    let said =
        output(cargo.args(["--no-run", "--message-format", "json"])).context("the bench does not build")?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path = messages
        .filter(|message| message["target"]["name"] == "programming")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    path.context("cargo names no bench")
}

impl Up {
    fn new(workspace: Workspace, args: &Args, bench: PathBuf) -> Result<Self> {
        let cluster = Cluster::new(&workspace, &args.name)?;
        let up = Self { workspace, cluster, bench };
        let mut command = up.xtask("up")?;
        command.args(["--no-demo", "--release", "--nodes", &NODES.to_string()]);
        if args.no_build {
            command.arg("--no-build");
        }
        run_command(&mut command)?;
        up.write_credentials()?;
        Ok(up)
    }

    fn xtask(&self, what: &str) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([what, "--name", &self.cluster.name]);
        Ok(command)
    }

    fn record(&self) -> Result<Record> {
        self.cluster.record().context("the cluster has no record")
    }

    fn credentials(&self) -> PathBuf {
        self.cluster.dir.join("bench")
    }

    /// The administrator's certificate, as files that the bench reads.
    fn write_credentials(&self) -> Result<()> {
        let kubectl =
            setup::any_kubectl(&self.workspace).context("there is no kubectl: run `cargo xtask setup`")?;
        let mut command = Command::new(kubectl);
        command
            .args(["config", "view", "--raw", "-o", "json", "--kubeconfig"])
            .arg(self.cluster.kubeconfig());
        let config: Value = serde_json::from_str(&output(&mut command)?)?;
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        fs::create_dir_all(self.credentials())?;
        for (name, data) in [
            ("ca.pem", &cluster["certificate-authority-data"]),
            ("certificate.pem", &user["client-certificate-data"]),
            ("key.pem", &user["client-key-data"]),
        ] {
            let data = data.as_str().with_context(|| format!("the kubeconfig has no {name}"))?;
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(self.credentials().join(name))?;
            file.write_all(&STANDARD.decode(data)?)?;
        }
        Ok(())
    }

    fn bench(&self, what: &str, machines: &[Machine], flags: &[(&str, usize)]) -> Result<Command> {
        let tables: Vec<String> =
            machines.iter().map(|machine| self.cluster.bpffs(*machine).display().to_string()).collect();
        let mut command = Command::new(&self.bench);
        command.args([what, "--tables", &tables.join(",")]);
        command.args(["--api", &format!("127.0.0.1:{}", self.record()?.api_port)]);
        command.arg("--credentials").arg(self.credentials());
        for (name, value) in flags {
            command.args([*name, &value.to_string()]);
        }
        Ok(command)
    }

    /// Ends an agent, takes its tables and its view of the cluster away, and starts it again.
    fn start_empty(&self, services: usize) -> Result<Start> {
        let mut record = self.record()?;
        let what = EMPTIED.to_string();
        let place =
            record.processes.iter().position(|process| process.what == what).context("no such agent")?;
        let old = record.processes.remove(place);
        old.signal(Signal::SIGKILL);
        wait_for("the agent to end", GONE_MAX, 10, || Ok((!old.is_alive()).then_some(())))?;
        remove_if_there(fs::remove_dir_all(self.cluster.bpffs(EMPTIED)))?;
        remove_if_there(fs::remove_file(self.cluster.data_dir(EMPTIED).join("view")))?;
        let mut bench = self.bench("wait", &[EMPTIED], &[("--services", services)])?;
        let mut bench = bench.stdout(Stdio::piped()).spawn().context("the bench cannot be started")?;
        let mut said = BufReader::new(bench.stdout.take().context("no output")?);
        let mut ready = String::new();
        said.read_line(&mut ready)?;
        let began = now_ns()?;
        let process = daemons::start_again(&self.cluster, &record, EMPTIED)?;
        record.processes.push(process.clone());
        self.cluster.write_record(&record)?;
        let mut text = String::new();
        said.read_to_string(&mut text)?;
        ensure!(
            bench.wait()?.success(),
            "the bench of an empty agent failed; {}",
            self.cluster.log(EMPTIED).display()
        );
        let steps: Steps = serde_json::from_str(&text).context("the samples are not understood")?;
        thread::sleep(REST);
        let after = |ns: u64| ns.saturating_sub(began) as f64 / 1e9;
        Ok(Start {
            tables_s: after(steps.tables_ns),
            first_s: after(steps.first_ns),
            all_s: after(steps.all_ns),
            rss: memory::of(process.pid)?,
            map_bytes: steps.map_bytes,
        })
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Err(error) = self.xtask("down").and_then(|mut command| run_command(&mut command)) {
            eprintln!("bench: the cluster is left behind: {error:#}");
        }
    }
}

fn measure(up: &Up, args: &Args) -> Result<Run> {
    let machines: Vec<Machine> = (1..=NODES).map(Machine::Node).collect();
    let mut filled = Filled { objects: 0, seconds: 0.0 };
    let (mut changes, mut there) = (Vec::new(), 0);
    for (number, services) in args.services.iter().copied().enumerate() {
        println!("bench: {services} Services");
        let said = output(&mut up.bench("fill", &[], &[("--from", there), ("--to", services)])?)?;
        let part: Filled = serde_json::from_str(&said)?;
        filled.objects += part.objects;
        filled.seconds += part.seconds;
        there = services;
        let flags = [("--services", services), ("--samples", args.samples), ("--run", number)];
        changes.push(serde_json::from_str(&output(&mut up.bench("change", &machines, &flags)?)?)?);
    }
    let mut starts = Vec::new();
    for number in 1..=args.starts {
        println!("bench: an empty agent, {number} of {}", args.starts);
        starts.push(up.start_empty(there)?);
    }
    Ok(Run { filled, changes, starts })
}

fn remove_if_there(done: std::io::Result<()>) -> Result<()> {
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn now_ns() -> Result<u64> {
    Ok(u64::try_from(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos())?)
}

fn text(run: &Run) -> Result<String> {
    let most = run.changes.last().context("no samples")?;
    let mut text = format!(
        "## Programming\n\n\
         Written by `cargo xtask bench programming`. A control plane and {NODES} agents on this one machine, Services with ten endpoints \
         each ({} objects written in {:.1} s). One endpoint of one Service gets another address by a PATCH of its EndpointSlice; the \
         time is from the request's last byte until the pinned tables of the last kernel lead from the Service to the new \
         address, looked at every 100 µs. {} changes at each number of Services.\n\n{}\n\
         | Services | first kernel, p50 | last kernel, p50 | last kernel, p99 | at most |\n\
         | ---: | ---: | ---: | ---: | ---: |\n",
        run.filled.objects,
        run.filled.seconds,
        most.last_ms.len(),
        machine::describe()
    );
    for changes in &run.changes {
        let of = |values: &[f64], part: f64| percentile(values, part).unwrap_or(f64::NAN);
        let _ = writeln!(
            text,
            "| {} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms |",
            changes.services,
            of(&changes.first_ms, 0.5),
            of(&changes.last_ms, 0.5),
            of(&changes.last_ms, 0.99),
            of(&changes.last_ms, 1.0)
        );
    }
    let spread = |of: fn(&Start) -> f64| {
        let values: Vec<f64> = run.starts.iter().map(of).collect();
        Spread::of(&values).map_or_else(|| "–".to_owned(), |spread| spread.to_string())
    };
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let _ = write!(
        text,
        "\n![From the API to the last kernel](programming.svg)\n\n### An agent that starts empty\n\n\
         Its tables and its view of the cluster are taken away; {} Services come from the control plane. Seconds since the process \
         began, {} starts, median with quartiles.\n\n| | |\n| --- | ---: |\n\
         | tables there | {} |\n| first Service | {} |\n| all Services | {} |\n",
        most.services,
        run.starts.len(),
        spread(|start| start.tables_s),
        spread(|start| start.first_s),
        spread(|start| start.all_s),
    );
    let last = run.starts.last().context("no starts")?;
    let _ = write!(
        text,
        "| the agent's memory then (RSS) | {:.0} MB |\n| of it its own, not the program's file | {:.0} MB |\n\
         | kernel memory of the tables | {:.0} MB |\n\n\
         ### What is promised\n\n| | measured | at most |\n| --- | ---: | ---: |\n",
        megabytes(last.rss.all),
        megabytes(last.rss.anonymous),
        megabytes(last.map_bytes),
    );
    let p99 = percentile(&most.last_ms, 0.99).unwrap_or(f64::NAN);
    let _ = write!(
        text,
        "| change to the last kernel at {} Services, p99 | {p99:.1} ms | {CHANGE_MS_MAX:.0} ms |\n\
         | empty agent holds all | {} s | {EMPTY_SECONDS_MAX} s |\n| agent's memory | {:.0} MB | {RSS_MB_MAX:.0} MB |\n",
        most.services,
        spread(|start| start.all_s),
        megabytes(last.rss.all)
    );
    Ok(text)
}

fn plot(run: &Run) -> (String, String) {
    let bar = |changes: &Changes, name: &str, low: f64, median: f64, high: f64| {
        let of = |part| percentile(&changes.last_ms, part).unwrap_or(0.0);
        let value = Spread { median: of(median), low: of(low), high: of(high) };
        Bar { label: format!("{} Services, {name}", changes.services), value }
    };
    let bars: Vec<Bar> = run
        .changes
        .iter()
        .flat_map(|c| [bar(c, "median", 0.25, 0.5, 0.75), bar(c, "99 of 100", 0.99, 0.99, 1.0)])
        .collect();
    let title = "ms from the API to the last of three kernels; the line is what 99 of 100 may take";
    ("programming.svg".to_owned(), plot::bars_to(title, &bars, Line { at: CHANGE_MS_MAX, decimals: 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let changes = |services, ms: f64| Changes {
            services,
            first_ms: vec![ms, ms],
            last_ms: vec![ms + 1.0, ms + 3.0],
        };
        let rss = Memory { all: 40_000_000, anonymous: 20_000_000 };
        let start = Start { tables_s: 0.5, first_s: 0.8, all_s: 1.0, rss, map_bytes: 60_000_000 };
        Run {
            filled: Filled { objects: 2_000, seconds: 2.0 },
            changes: vec![changes(1_000, 2.0), changes(10_000, 4.0)],
            starts: vec![start, start],
        }
    }

    #[test]
    fn the_section_has_percentiles_steps_and_promises() {
        let text = text(&run()).unwrap();
        for line in [
            "| 1000 | 2.0 ms | 4.0 ms | 5.0 ms | 5.0 ms |",
            "| all Services | 1.00 (1.00–1.00) |",
            "| change to the last kernel at 10000 Services, p99 | 7.0 ms | 20 ms |",
            "| agent's memory | 40 MB | 60 MB |",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
        assert_eq!(plot(&run()).1.matches("<rect").count(), 4);
    }
}
