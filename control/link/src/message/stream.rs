//! What begins a byte stream that the control plane opens.

/// First message on a stream the control plane opens.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Open {
    /// To what.
    #[prost(oneof = "open::To", tags = "1, 2, 3")]
    pub to: Option<open::To>,
}

/// See [`Open`].
pub mod open {
    /// One of them.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum To {
        /// The agent's own HTTP/1.1 API, the one of its Unix socket.
        #[prost(message, tag = "1")]
        Agent(super::Agent),
        /// A TCP connection to an address as this node's Pods and Services see it, `IP:PORT`.
        #[prost(string, tag = "2")]
        Dial(String),
        /// A TCP connection to a port inside a Pod, at its loopback address. Agents of before refuse it.
        #[prost(message, tag = "3")]
        PodPort(super::PodPort),
    }
}

/// A port inside one of the node's Pods.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodPort {
    /// The Pod's namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The Pod.
    #[prost(string, tag = "2")]
    pub pod: String,
    /// 1 to 65535.
    #[prost(uint32, tag = "3")]
    pub port: u32,
}

/// The agent's own API.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Agent {}

/// Answer to [`Open`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Opened {
    /// Why not; empty: raw bytes follow.
    #[prost(string, tag = "1")]
    pub refused: String,
}
