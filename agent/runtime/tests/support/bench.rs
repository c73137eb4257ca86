//! A runtime on the real kernel and the real shim, with a network that only knows `lo`, and an image out of busybox.

// Each test uses a part of it; values read best where they are written.
#![allow(dead_code, unreachable_pub, clippy::needless_pass_by_value)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use weft_runtime::{
    Answer, Attach, Config, ContainerRef, DesiredPod, Dns, ExecRequest, Inputs, LogRequest, Logger, Lookup,
    Network, PodRef, Refusal, Report, Runtime, RuntimeEvent, Token, TokenRequest,
};

/// Brings `lo` up, and nothing else.
struct Loopback;

impl Network for Loopback {
    fn attach<'a>(&'a self, request: Attach<'a>) -> Answer<'a, Result<Vec<IpAddr>, Refusal>> {
        Box::pin(async move {
            let status = Command::new("nsenter")
                .arg(format!("--net={}", request.netns.display()))
                .args(["ip", "link", "set", "lo", "up"])
                .status();
            match status {
                Ok(status) if status.success() => Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
                other => Err(Refusal(format!("lo stays down: {other:?}"))),
            }
        })
    }

    fn detach<'a>(&'a self, _: &'a PodRef) -> Answer<'a, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }
}

/// Objects by `kind/name`, all in one namespace.
#[derive(Default)]
pub struct Objects {
    objects: Mutex<HashMap<String, Bytes>>,
}

impl Objects {
    pub fn put(&self, kind: &str, name: &str, object: Value) {
        self.objects.lock().unwrap().insert(format!("{kind}/{name}"), Bytes::from(object.to_string()));
    }

    fn get(&self, kind: &str, name: &str) -> Lookup {
        match self.objects.lock().unwrap().get(&format!("{kind}/{name}")) {
            Some(json) => Lookup::Found(json.clone()),
            None => Lookup::Missing,
        }
    }
}

impl Inputs for Objects {
    fn config_map(&self, _: &str, name: &str) -> Lookup {
        self.get("configmap", name)
    }

    fn secret(&self, _: &str, name: &str) -> Lookup {
        self.get("secret", name)
    }

    fn token<'a>(&'a self, request: TokenRequest<'a>) -> Answer<'a, Result<Token, Refusal>> {
        Box::pin(async move {
            let text = format!("token-of-{}-{}", request.service_account, request.pod.name);
            Ok(Token { text, expires_unix_seconds: 4_000_000_000 })
        })
    }

    fn service_env(&self, _: &str, _: bool) -> Option<Vec<(String, String)>> {
        Some(vec![("KUBERNETES_SERVICE_HOST".into(), "10.96.0.1".into())])
    }

    fn dns(&self) -> Dns {
        Dns {
            nameservers: vec!["10.96.0.10".parse().unwrap()],
            domain: "cluster.local".into(),
            host_resolv_conf: "/etc/resolv.conf".into(),
        }
    }

    fn ca_pem(&self) -> String {
        "the ca\n".into()
    }
}

/// A node of its own: directories, containerd namespace and cgroup, all removed at the end.
pub struct Bench {
    pub name: String,
    pub objects: Arc<Objects>,
    pub runtime: Option<Runtime>,
    pub events: Arc<Mutex<Vec<RuntimeEvent>>>,
    statuses: Arc<Mutex<HashMap<String, (Value, bool)>>>,
    dir: tempfile::TempDir,
    change: fn(&mut Config),
    pods: Vec<Arc<DesiredPod>>,
    reader: Option<tokio::task::JoinHandle<()>>,
}

impl Bench {
    pub async fn new(name: &str) -> Self {
        let mut bench = Self::bare(name, |_| {});
        bench.start().await;
        let archive = image_archive(&["weft.test/box:1", "weft.test/other:1"]);
        let names = bench.runtime().load_image(&archive[..]).await.unwrap();
        assert_eq!(names, ["weft.test/box:1", "weft.test/other:1"]);
        bench
    }

    /// One that is not started yet and has no image; `change` is made to its settings.
    pub fn bare(name: &str, change: fn(&mut Config)) -> Self {
        let name = format!("t{}-{name}", std::process::id());
        Self {
            name,
            objects: Arc::default(),
            runtime: None,
            events: Arc::default(),
            statuses: Arc::default(),
            dir: tempfile::tempdir().unwrap(),
            change,
            pods: Vec::new(),
            reader: None,
        }
    }

    /// Puts everything on disk on a small file system of its own.
    pub fn small_disk(&self, mebibytes: u32) {
        std::fs::create_dir_all(self.data()).unwrap();
        let size = format!("size={mebibytes}m");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(self.data()).status();
        assert!(status.unwrap().success());
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Everything of this node, on disk and in memory.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Processes of this node's Pods whose command line begins so.
    pub fn pids(&self, command: &str) -> Vec<String> {
        let group = format!("/weft-test/{}/", self.name);
        let all =
            std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
        let mine = |pid: &String| {
            let of = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            !of("cmdline").is_empty()
                && String::from_utf8_lossy(&of("cgroup")).contains(&group)
                && of("cmdline").starts_with(command.as_bytes())
        };
        all.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).filter(mine).collect()
    }

    /// Tells a runtime that was started again which Pods are wanted.
    pub fn again(&self) {
        self.runtime().set_pods(self.pods.clone(), true);
    }

    pub fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    pub async fn start(&mut self) {
        let logger = Logger {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_weft-log-writer")),
            argument: "log-writer".into(),
        };
        let mut config =
            Config::new(&self.name, self.dir.path().join("data"), self.dir.path().join("run"), logger);
        config.cgroup_parent = PathBuf::from("/weft-test").join(&self.name);
        config.host_ips = vec!["192.0.2.7".parse().unwrap()];
        (self.change)(&mut config);
        let runtime = Runtime::start(config, Arc::new(Loopback), self.objects.clone()).await.unwrap();
        let (reports, events, statuses) = (runtime.reports(), self.events.clone(), self.statuses.clone());
        self.reader = Some(tokio::spawn(async move {
            loop {
                match reports.next().await {
                    Report::Event(event) => events.lock().unwrap().push(event),
                    Report::Status(update) => {
                        let status = serde_json::from_slice(&update.status).unwrap();
                        statuses.lock().unwrap().insert(update.pod.name, (status, update.gone));
                    }
                }
            }
        }));
        self.runtime = Some(runtime);
    }

    /// As if the agent were killed: the loops stop, everything else stays.
    pub fn stop(&mut self) {
        self.reader.take().unwrap().abort();
        self.runtime = None;
        self.statuses.lock().unwrap().clear();
    }

    pub fn run(&mut self, name: &str, spec: Value) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "ns", "uid": format!("{}-{name}", self.name), "labels": { "a": "b" } },
            "spec": spec,
        });
        self.pods.push(Arc::new(DesiredPod::read(Bytes::from(pod.to_string())).unwrap()));
        self.runtime().set_pods(self.pods.clone(), true);
    }

    pub fn remove(&mut self, name: &str) {
        self.pods.retain(|p| p.view.metadata.name != name);
        self.runtime().set_pods(self.pods.clone(), true);
    }

    /// Nothing more is expected of a Pod that was removed.
    pub fn forget(&self, name: &str) {
        self.statuses.lock().unwrap().remove(name);
    }

    pub async fn until<T>(&self, what: &str, seconds: u64, mut test: impl FnMut(&Self) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(found) = test(self) {
                return found;
            }
            if Instant::now() > end {
                panic!(
                    "no {what}; statuses {:#?}, events {:#?}",
                    self.statuses.lock().unwrap(),
                    self.events.lock().unwrap()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn status(&self, name: &str) -> Value {
        self.statuses.lock().unwrap().get(name).map(|s| s.0.clone()).unwrap_or_default()
    }

    pub async fn phase(&self, name: &str, phase: &str) -> Value {
        self.until(&format!("{name} {phase}"), 30, |b| {
            let status = b.status(name);
            (status["phase"] == phase).then_some(status)
        })
        .await
    }

    pub async fn gone(&self, name: &str, seconds: u64) {
        self.until(&format!("end of {name}"), seconds, |b| {
            b.statuses.lock().unwrap().get(name).is_some_and(|s| s.1).then_some(())
        })
        .await;
    }

    pub async fn event(&self, reason: &str, part: &str) -> RuntimeEvent {
        self.until(&format!("event {reason} {part}"), 30, |b| {
            let events = b.events.lock().unwrap();
            events.iter().find(|e| e.reason == reason && e.message.contains(part)).cloned()
        })
        .await
    }

    /// Ends all Pods and checks that nothing is left.
    pub async fn close(mut self) {
        let names: Vec<String> = self.pods.drain(..).map(|p| p.view.metadata.name.clone()).collect();
        self.runtime().set_pods(Vec::new(), true);
        for name in names {
            self.gone(&name, 60).await;
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let dir = self.dir.path().to_str().unwrap().to_owned();
        let mine = |line: &&str| line.contains(&dir) && !line.contains(&format!("{dir}/data "));
        assert_eq!(mounts.lines().find(mine), None);
        let ps = Command::new("ps").args(["-eo", "args"]).output().unwrap();
        let ps = String::from_utf8_lossy(&ps.stdout).into_owned();
        assert!(!ps.contains(&format!("-namespace weft-{} ", self.name)), "{ps}");
        self.stop();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.runtime = None;
        // Also after a failure: what is in the cgroup dies, what is mounted goes.
        let find = |root: &str| format!("{root}/weft-test/{}", self.name);
        for root in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            kill_and_remove(&find(&root.path().to_string_lossy()));
            // Others may still be in it.
            let _ = std::fs::remove_dir(root.path().join("weft-test"));
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let dir = self.dir.path().to_str().unwrap_or("/nowhere").to_owned();
        for line in mounts.lines().rev() {
            let at = line.split(' ').nth(1).unwrap_or("");
            if at.starts_with(&dir) {
                let _ = Command::new("umount").args(["-l", at]).status();
            }
        }
    }
}

fn kill_and_remove(group: &str) {
    let find = Command::new("find").args([group, "-depth", "-type", "d"]).output();
    let Ok(found) = find else { return };
    for dir in String::from_utf8_lossy(&found.stdout).lines() {
        for _ in 0..50 {
            for pid in std::fs::read_to_string(format!("{dir}/cgroup.procs")).unwrap_or_default().lines() {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
            if std::fs::remove_dir(dir).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A docker archive with busybox under several names.
pub fn image_archive(names: &[&str]) -> Vec<u8> {
    image_archive_with(names, &[])
}

/// What else is in an image.
pub enum Entry {
    Dir(&'static str),
    Link(&'static str, &'static str),
    /// A file of so many bytes that are those of no other.
    Random(&'static str, usize),
}

/// [`image_archive`] with more in it.
pub fn image_archive_with(names: &[&str], further: &[Entry]) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, mode: u32, content: &[u8], link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        if link.is_empty() {
            layer.append_data(&mut header, name, content).unwrap();
        } else {
            layer.append_link(&mut header, name, link).unwrap();
        }
    };
    add("bin", tar::EntryType::Directory, 0o755, b"", "");
    add("tmp", tar::EntryType::Directory, 0o1777, b"", "");
    add("etc", tar::EntryType::Directory, 0o755, b"", "");
    add("etc/passwd", tar::EntryType::Regular, 0o644, b"root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n", "");
    add("bin/busybox", tar::EntryType::Regular, 0o755, &std::fs::read("/bin/busybox").unwrap(), "");
    for tool in [
        "sh", "sleep", "cat", "echo", "id", "stty", "yes", "head", "httpd", "nc", "env", "ls", "seq",
        "hostname",
    ] {
        add(&format!("bin/{tool}"), tar::EntryType::Symlink, 0o777, b"", "busybox");
    }
    for entry in further {
        match entry {
            Entry::Dir(name) => add(name, tar::EntryType::Directory, 0o755, b"", ""),
            Entry::Link(name, target) => add(name, tar::EntryType::Symlink, 0o777, b"", target),
            Entry::Random(name, bytes) => {
                let mut content = vec![0; *bytes];
                let mut random = std::fs::File::open("/dev/urandom").unwrap();
                std::io::Read::read_exact(&mut random, &mut content).unwrap();
                add(name, tar::EntryType::Regular, 0o644, &content, "");
            }
        }
    }
    let layer = layer.into_inner().unwrap();
    let digest: String = Sha256::digest(&layer).iter().map(|b| format!("{b:02x}")).collect();
    let mut archive = tar::Builder::new(Vec::new());
    let mut manifest = Vec::new();
    let mut file = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    };
    file("layer.tar", &layer);
    for (index, name) in names.iter().enumerate() {
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Cmd": ["/bin/sh", "-c", "echo hello; exec sleep 1000"], "Env": ["PATH=/bin", format!("IMAGE={index}")] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        file(&format!("config{index}.json"), config.to_string().as_bytes());
        manifest.push(
            json!({ "Config": format!("config{index}.json"), "RepoTags": [name], "Layers": ["layer.tar"] }),
        );
    }
    file("manifest.json", Value::Array(manifest).to_string().as_bytes());
    archive.into_inner().unwrap()
}

/// The volume and the mount that admission adds to every Pod.
pub fn account() -> (Value, Value) {
    let sources = json!([
        { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
        { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } }] } },
    ]);
    let volume =
        json!({ "name": "kube-api-access-x", "projected": { "defaultMode": 420, "sources": sources } });
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    (volume, json!({ "name": "kube-api-access-x", "mountPath": path, "readOnly": true }))
}

/// A Pod of one container that runs a shell line.
pub fn shell(line: &str) -> Value {
    json!({
        "containers": [{ "name": "c", "image": "weft.test/box:1", "command": ["/bin/sh", "-c", line] }],
        "terminationGracePeriodSeconds": 1,
    })
}

/// The first container of a Pod.
pub fn container(pod: &str) -> ContainerRef {
    ContainerRef { namespace: "ns".into(), pod: pod.into(), container: String::new() }
}

/// What a Pod wrote.
pub async fn log(bench: &Bench, pod: &str) -> String {
    let request = LogRequest { container: container(pod), ..LogRequest::default() };
    let mut text = String::new();
    bench.runtime().logs(request).await.unwrap().read_to_string(&mut text).await.unwrap();
    text
}

/// Runs a shell line in a Pod: exit code, output, errors.
pub async fn exec(bench: &Bench, pod: &str, line: &str) -> (i32, String, String) {
    let request = ExecRequest {
        container: container(pod),
        command: vec!["/bin/sh".into(), "-c".into(), line.into()],
        stdout: true,
        stderr: true,
        ..ExecRequest::default()
    };
    let session = bench.runtime().exec(request).await.unwrap();
    let (mut stdout, mut stderr) = (session.stdout.unwrap(), session.stderr.unwrap());
    let (mut out, mut err) = (String::new(), String::new());
    let (exit, a, b) =
        tokio::join!(session.exit, stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
    a.unwrap();
    b.unwrap();
    (exit.unwrap(), out, err)
}
