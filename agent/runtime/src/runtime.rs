//! The runtime's front: what the daemon calls.

mod collect;
mod measure;
mod sessions;
mod settings;

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use weft_api::view::Pod;

use crate::image::{self, ImageStore, Puller};
use crate::node::Node;
use crate::outside::PodRef;
use crate::record;
use crate::refusal::Host;
use crate::report::{EventType, PodUpdate, Reports};
use crate::shim::start::ShimSettings;
use crate::shim::task::OciRuntime;
use crate::spec::limits::Limits;
use crate::usage::Meter;
use crate::worker::{self, Handle, Wanted};
use crate::{Config, Inputs, Network};

/// A Pod this node is to run.
#[derive(Clone, Debug)]
pub struct DesiredPod {
    /// The whole object, JSON.
    pub raw: Bytes,
    /// What the runtime reads of it.
    pub view: Pod,
}

/// Why bytes are no Pod.
#[derive(Debug, thiserror::Error)]
pub enum DesiredPodError {
    /// Not the JSON of a Pod.
    #[error("pod is not readable")]
    Json(#[from] serde_json::Error),
    /// No UID, or one that is no file name.
    #[error("pod {0} has no usable uid")]
    Uid(String),
    /// A container or volume whose name is no file name.
    #[error("pod {pod} has a container or volume with the unusable name {name:?}")]
    Name {
        /// The Pod.
        pod: String,
        /// The container or volume.
        name: String,
    },
}

/// Why a runtime does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is wrong.
    #[error("runtime setting {setting}: {reason}")]
    Config {
        /// Field of [`Config`].
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A directory or record cannot be read or made.
    #[error("runtime cannot use {path}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// An image that is on this node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageInfo {
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// Full names, `docker.io/library/nginx:1`.
    pub names: Vec<String>,
    /// `repository@sha256:…` it was pulled by.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size_bytes: u64,
}

/// Why an archive was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("image archive not loaded: {0}")]
pub struct ImageLoadError(pub String);

/// Runs Pods. Cloning shares. Dropping the last clone stops the loops and leaves every container running.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    node: Arc<Node>,
    pods: Mutex<HashMap<String, Handle>>,
    /// Directories of Pods whose record cannot be read; they go once the wanted set is complete.
    unknown: Mutex<Vec<String>>,
    usage: Mutex<Meter>,
}

impl Inner {
    fn pods(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for handle in self.pods.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            handle.task.abort();
        }
    }
}

impl DesiredPod {
    /// Reads a Pod's JSON.
    ///
    /// # Errors
    /// No JSON, not a Pod, without UID, or with names that could not be a directory's.
    pub fn read(raw: Bytes) -> Result<Self, DesiredPodError> {
        let view: Pod = serde_json::from_slice(&raw)?;
        // The API has checked this; these become directories, so nobody else is trusted with it.
        let usable = |name: &str| {
            !name.is_empty()
                && name.len() <= 63
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !usable(&view.metadata.uid) {
            return Err(DesiredPodError::Uid(view.metadata.name));
        }
        let spec = &view.spec;
        let containers = spec.init_containers.iter().chain(&spec.containers).map(|c| &c.name);
        if let Some(name) = containers.chain(spec.volumes.iter().map(|v| &v.name)).find(|n| !usable(n)) {
            return Err(DesiredPodError::Name { name: name.clone(), pod: view.metadata.name });
        }
        Ok(Self { raw, view })
    }

    /// Its name and UID.
    #[must_use]
    pub fn pod_ref(&self) -> PodRef {
        let meta = &self.view.metadata;
        PodRef { namespace: meta.namespace.clone(), name: meta.name.clone(), uid: meta.uid.clone() }
    }
}

impl Runtime {
    /// Finds what an earlier run left, takes it over, and starts. Needs a tokio runtime.
    ///
    /// # Errors
    /// A setting is wrong, or a directory cannot be used.
    pub async fn start(
        config: Config,
        network: Arc<dyn Network>,
        inputs: Arc<dyn Inputs>,
    ) -> Result<Self, StartError> {
        let config = settings::valid(config)?;
        settings::directories(&config)?;
        let unusable = |path: &std::path::Path, source: std::io::Error| StartError::Io {
            path: path.display().to_string(),
            source,
        };
        let images = config.data_dir.join("images");
        let store = ImageStore::open(&images, config.image_bytes_max)
            .map_err(|e| unusable(&images, std::io::Error::other(e)))?;
        let store = Arc::new(store);
        let hierarchies =
            crate::cgroup::Hierarchies::find().map_err(|e| unusable("/sys/fs/cgroup".as_ref(), e))?;
        let boot = std::path::Path::new("/proc/sys/kernel/random/boot_id");
        let boot_id = fs::read_to_string(boot).map_err(|e| unusable(boot, e))?.trim().to_owned();
        let node = Node {
            network,
            inputs,
            puller: Puller::new(store.clone(), config.insecure_registries.clone(), config.pulls_max),
            store,
            hierarchies,
            limits: Limits::read(),
            host: Host::read(),
            reports: Arc::default(),
            shim: ShimSettings {
                program: config.shim.clone(),
                namespace: config.namespace.clone(),
                events: config.run_dir.join("events.sock"),
            },
            oci_runtime: OciRuntime {
                binary: config.oci_runtime.to_string_lossy().into_owned(),
                root: config.run_dir.join("oci").to_string_lossy().into_owned(),
            },
            boot_id,
            config,
        };
        let runtime = Self {
            inner: Arc::new(Inner {
                node: Arc::new(node),
                pods: Mutex::default(),
                unknown: Mutex::default(),
                usage: Mutex::default(),
            }),
        };
        runtime.find_pods();
        tokio::spawn(collect::run(Arc::downgrade(&runtime.inner)));
        tokio::spawn(measure::run(Arc::downgrade(&runtime.inner)));
        Ok(runtime)
    }

    /// Goes on with every Pod that has a record. Until the daemon says otherwise they are wanted as they were.
    fn find_pods(&self) {
        let node = &self.inner.node;
        for entry in fs::read_dir(node.config.data_dir.join("pods")).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_string_lossy().into_owned();
            let path = node.place(&uid).record();
            match record::read(&path, &node.boot_id) {
                Ok(record) => {
                    let ending = record.desired.view.metadata.is_terminating();
                    let wanted = Wanted { desired: record.desired.clone(), ending };
                    let handle = worker::spawn(node.clone(), wanted, Some(record));
                    self.pods().insert(uid, handle);
                }
                Err(error) => {
                    tracing::warn!(uid, %error, "record of a pod is not readable; what is left of it will be removed");
                    self.inner.unknown.lock().unwrap_or_else(PoisonError::into_inner).push(uid);
                }
            }
        }
    }

    /// The Pods this node is to run. What runs and is not among them is ended only when the set is `complete`.
    pub fn set_pods(&self, wanted: Vec<Arc<DesiredPod>>, complete: bool) {
        let mut pods = self.pods();
        let uids: std::collections::HashSet<String> =
            wanted.iter().map(|p| p.view.metadata.uid.clone()).collect();
        for desired in wanted {
            let ending = desired.view.metadata.is_terminating();
            match pods.get(&desired.view.metadata.uid) {
                Some(handle) => {
                    handle.wanted.send_if_modified(|now| {
                        let changed = now.desired.raw != desired.raw || now.ending != ending;
                        if changed {
                            *now = Wanted { desired: desired.clone(), ending };
                        }
                        changed
                    });
                }
                None => self.take_on(&mut pods, desired, ending),
            }
        }
        if complete {
            pods.retain(|uid, handle| {
                let gone = handle.snapshot.borrow().gone;
                if !uids.contains(uid) && !gone {
                    handle.wanted.send_if_modified(|now| !std::mem::replace(&mut now.ending, true));
                }
                uids.contains(uid) || !gone
            });
            self.remove_unknown(&pods);
        }
    }

    /// Removes what belongs to no Pod. A Pod that is there after all has taken its directory over.
    fn remove_unknown(&self, pods: &HashMap<String, Handle>) {
        let unknown = std::mem::take(&mut *self.inner.unknown.lock().unwrap_or_else(PoisonError::into_inner));
        for uid in unknown.into_iter().filter(|uid| !pods.contains_key(uid)) {
            let node = self.inner.node.clone();
            tokio::spawn(async move {
                let pod = PodRef { uid, ..PodRef::default() };
                if let Err(error) = crate::sandbox::remove(&node, &pod, None).await {
                    tracing::warn!(uid = pod.uid, %error, "what is left of a pod is not removed");
                }
            });
        }
    }

    fn take_on(&self, pods: &mut HashMap<String, Handle>, desired: Arc<DesiredPod>, ending: bool) {
        let node = &self.inner.node;
        let pod = desired.pod_ref();
        let finished = desired.view.status.is_finished();
        if finished && !ending {
            // It ended in an earlier life of this machine, and must not run again.
            return;
        }
        let running = pods.values().filter(|h| !h.snapshot.borrow().observed.released).count();
        if running >= node.config.pods_max && !ending {
            let message = format!("Node did not have enough resource: pods, limit: {}", node.config.pods_max);
            node.event(&pod, "", EventType::Warning, "OutOfpods", message.clone());
            let status = json!({ "phase": "Failed", "reason": "OutOfpods", "message": message });
            node.reports.status(PodUpdate { pod, status: Bytes::from(status.to_string()), gone: false });
            return;
        }
        let handle = worker::spawn(node.clone(), Wanted { desired, ending }, None);
        pods.insert(pod.uid, handle);
    }

    /// Something behind [`Inputs`] changed: volumes and waiting containers look again at once, not only after seconds.
    pub fn inputs_changed(&self) {
        for handle in self.pods().values() {
            handle.nudge.notify_one();
        }
    }

    /// Statuses and events; for one reader.
    #[must_use]
    pub fn reports(&self) -> Arc<Reports> {
        self.inner.node.reports.clone()
    }

    /// Tells every Pod's status once more, for a new session with the control plane.
    pub fn report_all(&self) {
        for handle in self.pods().values() {
            let snapshot = handle.snapshot.borrow().clone();
            if !snapshot.status.is_empty() {
                let (pod, status, gone) = (handle.pod.clone(), snapshot.status.clone(), snapshot.gone);
                self.inner.node.reports.status(PodUpdate { pod, status, gone });
            }
        }
    }

    /// The images on this node, by id.
    #[must_use]
    pub fn images(&self) -> Vec<ImageInfo> {
        self.inner.node.store.list()
    }

    /// Images that were removed to free disk space, since the start.
    #[must_use]
    pub fn images_removed(&self) -> u64 {
        self.inner.node.store.removed()
    }

    /// Takes in an OCI layout or docker archive (tar, plain, gzip or zstd), which may hold several images; answers their
    /// full names.
    ///
    /// # Errors
    /// Not such an archive, a digest is wrong, or the disk is full.
    pub async fn load_image(
        &self,
        mut archive: impl AsyncRead + Send + Unpin,
    ) -> Result<Vec<String>, ImageLoadError> {
        let failed = |e: &dyn std::fmt::Display| ImageLoadError(e.to_string());
        let store = self.inner.node.store.clone();
        let bytes_max = store.bytes_max();
        let path = store.scratch();
        let mut file = tokio::fs::File::create(&path).await.map_err(|e| failed(&e))?;
        let copied = async {
            let mut bounded = (&mut archive).take(bytes_max.saturating_add(1));
            let bytes = tokio::io::copy(&mut bounded, &mut file).await?;
            file.flush().await?;
            Ok::<_, std::io::Error>(bytes)
        };
        let copied = copied.await;
        let source = path.clone();
        let loaded = match copied {
            Ok(bytes) if bytes <= bytes_max => {
                let work = move || {
                    let file = fs::File::open(&source).map_err(|e| e.to_string())?;
                    image::load(&store, file).map_err(|e| e.to_string())
                };
                tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(e.to_string()))
            }
            Ok(_) => Err(format!("it is larger than {bytes_max} bytes")),
            Err(error) => Err(error.to_string()),
        };
        let _ = fs::remove_file(&path);
        let names = loaded.map_err(ImageLoadError)?;
        self.inputs_changed();
        Ok(names)
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.inner.pods()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_become_directories_are_checked() {
        let read = |uid: &str, container: &str, volume: &str| {
            let pod = json!({ "metadata": { "name": "p", "uid": uid }, "spec": {
                "containers": [{ "name": container }], "volumes": [{ "name": volume }] } });
            DesiredPod::read(Bytes::from(pod.to_string())).map(drop).map_err(|e| e.to_string())
        };
        assert_eq!(read("u-1", "c", "v"), Ok(()));
        for bad in ["", "..", "../../etc", "a/b", "."] {
            assert!(read(bad, "c", "v").unwrap_err().contains("uid"), "{bad}");
            assert!(read("u", bad, "v").unwrap_err().contains("unusable name"), "{bad}");
            assert!(read("u", "c", bad).unwrap_err().contains("unusable name"), "{bad}");
        }
    }
}
