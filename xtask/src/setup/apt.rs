//! Packages of Debian and Ubuntu: installed without questions, and where Debian 12 keeps the newer compiler.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{output, run as run_command};

const SECURITY_LIST: &str = "/etc/apt/sources.list.d/weft-bookworm-security.list";
const SECURITY_LINE: &str = "deb http://deb.debian.org/debian-security bookworm-security main";
/// The oldest compiler whose libraries the eBPF crates build with: 1.95.
const RUSTC_MINOR_MIN: u32 = 95;

/// Installs, after bringing the lists up to date.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let mut names: Vec<&str> = packages.iter().flat_map(|names| names.split(' ')).collect();
    names.sort_unstable();
    names.dedup();
    require_root(&names)?;
    println!("setup: apt-get update");
    update()?;
    println!("setup: apt-get install {}", names.join(" "));
    let mut apt = quiet("install");
    // What went wrong comes on the other stream.
    apt.args(["--yes", "--no-install-recommends"]).args(&names).stdout(Stdio::null());
    run_command(&mut apt).context("apt could not install what is missing")
}

/// Whether apt has a `rustc-web` that is new enough; on Debian 12 the security archive is added where it is missing.
pub(crate) fn offers_rustc_web() -> Result<bool> {
    require_root(&["rustc-web", "rust-web-src"])?;
    if is_new_enough(&candidate("rustc-web")?) {
        return Ok(true);
    }
    update()?;
    if is_new_enough(&candidate("rustc-web")?) {
        return Ok(true);
    }
    if !super::is_debian_12() || Path::new(SECURITY_LIST).exists() {
        return Ok(false);
    }
    println!(
        "setup: rustc-web is in bookworm-security, which no apt source names; {SECURITY_LIST} gets the line\n  {SECURITY_LINE}"
    );
    fs::write(SECURITY_LIST, format!("{SECURITY_LINE}\n")).with_context(|| {
        format!("{SECURITY_LIST} cannot be written; add the line yourself: {SECURITY_LINE}")
    })?;
    println!("setup: apt-get update");
    update()?;
    Ok(is_new_enough(&candidate("rustc-web")?))
}

fn update() -> Result<()> {
    // One unreachable foreign archive does not stop the ones that are needed.
    if run_command(&mut quiet("update")).is_err() {
        println!("setup: apt-get update complained; going on with the lists that are there");
    }
    Ok(())
}

fn quiet(verb: &str) -> Command {
    let mut apt = Command::new("apt-get");
    apt.arg("-qq").arg(verb).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    apt.args(["-o", "Dpkg::Use-Pty=0"]);
    apt
}

fn require_root(names: &[&str]) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "installing needs root; type\n  sudo apt-get install {}\nand run the same command again",
        names.join(" ")
    )
}

/// The version that apt would install, or nothing.
fn candidate(package: &str) -> Result<String> {
    let text = output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"))?;
    Ok(candidate_of(&text).unwrap_or_default().to_owned())
}

fn candidate_of(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then_some(version)
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.');
    parts.next() == Some("1")
        && parts
            .next()
            .and_then(|minor| minor.parse::<u32>().ok())
            .is_some_and(|minor| minor >= RUSTC_MINOR_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_apt_would_install() {
        let policy =
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(candidate_of(policy), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(candidate_of("x:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate_of(""), None);
    }

    #[test]
    fn knows_which_compilers_are_new_enough() {
        assert!(is_new_enough("1.96.0+dfsg1-1~deb12u2"));
        assert!(!is_new_enough("1.85.0+dfsg3-1~deb12u3"));
        assert!(!is_new_enough(""));
    }
}
