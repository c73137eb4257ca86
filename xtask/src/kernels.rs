//! `kernels`: the tests that want another kernel, on it: Debian's 6.1, in a virtual machine without hardware's help.
//!
//! Nothing is installed but qemu. The kernel comes from the distribution's archive into the target directory, and the guest's
//! root directory is this machine's, with a layer of memory above it: what the guest writes is gone when it ends.

pub(crate) mod fetch;
mod guest;
pub(crate) mod initramfs;
mod programs;

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::image;
use crate::setup;
use crate::up;
use crate::workspace::Workspace;

/// What the guest is started for, in this order.
const STEPS: &[Step] = &[
    Step { name: "programs are verified", test: "packet_load", only: &[] },
    Step { name: "packets meet every station", test: "packet_walk", only: &[] },
    Step { name: "packets of IPv6", test: "packet_six", only: &[] },
    Step { name: "packets of SCTP", test: "packet_sctp", only: &[] },
    Step { name: "answers that refuse", test: "packet_refuse", only: &[] },
    Step { name: "the table of flows", test: "packet_table", only: &[] },
    Step { name: "when flows are over", test: "packet_expiry", only: &[] },
    Step { name: "what comes from outside", test: "packet_outward", only: &[] },
    Step { name: "backends that answer past the asked node", test: "packet_direct", only: &[] },
    Step { name: "who is chosen", test: "packet_choice", only: &[] },
    Step { name: "what is counted", test: "packet_counts", only: &[] },
    Step { name: "walks that leave no trace", test: "packet_dry", only: &[] },
    Step { name: "what a driver carries", test: "packet_xdp", only: &[] },
    Step { name: "past the tunnel's device", test: "packet_tunnel", only: &[] },
    Step { name: "what does not fit into the tunnel", test: "packet_too_large", only: &[] },
    Step { name: "between neighbours", test: "packet_native", only: &[] },
    Step {
        name: "clusters carry traffic",
        test: "cluster",
        only: &[
            "traffic::a_cluster_address_reaches_every_backend_on_both_paths",
            "traffic::a_node_port_answers_on_every_machine",
            "traffic::pods_reach_pods_here_and_there_with_their_own_addresses",
            "traffic::a_restart_of_the_agent_breaks_no_connection",
            "tunnel::connections_and_datagrams_pass_the_device_by",
            "clsact::classifiers_of_others_run_and_stay_when_the_node_is_removed",
            "xdp::connections_outlive_a_restart_and_the_switch_and_nothing_stays_behind",
        ],
    },
    Step { name: "WireGuard in the kernel", test: "wireguard", only: &[] },
    Step {
        name: "nodes encrypt",
        test: "cluster",
        only: &[
            "cipher::a_rotation_under_traffic_loses_nothing",
            "cipher::everything_arrives_and_nothing_of_it_can_be_read",
            "cipher::nothing_is_taken_in_clear_whatever_its_sender_says",
        ],
    },
];
/// The steps after those of [`STEPS`].
const POD: &str = "a Pod runs with cgroup v2 alone";
const ENCRYPT: &str = "agents have the kernel encrypt";

/// One thing to see on the other kernel: tests of one test program.
struct Step {
    name: &'static str,
    /// The test program.
    test: &'static str,
    /// Names of the tests that run; all if there are none.
    only: &'static [&'static str],
}

/// Settings of `kernels`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the steps whose name contains this
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
    /// Take the programs as they were built last
    #[arg(long)]
    no_build: bool,
    /// How long the guest may run, minutes
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..))]
    limit_minutes: u64,
    /// Memory of the guest, MiB
    #[arg(long, default_value_t = 6_144, value_parser = clap::value_parser!(u32).range(2_048..))]
    memory_mib: u32,
}

/// Boots the kernel, runs the steps in it, and says how each ended.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let dir = workspace.target.join("kernels");
    let wanted = |name: &str| args.only.as_ref().is_none_or(|words| name.contains(words.as_str()));
    fetch::tools()?;
    let kernel = fetch::kernel(&dir)?;
    println!("kernels: Linux {}", kernel.release);
    if !args.no_build {
        up::build_with_tests(&workspace)?;
    }
    let mut steps = Vec::new();
    for step in STEPS.iter().filter(|step| wanted(step.name)) {
        steps.push((step.name, guest::test(&programs::find(&workspace, step.test)?, step.only)));
    }
    if wanted(POD) {
        steps.push((POD, guest::pod(&workspace.bin_dir(false).join("xtask"))));
    }
    if wanted(ENCRYPT) {
        steps.push((ENCRYPT, guest::encrypt(&workspace.bin_dir(false).join("xtask"))));
    }
    if steps.is_empty() {
        bail!("no step's name contains {:?}", args.only.as_deref().unwrap_or_default());
    }
    let script = dir.join("guest.sh");
    let kubectl =
        setup::any_kubectl(&workspace).context("there is no kubectl: `cargo xtask setup` brings one")?;
    let settings = [
        ("WEFT_KUBECTL", kubectl),
        ("WEFT_EBPF_OBJECT", workspace.ebpf_object()),
        ("WEFT_DEMO_IMAGE", image::archive_path(&workspace)),
        ("CARGO_TARGET_DIR", workspace.target.clone()),
    ];
    std::fs::write(&script, guest::script(&workspace.root, &settings, &steps))
        .with_context(|| format!("{} cannot be written", script.display()))?;
    let initramfs = initramfs::write(&dir, &kernel, &script, &[])?;
    let began = Instant::now();
    let ended = guest::run(&kernel.image, &initramfs, args.memory_mib, args.limit_minutes)?;
    let names: Vec<&str> = steps.iter().map(|(name, _)| *name).collect();
    report(&names, &ended, began.elapsed().as_secs())
}

/// Says how every step ended; one that did not end has failed.
fn report(steps: &[&str], ended: &guest::Ended, seconds: u64) -> Result<()> {
    let mut failed = 0;
    for name in steps {
        let word = match ended.steps.get(*name) {
            Some(0) => "ok".to_owned(),
            Some(status) => format!("FAILED with {status}"),
            None => "FAILED: it did not end".to_owned(),
        };
        failed += usize::from(word != "ok");
        println!("kernels: {name}: {word}");
    }
    if failed > 0 {
        bail!("{failed} of {} steps failed on this kernel, after {seconds} s{}", steps.len(), ended.why);
    }
    println!("kernels: {} steps passed in {seconds} s", steps.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_program_of_single_packets_is_left_out() {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/dataplane/tests");
        let files = std::fs::read_dir(tests).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut there: Vec<String> =
            names.filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned())).collect();
        there.retain(|name| name.starts_with("packet_"));
        assert!(there.len() > 10, "{there:?}");
        there.retain(|name| !STEPS.iter().any(|step| step.test == name && step.only.is_empty()));
        assert!(there.is_empty(), "{there:?}");
    }

    #[test]
    fn a_step_that_did_not_end_has_failed() {
        let mut ended = guest::Ended::default();
        ended.steps.insert("one".to_owned(), 0);
        assert!(report(&["one"], &ended, 1).is_ok());
        let error = report(&["one", "two"], &ended, 1).unwrap_err().to_string();
        assert!(error.starts_with("1 of 2 steps failed"), "{error}");
        ended.steps.insert("two".to_owned(), 101);
        assert!(report(&["one", "two"], &ended, 1).is_err());
    }
}
