//! One cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::run::{Output, Run, Running, until};

/// How long `up` may take, with everything built.
const UP_MAX: Duration = Duration::from_secs(300);
/// How long one kubectl or agentctl command may take.
pub const COMMAND_MAX: Duration = Duration::from_secs(60);

/// A running cluster; removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    manifests: std::cell::Cell<u32>,
}

impl Cluster {
    /// Starts a cluster of `nodes`, named after the process, with flags for `cargo xtask up`.
    ///
    /// # Panics
    /// It does not come up: fails the test with what `up` said.
    pub fn up(nodes: usize, flags: &[&str]) -> Self {
        let cluster = Self { name: format!("t{}", std::process::id()), manifests: Default::default() };
        let mut up = xtask(&["up", "--no-build", "--nodes", &nodes.to_string(), "--name", &cluster.name]);
        up.args(flags).run(UP_MAX).ok();
        cluster
    }

    /// What everything of the cluster is named after.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory that `up` keeps the cluster in.
    pub fn dir(&self) -> PathBuf {
        workspace().join(format!(".weft-{}", self.name))
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("kubeconfig")
    }

    /// `kubectl ARGS`.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_command(&machine_kubectl()).args(args).run(COMMAND_MAX)
    }

    /// A kubectl of another version.
    pub fn kubectl_command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(self.kubeconfig()).env_remove("KUBECONFIG");
        command
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> Output {
        self.kubectl(&["apply", "-f", &self.manifest(manifest)])
    }

    /// Writes a manifest to a file of its own and gives the path.
    #[track_caller]
    pub fn manifest(&self, manifest: &str) -> String {
        self.manifests.set(self.manifests.get() + 1);
        let file = self.dir().join(format!("manifest-{}.yaml", self.manifests.get()));
        std::fs::write(&file, manifest).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        file.to_string_lossy().into_owned()
    }

    /// One object as JSON.
    #[track_caller]
    pub fn get(&self, args: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], args].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Runs a command as a process of a machine: `node-1`, `client`, …
    pub fn exec(&self, machine: &str, command: &[&str]) -> Output {
        xtask(&["exec", "--name", &self.name, machine, "--"]).args(command).run(COMMAND_MAX)
    }

    /// `agentctl ARGS` on this machine, which has no agent: with `--node` everything goes through the control plane.
    pub fn agentctl(&self, args: &[&str]) -> Output {
        let program = Path::new(&given("WEFT_BIN_DIR")).join("agentctl");
        Command::new(program).arg("--kubeconfig").arg(self.kubeconfig()).args(args).run(COMMAND_MAX)
    }

    /// Starts a command as a process of a machine; it ends with the value.
    pub fn spawn(&self, machine: &str, command: &[&str]) -> Running {
        Running::start(xtask(&["exec", "--name", &self.name, machine, "--"]).args(command))
    }

    /// Kills the daemon of a machine (`node-1`, `control`), as a crash would.
    #[track_caller]
    pub fn kill(&self, machine: &str) {
        xtask(&["kill", "--name", &self.name, machine]).run(COMMAND_MAX).ok();
    }

    /// Starts the daemon of a machine again, as `up` had started it.
    #[track_caller]
    pub fn start(&self, machine: &str) {
        xtask(&["start", "--name", &self.name, machine]).run(COMMAND_MAX).ok();
    }

    /// Starts the daemon of a machine again with a setting from the environment, which one on its command line overrides.
    #[track_caller]
    pub fn start_told(&self, machine: &str, setting: &str, value: &str) {
        xtask(&["start", "--name", &self.name, machine]).env(setting, value).run(COMMAND_MAX).ok();
    }

    /// Ends the daemon of a machine as its service manager would.
    #[track_caller]
    pub fn end(&self, machine: &str) {
        xtask(&["kill", "--term", "--name", &self.name, machine]).run(COMMAND_MAX).ok();
    }

    /// Starts the agent of a node from the build with another layout of the tables.
    #[track_caller]
    pub fn start_other_layout(&self, node: &str) {
        xtask(&["start", "--other-layout", "--name", &self.name, node]).run(COMMAND_MAX).ok();
    }

    /// What the daemon of a machine has logged.
    pub fn log(&self, machine: &str) -> String {
        let path = self.dir().join("log").join(format!("{machine}.log"));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The directory that a machine's daemon keeps its state in.
    pub fn data_dir(&self, machine: &str) -> PathBuf {
        self.dir().join("data").join(machine)
    }

    /// The first address of a node.
    #[track_caller]
    pub fn address(&self, node: &str) -> String {
        text(&self.get(&["node", node])["status"]["addresses"][0]["address"])
    }

    /// Every rule of iptables, ip6tables and nftables on a machine, each a line.
    fn rules(&self, machine: &str) -> Vec<String> {
        let tools = ["iptables-save", "iptables-legacy-save", "ip6tables-save", "ip6tables-legacy-save"];
        let saved = tools.iter().map(|tool| self.exec(machine, &[tool]).ok());
        let listed = self.exec(machine, &["nft", "list", "ruleset"]).ok();
        let rules = saved.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
        let rules = rules.filter(|line| line.starts_with("-A "));
        rules.chain(listed.lines().map(str::to_owned)).filter(|line| !line.trim().is_empty()).collect()
    }

    /// Fails the test where a machine has a rule of iptables, ip6tables or nftables: programs alone are to serve.
    #[track_caller]
    pub fn assert_no_rules(&self, machines: &[&str]) {
        for machine in machines {
            assert_eq!(self.rules(machine), Vec::<String>::new(), "{machine} has rules");
        }
    }

    /// The cluster address of a Service of the default namespace.
    #[track_caller]
    pub fn service_address(&self, service: &str) -> String {
        text(&self.get(&["service", service])["spec"]["clusterIP"])
    }

    /// Runs a command in a Pod of the default namespace.
    pub fn pod_exec(&self, pod: &str, command: &[&str]) -> Output {
        self.kubectl(&[&["exec", pod, "--"], command].concat())
    }

    /// Waits until a Pod of the default namespace is Ready.
    #[track_caller]
    pub fn ready(&self, pod: &str) {
        self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=50s"]).ok();
    }

    /// Waits until every Pod with the label is Ready, and names them with their nodes.
    #[track_caller]
    pub fn pods(&self, selector: &str, count: usize) -> Vec<(String, String)> {
        until(&format!("{count} ready Pods with {selector}"), COMMAND_MAX, || {
            let list = self.get(&["pods", "-l", selector]);
            let pods: Vec<(String, String)> = list["items"]
                .as_array()?
                .iter()
                .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod))
                .map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"])))
                .collect();
            (pods.len() == count).then_some(pods)
        })
    }
}

/// The kubectl that this machine has.
pub fn machine_kubectl() -> String {
    std::env::var("WEFT_KUBECTL").unwrap_or_else(|_| "kubectl".into())
}

/// What `cargo xtask test` tells the tests: `WEFT_DEMO_IMAGE`, `WEFT_KUBECTL_NEWEST`, …
///
/// # Panics
/// The test was not started by it.
pub fn given(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: `cargo xtask test` sets it"))
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let down = xtask(&["down", "--name", &self.name]).run(UP_MAX);
        if down.code != 0 && !std::thread::panicking() {
            panic!("down: {}{}", down.stdout, down.stderr);
        }
    }
}

/// The project's own commands, as they were built for this run.
pub fn xtask(args: &[&str]) -> Command {
    let mut command = match std::env::var_os("WEFT_XTASK") {
        Some(program) => Command::new(program),
        None => {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.arg("xtask");
            cargo
        }
    };
    command.current_dir(workspace()).args(args);
    command
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
