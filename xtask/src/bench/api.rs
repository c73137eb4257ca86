//! `bench api`: a release build of the API server on this machine's disk, loaded by `weft-load` beside it. Writes its section of
//! the report.

mod disk;
mod etcd;
mod load;
mod server;
mod text;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::bench::memory::Memory;
use crate::bench::report::{self, Section};
use crate::command::run as run_command;
use crate::workspace::Workspace;

use self::disk::Syncs;
use self::etcd::{Etcd, Stored};
use self::load::{List, Load, Requests, Watched};
use self::server::{Programs, Server};

/// Fewer rounds have no spread.
const ROUNDS_MIN: u32 = 3;
/// Connections that create at once.
const WRITERS: [usize; 3] = [1, 16, 64];
/// Objects of the list and of the reads, in a namespace of their own.
const LISTED: u32 = 10_000;
/// Namespaces of as many objects, for the memory of them all.
const NAMESPACES: [&str; 2] = ["bench-one", "bench-two"];
/// Objects of a page.
const PAGE: u32 = 500;
const WATCHES: usize = 1_000;
const UPDATES_PER_SECOND: u32 = 500;
/// What a server has to give memory back and to end its own work.
const REST: Duration = Duration::from_secs(5);

/// Settings of `bench api`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds that count
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Time of one measurement of requests, s
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Time of updates under watches, s
    #[arg(long, default_value_t = 10)]
    watch_seconds: u32,
    /// Directory on the disk that is to be measured [default: bench-api in cargo's target directory]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Another store than the server's own: what `weft-control serve --store` is told
    #[arg(long)]
    store: Option<String>,
    /// On an etcd of its own on the same disk, and that etcd's own puts beside the creates
    #[arg(long, conflicts_with = "store")]
    etcd: bool,
    /// Take the programs as they were built last
    #[arg(long)]
    no_build: bool,
    /// Write no report, only print it
    #[arg(long)]
    dry_run: bool,
}

/// All that was measured.
#[derive(Debug, Default)]
struct Run {
    /// The disk's syncs, a round each.
    syncs: Vec<Syncs>,
    /// By the number of connections, each a round.
    creates: Vec<(usize, Vec<Requests>)>,
    /// Into etcd itself, with the same numbers of connections, each right behind the creates.
    puts: Vec<(usize, Vec<Requests>)>,
    /// What a put is as large as.
    stored: Option<Stored>,
    /// By how they were asked for.
    gets: Vec<(Reads, Vec<Requests>)>,
    /// In one answer, and in pages.
    lists: Vec<(u32, Vec<List>)>,
    /// By the number of connections.
    watches: Vec<(usize, Vec<Watched>)>,
    memory: Footprint,
}

/// How objects are read.
#[derive(Clone, Copy, Debug)]
struct Reads {
    http: &'static str,
    connections: usize,
    streams: usize,
}

const READS: [Reads; 3] = [
    Reads { http: "2", connections: 4, streams: 16 },
    Reads { http: "2", connections: 64, streams: 1 },
    Reads { http: "1", connections: 64, streams: 1 },
];
/// Connections that the watches share: as the nodes of a cluster would, and one each.
const WATCH_CONNECTIONS: [usize; 2] = [10, WATCHES];

/// The server's memory at three times.
#[derive(Clone, Copy, Debug, Default)]
struct Footprint {
    /// After its start.
    idle: Memory,
    /// With all objects of all namespaces.
    filled: Memory,
    /// After all reads, lists and watches.
    loaded: Memory,
}

/// Measures and writes the section.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.rounds > 0 && args.seconds > 0 && args.watch_seconds > 0,
        "at least one round of one second"
    );
    let workspace = Workspace::find()?;
    let dir = args.data_dir.clone().unwrap_or_else(|| workspace.target.join("bench-api"));
    let disk = disk::prepare(&dir)?;
    if !args.no_build {
        build(&workspace)?;
    }
    // The server inherits it: a thousand connections are more descriptors than a shell hands out.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut programs = Programs { bin_dir: workspace.bin_dir(true), dir, store: args.store.clone() };
    println!("bench: measuring; nothing else should run on this machine now");
    let run = measure(&mut programs, args)?;
    let on_etcd = args.etcd || args.store.is_some();
    let text = text::of(&run, &disk, on_etcd);
    print!("{text}");
    if args.dry_run || args.rounds < ROUNDS_MIN {
        println!("bench: nothing is written: a report wants {ROUNDS_MIN} rounds");
        return Ok(());
    }
    let section = if on_etcd { Section::Etcd } else { Section::Embedded };
    report::write(&workspace.root, section, &text, &[])
}

/// An empty etcd that servers are started on from now on, where one is wanted.
fn own_etcd(programs: &mut Programs, args: &Args) -> Result<Option<Etcd>> {
    if !args.etcd {
        return Ok(None);
    }
    let etcd = Etcd::start(programs)?;
    programs.store = Some(etcd.store());
    Ok(Some(etcd))
}

/// Each by itself, so that the server is the one that is shipped and has no feature that only the load wants.
fn build(workspace: &Workspace) -> Result<()> {
    for package in ["weft-control", "weft-load"] {
        println!("bench: building {package}");
        let arguments = ["build", "--quiet", "--locked", "--release", "--package", package];
        run_command(workspace.cargo().args(arguments))
            .with_context(|| format!("{package} does not build"))?;
    }
    Ok(())
}

fn measure(programs: &mut Programs, args: &Args) -> Result<Run> {
    let mut run = Run {
        creates: WRITERS.map(|connections| (connections, Vec::new())).into(),
        puts: WRITERS.map(|connections| (connections, Vec::new())).into(),
        gets: READS.map(|reads| (reads, Vec::new())).into(),
        lists: [0, PAGE].map(|page| (page, Vec::new())).into(),
        watches: WATCH_CONNECTIONS.map(|connections| (connections, Vec::new())).into(),
        ..Run::default()
    };
    for round in 1..=args.rounds {
        println!("bench: creates, round {round} of {}", args.rounds);
        disk::settle();
        run.syncs.push(disk::syncs(&programs.dir)?);
        // A store of its own: a round does not pay for the objects of the one before.
        let etcd = own_etcd(programs, args)?;
        let server = Server::start(programs)?;
        for ((connections, creates), (_, puts)) in run.creates.iter_mut().zip(&mut run.puts) {
            creates.push(Load::new(&server).create(*connections, args.seconds)?);
            if let Some(etcd) = &etcd {
                let stored = etcd.stored(&load::created(*connections))?;
                run.stored = Some(stored);
                puts.push(load::put(programs, etcd, stored, *connections, args.seconds)?);
            }
        }
        // Before the etcd below it.
        drop(server);
    }
    let _etcd = own_etcd(programs, args)?;
    let server = Server::start(programs)?;
    thread::sleep(REST);
    run.memory.idle = server.memory()?;
    for namespace in NAMESPACES {
        Load::new(&server).fill(namespace, LISTED)?;
    }
    thread::sleep(REST);
    run.memory.filled = server.memory()?;
    for round in 1..=args.rounds {
        println!("bench: reads and watches, round {round} of {}", args.rounds);
        disk::settle();
        for (reads, samples) in &mut run.gets {
            samples.push(Load::new(&server).get(reads, NAMESPACES[0], LISTED, args.seconds)?);
        }
        for (page, samples) in &mut run.lists {
            samples.push(Load::new(&server).list(NAMESPACES[0], LISTED, *page)?);
        }
        for (connections, samples) in &mut run.watches {
            samples.push(Load::new(&server).watch(
                WATCHES,
                *connections,
                UPDATES_PER_SECOND,
                args.watch_seconds,
            )?);
        }
    }
    thread::sleep(REST);
    run.memory.loaded = server.memory()?;
    Ok(run)
}
