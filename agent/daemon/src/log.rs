//! Where this program's own lines go.

use std::io::IsTerminal;

/// Text or JSON on standard error; `WEFT_LOG` says how much.
pub(crate) fn to_stderr(json: bool, default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| default.into());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if json { builder.json().init() } else { builder.init() }
}

/// `weft-agent log-writer`.
#[derive(clap::Args)]
pub(crate) struct Writer {
    /// What the shim says
    #[arg(allow_hyphen_values = true)]
    pub(crate) arguments: Vec<std::ffi::OsString>,
}
