//! Runs Pods: images, namespaces, containers through containerd shims, volumes, probes, logs.
//!
//! The daemon gives the wanted Pods ([`Runtime::set_pods`]), a [`Network`] and the [`Inputs`] they refer to, and reads
//! what became of them ([`Runtime::reports`]). Nothing here knows the link, the dataplane or the control plane.
//!
//! What a Pod may ask for and this node does not give is in `refusal.rs`.

mod beneath;
pub mod cgroup;
mod config;
mod container;
mod exec;
mod image;
mod log;
mod namespace;
mod node;
mod outside;
mod pause;
mod pod;
mod probe;
mod record;
mod refusal;
mod report;
mod runtime;
mod sandbox;
mod session;
mod shim;
mod spec;
mod tls;
mod usage;
mod volume;
mod worker;

pub use config::{Config, ImageCollection, Logger};
pub use log::log_writer_main;
pub use outside::{Answer, Attach, Dns, Inputs, Lookup, Network, PodRef, Refusal, Token, TokenRequest};
pub use report::{EventType, PodUpdate, Report, Reports, RuntimeEvent, Subject};
pub use runtime::{DesiredPod, DesiredPodError, ImageInfo, ImageLoadError, Runtime, StartError};
pub use session::{
    AttachRequest, ContainerRef, ExecRequest, ExecSession, LogRequest, LogStream, SessionError, TerminalSize,
};
