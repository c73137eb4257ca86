//! `up`: a cluster on this machine, every node a machine of its own to all that looks at it.
//!
//! A machine is a network namespace with an uplink on a shared underlay, a cgroup subtree, a data directory and a
//! directory of pins. The daemons are the ones a real machine runs; only the API's socket is special: it listens on
//! 127.0.0.1 of this machine and is handed to `weft-control`, which runs in a namespace.

pub(crate) mod cgroup;
pub(crate) mod cleanup;
pub(crate) mod daemons;
pub(crate) mod machine;
pub(crate) mod namespace;
pub(crate) mod process;
mod ready;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::build_ebpf;
use crate::command::run as run_command;
use crate::image;
use crate::setup::{self, For};
use crate::up::machine::{
    Cluster, DEFAULT_NAME, Family, Machine, NODES_MAX, Record, choose_subnet, subnets_beside,
};
use crate::workspace::Workspace;

const DEMO: &str = include_str!("up/demo.yaml");
/// The programs that a cluster consists of, and agentctl.
pub(crate) const PACKAGES: [&str; 3] = ["weft-control", "weft-agent", "agentctl"];

/// Settings of `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(NODES_MAX)))]
    nodes: u8,
    /// The cluster's name; everything of it begins with it
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// Take the programs as they were built last, and look for nothing that may be missing
    #[arg(long)]
    no_build: bool,
    /// Build and run optimized programs
    #[arg(long)]
    release: bool,
    /// Start the cluster without the demo workload
    #[arg(long)]
    no_demo: bool,
    /// IP families of Pods, Services and machines, the first the one that Services have by default: IPv4, IPv4,IPv6 or
    /// IPv6,IPv4 (the tunnel between the machines is IPv4)
    #[arg(long, value_delimiter = ',', default_value = "IPv4,IPv6", value_name = "FAMILIES")]
    families: Vec<Family>,
    /// Flag for every weft-agent, repeatable: --agent-arg=--socket-lb=false
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    agent_arg: Vec<String>,
    /// Flag for weft-control, repeatable
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    control_arg: Vec<String>,
}

/// Everything `up` needs to know while it works.
pub(crate) struct Plan {
    pub(crate) workspace: Workspace,
    pub(crate) cluster: Cluster,
    pub(crate) record: Record,
    pub(crate) ebpf_object: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) agent_args: Vec<String>,
    pub(crate) control_args: Vec<String>,
    began: Instant,
}

/// Starts a cluster; one of the same name that is left from before goes first.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let cluster = Cluster::new(&workspace, &args.name)?;
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "namespaces, cgroups and eBPF need root; type\n  sudo -E $(which cargo) xtask up{}",
            cluster.flag()
        );
    }
    if !args.no_build {
        setup::ensure(&workspace, For::Run)?;
        build(&workspace, args.release)?;
    }
    let removed = cleanup::remove(&cluster)?;
    if !removed.is_nothing() {
        println!(
            "up: removed what was left of {}: {} processes, {} namespaces",
            cluster.name, removed.processes, removed.namespaces
        );
    }
    let mut plan = plan(args, workspace, cluster)?;
    match start(&mut plan, args) {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(format!(
            "the cluster is not complete; its logs are in {}, and `cargo xtask down{}` removes it",
            plan.cluster.dir.join("log").display(),
            plan.cluster.flag()
        ))),
    }
}

/// Builds the programs, the eBPF object and the demo image.
pub(crate) fn build(workspace: &Workspace, release: bool) -> Result<()> {
    println!("up: building");
    build_ebpf::build(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--quiet", "--locked"]);
    if release {
        cargo.arg("--release");
    }
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    run_command(&mut cargo).context("the programs do not build")?;
    build_image(workspace)
}

/// The same together with all tests. Dependencies get the features that all packages want at once: building the programs by
/// themselves would compile most of them twice.
pub(crate) fn build_with_tests(workspace: &Workspace) -> Result<()> {
    println!("up: building, with the tests");
    build_ebpf::build(workspace)?;
    run_command(workspace.cargo().args(["build", "--quiet", "--locked", "--all-targets"]))
        .context("the workspace does not build")?;
    build_image(workspace)
}

fn build_image(workspace: &Workspace) -> Result<()> {
    let demo = image::build_demo(workspace)?;
    image::write(&image::archive_path(workspace), image::NAME, &demo)
}

/// Checks what was asked for: each family once, and IPv4 among them.
fn families(asked: &[Family]) -> Result<Vec<Family>> {
    match asked {
        [Family::Ipv4] | [Family::Ipv4, Family::Ipv6] | [Family::Ipv6, Family::Ipv4] => Ok(asked.to_vec()),
        _ => bail!("--families is IPv4, IPv4,IPv6 or IPv6,IPv4: the tunnel between the machines is IPv4"),
    }
}

fn plan(args: &Args, workspace: Workspace, cluster: Cluster) -> Result<Plan> {
    let bin_dir = workspace.bin_dir(args.release);
    let (ebpf_object, image) = (workspace.ebpf_object(), image::archive_path(&workspace));
    let demo = image::demo_path(&workspace);
    let programs = PACKAGES.map(|program| bin_dir.join(program));
    for file in programs.iter().chain([&ebpf_object, &image, &demo]) {
        if !file.is_file() {
            bail!("{} is not built: leave --no-build out once", file.display());
        }
    }
    let record = Record {
        name: cluster.name.clone(),
        nodes: args.nodes,
        families: families(&args.families)?,
        subnet: choose_subnet(&cluster.name, &subnets_beside(&workspace, &cluster)),
        api_port: 0,
        bin_dir,
        demo,
        processes: Vec::new(),
        commands: BTreeMap::new(),
    };
    Ok(Plan {
        workspace,
        cluster,
        record,
        ebpf_object,
        image,
        agent_args: args.agent_arg.clone(),
        control_args: args.control_arg.clone(),
        began: Instant::now(),
    })
}

impl Plan {
    /// One line of progress, with the seconds since the machines began.
    pub(crate) fn say(&self, what: &str) {
        println!("up: {:5.1} s  {what}", self.began.elapsed().as_secs_f32());
    }
}

fn start(plan: &mut Plan, args: &Args) -> Result<()> {
    fs::create_dir_all(plan.cluster.dir.join("log"))?;
    fs::set_permissions(&plan.cluster.dir, fs::Permissions::from_mode(0o700))?;
    // The record comes before what it tells of, so that `down` finds all of it whenever this is stopped.
    plan.cluster.write_record(&plan.record)?;
    cleanup::mount_bpffs()?;
    namespace::build(&plan.cluster, &plan.record)?;
    let networks = plan.record.families.iter().map(|family| plan.record.network(*family));
    let networks = networks.collect::<Vec<_>>().join(" and ");
    plan.say(&format!("{} machines on {networks}", plan.record.machines().len()));
    daemons::start_control(plan)?;
    plan.say(&format!("control plane on https://127.0.0.1:{}", plan.record.api_port));
    daemons::start_agents(plan)?;
    plan.say(&format!("{} agents started", plan.record.nodes));
    let kubectl = ready::Kubectl::of(plan)?;
    kubectl.wait_for_nodes(plan)?;
    if !args.no_demo {
        daemons::load_image(plan)?;
        plan.say(&format!("image {} loaded on every node", image::NAME));
        let manifest = plan.cluster.dir.join("demo.yaml");
        fs::write(&manifest, DEMO)?;
        kubectl.apply(&manifest)?;
        kubectl.wait_for_deployment(plan, "web")?;
    }
    println!("{}", farewell(plan, !args.no_demo));
    Ok(())
}

/// What a newcomer would type next.
fn farewell(plan: &Plan, demo: bool) -> String {
    let (cluster, record) = (&plan.cluster, &plan.record);
    let (dir, flag) = (cluster.dir.file_name().unwrap_or_default().to_string_lossy(), cluster.flag());
    let node = record.address(Machine::Node(1));
    let mut text = format!(
        "\nThe cluster `{}` is up: {} nodes. Next:\n\n  \
         export KUBECONFIG=$PWD/{dir}/kubeconfig\n  kubectl get nodes,pods,services -A -o wide\n",
        cluster.name, record.nodes
    );
    if demo {
        text += &format!(
            "  kubectl exec deploy/web -- weft-demo get http://web/ --count 200 --summary     # a Pod asks the Service\n  \
             cargo xtask exec{flag} client -- weft-demo get http://{node}:30080/ --count 20 --summary  # the outside asks a node\n"
        );
    }
    text += &format!(
        "  cargo xtask exec{flag} node-1 -- agentctl trace --follow                       # which way does it go?\n  \
         cargo xtask down{flag}\n"
    );
    if crate::workspace::which("kubectl").is_none()
        && let Some(kubectl) = setup::any_kubectl(&plan.workspace)
    {
        text += &format!("\nkubectl is in {}\n", kubectl.display());
    }
    text
}

/// How long one step may take before `up` gives up.
pub(crate) const STEP_MAX: Duration = Duration::from_secs(120);
