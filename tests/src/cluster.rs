//! One cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::run::{Output, Run, until};

/// How long `up` may take, with everything built.
const UP_MAX: Duration = Duration::from_secs(180);
/// How long one kubectl or agentctl command may take.
pub const COMMAND_MAX: Duration = Duration::from_secs(60);

/// A running cluster; removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    name: String,
}

impl Cluster {
    /// Starts a cluster of `nodes`, named after the process, with flags for `cargo xtask up`.
    ///
    /// # Panics
    /// It does not come up: fails the test with what `up` said.
    pub fn up(nodes: usize, flags: &[&str]) -> Self {
        let cluster = Self { name: format!("t{}", std::process::id()) };
        let mut up = xtask(&["up", "--no-build", "--nodes", &nodes.to_string(), "--name", &cluster.name]);
        up.args(flags).run(UP_MAX).ok();
        cluster
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
        let program = std::env::var("WEFT_KUBECTL").unwrap_or_else(|_| "kubectl".into());
        self.kubectl_command(&program).args(args).run(COMMAND_MAX)
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
        let file = self.dir().join(format!("manifest-{}.yaml", manifest.len()));
        std::fs::write(&file, manifest).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.kubectl(&["apply", "-f", &file.to_string_lossy()])
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
