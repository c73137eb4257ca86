//! `weft-load` at work: its command lines, and what it prints.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bench::api::Reads;
use crate::bench::api::etcd::{Etcd, Stored};
use crate::bench::api::server::{Programs, Server};
use crate::command::output;

/// Requests of one sort.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Requests {
    pub(super) requests: u64,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) server_cpu_seconds: f64,
    pub(super) load_cpu_seconds: f64,
}

/// What names of created objects begin with.
pub(super) fn created(connections: usize) -> String {
    format!("by-{connections}")
}

/// Puts into etcd itself, in keys and values as large as a stored object's.
pub(super) fn put(
    programs: &Programs,
    etcd: &Etcd,
    stored: Stored,
    connections: usize,
    seconds: u32,
) -> Result<Requests> {
    let mut prefix = format!("/puts/by-{connections}/");
    // Ten digits come behind it.
    while prefix.len() + 10 < stored.key {
        prefix.push('k');
    }
    let mut command = Command::new(programs.bin_dir.join("weft-load"));
    command.args(["--server-pid", &etcd.pid().to_string(), "put", "--etcd", &etcd.address]);
    command.args(["--prefix", &prefix, "--bytes", &stored.value.to_string()]);
    command.args(["--connections", &connections.to_string(), "--seconds", &seconds.to_string()]);
    said(&mut command)
}

/// Lists of one sort.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct List {
    pub(super) ms: Vec<f64>,
    pub(super) bytes: u64,
}

/// What watches saw.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Watched {
    pub(super) updates_per_second: f64,
    pub(super) update_p99_ms: f64,
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) most_ms: f64,
    pub(super) missed: u64,
    pub(super) repeated: u64,
    pub(super) ended: u64,
    pub(super) seconds: f64,
    pub(super) server_cpu_seconds: f64,
    pub(super) load_cpu_seconds: f64,
}

/// A load on a server.
pub(super) struct Load<'a> {
    server: &'a Server,
}

impl<'a> Load<'a> {
    pub(super) const fn new(server: &'a Server) -> Self {
        Self { server }
    }

    pub(super) fn create(&self, connections: usize, seconds: u32) -> Result<Requests> {
        let mut command = self.command("2", "create");
        command.args(["--namespace", "bench-create", "--prefix", &created(connections)]);
        command.args(["--connections", &connections.to_string(), "--seconds", &seconds.to_string()]);
        said(&mut command)
    }

    pub(super) fn fill(&self, namespace: &str, objects: u32) -> Result<Requests> {
        let mut command = self.command("2", "fill");
        said(command.args(["--namespace", namespace, "--objects", &objects.to_string()]))
    }

    pub(super) fn get(&self, reads: &Reads, namespace: &str, objects: u32, seconds: u32) -> Result<Requests> {
        let mut command = self.command(reads.http, "get");
        command.args(["--namespace", namespace, "--objects", &objects.to_string()]);
        command.args([
            "--connections",
            &reads.connections.to_string(),
            "--streams",
            &reads.streams.to_string(),
        ]);
        said(command.args(["--seconds", &seconds.to_string()]))
    }

    pub(super) fn list(&self, namespace: &str, objects: u32, page: u32) -> Result<List> {
        let mut command = self.command("2", "list");
        command.args(["--namespace", namespace, "--objects", &objects.to_string()]);
        said(command.args(["--page", &page.to_string()]))
    }

    pub(super) fn watch(
        &self,
        watches: usize,
        connections: usize,
        rate: u32,
        seconds: u32,
    ) -> Result<Watched> {
        let mut command = self.command("2", "watch");
        command.args(["--namespace", "bench-watch", "--watches", &watches.to_string()]);
        command.args(["--connections", &connections.to_string()]);
        command.args(["--rate", &rate.to_string(), "--seconds", &seconds.to_string()]);
        let watched: Watched = said(&mut command)?;
        ensure!(
            watched.missed == 0 && watched.repeated == 0 && watched.ended == 0,
            "watches missed {} events, saw {} again, and {} of them ended",
            watched.missed,
            watched.repeated,
            watched.ended
        );
        Ok(watched)
    }

    fn command(&self, http: &str, mode: &str) -> Command {
        let mut command = Command::new(&self.server.load);
        command.arg("--kubeconfig").arg(&self.server.kubeconfig);
        command.args(["--server-pid", &self.server.pid().to_string(), "--http", http, mode]);
        command
    }
}

fn said<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let text = output(command)?;
    println!("bench: {}", text.trim());
    serde_json::from_str(&text).context("the load's line is not understood")
}
