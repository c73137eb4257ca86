//! The command line.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load for an API server: one line of JSON with what it saw.
#[derive(Debug, Parser)]
#[command(name = "weft-load", version)]
pub(crate) struct Cli {
    /// Where the server is and who we are to it; `put` wants none
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Version of HTTP; client-go speaks the second
    #[arg(long, value_enum, default_value_t = Http::Two)]
    pub(crate) http: Http,
    /// Threads of the load; one costs least beside a server on the same CPUs
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// The server's process, for its CPU time
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

impl Cli {
    pub(crate) fn kubeconfig(&self) -> anyhow::Result<&Path> {
        self.kubeconfig.as_deref().context("--kubeconfig is missing")
    }
}

/// Versions of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Http {
    /// HTTP/1.1
    #[value(name = "1")]
    One,
    /// HTTP/2
    #[value(name = "2")]
    Two,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Waits until the server says it is ready
    Ready(Ready),
    /// Creates ConfigMaps for a time, one request at a time on each connection
    Create(Create),
    /// Puts keys into an etcd for a time, one request at a time on each connection
    Put(Put),
    /// Creates a number of ConfigMaps
    Fill(Fill),
    /// Reads ConfigMaps that `fill` made, at random, for a time
    Get(Get),
    /// Lists all ConfigMaps of a namespace, in one answer or in pages
    List(List),
    /// Watches ConfigMaps many times over while a writer updates them
    Watch(Watch),
}

/// Settings of `ready`.
#[derive(Debug, Args)]
pub(crate) struct Ready {
    /// How long the server may take
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
}

/// Settings of `create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[arg(long)]
    pub(crate) namespace: String,
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Bytes of an object's data
    #[arg(long, default_value_t = 1000)]
    pub(crate) bytes: usize,
    /// First part of the names, another at each run
    #[arg(long, default_value = "created")]
    pub(crate) prefix: String,
}

/// Settings of `put`.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// Its host:port, without TLS
    #[arg(long)]
    pub(crate) etcd: String,
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Bytes of a value
    #[arg(long, default_value_t = 1000)]
    pub(crate) bytes: usize,
    /// What keys begin with; ten digits follow
    #[arg(long)]
    pub(crate) prefix: String,
}

/// Settings of `fill`.
#[derive(Debug, Args)]
pub(crate) struct Fill {
    #[arg(long)]
    pub(crate) namespace: String,
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    /// How many objects
    #[arg(long)]
    pub(crate) objects: u64,
    /// Bytes of an object's data
    #[arg(long, default_value_t = 1000)]
    pub(crate) bytes: usize,
}

/// Settings of `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    #[arg(long)]
    pub(crate) namespace: String,
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// Requests at once on each connection; HTTP/1.1 has one
    #[arg(long, default_value_t = 1)]
    pub(crate) streams: usize,
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// How many objects `fill` made
    #[arg(long)]
    pub(crate) objects: u64,
}

/// Settings of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[arg(long)]
    pub(crate) namespace: String,
    /// Objects of a page; 0: all in one answer
    #[arg(long, default_value_t = 0)]
    pub(crate) page: u64,
    /// How often
    #[arg(long, default_value_t = 5)]
    pub(crate) times: u32,
    /// How many objects there must be at least
    #[arg(long)]
    pub(crate) objects: usize,
}

/// Settings of `watch`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Watch {
    #[arg(long)]
    pub(crate) namespace: String,
    #[arg(long, default_value_t = 1000)]
    pub(crate) watches: usize,
    /// Connections that the watches share evenly
    #[arg(long, default_value_t = 10)]
    pub(crate) connections: usize,
    /// Updates a second
    #[arg(long, default_value_t = 500.0)]
    pub(crate) rate: f64,
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Objects that are updated in turn
    #[arg(long, default_value_t = 500)]
    pub(crate) objects: u64,
}
