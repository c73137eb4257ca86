//! Which kinds have a parsed view in the snapshot.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use weft_api::kind::{self, Kind};
use weft_api::meta::ObjectMeta;
use weft_api::object::Object;
use weft_api::view::{Deployment, EndpointSlice, Lease, Node, Pod, ReplicaSet, Service};

/// What the loops read of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NamespaceView {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Desired state.
    pub spec: NamespaceSpec,
    /// Observed state.
    pub status: NamespaceStatus,
}

/// `spec` of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NamespaceSpec {
    /// Who must agree before the namespace goes; `kubernetes` stands for the deletion of its content.
    pub finalizers: Vec<String>,
}

/// `status` of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NamespaceStatus {
    /// `Active` or `Terminating`.
    pub phase: String,
}

/// A kind that has a view in the snapshot.
pub trait Viewed: DeserializeOwned + 'static {
    /// The row of the kinds table.
    fn kind() -> &'static Kind;
    /// The view, if it is this one.
    fn of(view: &View) -> Option<&Self>;
}

macro_rules! views {
    ($($name:ident: $view:ty = $kind:path;)*) => {
        /// A parsed view.
        #[derive(Debug)]
        pub enum View {
            /// The kind has no view here, or the object is not readable.
            None,
            $(
                #[doc = concat!("View of a ", stringify!($name), ".")]
                $name(Box<$view>),
            )*
        }

        impl View {
            /// Reads the view of an object.
            pub(super) fn read(object: &Object) -> Self {
                $(
                    if object.kind == &$kind {
                        return object.view().map_or(Self::None, |view| Self::$name(Box::new(view)));
                    }
                )*
                Self::None
            }
        }

        $(
            impl Viewed for $view {
                fn kind() -> &'static Kind {
                    &$kind
                }
                fn of(view: &View) -> Option<&Self> {
                    match view {
                        View::$name(view) => Some(view),
                        _ => None,
                    }
                }
            }
        )*
    };
}

views! {
    Pod: Pod = kind::POD;
    Node: Node = kind::NODE;
    Service: Service = kind::SERVICE;
    EndpointSlice: EndpointSlice = kind::ENDPOINT_SLICE;
    Deployment: Deployment = kind::DEPLOYMENT;
    ReplicaSet: ReplicaSet = kind::REPLICA_SET;
    Lease: Lease = kind::LEASE;
    Namespace: NamespaceView = kind::NAMESPACE;
}
