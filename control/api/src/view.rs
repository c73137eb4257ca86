//! Views: what Weft's own code reads of each kind.
//!
//! A view is a reading, never the stored form: fields that are not here stay in the object's bytes. Add a field when
//! code needs it, with the name and the default that the Kubernetes API reference gives.

pub mod config;
pub mod network;
pub mod node;
pub mod pod;
pub mod workload;

pub use config::{ConfigMap, Secret, ServiceAccount};
pub use network::{Endpoint, EndpointSlice, Service, ServicePort};
pub use node::{Lease, Node, Taint};
pub use pod::{Container, Pod};
pub use workload::{Deployment, LabelSelector, ReplicaSet};
