//! What all Pods of one runtime share, and where each Pod's files lie.

use std::path::PathBuf;
use std::sync::Arc;

use crate::Config;
use crate::cgroup::Hierarchies;
use crate::image::{ImageStore, Puller};
use crate::outside::{Inputs, Network, PodRef};
use crate::refusal::Host;
use crate::report::{EventType, Reports, RuntimeEvent, Subject};
use crate::shim::start::ShimSettings;
use crate::shim::task::OciRuntime;
use crate::spec::fields::Here;
use crate::spec::limits::Limits;

/// Shared by every Pod.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) inputs: Arc<dyn Inputs>,
    pub(crate) store: Arc<ImageStore>,
    pub(crate) puller: Puller,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) limits: Limits,
    pub(crate) host: Host,
    pub(crate) reports: Arc<Reports>,
    pub(crate) shim: ShimSettings,
    pub(crate) oci_runtime: OciRuntime,
    /// Changes with each boot of the machine.
    pub(crate) boot_id: String,
}

impl Node {
    /// Where a Pod's files lie.
    pub(crate) fn place(&self, uid: &str) -> Place {
        Place {
            data: self.config.data_dir.join("pods").join(uid),
            run: self.config.run_dir.join("pods").join(uid),
            cgroup: self.config.cgroup_parent.join(format!("pod{uid}")),
        }
    }

    /// What fields of a Pod may refer to.
    pub(crate) fn here<'a>(&'a self, pod_ips: &'a [std::net::IpAddr]) -> Here<'a> {
        Here { node_name: &self.config.node_name, host_ips: &self.config.host_ips, pod_ips }
    }

    /// Tells users something.
    pub(crate) fn event(
        &self,
        pod: &PodRef,
        field_path: &str,
        type_: EventType,
        reason: &'static str,
        message: String,
    ) {
        tracing::debug!(%pod, field_path, reason, message, "event");
        self.reports.event(RuntimeEvent {
            subject: Subject::Pod(pod.clone()),
            field_path: field_path.to_owned(),
            type_,
            reason,
            message,
        });
    }
}

/// The places of one Pod.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// On disk.
    pub(crate) data: PathBuf,
    /// In memory, until the next boot: environments hold Secrets.
    pub(crate) run: PathBuf,
    /// Below each cgroup hierarchy.
    pub(crate) cgroup: PathBuf,
}

impl Place {
    /// The record of what is there.
    pub(crate) fn record(&self) -> PathBuf {
        self.data.join("record.json")
    }

    /// `hosts`, `hostname`, `resolv.conf`.
    pub(crate) fn etc(&self) -> PathBuf {
        self.data.join("etc")
    }

    /// The log of a container's run.
    pub(crate) fn log(&self, container: &str, attempt: u32) -> PathBuf {
        self.data.join("logs").join(container).join(format!("{attempt}.log"))
    }

    /// A run's writable layer.
    pub(crate) fn writable(&self, id: &str) -> PathBuf {
        self.data.join("rw").join(id)
    }

    /// A run's last words.
    pub(crate) fn termination(&self, id: &str) -> PathBuf {
        self.data.join("term").join(id)
    }

    /// How a run ended, while no record says it yet.
    pub(crate) fn end(&self, id: &str) -> PathBuf {
        self.data.join("term").join(format!("{id}.json"))
    }

    /// Volumes on disk.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// Volumes in memory.
    pub(crate) fn memory(&self) -> PathBuf {
        self.run.join("memory")
    }

    /// Pinned namespaces.
    pub(crate) fn namespaces(&self) -> PathBuf {
        self.run.join("ns")
    }

    /// The shim's working directory.
    pub(crate) fn shim(&self) -> PathBuf {
        self.run.join("shim")
    }

    /// A run's `config.json` and `rootfs`.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.run.join("c").join(id)
    }

    /// Parts of volumes that a run mounts.
    pub(crate) fn parts(&self, id: &str) -> PathBuf {
        self.run.join("parts").join(id)
    }

    /// What the Pod's containers share as `/dev/shm`.
    pub(crate) fn shared_memory(&self) -> PathBuf {
        self.run.join("shm")
    }

    /// FIFOs of execs.
    pub(crate) fn execs(&self) -> PathBuf {
        self.run.join("exec")
    }
}
