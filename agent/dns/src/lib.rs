//! Cluster DNS on the node: Service names from the node's own state, everything else from the node's resolvers.
//!
//! [`records::Records`] is the table, [`answer`] decides without I/O, [`server`] has the sockets.

pub mod answer;
pub mod forward;
pub mod records;
pub mod resolv_conf;
pub mod resolve;
pub mod server;
