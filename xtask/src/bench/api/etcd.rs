//! One empty `etcd` on loopback, on the disk that is measured, ended when it goes, its data with it.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::bench::api::server::Programs;
use crate::command::{output, wait_for};

const START_MAX: Duration = Duration::from_secs(30);
/// Where `weft-control` keeps what `Load::create` makes.
const CREATED: &str = "/weft/default/e/";

/// A running etcd.
pub(super) struct Etcd {
    /// Where it serves clients.
    pub(super) address: String,
    data: PathBuf,
    child: Child,
}

/// How large a stored object is, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) key: usize,
    pub(super) value: usize,
}

impl Etcd {
    pub(super) fn start(programs: &Programs) -> Result<Self> {
        let data = programs.dir.join("weft-bench-etcd");
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("{} cannot be removed", data.display()))?;
        }
        let log = programs.dir.join("etcd.log");
        let log_file = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
        let ports = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)));
        let mut addresses = Vec::new();
        for port in &ports {
            let port = port.as_ref().map_err(|error| anyhow::anyhow!("no port is free: {error}"))?;
            addresses.push(port.local_addr()?.to_string());
        }
        drop(ports);
        let (clients, peers) = (format!("http://{}", addresses[0]), format!("http://{}", addresses[1]));
        let mut command = Command::new("etcd");
        command.args(["--name", "bench", "--logger", "zap", "--log-level", "warn"]);
        command.arg("--data-dir").arg(&data).args(["--quota-backend-bytes", "8589934592"]);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("bench={peers}")]);
        command.stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file);
        let child = command.spawn().context("etcd cannot be started (`cargo xtask setup` installs it)")?;
        let etcd = Self { address: addresses.swap_remove(0), data, child };
        wait_for("etcd to listen", START_MAX, 50, || Ok(TcpStream::connect(&etcd.address).ok()))
            .with_context(|| format!("etcd does not start; see {}", log.display()))?;
        Ok(etcd)
    }

    /// What `weft-control serve --store` is told.
    pub(super) fn store(&self) -> String {
        format!("etcd://{}", self.address)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One of the objects whose names begin so.
    pub(super) fn stored(&self, name: &str) -> Result<Stored> {
        // The newest first: what was just created.
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.address, "get", "--prefix", CREATED]);
        command.args(["--sort-by", "CREATE", "--order", "DESCEND", "--limit", "20", "--write-out", "json"]);
        stored(&output(&mut command)?, name)
    }
}

fn stored(answer: &str, name: &str) -> Result<Stored> {
    let answer: Value = serde_json::from_str(answer).context("etcdctl's answer is not understood")?;
    let decoded = |kv: &Value, field: &str| STANDARD.decode(kv[field].as_str()?).ok();
    let pairs = answer["kvs"].as_array().context("etcd holds nothing")?;
    let found = pairs.iter().find_map(|kv| {
        let (key, value) = (decoded(kv, "key")?, decoded(kv, "value")?);
        let names = String::from_utf8_lossy(&key).contains(name);
        names.then_some(Stored { key: key.len(), value: value.len() })
    });
    found.with_context(|| format!("none of the newest objects is called {name}"))
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended.and_then(|_| fs::remove_dir_all(&self.data)) {
            eprintln!("bench: etcd did not end as it should: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_by_its_name() {
        let encoded = |text: &str| STANDARD.encode(text);
        let pair =
            |key: &str, value: &str| serde_json::json!({ "key": encoded(key), "value": encoded(value) });
        let answer = serde_json::json!({ "kvs": [pair("/a/lease", "x"), pair("/a/by-64-7", "12345")] });
        let found = stored(&answer.to_string(), "by-64-").unwrap();
        assert_eq!((found.key, found.value), (10, 5));
        assert!(stored(&answer.to_string(), "by-1-").is_err());
    }
}
