//! Starts `weft-control` and the `weft-agent`s of a cluster, each on its machine, and loads the demo image.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::build_ebpf;
use crate::command::{output, wait_for};
use crate::up::machine::{Cluster, Family, Machine, Record};
use crate::up::process::{self, Process};
use crate::up::{Plan, STEP_MAX, namespace};

const API_PORT: u16 = 6443;
const LINK_PORT: u16 = 6444;
const EBPF_OBJECT_FLAG: &str = "--ebpf-object";
/// The agent whose tables have another layout, below the directory of programs.
pub(crate) const OTHER_AGENT: &str = "examples/weft-agent-other";
const PORTS_TRIED_MAX: u16 = 200;
const LOG_LINES_SHOWN_MAX: usize = 12;

/// Starts the control plane and waits until it has written a kubeconfig and answers.
pub(crate) fn start_control(plan: &mut Plan) -> Result<()> {
    let listener = listen()?;
    plan.record.api_port = listener.local_addr()?.port();
    let (cluster, machine) = (&plan.cluster, Machine::Control);
    let address = plan.record.address(machine);
    let data_dir = make_private(cluster.data_dir(machine))?;
    let mut command = Command::new(plan.record.bin_dir.join("weft-control"));
    command.arg("serve").arg("--data-dir").arg(&data_dir);
    command.args(["--link", &format!("{address}:{LINK_PORT}")]);
    for own in plan.record.addresses(machine) {
        command.args([
            "--listen",
            &SocketAddr::new(own, API_PORT).to_string(),
            "--advertise",
            &own.to_string(),
        ]);
    }
    for (flag, range) in [
        ("--service-cidr", Family::services as fn(Family) -> _),
        ("--pod-cidr", Family::pods as fn(Family) -> _),
    ] {
        if !plan.control_args.iter().any(|arg| arg.starts_with(flag)) {
            let ranges: Vec<&str> = plan.record.families.iter().map(|family| range(*family)).collect();
            command.args([flag, &ranges.join(",")]);
        }
    }
    command.args(["--kubeconfig-server", &format!("https://127.0.0.1:{}", plan.record.api_port)]);
    command.args(&plan.control_args);
    let process = process::start(cluster, machine, &command, Some(OwnedFd::from(listener)))
        .map_err(|error| with_log(error, cluster, machine))?;
    plan.record.note(machine, &command, process.clone());
    plan.cluster.write_record(&plan.record)?;
    let token = wait_while_alive("weft-control to answer", &process, || token(plan).map(Some))
        .map_err(|error| with_log(error, &plan.cluster, machine))?;
    write_private(&plan.cluster.dir.join("token"), token.as_bytes())?;
    let kubeconfig = data_dir.join("admin.kubeconfig");
    let text = fs::read(&kubeconfig).with_context(|| format!("{} cannot be read", kubeconfig.display()))?;
    write_private(&plan.cluster.kubeconfig(), &text)
}

/// Starts the daemon of a machine with the command line that `up` gave it; the API keeps its port.
pub(crate) fn start_again(cluster: &Cluster, record: &Record, machine: Machine) -> Result<Process> {
    let (program, args) = command_line(record, machine)?;
    let mut command = Command::new(program);
    command.args(args);
    let listener = match machine {
        Machine::Control => {
            let address = ("127.0.0.1", record.api_port);
            let listener = TcpListener::bind(address)
                .with_context(|| format!("{}:{} cannot be listened on", address.0, address.1))?;
            Some(OwnedFd::from(listener))
        }
        _ => None,
    };
    process::start(cluster, machine, &command, listener)
}

/// Starts the agent of a node as the build with another layout of the tables would, with that build's programs.
pub(crate) fn start_other_layout(cluster: &Cluster, record: &Record, machine: Machine) -> Result<Process> {
    let (_, args) = command_line(record, machine)?;
    let object = args.iter().position(|arg| arg == EBPF_OBJECT_FLAG).and_then(|at| args.get(at + 1));
    let object = object.with_context(|| format!("{machine} has no agent"))?;
    let other = Path::new(object).with_file_name(build_ebpf::OTHER_LAYOUT);
    let mut command = Command::new(record.bin_dir.join(OTHER_AGENT));
    command.args(args.iter().map(|arg| if arg == object { other.as_os_str() } else { OsStr::new(arg) }));
    process::start(cluster, machine, &command, None)
}

fn command_line(record: &Record, machine: Machine) -> Result<(&String, &[String])> {
    let line = record.commands.get(&machine.to_string()).map(Vec::as_slice).unwrap_or_default();
    let [program, args @ ..] = line else { bail!("how {machine} was started is not written down") };
    Ok((program, args))
}

/// A listener on 127.0.0.1, on the usual port or the next that is free.
fn listen() -> Result<TcpListener> {
    for port in API_PORT..API_PORT + PORTS_TRIED_MAX {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(error).with_context(|| format!("127.0.0.1:{port} cannot be listened on"));
            }
        }
    }
    bail!("no port of {API_PORT} to {} is free on 127.0.0.1", API_PORT + PORTS_TRIED_MAX)
}

/// A join token, once the control plane hands one out.
fn token(plan: &Plan) -> Result<String> {
    let mut command = Command::new(plan.record.bin_dir.join("weft-control"));
    command.args(["token", "create", "--data-dir"]).arg(plan.cluster.data_dir(Machine::Control));
    let token = output(&mut command)?;
    match token.trim() {
        "" => bail!("weft-control printed no token"),
        token => Ok(token.to_owned()),
    }
}

/// Starts every agent and waits until their sockets are there.
pub(crate) fn start_agents(plan: &mut Plan) -> Result<()> {
    let control = format!("{}:{LINK_PORT}", plan.record.address(Machine::Control));
    for machine in plan.record.node_machines() {
        let command = agent_command(plan, machine, &control)?;
        let process = process::start(&plan.cluster, machine, &command, None)
            .map_err(|error| with_log(error, &plan.cluster, machine))?;
        plan.record.note(machine, &command, process);
        plan.cluster.write_record(&plan.record)?;
    }
    for process in plan.record.processes.iter().filter(|process| process.what != Machine::Control.to_string())
    {
        let machine = Machine::named(&process.what).context("a process of no machine")?;
        let socket = plan.cluster.socket(machine);
        wait_while_alive(&format!("the agent of {machine}"), process, || Ok(socket.exists().then_some(())))
            .map_err(|error| with_log(error, &plan.cluster, machine))?;
    }
    Ok(())
}

fn agent_command(plan: &Plan, machine: Machine, control: &str) -> Result<Command> {
    let cluster = &plan.cluster;
    let mut command = Command::new(plan.record.bin_dir.join("weft-agent"));
    command.args(["run", "--control", control, "--node-name", &machine.to_string()]);
    command.args(["--uplink", namespace::UPLINK]);
    for address in plan.record.addresses(machine) {
        command.args(["--node-ip", &address.to_string()]);
    }
    command.args(["--cgroup-root", &cluster.cgroup(machine)]);
    command.arg("--token-file").arg(cluster.dir.join("token"));
    command.arg("--data-dir").arg(make_private(cluster.data_dir(machine))?);
    command.arg("--run-dir").arg(make_private(cluster.run_dir(machine))?);
    command.arg("--bpffs").arg(cluster.bpffs(machine));
    command.arg(EBPF_OBJECT_FLAG).arg(&plan.ebpf_object);
    command.arg("--socket").arg(cluster.socket(machine));
    command.args(&plan.agent_args);
    Ok(command)
}

/// Loads the demo image on every node at once.
pub(crate) fn load_image(plan: &Plan) -> Result<()> {
    thread::scope(|scope| {
        let loads: Vec<_> = plan
            .record
            .node_machines()
            .into_iter()
            .map(|machine| {
                scope.spawn(move || {
                    let mut command = Command::new(plan.record.bin_dir.join("agentctl"));
                    command
                        .arg("--socket")
                        .arg(plan.cluster.socket(machine))
                        .args(["image", "load"])
                        .arg(&plan.image);
                    output(&mut command).map_err(|error| with_log(error, &plan.cluster, machine))
                })
            })
            .collect();
        for load in loads {
            load.join().unwrap_or_else(|_| Err(anyhow!("a thread that loads an image is lost")))?;
        }
        Ok(())
    })
}

/// Waits for a daemon's answer, but no longer than the daemon lives.
fn wait_while_alive<T>(
    what: &str,
    process: &Process,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    wait_for(what, STEP_MAX, 50, || {
        if !process.is_alive() {
            return Ok(Some(Err(anyhow!("waited for {what}, but the process has ended"))));
        }
        ask().map(|answer| answer.map(Ok))
    })?
}

fn with_log(error: anyhow::Error, cluster: &Cluster, machine: Machine) -> anyhow::Error {
    error.context(format!("{machine} says:\n{}\n", log_tail(cluster, machine)))
}

/// The last lines of a daemon's log.
pub(crate) fn log_tail(cluster: &Cluster, machine: Machine) -> String {
    let text = fs::read(cluster.log(machine)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN_MAX)..].join("\n")
}

/// Makes a directory that only root reads.
fn make_private(dir: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&dir)
        .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("{} cannot be made", dir.display()))?;
    Ok(dir)
}

fn write_private(path: &std::path::Path, content: &[u8]) -> Result<()> {
    let _ = fs::remove_file(path);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .with_context(|| format!("{} cannot be written", path.display()))
}
