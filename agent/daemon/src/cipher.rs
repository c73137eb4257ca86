//! Encryption between nodes: what this node encrypts with and for, as the view has it, and who does it ([`weft_encrypt`]): the
//! kernel, or a process that is started where there is none and outlives this one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::Notify;
use weft_dataplane::desired;
use weft_encrypt::helper::Settings;
use weft_encrypt::kernel::{self, Kernel, KernelError};
use weft_encrypt::{Client, ClientError, OwnKey, Peer, PublicKey, SecretKey, Status, Wanted, helper, wanted};
use weft_link::message;

use crate::api::answer::chain;
use crate::knowledge::Knowledge;
use crate::view::{View, address_of};

/// How often the process is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Namespace of the nodes' keys.
const NAMESPACE: &str = "kube-system";
/// How the names of their Secrets begin.
const PREFIX: &str = "weft-node-key-";

/// `weft-agent cipher`: the process.
#[derive(clap::Args)]
pub(crate) struct Raw {
    /// Name of its device
    #[arg(long)]
    device: String,
    /// First of its two UDP ports
    #[arg(long)]
    port: u16,
    /// Its socket
    #[arg(long)]
    socket: PathBuf,
}

/// Runs the process.
pub(crate) fn main(raw: Raw) -> ExitCode {
    // The library tells of every handshake that has no answer; how peers are stands in the status.
    crate::log::to_stderr(false, "info,boringtun=off");
    let settings = Settings { device: raw.device, port: raw.port, socket: raw.socket };
    match helper::run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = chain(&error), "nothing is encrypted any more");
            ExitCode::FAILURE
        }
    }
}

/// Why nodes' packets are not as they should be.
#[derive(Debug, Error)]
pub(crate) enum CipherError {
    /// The process.
    #[error(transparent)]
    Process(#[from] ClientError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A task ended before its time.
    #[error("who looks after the kernel's devices has fallen")]
    Task(#[from] tokio::task::JoinError),
}

/// Who encrypts.
#[derive(Debug)]
enum By {
    Process(Client),
    Kernel(Arc<Mutex<Kernel>>),
}

/// The agent's end.
#[derive(Debug)]
pub(crate) struct Cipher {
    by: By,
    node: String,
    inner: Ipv4Addr,
    /// The view's peers or keys have changed.
    pub(crate) changed: Notify,
    /// What who encrypts was told last; none: it is to be told.
    told: tokio::sync::Mutex<Option<Wanted>>,
    problem: Mutex<Option<String>>,
}

/// Room that WireGuard takes of a packet between this node and the others, bytes: its headers and the tag, and the outer ones of
/// IPv4, which is taken where nodes have it, or IPv6.
pub(crate) fn headers_bytes(node_addresses: &[IpAddr]) -> u32 {
    if node_addresses.iter().any(IpAddr::is_ipv4) { 60 } else { 80 }
}

/// The process's socket.
pub(crate) fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("cipher.sock")
}

fn client(run_dir: &Path, device: &str, port: u16) -> std::io::Result<Client> {
    let socket = socket(run_dir);
    let port_text = port.to_string();
    let words = ["cipher", "--device", device, "--port", &port_text, "--socket"];
    let arguments = words.into_iter().map(OsString::from).chain([socket.clone().into_os_string()]).collect();
    let settings = Settings { device: device.to_owned(), port, socket };
    Ok(Client::new(settings, std::env::current_exe()?, arguments))
}

/// Ends the process, if one runs.
pub(crate) async fn end(run_dir: &Path) {
    if let Ok(client) = client(run_dir, "", 0) {
        client.end().await;
    }
}

impl Cipher {
    /// Has the kernel encrypt, or else the process, and know what the view says; the devices are there then, and the settings say
    /// which.
    ///
    /// # Errors
    /// Neither can be had.
    pub(crate) async fn start(
        run_dir: &Path,
        settings: &mut weft_dataplane::Config,
        port: u16,
        knowledge: &Knowledge,
    ) -> anyhow::Result<Self> {
        let Some(IpAddr::V4(inner)) = settings.inner_address() else {
            anyhow::bail!(
                "nodes encrypt, and this one has no IPv4 Pod range to take its address inside from"
            );
        };
        let process = client(run_dir, &settings.cipher_device(), port)?;
        settings.cipher_in_kernel = kernel::is_there();
        let by = match <[String; 2]>::try_from(settings.cipher_devices()) {
            Ok(devices) => {
                // It may have encrypted until now, and has the ports.
                process.end().await;
                tracing::info!(?devices, "WireGuard runs in the kernel");
                By::Kernel(Arc::new(Mutex::new(Kernel::start(devices, port)?)))
            }
            Err(_one) => By::Process(process),
        };
        let cipher = Self {
            by,
            node: settings.node.name.clone(),
            inner,
            changed: Notify::new(),
            told: tokio::sync::Mutex::new(None),
            problem: Mutex::new(None),
        };
        cipher.tell(knowledge).await?;
        Ok(cipher)
    }

    /// Whether the kernel encrypts.
    pub(crate) fn is_in_kernel(&self) -> bool {
        matches!(self.by, By::Kernel(_))
    }

    /// Looks after who encrypts, for ever.
    pub(crate) async fn run(&self, knowledge: &Knowledge) {
        loop {
            let problem = self.look(knowledge).await.err().map(|error| chain(&error));
            let before = std::mem::replace(&mut *self.lock(), problem.clone());
            if let Some(problem) = problem.filter(|problem| before.as_ref() != Some(problem)) {
                tracing::error!(problem, "what is for other nodes is dropped");
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(&self, knowledge: &Knowledge) -> Result<(), CipherError> {
        self.tell(knowledge).await?;
        match &self.by {
            By::Process(_) => Ok(()),
            By::Kernel(kernel) => with(kernel, |kernel| kernel.tend()).await,
        }
    }

    /// Tells who encrypts what the view says, where that is something else than before.
    async fn tell(&self, knowledge: &Knowledge) -> Result<(), CipherError> {
        let mut told = self.told.lock().await;
        if let By::Process(client) = &self.by
            && client.ensure(knowledge.is_complete()).await?
        {
            tracing::info!(device = client.device(), "WireGuard runs in user space");
            *told = None;
        }
        let wanted = wanted_of(&knowledge.view(), knowledge.is_complete(), &self.node, self.inner);
        if told.as_ref() != Some(&wanted) {
            *told = None;
            match &self.by {
                By::Process(client) => drop(client.set(wanted.clone()).await?),
                By::Kernel(kernel) => {
                    let wanted = wanted.clone();
                    with(kernel, |kernel| kernel.set(wanted)).await?;
                }
            }
            *told = Some(wanted);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is, or why nobody knows.
    pub(crate) async fn status(&self) -> Result<Status, String> {
        let problem = self.lock().clone();
        if let Some(problem) = problem {
            return Err(problem);
        }
        match &self.by {
            By::Process(client) => client.status().await.map_err(|error| chain(&error)),
            By::Kernel(kernel) => with(kernel, |kernel| kernel.status()).await.map_err(|error| chain(&error)),
        }
    }
}

/// Asks the kernel, beside everything else: it answers when it is done.
async fn with<T: Send + 'static>(
    kernel: &Arc<Mutex<Kernel>>,
    deed: impl FnOnce(&mut Kernel) -> Result<T, KernelError> + Send + 'static,
) -> Result<T, CipherError> {
    let kernel = kernel.clone();
    let done = move || deed(&mut kernel.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(tokio::task::spawn_blocking(done).await??)
}

/// Whether an object is a node's keys.
pub(crate) fn is_key(object: &message::ApiObject) -> bool {
    object.kind == "Secret" && object.namespace == NAMESPACE && object.name.starts_with(PREFIX)
}

/// Where the tunnel to a peer ends where nodes encrypt.
pub(crate) fn end_of(peer: &message::Peer) -> desired::TunnelEnd {
    match inner_of(peer) {
        Some(inner) if !peer.keys.is_empty() => desired::TunnelEnd::Inner(inner.into()),
        _ => desired::TunnelEnd::Locked,
    }
}

fn inner_of(peer: &message::Peer) -> Option<Ipv4Addr> {
    let ranges: Vec<IpNet> = peer.pod_cidrs.iter().filter_map(|range| range.parse().ok()).collect();
    match desired::inner_address(&ranges)? {
        IpAddr::V4(inner) => Some(inner),
        IpAddr::V6(_) => None,
    }
}

/// What the view says. Secrets are not in a view from disk: the process then goes on with the keys it has.
fn wanted_of(view: &View, complete: bool, node: &str, inner: Ipv4Addr) -> Wanted {
    let secret = view.object("Secret", NAMESPACE, &format!("{PREFIX}{node}"));
    let own = match secret {
        Some(json) => Some(own_keys(json)),
        None => complete.then(Vec::new),
    };
    let peers = view.peers().filter(|peer| peer.node != node).filter_map(peer);
    Wanted { inner, own, peers: peers.collect() }
}

fn own_keys(json: &[u8]) -> Vec<OwnKey> {
    #[derive(Deserialize)]
    struct Secret {
        data: BTreeMap<String, String>,
    }
    let Ok(secret) = serde_json::from_slice::<Secret>(json) else { return Vec::new() };
    let key = |(name, text): (&String, &String)| {
        let generation = name.strip_suffix(".private")?.parse().ok()?;
        Some(OwnKey { generation, private: SecretKey(wanted::key_of(text)?) })
    };
    secret.data.iter().filter_map(key).collect()
}

fn peer(message: &message::Peer) -> Option<Peer> {
    let addresses: Vec<IpAddr> = message.addresses.iter().filter_map(address_of).collect();
    let key = |key: &message::NodeKey| {
        Some(PublicKey { generation: key.generation, key: (*key.public).try_into().ok()? })
    };
    Some(Peer {
        name: message.node.clone(),
        inner: inner_of(message)?,
        address: addresses.iter().find(|ip| ip.is_ipv4()).or(addresses.first()).copied()?,
        keys: message.keys.iter().filter_map(key).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use weft_link::message::{ApiObject, NodeKey, Resource, resource::Body};

    fn put(view: &mut View, body: Body, name: &str) {
        view.put(Resource { name: name.into(), body: Some(body) });
    }

    fn peer_message(node: &str, keys: Vec<NodeKey>) -> message::Peer {
        message::Peer {
            node: node.into(),
            addresses: vec![Bytes::from_static(&[192, 0, 2, 2])],
            pod_cidrs: vec!["fd00:244:0:2::/64".into(), "10.244.2.0/24".into()],
            keys,
        }
    }

    fn key(generation: u64) -> NodeKey {
        NodeKey { generation, public: Bytes::from(vec![9; 32]) }
    }

    const INNER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 0);

    #[test]
    fn own_keys_come_from_the_nodes_secret_and_a_view_without_secrets_keeps_those_there_are() {
        let mut view = View::default();
        put(&mut view, Body::Peer(peer_message("node-1", vec![key(3)])), "peer/node-1");
        put(&mut view, Body::Peer(peer_message("node-2", vec![key(3)])), "peer/node-2");
        assert_eq!(wanted_of(&view, false, "node-1", INNER).own, None);
        assert_eq!(wanted_of(&view, true, "node-1", INNER).own, Some(Vec::new()), "none at all is none");
        let private = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let json = format!(r#"{{"data":{{"3.private":"{private}","3.public":"x","3.made":"x"}}}}"#);
        let secret = ApiObject {
            kind: "Secret".into(),
            namespace: "kube-system".into(),
            name: "weft-node-key-node-1".into(),
            json: json.into(),
        };
        assert!(is_key(&secret));
        put(&mut view, Body::Object(secret), "object/Secret/kube-system/weft-node-key-node-1");
        let wanted = wanted_of(&view, false, "node-1", INNER);
        assert_eq!(wanted.own, Some(vec![OwnKey { generation: 3, private: SecretKey([1; 32]) }]));
        assert_eq!(wanted.peers.len(), 1, "itself is no peer");
        assert_eq!(wanted.peers[0].inner, Ipv4Addr::new(10, 244, 2, 0));
        assert_eq!(wanted.peers[0].keys, [PublicKey { generation: 3, key: [9; 32] }]);
    }

    #[test]
    fn a_peer_without_a_key_is_locked_and_never_reached_by_the_underlay() {
        let inner = desired::TunnelEnd::Inner("10.244.2.0".parse().unwrap());
        assert_eq!(end_of(&peer_message("node-2", vec![key(1)])), inner);
        assert_eq!(end_of(&peer_message("node-2", Vec::new())), desired::TunnelEnd::Locked);
        let ranges = vec!["fd00:244:0:2::/64".to_owned()];
        let six = message::Peer { pod_cidrs: ranges, ..peer_message("node-2", vec![key(1)]) };
        assert_eq!(end_of(&six), desired::TunnelEnd::Locked);
    }
}
