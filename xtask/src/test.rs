//! `test`: everything the tests need and then all of them, in one command: unit, kernel and cluster tests.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::build_ebpf;
use crate::command::run as run_command;
use crate::setup::{self, For};
use crate::up::{self, daemons};
use crate::workspace::Workspace;

/// Settings of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Install nothing that is missing
    #[arg(long)]
    no_setup: bool,
    /// Further arguments for `cargo nextest run`, such as a filter
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    nextest: Vec<String>,
}

/// Sets up, builds what the tests start, and runs them.
pub(crate) fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let workspace = Workspace::find()?;
    if !args.no_setup {
        setup::ensure(&workspace, For::Test)?;
    }
    build_other_layout(&workspace)?;
    up::build_with_tests(&workspace)?;
    println!("test: cargo nextest run");
    let mut nextest = nextest(&workspace);
    run_command(nextest.args(&args.nextest)).context("there are tests that do not pass")?;
    println!("test: doc tests");
    run_command(workspace.cargo().args(["test", "--quiet", "--locked", "--doc"]))
        .context("there are doc tests that do not pass")?;
    println!("test: all tests pass, in {} s", began.elapsed().as_secs());
    Ok(())
}

/// What the tests of upgrades upgrade to: programs and agents whose tables have another layout.
fn build_other_layout(workspace: &Workspace) -> Result<()> {
    build_ebpf::build_other_layout(workspace)?;
    // As the tests are built: of all packages at once, so that what they depend on is the same.
    let arguments =
        ["--example", "other-layout", "--bin", "weft-agent", "--features", "weft-dataplane/other-layout"];
    run_command(workspace.cargo().args(["build", "--quiet", "--locked"]).args(arguments))
        .context("the agents of another layout do not build")?;
    // It has the place of the agent that is to be tested, which the next build fills again.
    let bin_dir = workspace.bin_dir(false);
    let (built, kept) = (bin_dir.join("weft-agent"), bin_dir.join(daemons::OTHER_AGENT));
    std::fs::rename(&built, &kept).with_context(|| format!("{} cannot be moved", built.display()))
}

/// nextest with what the kernel and cluster tests want to know.
fn nextest(workspace: &Workspace) -> Command {
    let mut nextest = workspace.cargo();
    nextest
        .args(["nextest", "run", "--locked", "--no-fail-fast", "--config-file"])
        .arg(workspace.root.join("xtask/nextest.toml"))
        .env("WEFT_EBPF_OBJECT", workspace.ebpf_object())
        .env("WEFT_BIN_DIR", workspace.bin_dir(false))
        .env("WEFT_DEMO", crate::image::demo_path(workspace))
        .env("WEFT_DEMO_IMAGE", crate::image::archive_path(workspace))
        // By its path: the build may have put another file in the place of the one that runs.
        .env("WEFT_XTASK", workspace.bin_dir(false).join("xtask"));
    nextest.envs(setup::clients_for_tests(workspace));
    nextest
}
