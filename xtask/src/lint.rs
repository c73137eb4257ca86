//! `lint`: format, clippy, and the house rules that a machine can check.

mod imports;
mod rules;

use anyhow::{Context, Result, bail};

use crate::command::run as run_command;
use crate::schema;
use crate::workspace::{Workspace, metadata};

/// Settings of `lint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the house rules, which need no compiler
    #[arg(long)]
    rules_only: bool,
}

/// Checks everything and says all that is wrong, not only the first.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let packages = imports::packages(&workspace, &metadata(&workspace.root)?)?;
    let mut wrong = imports::check(&packages);
    wrong.extend(rules::check(&workspace.root, &packages)?);
    wrong.extend(schema::check_table(&workspace.root).err().map(|error| format!("{error:#}")));
    for line in &wrong {
        println!("lint: {line}");
    }
    println!("lint: {} packages, {} house rules broken", packages.len(), wrong.len());
    let mut failed = !wrong.is_empty();
    if !args.rules_only {
        failed |= !step("cargo fmt", workspace.cargo().args(["fmt", "--all", "--check"]));
        // All but the eBPF programs, which need another compiler.
        let clippy = ["clippy", "--quiet", "--locked", "--workspace", "--exclude", "weft-dataplane-ebpf"];
        let strictly = ["--all-targets", "--", "--deny", "warnings"];
        failed |= !step("cargo clippy", workspace.cargo().args(clippy).args(strictly));
    }
    if failed {
        bail!("lint found something");
    }
    println!("lint: clean");
    Ok(())
}

fn step(what: &str, command: &mut std::process::Command) -> bool {
    println!("lint: {what}");
    match run_command(command).with_context(|| what.to_owned()) {
        Ok(()) => true,
        Err(error) => {
            println!("lint: {error:#}");
            false
        }
    }
}
