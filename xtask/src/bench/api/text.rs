//! The section of the report: figures of all rounds, and beside them what is promised.

use std::fmt::Write;

use crate::bench::api::load::{List, Requests, Watched};
use crate::bench::api::{LISTED, NAMESPACES, PAGE, Run, UPDATES_PER_SECOND, WATCHES, WRITERS};
use crate::bench::machine;
use crate::bench::samples::Spread;

/// What is promised of the embedded store.
const CREATES_MIN: f64 = 5_000.0;
const GETS_MIN: f64 = 20_000.0;
const WATCH_P99_MS_MAX: f64 = 50.0;
const IDLE_MB_MAX: f64 = 40.0;
const FILLED_MB_MAX: f64 = 150.0;

/// What is promised on etcd: creates to its own puts.
const RATIO_MIN: f64 = 0.6;

/// The section.
pub(super) fn of(run: &Run, file_system: &str, on_etcd: bool) -> String {
    let syncs = spread(&run.syncs, |syncs| syncs.per_second);
    let syncs_p99 = spread(&run.syncs, |syncs| syncs.p99_ms);
    let mut text = format!(
        "## {}\n\n\
         Written by `cargo xtask bench api`. One release build of `weft-control` and the load beside it on this one machine, TLS with \
         the administrator's certificate on loopback; every write is answered after the disk's sync, and before each round \
         what is still to be written goes to the disk. A cell is the median of {} \
         rounds with the quartiles; CPU is the server's unless it says otherwise, user and system.\n\n{}\
         - {file_system}; of blocks of 4 kB one after the other it syncs {} a second, 99 of 100 within {} ms\n",
        if on_etcd { "etcd" } else { "The server's own store" },
        run.syncs.len(),
        machine::describe(),
        whole(syncs),
        two(syncs_p99),
    );
    text += &creates(run);
    text += &puts(run);
    text += &reads(run);
    text += &watches(run);
    text += &memory(run);
    if !on_etcd {
        text += &promises(run);
    }
    text
}

fn creates(run: &Run) -> String {
    let mut text = "\n### Creates\n\nConfigMaps with 1 kB of data, HTTP/2, one request at a time on each connection.\n\n\
         | connections | creates a second | p50, ms | p99, ms | CPU of one, µs | load's CPU of one, µs |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for (connections, samples) in &run.creates {
        let _ = writeln!(text, "| {connections} | {} |", requests(samples));
    }
    text
}

/// etcd itself in the same run, if it was asked.
fn puts(run: &Run) -> String {
    let Some(stored) = run.stored else { return String::new() };
    let mut text = format!(
        "\n### etcd's own puts\n\nBy gRPC without TLS, one at a time on each connection, into the same etcd right behind the creates; keys \
         of {} bytes and values of {}, as of a stored object. CPU is etcd's.\n\n\
         | connections | puts a second | p50, ms | p99, ms | CPU of one, µs | load's CPU of one, µs | creates to puts |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        stored.key, stored.value
    );
    let mut most = None;
    for ((connections, puts), (_, creates)) in run.puts.iter().zip(&run.creates) {
        let pairs: Vec<_> = creates.iter().zip(puts).collect();
        let ratio = spread(&pairs, |(create, put)| create.per_second / put.per_second);
        let _ = writeln!(text, "| {connections} | {} | {} |", requests(puts), two(ratio));
        most = ratio;
    }
    let _ = writeln!(
        text,
        "\nPromised are creates of at least {RATIO_MIN} of etcd's own puts; with the most connections it is {}.",
        two(most)
    );
    text
}

fn reads(run: &Run) -> String {
    let mut text = format!(
        "\n### Reads\n\nGETs of one of {LISTED} ConfigMaps with 1 kB of data, at random.\n\n\
         | HTTP | connections | at once on each | GETs a second | p50, ms | p99, ms | CPU of one, µs | load's CPU of one, µs |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for (reads, samples) in &run.gets {
        let http = if reads.http == "1" { "1.1" } else { reads.http };
        let _ =
            writeln!(text, "| {http} | {} | {} | {} |", reads.connections, reads.streams, requests(samples));
    }
    let _ = write!(text, "\nA list of all {LISTED}:\n\n| | ms | MB |\n| --- | ---: | ---: |\n");
    for (page, samples) in &run.lists {
        let how = if *page == 0 { "in one answer".to_owned() } else { format!("in pages of {PAGE}") };
        let ms: Vec<f64> = samples.iter().flat_map(|list: &List| list.ms.iter().copied()).collect();
        let megabytes = spread(samples, |list| list.bytes as f64 / 1e6);
        let _ = writeln!(text, "| {how} | {} | {:.1} |", one(Spread::of(&ms)), median(megabytes));
    }
    text
}

fn watches(run: &Run) -> String {
    let mut text = format!(
        "\n### Watches\n\n{WATCHES} watches of one namespace's ConfigMaps, HTTP/2, and {UPDATES_PER_SECOND} updates a second of small \
         ones. The time is from an update's sending until a watch has its event, the update's own sync in it.\n\n\
         | connections | updates a second | update, p99, ms | events a second | MB/s | p50, ms | p99, ms | most, ms | missed | \
         server's CPUs | load's CPUs |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for (connections, samples) in &run.watches {
        let of = |of: fn(&Watched) -> f64| spread(samples, of);
        let missed: u64 = samples.iter().map(|watched| watched.missed).sum();
        let _ = writeln!(
            text,
            "| {connections} | {} | {} | {} | {} | {} | {} | {} | {missed} | {} | {} |",
            whole(of(|w| w.updates_per_second)),
            one(of(|w| w.update_p99_ms)),
            whole(of(|w| w.events as f64 / w.seconds)),
            whole(of(|w| w.bytes as f64 / w.seconds / 1e6)),
            one(of(|w| w.p50_ms)),
            one(of(|w| w.p99_ms)),
            one(of(|w| w.most_ms)),
            two(of(|w| w.server_cpu_seconds / w.seconds)),
            two(of(|w| w.load_cpu_seconds / w.seconds)),
        );
    }
    text
}

fn memory(run: &Run) -> String {
    let mut text =
        "\n### Memory\n\n| the server | RSS, MB | of it its own, not the program's file, MB |\n| --- | ---: | ---: |\n"
            .to_owned();
    let objects = LISTED as usize * NAMESPACES.len();
    for (when, memory) in [
        ("idle, after its start".to_owned(), run.memory.idle),
        (format!("with {objects} ConfigMaps of 1 kB"), run.memory.filled),
        ("after all reads and watches".to_owned(), run.memory.loaded),
    ] {
        let _ = writeln!(text, "| {when} | {:.0} | {:.0} |", mega(memory.all), mega(memory.anonymous));
    }
    text
}

fn promises(run: &Run) -> String {
    let most = WRITERS.iter().max().copied().unwrap_or_default();
    let creates = run.creates.iter().find(|(connections, _)| *connections == most);
    let creates = creates.and_then(|(_, samples)| spread(samples, |requests| requests.per_second));
    let gets = run.gets.iter().filter_map(|(_, samples)| spread(samples, |requests| requests.per_second));
    let gets = gets.max_by(|one, other| one.median.total_cmp(&other.median));
    let objects = LISTED as usize * NAMESPACES.len();
    let mut text = "\n### What is promised\n\n| | measured | promised |\n| --- | ---: | ---: |\n".to_owned();
    let _ =
        writeln!(text, "| creates a second, {most} connections | {} | {CREATES_MIN:.0} |", whole(creates));
    let _ = writeln!(text, "| GETs a second | {} | {GETS_MIN:.0} |", whole(gets));
    for (connections, samples) in &run.watches {
        let p99 = spread(samples, |watched| watched.p99_ms);
        let _ = writeln!(
            text,
            "| {WATCHES} watches on {connections} connections, p99 | {} ms | below {WATCH_P99_MS_MAX:.0} ms |",
            one(p99)
        );
    }
    let _ =
        writeln!(text, "| idle memory | {:.0} MB | below {IDLE_MB_MAX:.0} MB |", mega(run.memory.idle.all));
    let _ = writeln!(
        text,
        "| memory with {objects} ConfigMaps | {:.0} MB | below {FILLED_MB_MAX:.0} MB |",
        mega(run.memory.filled.all)
    );
    text
}

/// The five cells of requests.
fn requests(samples: &[Requests]) -> String {
    format!(
        "{} | {} | {} | {} | {}",
        whole(spread(samples, |requests| requests.per_second)),
        two(spread(samples, |requests| requests.p50_ms)),
        two(spread(samples, |requests| requests.p99_ms)),
        whole(spread(samples, |requests| requests.server_cpu_seconds / requests.requests as f64 * 1e6)),
        whole(spread(samples, |requests| requests.load_cpu_seconds / requests.requests as f64 * 1e6)),
    )
}

fn spread<T>(samples: &[T], of: impl Fn(&T) -> f64) -> Option<Spread> {
    let values: Vec<f64> = samples.iter().map(of).collect();
    Spread::of(&values)
}

fn median(spread: Option<Spread>) -> f64 {
    spread.map_or(f64::NAN, |spread| spread.median)
}

fn whole(spread: Option<Spread>) -> String {
    rounded(spread, 0)
}

fn one(spread: Option<Spread>) -> String {
    rounded(spread, 1)
}

fn two(spread: Option<Spread>) -> String {
    rounded(spread, 2)
}

fn rounded(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |s| format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", s.median, s.low, s.high),
    )
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::api::disk::Syncs;
    use crate::bench::api::etcd::Stored;
    use crate::bench::api::{Footprint, READS};
    use crate::bench::memory::Memory;

    fn run() -> Run {
        let requests = |per_second: f64| Requests {
            requests: 10_000,
            per_second,
            p50_ms: 1.0,
            p99_ms: 9.5,
            server_cpu_seconds: 1.5,
            load_cpu_seconds: 1.0,
        };
        let watched = Watched {
            updates_per_second: 499.6,
            update_p99_ms: 4.0,
            events: 5_000_000,
            bytes: 2_000_000_000,
            p50_ms: 8.0,
            p99_ms: 30.25,
            most_ms: 60.0,
            missed: 0,
            repeated: 0,
            ended: 0,
            seconds: 10.0,
            server_cpu_seconds: 11.0,
            load_cpu_seconds: 8.0,
        };
        let memory = |megabytes: u64| Memory { all: megabytes * 1_000_000, anonymous: 1_000_000 };
        Run {
            syncs: vec![Syncs { per_second: 1_000.0, p99_ms: 2.0 }; 3],
            creates: WRITERS.map(|n| (n, vec![requests(n as f64 * 100.0); 3])).into(),
            puts: WRITERS.map(|n| (n, Vec::new())).into(),
            stored: None,
            gets: READS.map(|r| (r, vec![requests(r.connections as f64 * 1_000.0); 3])).into(),
            lists: vec![(0, vec![List { ms: vec![40.0, 50.0], bytes: 14_000_000 }]), (PAGE, Vec::new())],
            watches: vec![(10, vec![watched.clone(); 3]), (WATCHES, vec![watched; 3])],
            memory: Footprint { idle: memory(30), filled: memory(120), loaded: memory(200) },
        }
    }

    #[test]
    fn the_section_has_every_figure_and_every_promise() {
        let text = of(&run(), "ext4", false);
        for line in [
            "- ext4; of blocks of 4 kB one after the other it syncs 1000 (1000–1000) a second",
            "| 64 | 6400 (6400–6400) | 1.00 (1.00–1.00) | 9.50 (9.50–9.50) | 150 (150–150) | 100 (100–100) |",
            "| 1.1 | 64 | 1 | 64000 (64000–64000) |",
            "| in one answer | 45.0 (42.5–47.5) | 14.0 |",
            "| 1000 | 500 (500–500) | 4.0 (4.0–4.0) | 500000 (500000–500000) | 200 (200–200) |",
            "| creates a second, 64 connections | 6400 (6400–6400) | 5000 |",
            "| GETs a second | 64000 (64000–64000) | 20000 |",
            "| 1000 watches on 10 connections, p99 | 30.2 (30.2–30.2) ms | below 50 ms |",
            "| idle memory | 30 MB | below 40 MB |",
            "| memory with 20000 ConfigMaps | 120 MB | below 150 MB |",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn another_store_has_other_promises() {
        let text = of(&run(), "ext4", true);
        assert!(text.starts_with("## etcd\n") && !text.contains("What is promised"));
        assert!(!text.contains("own puts"), "nobody asked etcd itself");
    }

    #[test]
    fn creates_are_held_against_etcd_s_puts_of_the_same_round() {
        let mut run = run();
        run.stored = Some(Stored { key: 60, value: 1234 });
        // By round: half, all and twice of the creates.
        for ((_, puts), (_, creates)) in run.puts.iter_mut().zip(&run.creates) {
            let rated = |(create, times): (&Requests, f64)| Requests {
                per_second: create.per_second * times,
                ..create.clone()
            };
            *puts = creates.iter().zip([0.5, 1.0, 2.0]).map(rated).collect();
        }
        let text = of(&run, "ext4", true);
        for line in [
            "keys of 60 bytes and values of 1234",
            "| 64 | 6400 (4800–9600) |",
            "| 1.00 (0.75–1.50) |",
            "at least 0.6 of etcd's own puts; with the most connections it is 1.00 (0.75–1.50).",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    }
}
