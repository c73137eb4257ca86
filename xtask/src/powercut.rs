//! `powercut`: the control plane on a machine that loses power: a guest on Debian's 6.1 with a disk of its own, killed again and
//! again. Here is what the guest is made of; what is done to it, and what must hold then, is in `tests/tests/powercut.rs`.

use std::fs;

use anyhow::{Context, Result};

use crate::command::run as run_command;
use crate::kernels::{fetch, initramfs};
use crate::workspace::Workspace;

/// What the guest's kernel wants for a disk with ext4 and for a network, beside what every guest wants.
const MODULES: [&str; 4] = ["virtio_blk", "virtio_net", "crc32c_generic", "ext4"];
const SCRIPT: &str = include_str!("powercut/guest.sh");

/// Settings of `powercut`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often power goes under writers, before the disk is in trouble
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Choices of an earlier run, to make them again [default: others each time]
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds the server and the guest, and runs the test.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    fetch::tools()?;
    let kernel = fetch::kernel(&workspace.target.join("kernels"))?;
    println!("powercut: Linux {}", kernel.release);
    run_command(workspace.cargo().args(["build", "--quiet", "--locked", "--package", "weft-control"]))
        .context("weft-control does not build")?;
    let dir = workspace.target.join("powercut");
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let script = dir.join("guest.sh");
    let server = workspace.bin_dir(false).join("weft-control");
    fs::write(&script, SCRIPT.replace("@SERVER@", &server.display().to_string()))
        .with_context(|| format!("{} cannot be written", script.display()))?;
    let initramfs = initramfs::write(&dir, &kernel, &script, &MODULES)?;
    let mut nextest = workspace.cargo();
    nextest
        .args(["nextest", "run", "--locked", "--package", "weft-tests", "--test", "powercut"])
        .args(["--run-ignored", "only", "--no-capture", "--config-file"])
        .arg(workspace.root.join("xtask/nextest.toml"))
        .env("WEFT_GUEST_KERNEL", &kernel.image)
        .env("WEFT_GUEST_INITRAMFS", &initramfs)
        .env("WEFT_TEST_ROUNDS", args.rounds.to_string());
    if let Some(seed) = args.seed {
        nextest.env("WEFT_TEST_SEED", seed.to_string());
    }
    run_command(&mut nextest).context("the control plane did not bear it")
}
