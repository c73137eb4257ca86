//! `build-ebpf`: the eBPF object, with whichever compiler here can build it.
//!
//! The programs need `core` built from source for `bpfel-unknown-none`. Two compilers can: Debian's `rustc-web` with
//! `rust-web-src`, and a nightly of rustup with `rust-src`. The object lands in `target/bpf/weft-bpf`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{output, run as run_command};
use crate::workspace::{Workspace, path_with_cargo_bin, which};

const PACKAGE: &str = "weft-dataplane-ebpf";
const PROGRAM: &str = "weft-bpf";
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// Settings of `build-ebpf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say which compiler would be used and stop
    #[arg(long)]
    which: bool,
    /// Build the object with the programs that `bench packet` wants besides, under a name of its own
    #[arg(long)]
    bench: bool,
    /// Build the object with another layout of the tables, which the tests upgrade to, under a name of its own
    #[arg(long, conflicts_with = "bench")]
    other_layout: bool,
}

/// Name of the object with another layout of the tables.
pub(crate) const OTHER_LAYOUT: &str = "weft-bpf-other";

/// Which object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    /// What agents load.
    Agent,
    /// The same and the programs of the bench of single packets.
    Bench,
    /// What the agents of another build would load: longer rows under another layout number.
    OtherLayout,
}

/// A compiler that can build `core` for the kernel's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// Path of `rustc`.
    pub(crate) rustc: PathBuf,
    /// What it is, for people.
    pub(crate) what: String,
}

/// Builds, and says with what.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    if args.which {
        println!("{}", find_compiler()?.what);
        return Ok(());
    }
    let object = match args {
        Args { bench: true, .. } => build_bench(&workspace)?,
        Args { other_layout: true, .. } => build_other_layout(&workspace)?,
        _ => build(&workspace)?,
    };
    println!("eBPF object: {} ({} bytes)", object.display(), object.metadata()?.len());
    Ok(())
}

/// Builds the object and gives its path.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    build_object(workspace, Object::Agent)
}

/// Builds the object for `bench packet` and gives its path.
pub(crate) fn build_bench(workspace: &Workspace) -> Result<PathBuf> {
    build_object(workspace, Object::Bench)
}

/// Builds the object that the tests upgrade to and gives its path.
pub(crate) fn build_other_layout(workspace: &Workspace) -> Result<PathBuf> {
    build_object(workspace, Object::OtherLayout)
}

fn build_object(workspace: &Workspace, which_object: Object) -> Result<PathBuf> {
    let compiler = find_compiler()?;
    if which("bpf-linker").is_none() {
        bail!(
            "bpf-linker is missing: `cargo xtask setup` installs it, or type\n  \
             cargo install bpf-linker --version {} --locked",
            crate::setup::BPF_LINKER_VERSION
        );
    }
    println!("eBPF compiler: {}", compiler.what);
    let target_dir = workspace.target.join("bpf-build");
    let arch = std::env::consts::ARCH;
    let target = if cfg!(target_endian = "little") { "bpfel-unknown-none" } else { "bpfeb-unknown-none" };
    let flags =
        format!("-C linker=bpf-linker -C link-arg=--btf -C debuginfo=2 --cfg=bpf_target_arch=\"{arch}\"");
    let mut cargo = workspace.cargo();
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--package", PACKAGE, "--bin", PROGRAM])
        .args(["-Z", "build-std=core", "--target", target, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", flags)
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_LTO", "true")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("PATH", path_with_cargo_bin())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    match which_object {
        Object::Agent => {}
        Object::Bench => {
            cargo.args(["--features", "bench"]);
        }
        Object::OtherLayout => {
            cargo.args(["--features", "other-layout"]);
        }
    }
    run_command(&mut cargo).context("the eBPF programs do not build")?;
    let built = target_dir.join(target).join("release").join(PROGRAM);
    let object = match which_object {
        Object::Agent => workspace.ebpf_object(),
        Object::Bench => workspace.ebpf_object().with_file_name("weft-bpf-bench"),
        Object::OtherLayout => workspace.ebpf_object().with_file_name(OTHER_LAYOUT),
    };
    install(&built, &object)?;
    Ok(object)
}

/// Puts the object where it is looked for, in one step; an unchanged one keeps its time stamp.
fn install(built: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("{} was not built", built.display()))?;
    if fs::read(object).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let dir = object.parent().context("the object has no directory")?;
    fs::create_dir_all(dir)?;
    let fresh = object.with_extension(format!("new-{}", std::process::id()));
    fs::write(&fresh, &bytes)?;
    fs::rename(&fresh, object).with_context(|| format!("{} cannot be written", object.display()))
}

/// The first usable compiler: Debian's, then a nightly of rustup.
pub(crate) fn find_compiler() -> Result<Compiler> {
    let mut unfit = Vec::new();
    match debian_compiler() {
        Ok(compiler) => return Ok(compiler),
        Err(why) => unfit.push(why),
    }
    match nightly_compiler() {
        Ok(compiler) => return Ok(compiler),
        Err(why) => unfit.push(why),
    }
    bail!(no_compiler(&unfit));
}

/// Why there is none, and what to type.
fn no_compiler(unfit: &[String]) -> String {
    format!(
        "no compiler here can build the eBPF programs: {}\ninstall one of the two:\n  \
         apt-get install rustc-web rust-web-src          (Debian 12 with bookworm-security; `cargo xtask setup` does it)\n  \
         rustup toolchain install nightly --component rust-src   (any Linux)",
        unfit.join("; ")
    )
}

fn debian_compiler() -> Result<Compiler, String> {
    debian_compiler_at(PathBuf::from(SYSTEM_RUSTC))
}

fn debian_compiler_at(rustc: PathBuf) -> Result<Compiler, String> {
    if !rustc.is_file() {
        return Err(format!("there is no {}", rustc.display()));
    }
    if !has_core_source(&rustc) {
        return Err(format!("{SYSTEM_RUSTC} comes without its source (package rust-web-src)"));
    }
    let version = version(&rustc)?;
    if minor_of(&version).is_none_or(|minor| minor < 95) {
        return Err(format!("{SYSTEM_RUSTC} is {version}, older than 1.95"));
    }
    Ok(Compiler { what: format!("{SYSTEM_RUSTC}, {version}"), rustc })
}

fn nightly_compiler() -> Result<Compiler, String> {
    let listed = output(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))
        .map_err(|_| "rustup has no nightly toolchain".to_owned())?;
    let rustc = PathBuf::from(listed.trim()).join("bin/rustc");
    if !has_core_source(&rustc) {
        return Err("the nightly toolchain comes without rust-src".to_owned());
    }
    let version = version(&rustc)?;
    Ok(Compiler { what: format!("nightly of rustup, {version}"), rustc })
}

fn has_core_source(rustc: &Path) -> bool {
    output(Command::new(rustc).args(["--print", "sysroot"])).is_ok_and(|root| {
        Path::new(root.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
    })
}

fn version(rustc: &Path) -> Result<String, String> {
    let text = output(Command::new(rustc).arg("--version")).map_err(|error| format!("{error:#}"))?;
    Ok(text.trim().trim_start_matches("rustc ").to_owned())
}

/// `96` of `1.96.0 (…)`.
fn minor_of(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        assert_eq!(minor_of("1.96.0 (ac68faa20 2026-05-25)"), Some(96));
        assert_eq!(minor_of("1.63.0"), Some(63));
        assert_eq!(minor_of("nonsense"), None);
    }

    #[test]
    fn without_a_compiler_it_says_why_and_what_to_type() {
        let why = debian_compiler_at("/no/such/rustc".into()).err().unwrap();
        let said = no_compiler(&[why, "rustup has no nightly toolchain".into()]);
        for words in [
            "there is no /no/such/rustc; rustup has no nightly toolchain",
            "apt-get install rustc-web rust-web-src",
            "rustup toolchain install nightly --component rust-src",
        ] {
            assert!(said.contains(words), "no {words:?} in {said}");
        }
    }

    #[test]
    fn an_unchanged_object_keeps_its_time() {
        let dir = std::env::temp_dir().join(format!("weft-xtask-object-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (built, object) = (dir.join("built"), dir.join("bpf/object"));
        fs::write(&built, b"one").unwrap();
        install(&built, &object).unwrap();
        let first = object.metadata().unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        install(&built, &object).unwrap();
        assert_eq!(object.metadata().unwrap().modified().unwrap(), first);
        fs::write(&built, b"two").unwrap();
        install(&built, &object).unwrap();
        assert_eq!(fs::read(&object).unwrap(), b"two");
        fs::remove_dir_all(&dir).unwrap();
    }
}
