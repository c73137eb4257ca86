//! Desired Services, Pods and policies to map rows; loading, attaching, pinning.
//!
//! [`desired`] says what the node's kernel should know; [`rows`], [`plan`] and [`diff`] turn it into writes without
//! touching anything; the rest does the writing: [`Dataplane`] is what the agent holds.

mod choices;
pub mod config;
pub mod desired;
pub mod diff;
pub mod dry;
pub mod flow_table;
pub mod live;
pub mod mtu;
pub mod netns;
pub mod plan;
pub mod reach;
pub mod rows;

mod announce;
mod attach;
mod clsact;
mod dataplane;
mod departed;
mod echo;
mod events;
mod host_ports;
mod inspect;
mod links;
mod load;
mod migrate;
mod netlink;
mod pin;
mod pods;
mod probe;
mod sock_diag;
mod sockets;
mod sys;
mod sysctl;
mod tables;
mod test_run;
mod worker;
mod xdp;

pub use announce::{AnnounceError, Announced, Announcer, neighbour_answers};
pub use attach::AttachError;
pub use config::{Capacities, Config, ConfigError, PacketHooks, RoutingMode, Xdp};
pub use dataplane::{Applied, ApplyError, AskError, Dataplane, Routing, StartError, Status, Stopped};
pub use events::{Event, Events, EventsError};
pub use host_ports::HostPort;
pub use inspect::{Fill, FlowEntry, ServiceEntry};
pub use links::LinkError;
pub use load::LoadError;
pub use migrate::MigrateError;
pub use netlink::NetlinkError;
pub use pin::PinError;
pub use pods::{PodError, PodLink, PodNetwork};
pub use probe::{Abilities, TooOld};
pub use sysctl::SysctlError;
pub use tables::TableError;
pub use worker::chain;
pub use xdp::XdpStatus;
