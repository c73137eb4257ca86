//! The messages of the link, protocol version 1. Protobuf by prost: fields may be added, never renumbered.
//!
//! One QUIC connection per node, dialled by the agent. Its streams:
//!
//! | stream | opened by | content |
//! | --- | --- | --- |
//! | first bidirectional | agent | [`Hello`] up, [`Welcome`] down, then [`Request`]s up and [`Response`]s down, by `id` |
//! | unidirectional, first | control plane | [`StateFrame`]s: what this node must know |
//! | unidirectional, first | agent | [`StatusFrame`]s: what this node reports |
//! | bidirectional | control plane | one [`Open`], one [`Opened`] back, then raw bytes both ways |
//!
//! Joining is a connection of its own (ALPN `weft-join/1`, no client certificate): [`JoinRequest`], [`JoinResponse`].

mod discreet;
mod stream;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use self::stream::{Agent, Open, Opened, PodPort, open};

/// The newest protocol version this build speaks.
pub const PROTOCOL: u32 = 1;
/// The oldest protocol version this build still speaks.
pub const PROTOCOL_OLDEST: u32 = 1;
/// ALPN of the link.
pub const ALPN: &[u8] = b"weft-link/1";
/// ALPN of a join.
pub const ALPN_JOIN: &[u8] = b"weft-join/1";
/// Largest encoded message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A place in one store's history. A revision alone is no identity.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Position {
    /// The store's random id, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub store_id: Bytes,
    /// Raised by every restore.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Revision.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
}

/// The agent's first message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Newest protocol version it speaks.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Oldest protocol version it speaks.
    #[prost(uint32, tag = "2")]
    pub protocol_oldest: u32,
    /// Its node name; must be the certificate's.
    #[prost(string, tag = "3")]
    pub node: String,
    /// Its version, for people.
    #[prost(string, tag = "4")]
    pub agent_version: String,
    /// The complete view it holds, if any; unset asks for a full list.
    #[prost(message, optional, tag = "5")]
    pub resume: Option<Position>,
    /// The Node object as the agent would register it, JSON.
    #[prost(bytes = "bytes", tag = "6")]
    pub node_json: Bytes,
}

/// The control plane's answer to [`Hello`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// The version both speak.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// The store that is served; the revision is the one the state stream begins at.
    #[prost(message, optional, tag = "2")]
    pub position: Option<Position>,
    /// Whether the state stream goes on from `Hello.resume`, without a full list.
    #[prost(bool, tag = "3")]
    pub resumed: bool,
    /// Why the session is refused; empty otherwise. The connection is closed after it.
    #[prost(string, tag = "4")]
    pub refused: String,
    /// Cluster-wide settings every agent needs.
    #[prost(message, optional, tag = "5")]
    pub cluster: Option<Cluster>,
}

/// Settings of the cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cluster {
    /// Service ranges, one CIDR per family.
    #[prost(string, repeated, tag = "1")]
    pub service_cidrs: Vec<String>,
    /// Pod ranges, one CIDR per family.
    #[prost(string, repeated, tag = "2")]
    pub pod_cidrs: Vec<String>,
    /// DNS Service addresses, one per family.
    #[prost(string, repeated, tag = "3")]
    pub dns_ips: Vec<String>,
    /// Cluster domain, `cluster.local`.
    #[prost(string, tag = "4")]
    pub domain: String,
    /// First NodePort.
    #[prost(uint32, tag = "5")]
    pub node_port_first: u32,
    /// Last NodePort.
    #[prost(uint32, tag = "6")]
    pub node_port_last: u32,
    /// How often the agent reports its health, milliseconds.
    #[prost(uint32, tag = "7")]
    pub heartbeat_ms: u32,
    /// The cluster's CA, PEM.
    #[prost(string, tag = "8")]
    pub ca_pem: String,
    /// UDP port of the VXLAN overlay.
    #[prost(uint32, tag = "9")]
    pub vxlan_port: u32,
    /// First of the two UDP ports of WireGuard; 0: nodes do not encrypt.
    #[prost(uint32, tag = "10")]
    pub encryption_port: u32,
}

/// State, downward. A full list is `begin`, `put`s, `commit`; a delta is `put`s and `remove`s, then `commit`.
/// Nothing counts before its `commit`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateFrame {
    /// What the frame is.
    #[prost(oneof = "state_frame::Frame", tags = "1, 2, 3, 4")]
    pub frame: Option<state_frame::Frame>,
}

/// See [`StateFrame`].
pub mod state_frame {
    /// One of them.
    #[derive(Clone, PartialEq, prost::Oneof)]
    // Frames live one at a time, on their way.
    #[allow(clippy::large_enum_variant)]
    pub enum Frame {
        /// A full list begins; what is not put before the commit is gone.
        #[prost(message, tag = "1")]
        Begin(super::Begin),
        /// A resource is there, or changed.
        #[prost(message, tag = "2")]
        Put(super::Resource),
        /// A resource is gone: its [`super::Resource::name`].
        #[prost(string, tag = "3")]
        Remove(String),
        /// All before this is one consistent state, the one of this position.
        #[prost(message, tag = "4")]
        Commit(super::Position),
    }
}

/// A [`StateFrame`] as the agent takes it: the same bytes, the resource left as it came.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClosedFrame {
    /// What the frame is.
    #[prost(oneof = "closed_frame::Frame", tags = "1, 2, 3, 4")]
    pub frame: Option<closed_frame::Frame>,
}

/// See [`ClosedFrame`].
pub mod closed_frame {
    /// One of them, as in [`super::state_frame::Frame`].
    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub enum Frame {
        /// A full list begins.
        #[prost(message, tag = "1")]
        Begin(super::Begin),
        /// A [`super::Resource`], encoded.
        #[prost(bytes = "bytes", tag = "2")]
        Put(super::Bytes),
        /// A resource is gone.
        #[prost(string, tag = "3")]
        Remove(String),
        /// All before this is one consistent state.
        #[prost(message, tag = "4")]
        Commit(super::Position),
    }
}

/// Start of a full list.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Begin {}

/// One thing a node must know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// Unique name within the view: `service/NS/NAME`, `object/KIND/NS/NAME`, `peer/NODE`, `address/IP`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The thing.
    #[prost(oneof = "resource::Body", tags = "2, 3, 4, 5")]
    pub body: Option<resource::Body>,
}

/// See [`Resource`].
pub mod resource {
    /// One of them.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// A Service with its endpoints.
        #[prost(message, tag = "2")]
        Service(super::Service),
        /// An object as the API has it: this node's Pods, the ConfigMaps, Secrets and ServiceAccounts they use, its Node.
        #[prost(message, tag = "3")]
        Object(super::ApiObject),
        /// A node, this one included.
        #[prost(message, tag = "4")]
        Peer(super::Peer),
        /// Who has an address.
        #[prost(message, tag = "5")]
        Address(super::Address),
    }
}

/// A Kubernetes object.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct ApiObject {
    /// Kind, for example `Pod`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The whole object, JSON.
    #[prost(bytes = "bytes", tag = "4")]
    pub json: Bytes,
}

/// A Service and its endpoints, ready to be balanced and resolved.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Service {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    #[prost(string, tag = "3")]
    pub r#type: String,
    /// Addresses in network byte order, 4 or 16 bytes; none for headless and ExternalName.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub cluster_ips: Vec<Bytes>,
    /// Ports.
    #[prost(message, repeated, tag = "5")]
    pub ports: Vec<Port>,
    /// Endpoints, of all slices.
    #[prost(message, repeated, tag = "6")]
    pub endpoints: Vec<Endpoint>,
    /// CNAME target.
    #[prost(string, tag = "7")]
    pub external_name: String,
    /// `externalTrafficPolicy: Local`.
    #[prost(bool, tag = "8")]
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`.
    #[prost(bool, tag = "9")]
    pub internal_local: bool,
    /// Publish addresses that are not ready.
    #[prost(bool, tag = "10")]
    pub publish_not_ready: bool,
    /// Session affinity by client address, seconds; 0 for none.
    #[prost(uint32, tag = "11")]
    pub affinity_seconds: u32,
    /// Addresses outside the cluster that others route to the nodes, network byte order, 4 or 16 bytes.
    #[prost(bytes = "bytes", repeated, tag = "12")]
    pub external_ips: Vec<Bytes>,
    /// Addresses of the load balancer that arrive at a node as they are, network byte order, 4 or 16 bytes.
    #[prost(bytes = "bytes", repeated, tag = "13")]
    pub load_balancer_ips: Vec<Bytes>,
    /// The node that announces `load_balancer_ips` to its network; empty: none of the cluster's.
    #[prost(string, tag = "14")]
    pub announcer: String,
    /// TCP port at which each node tells whether it has ready endpoints; 0 for none.
    #[prost(uint32, tag = "15")]
    pub health_check_node_port: u32,
    /// Ranges of clients that may use `load_balancer_ips` from outside, CIDR text; none: everybody.
    #[prost(string, repeated, tag = "16")]
    pub source_ranges: Vec<String>,
}

/// One port of a Service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Port {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// IP protocol number: 6, 17, 132.
    #[prost(uint32, tag = "2")]
    pub protocol: u32,
    /// Port on the Service address.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// Port on every node; 0 for none.
    #[prost(uint32, tag = "4")]
    pub node_port: u32,
}

/// One endpoint of a Service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Endpoint {
    /// Network byte order, 4 or 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub address: Bytes,
    /// Port at the endpoint by Service port name; a name that is missing is not served here.
    #[prost(btree_map = "string, uint32", tag = "2")]
    pub ports: BTreeMap<String, u32>,
    /// Node it runs on; empty: outside.
    #[prost(string, tag = "3")]
    pub node: String,
    /// Pod behind it, `NS/NAME`; empty: none.
    #[prost(string, tag = "4")]
    pub pod: String,
    /// DNS hostname in a headless Service.
    #[prost(string, tag = "5")]
    pub hostname: String,
    /// Takes new connections.
    #[prost(bool, tag = "6")]
    pub ready: bool,
    /// Answers, terminating or not.
    #[prost(bool, tag = "7")]
    pub serving: bool,
    /// Is going away.
    #[prost(bool, tag = "8")]
    pub terminating: bool,
    /// Nodes of these zones should use it; none: whoever.
    #[prost(string, repeated, tag = "9")]
    pub zone_hints: Vec<String>,
    /// These nodes should use it; none: whoever.
    #[prost(string, repeated, tag = "10")]
    pub node_hints: Vec<String>,
}

/// A node of the cluster, as the others see it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Peer {
    /// Node name.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Addresses on the underlay, network byte order, 4 or 16 bytes.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub addresses: Vec<Bytes>,
    /// Its Pods' ranges, CIDR text.
    #[prost(string, repeated, tag = "3")]
    pub pod_cidrs: Vec<String>,
    /// Its public keys, of the generations in use.
    #[prost(message, repeated, tag = "4")]
    pub keys: Vec<NodeKey>,
}

/// A node's public key. The private one stands in a Secret that goes to that node alone.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeKey {
    /// Generation: nodes speak by keys of one generation.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// Curve25519, 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub public: Bytes,
}

/// Who has an address: for names in traces, and later for policy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Address {
    /// Network byte order, 4 or 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub address: Bytes,
    /// Pod, `NS/NAME`.
    #[prost(string, tag = "2")]
    pub pod: String,
    /// Node it runs on.
    #[prost(string, tag = "3")]
    pub node: String,
}

/// Status, upward.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusFrame {
    /// What is reported.
    #[prost(oneof = "status_frame::Frame", tags = "1, 2, 3, 4, 5")]
    pub frame: Option<status_frame::Frame>,
}

/// See [`StatusFrame`].
pub mod status_frame {
    /// One of them.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Frame {
        /// The agent lives: renews the node's Lease.
        #[prost(message, tag = "1")]
        Heartbeat(super::Heartbeat),
        /// The node's `status`, JSON.
        #[prost(bytes = "bytes", tag = "2")]
        Node(bytes::Bytes),
        /// A Pod's `status`.
        #[prost(message, tag = "3")]
        Pod(super::PodStatus),
        /// Something a user should see, as a `v1` Event.
        #[prost(message, tag = "4")]
        Event(super::NodeEvent),
        /// The dataplane holds this state.
        #[prost(message, tag = "5")]
        Applied(super::Position),
    }
}

/// The agent lives.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Heartbeat {}

/// What became of a Pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodStatus {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// UID; a status for another Pod of the same name is passed over.
    #[prost(string, tag = "3")]
    pub uid: String,
    /// `status`, JSON.
    #[prost(bytes = "bytes", tag = "4")]
    pub json: Bytes,
    /// Nothing of the Pod is left on the node: a terminating Pod may now be removed.
    #[prost(bool, tag = "5")]
    pub gone: bool,
}

/// Something a user should see.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeEvent {
    /// Kind of the object it is about.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Its UID.
    #[prost(string, tag = "4")]
    pub uid: String,
    /// Part of it, for example `spec.containers{web}`.
    #[prost(string, tag = "5")]
    pub field_path: String,
    /// `Normal` or `Warning`.
    #[prost(string, tag = "6")]
    pub r#type: String,
    /// CamelCase.
    #[prost(string, tag = "7")]
    pub reason: String,
    /// For people.
    #[prost(string, tag = "8")]
    pub message: String,
}

/// Something the agent asks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Names the response.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is asked.
    #[prost(oneof = "request::Body", tags = "2, 3")]
    pub body: Option<request::Body>,
}

/// See [`Request`].
pub mod request {
    /// One of them.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// A ServiceAccount token for one of this node's Pods.
        #[prost(message, tag = "2")]
        Token(super::TokenRequest),
        /// A new certificate for this node: a PKCS#10 request, PEM.
        #[prost(string, tag = "3")]
        Renew(String),
    }
}

/// Asks for a token bound to a Pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TokenRequest {
    /// Namespace of Pod and ServiceAccount.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// ServiceAccount.
    #[prost(string, tag = "2")]
    pub service_account: String,
    /// Pod.
    #[prost(string, tag = "3")]
    pub pod: String,
    /// Pod's UID.
    #[prost(string, tag = "4")]
    pub pod_uid: String,
    /// Audience; empty: the API server.
    #[prost(string, tag = "5")]
    pub audience: String,
    /// Lifetime, seconds.
    #[prost(uint64, tag = "6")]
    pub lifetime_seconds: u64,
}

/// The answer to a [`Request`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Response {
    /// The request's.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Why it was refused; empty otherwise.
    #[prost(string, tag = "2")]
    pub refused: String,
    /// The token, or the certificate chain in PEM.
    #[prost(string, tag = "3")]
    pub text: String,
    /// When the token ends, seconds since 1970-01-01 UTC.
    #[prost(uint64, tag = "4")]
    pub expires_unix_seconds: u64,
}

/// A machine asks to become a node.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct JoinRequest {
    /// Join token, `weft.<id>.<secret>.<sha256 of the CA certificate's DER, hex>`.
    #[prost(string, tag = "1")]
    pub token: String,
    /// Node name, a DNS-1123 subdomain.
    #[prost(string, tag = "2")]
    pub node: String,
    /// PKCS#10 request, PEM.
    #[prost(string, tag = "3")]
    pub csr_pem: String,
}

/// Answer to [`JoinRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct JoinResponse {
    /// Why not; empty otherwise.
    #[prost(string, tag = "1")]
    pub refused: String,
    /// The node's certificate, subject `CN=system:node:<name>, O=system:nodes`, PEM.
    #[prost(string, tag = "2")]
    pub certificate_pem: String,
    /// The cluster's CA, PEM.
    #[prost(string, tag = "3")]
    pub ca_pem: String,
}
