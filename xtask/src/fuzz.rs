//! `fuzz`: cargo-fuzz on what is fuzzed of the API (`tests/fuzz`), target after target. It wants a nightly compiler and takes as
//! long as it is told to; what is checked in of inputs runs in every run of the tests (`tests/tests/corpus.rs`).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{run as run_command, succeeds};
use crate::workspace::{Workspace, which};

/// The version that is installed where there is none.
const CARGO_FUZZ_VERSION: &str = "0.13.2";
/// Longest input, bytes: as a request's body.
const INPUT_BYTES_MAX: u32 = 3 << 20;
/// How long one input may take, with all that the sanitizer does: what takes longer grows faster than its input.
const INPUT_SECONDS_MAX: u32 = 60;
/// Memory of a target, MiB: a body's own, many times over.
const MEMORY_MIB: u32 = 4_096;

/// Settings of `fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Targets [default: all of them]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

/// Builds and runs the targets; the first input that ends one is kept and named.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let dir = workspace.root.join("tests/fuzz");
    let there = targets(&dir)?;
    if let Some(unknown) = args.targets.iter().find(|target| !there.contains(target)) {
        bail!("there is no target {unknown}; there are {}", there.join(", "));
    }
    tools(&workspace)?;
    let wanted = if args.targets.is_empty() { &there } else { &args.targets };
    for target in wanted {
        one(&workspace, &dir, target, args.seconds)?;
    }
    println!("fuzz: {} targets, {} s each, and nothing was found", wanted.len(), args.seconds);
    Ok(())
}

/// The names of the programs.
fn targets(dir: &Path) -> Result<Vec<String>> {
    let files = fs::read_dir(dir.join("targets")).context("there are no targets")?;
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn tools(workspace: &Workspace) -> Result<()> {
    if which("cargo-fuzz").is_none() {
        println!("fuzz: cargo install cargo-fuzz {CARGO_FUZZ_VERSION}");
        let arguments = ["install", "--quiet", "--locked", "--version", CARGO_FUZZ_VERSION, "cargo-fuzz"];
        run_command(workspace.cargo().args(arguments)).context("cargo-fuzz cannot be installed")?;
    }
    if !succeeds(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])) {
        bail!("cargo-fuzz wants a nightly compiler: rustup toolchain install nightly --profile minimal");
    }
    Ok(())
}

/// New inputs go to the target directory, beside those that are checked in.
fn one(workspace: &Workspace, dir: &Path, target: &str, seconds: u32) -> Result<()> {
    let found = workspace.target.join("fuzz").join(target);
    fs::create_dir_all(&found).with_context(|| format!("{} cannot be made", found.display()))?;
    println!("fuzz: {target} for {seconds} s");
    let mut command = Command::new("rustup");
    command
        .current_dir(&workspace.root)
        .args(["run", "nightly", "cargo", "fuzz", "run", "--fuzz-dir"])
        .arg(dir)
        .args(["--features", "libfuzzer", target])
        .arg(&found)
        .arg(dir.join("corpus").join(target))
        .args(["--", &format!("-max_total_time={seconds}"), &format!("-max_len={INPUT_BYTES_MAX}")])
        .args([format!("-timeout={INPUT_SECONDS_MAX}"), format!("-rss_limit_mb={MEMORY_MIB}")])
        .arg("-print_final_stats=1")
        .env("CARGO_TARGET_DIR", workspace.target.join("fuzz-build"))
        .env("PATH", crate::workspace::path_with_cargo_bin());
    run_command(&mut command).with_context(|| format!("{target} was ended by an input"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_inputs_to_begin_with() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
        let targets = targets(&dir).unwrap();
        assert!(targets.len() > 5, "{targets:?}");
        for target in targets {
            assert!(fs::read_dir(dir.join("corpus").join(&target)).unwrap().count() > 4, "{target}");
        }
    }
}
