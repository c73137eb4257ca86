//! What the binary is told to do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::RawConfig;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "weft-control", version, about = "The control plane of a Weft cluster")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API, run the control loops, keep the nodes' sessions
    Serve(Box<RawConfig>),
    /// Write all that a running server stores into a file
    Backup(BackupArgs),
    /// Put a backup into a new store, before a server is started on it; settings as for `serve`
    Restore(Box<RestoreArgs>),
    /// Join tokens for new nodes
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
}

/// What can be done with join tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a join token and print it
    Create(TokenCreate),
}

/// Settings of `token create`.
#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// Data directory of the control plane on this machine
    #[arg(long, env = "WEFT_DATA_DIR", default_value = "/var/lib/weft/control")]
    pub(crate) data_dir: PathBuf,
    /// Kubeconfig to talk to the server with [default: DATA_DIR/admin.kubeconfig]
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How long the token can be used: 90s, 15m, 24h
    #[arg(long, default_value = "24h")]
    pub(crate) ttl: String,
}

/// Settings of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write; it holds every Secret and must not be there yet
    pub(crate) file: PathBuf,
    /// Data directory of the control plane on this machine
    #[arg(long, env = "WEFT_DATA_DIR", default_value = "/var/lib/weft/control")]
    data_dir: PathBuf,
    /// Kubeconfig to talk to the server with [default: DATA_DIR/admin.kubeconfig]
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

impl BackupArgs {
    /// The kubeconfig to talk to the server with.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone().unwrap_or_else(|| self.data_dir.join("admin.kubeconfig"))
    }
}

/// Settings of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) serve: RawConfig,
}
