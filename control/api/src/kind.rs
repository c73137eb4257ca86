//! The table of served kinds: one row per kind, and no code per kind anywhere that a row can say it.

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod events;
mod extensions;
mod metrics;
mod networking;
mod node;
mod policy;
mod rbac;
mod scheduling;
mod storage;

pub(crate) use autoscaling::drop_annotations;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::status::Errors;
use crate::table::{self, Printer};
use crate::validate::{self, Rules, name};

/// One served kind: its names on the wire and what may be asked of it.
///
/// There is one of each, in [`KINDS`]; compare with `==`.
#[derive(Debug)]
pub struct Kind {
    /// Its place in [`KINDS`].
    pub index: usize,
    /// API group, `""` for the core group.
    pub group: &'static str,
    /// Served version, for example `v1`.
    pub version: &'static str,
    /// CamelCase name, for example `EndpointSlice`.
    pub kind: &'static str,
    /// Lower-case plural, as in the URL.
    pub plural: &'static str,
    /// Lower-case singular.
    pub singular: &'static str,
    /// What kubectl accepts in place of the plural.
    pub short_names: &'static [&'static str],
    /// Groups of resources it belongs to, for example `all`.
    pub categories: &'static [&'static str],
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// What may be done with its objects.
    pub verbs: &'static [&'static str],
    /// What may follow the name in the URL.
    pub subresources: &'static [Subresource],
    /// Fields a field selector may name, beside `metadata.name` and `metadata.namespace`; dotted paths.
    pub selectable_fields: &'static [&'static str],
    /// Name of the kind's definition in the schema tables, for example `io.k8s.api.core.v1.Pod`.
    pub schema: &'static str,
    /// Whether `metadata.generation` counts the changes of the desired state.
    pub has_generation: bool,
    /// Whether a PUT makes an object that is not there.
    pub create_on_update: bool,
    /// What of labels, annotations, finalizers and owners a write to the status leaves as it is, as Kubernetes' strategy for
    /// the kind's status has it; the others it takes along.
    pub status_keeps: &'static [&'static str],
    /// What is wrong with a name, in words.
    pub(crate) name_rules: fn(&str) -> Vec<String>,
    /// Fills in what an object means where its author said nothing.
    pub(crate) default: fn(&mut Map<String, Value>),
    /// Writes in what the server says of an object: a new one, or one that was as the second argument has it.
    pub(crate) prepare: fn(&mut Map<String, Value>, Option<&Value>),
    /// Which objects may be stored, and which changes to them.
    pub(crate) rules: &'static Rules,
    /// What is asked of a change by a subresource, new and old object, beside the rules of `status`.
    pub(crate) part_rules: fn(Subresource, &Value, &Value, &mut Errors),
    /// What `kubectl get` shows.
    pub(crate) printer: &'static Printer,
    /// Of a kind whose objects are those of another one, in other words; such a kind stands in [`DIALECTS`].
    pub dialect: Option<&'static Dialect>,
}

/// How a stored kind is served in one more group or version.
#[derive(Debug)]
pub struct Dialect {
    /// The kind that the objects are stored as.
    pub stored: &'static Kind,
    /// From its words into those that are stored, and back; of apply configurations too, so nothing that
    /// is left out is made up.
    pub(crate) into_stored: fn(&mut Map<String, Value>),
    pub(crate) from_stored: fn(&mut Map<String, Value>),
    /// What the stored kind calls a field.
    pub(crate) field: fn(&str) -> String,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}
impl Eq for Kind {}
impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.index.hash(state);
    }
}

impl Kind {
    /// The object's `apiVersion`: the version alone for the core group, `group/version` for others.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The plural with its group, as messages name it: `deployments.apps`.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The kind that the objects are stored as.
    pub fn stored(&'static self) -> &'static Self {
        self.dialect.map_or(self, |dialect| dialect.stored)
    }

    /// Turns an object in the words of this kind into those that are stored.
    pub fn into_stored(&self, object: &mut Map<String, Value>) {
        if let Some(dialect) = self.dialect {
            (dialect.into_stored)(object);
            object.insert("apiVersion".into(), dialect.stored.api_version().into());
            object.insert("kind".into(), dialect.stored.kind.into());
        }
    }

    /// Turns a stored object into the words of this kind.
    pub fn from_stored(&self, object: &mut Map<String, Value>) {
        if let Some(dialect) = self.dialect {
            (dialect.from_stored)(object);
            object.insert("apiVersion".into(), self.api_version().into());
            object.insert("kind".into(), self.kind.into());
        }
    }

    /// What a field that a selector names is called where the object is stored.
    pub fn stored_field<'a>(&self, path: &'a str) -> Cow<'a, str> {
        self.dialect.map_or(Cow::Borrowed(path), |dialect| Cow::Owned((dialect.field)(path)))
    }

    /// Whether its objects are made when they are asked for; they have no place in the store or the cache.
    pub fn is_computed(&self) -> bool {
        self.index >= COMPUTED_FROM
    }

    /// Whether `subresource` is served for this kind.
    pub fn serves(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)
    }
}

/// Makes the enum and its path elements, both ways.
macro_rules! subresources {
    ($($(#[$doc:meta])* $name:ident = $element:literal,)*) => {
        /// A path element behind an object's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Subresource {
            $(
                #[doc = concat!("`", $element, "`:")]
                $(#[$doc])*
                $name,
            )*
        }

        impl Subresource {
            /// The path element.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $element,)*
                }
            }

            /// The subresource of a path element.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($element => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

subresources! {
    /// the status alone is written, spec changes are ignored.
    Status = "status",
    /// an `autoscaling/v1` Scale over `spec.replicas`.
    Scale = "scale",
    /// whether a CertificateSigningRequest is granted.
    Approval = "approval",
    /// the scheduler's decision for a Pod.
    Binding = "binding",
    /// a container's output.
    Log = "log",
    /// a command in a container.
    Exec = "exec",
    /// a container's own streams.
    Attach = "attach",
    /// TCP into a Pod.
    PortForward = "portforward",
    /// HTTP through the API server.
    Proxy = "proxy",
    /// a bound ServiceAccount token.
    Token = "token",
    /// a Namespace's finalizers.
    Finalize = "finalize",
    /// a Pod goes, unless its budget forbids it.
    Eviction = "eviction",
    /// containers that come to a Pod later.
    EphemeralContainers = "ephemeralcontainers",
    /// CPU and memory of a Pod's containers.
    Resize = "resize",
}

const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Nothing but the status: Kubernetes' `ResetObjectMetaForStatus`.
pub(crate) const STATUS_ALONE: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];

const BASE: Kind = Kind {
    index: 0,
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: ALL_VERBS,
    subresources: &[],
    selectable_fields: &[],
    schema: "",
    has_generation: false,
    create_on_update: false,
    status_keeps: &[],
    name_rules: name::dns_subdomain,
    default: |_| {},
    prepare: |_, _| {},
    rules: &validate::NONE,
    part_rules: |_, _, _, _| {},
    printer: &table::NAME_AND_AGE,
    dialect: None,
};

/// Gives every row its place, and makes the table of them.
macro_rules! kinds {
    ($($name:ident = $row:expr,)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as the rows are")]
        enum Place { $($name),* }
        $(
            #[doc = concat!("`", stringify!($name), "`, in [`KINDS`].")]
            pub static $name: Kind = Kind { index: Place::$name as usize, ..$row };
        )*
        /// Every stored kind, in the order discovery lists them.
        pub const KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    NODE = core::NODE,
    NAMESPACE = core::NAMESPACE,
    POD = core::POD,
    SERVICE = core::SERVICE,
    ENDPOINTS = core::ENDPOINTS,
    CONFIG_MAP = core::CONFIG_MAP,
    SECRET = core::SECRET,
    SERVICE_ACCOUNT = core::SERVICE_ACCOUNT,
    EVENT = core::EVENT,
    LIMIT_RANGE = core::LIMIT_RANGE,
    PERSISTENT_VOLUME = core::PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM = core::PERSISTENT_VOLUME_CLAIM,
    POD_TEMPLATE = core::POD_TEMPLATE,
    REPLICATION_CONTROLLER = core::REPLICATION_CONTROLLER,
    RESOURCE_QUOTA = core::RESOURCE_QUOTA,
    DEPLOYMENT = apps::DEPLOYMENT,
    REPLICA_SET = apps::REPLICA_SET,
    CONTROLLER_REVISION = apps::CONTROLLER_REVISION,
    DAEMON_SET = apps::DAEMON_SET,
    STATEFUL_SET = apps::STATEFUL_SET,
    HORIZONTAL_POD_AUTOSCALER = autoscaling::HORIZONTAL_POD_AUTOSCALER,
    CRON_JOB = batch::CRON_JOB,
    JOB = batch::JOB,
    POD_DISRUPTION_BUDGET = policy::POD_DISRUPTION_BUDGET,
    PRIORITY_CLASS = scheduling::PRIORITY_CLASS,
    ENDPOINT_SLICE = discovery::ENDPOINT_SLICE,
    LEASE = coordination::LEASE,
    NETWORK_POLICY = networking::NETWORK_POLICY,
    INGRESS = networking::INGRESS,
    INGRESS_CLASS = networking::INGRESS_CLASS,
    IP_ADDRESS = networking::IP_ADDRESS,
    SERVICE_CIDR = networking::SERVICE_CIDR,
    ROLE = rbac::ROLE,
    ROLE_BINDING = rbac::ROLE_BINDING,
    CLUSTER_ROLE = rbac::CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING = rbac::CLUSTER_ROLE_BINDING,
    STORAGE_CLASS = storage::STORAGE_CLASS,
    VOLUME_ATTACHMENT = storage::VOLUME_ATTACHMENT,
    CSI_DRIVER = storage::CSI_DRIVER,
    CSI_NODE = storage::CSI_NODE,
    CSI_STORAGE_CAPACITY = storage::CSI_STORAGE_CAPACITY,
    VOLUME_ATTRIBUTES_CLASS = storage::VOLUME_ATTRIBUTES_CLASS,
    RUNTIME_CLASS = node::RUNTIME_CLASS,
    CERTIFICATE_SIGNING_REQUEST = certificates::CERTIFICATE_SIGNING_REQUEST,
    CLUSTER_TRUST_BUNDLE = certificates::CLUSTER_TRUST_BUNDLE,
    POD_CERTIFICATE_REQUEST = certificates::POD_CERTIFICATE_REQUEST,
    MUTATING_WEBHOOK_CONFIGURATION = admission::MUTATING_WEBHOOK_CONFIGURATION,
    VALIDATING_WEBHOOK_CONFIGURATION = admission::VALIDATING_WEBHOOK_CONFIGURATION,
    VALIDATING_ADMISSION_POLICY = admission::VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING = admission::VALIDATING_ADMISSION_POLICY_BINDING,
    MUTATING_ADMISSION_POLICY = admission::MUTATING_ADMISSION_POLICY,
    MUTATING_ADMISSION_POLICY_BINDING = admission::MUTATING_ADMISSION_POLICY_BINDING,
    CUSTOM_RESOURCE_DEFINITION = extensions::CUSTOM_RESOURCE_DEFINITION,
}

/// `events.k8s.io/v1 Event`, in [`DIALECTS`].
pub static EVENTS_EVENT: Kind = Kind { index: KINDS.len(), ..events::EVENT };

/// `autoscaling/v1 HorizontalPodAutoscaler`, in [`DIALECTS`].
pub static FIRST_HORIZONTAL_POD_AUTOSCALER: Kind =
    Kind { index: KINDS.len() + 1, ..autoscaling::FIRST_HORIZONTAL_POD_AUTOSCALER };

/// Kinds whose objects are those of a stored kind in other words; none has a place in the store or the cache.
pub const DIALECTS: &[&Kind] = &[&EVENTS_EVENT, &FIRST_HORIZONTAL_POD_AUTOSCALER];

/// The places from here on are those of [`COMPUTED`].
const COMPUTED_FROM: usize = KINDS.len() + DIALECTS.len();

/// `ComponentStatus`, in [`COMPUTED`].
pub static COMPONENT_STATUS: Kind = Kind { index: COMPUTED_FROM, ..core::COMPONENT_STATUS };

/// `NodeMetrics`, in [`COMPUTED`].
pub static NODE_METRICS: Kind = Kind { index: COMPUTED_FROM + 1, ..metrics::NODE_METRICS };

/// `PodMetrics`, in [`COMPUTED`].
pub static POD_METRICS: Kind = Kind { index: COMPUTED_FROM + 2, ..metrics::POD_METRICS };

/// Kinds whose objects are made when they are asked for; none has a place in the store or the cache.
pub const COMPUTED: &[&Kind] = &[&COMPONENT_STATUS, &NODE_METRICS, &POD_METRICS];

/// Every kind that is served: those that are stored, their dialects, and those that are computed.
pub fn served() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().chain(DIALECTS).chain(COMPUTED).copied()
}

/// Kinds by group and plural, and by group and name.
type Index = HashMap<(&'static str, &'static str), &'static Kind>;

static BY_PLURAL: LazyLock<Index> =
    LazyLock::new(|| KINDS.iter().map(|kind| ((kind.group, kind.plural), *kind)).collect());
static BY_NAME: LazyLock<Index> =
    LazyLock::new(|| KINDS.iter().map(|kind| ((kind.group, kind.kind), *kind)).collect());

/// The stored kind with this plural in a group, if there is one.
pub fn by_plural(group: &str, plural: &str) -> Option<&'static Kind> {
    BY_PLURAL.get(&(group, plural)).copied()
}

/// The stored kind of this name in a group, if there is one.
pub fn by_name(group: &str, kind: &str) -> Option<&'static Kind> {
    BY_NAME.get(&(group, kind)).copied()
}

/// The kind behind `/apis/<group>/<version>/<plural>`, if it is served.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    let names = |kind: &&Kind| kind.group == group && kind.version == version && kind.plural == plural;
    let stored = by_plural(group, plural).filter(|kind| kind.version == version);
    stored.or_else(|| DIALECTS.iter().chain(COMPUTED).copied().find(names))
}

/// The stored kind of an object's `apiVersion` and `kind`, if it is served.
pub fn by_api_version(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let names = |known: &&Kind| known.group == group && known.version == version && known.kind == kind;
    let stored = by_name(group, kind).filter(|kind| kind.version == version);
    stored.or_else(|| DIALECTS.iter().copied().find(names).map(Kind::stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/> lists, a Service's fields and
    /// the other words of `events.k8s.io` beside it, which stand in `AddFieldLabelConversionFunc` of each group's types.
    #[test]
    fn the_fields_of_selectors_are_those_that_kubernetes_documents() {
        let documented: &[(&Kind, &[&str])] = &[
            (
                &POD,
                &[
                    "spec.nodeName",
                    "spec.restartPolicy",
                    "spec.schedulerName",
                    "spec.serviceAccountName",
                    "spec.hostNetwork",
                    "status.phase",
                    "status.podIP",
                    "status.podIPs",
                    "status.nominatedNodeName",
                ],
            ),
            (
                &EVENT,
                &[
                    "involvedObject.kind",
                    "involvedObject.namespace",
                    "involvedObject.name",
                    "involvedObject.uid",
                    "involvedObject.apiVersion",
                    "involvedObject.resourceVersion",
                    "involvedObject.fieldPath",
                    "reason",
                    "reportingComponent",
                    "source",
                    "type",
                ],
            ),
            (
                &EVENTS_EVENT,
                &[
                    "regarding.kind",
                    "regarding.namespace",
                    "regarding.name",
                    "regarding.uid",
                    "regarding.apiVersion",
                    "regarding.resourceVersion",
                    "regarding.fieldPath",
                    "reason",
                    "reportingController",
                    "type",
                ],
            ),
            (&SECRET, &["type"]),
            (&SERVICE, &["spec.clusterIP", "spec.type"]),
            (&NAMESPACE, &["status.phase"]),
            (&NODE, &["spec.unschedulable"]),
            (&REPLICA_SET, &["status.replicas"]),
            (&REPLICATION_CONTROLLER, &["status.replicas"]),
            (&JOB, &["status.successful"]),
            (&CERTIFICATE_SIGNING_REQUEST, &["spec.signerName"]),
            (&CLUSTER_TRUST_BUNDLE, &["spec.signerName"]),
            (&POD_CERTIFICATE_REQUEST, &["spec.signerName", "spec.podName", "spec.nodeName"]),
        ];
        for kind in served() {
            let fields = documented.iter().find(|(of, _)| *of == kind).map_or(&[][..], |(_, fields)| fields);
            assert_eq!(kind.selectable_fields, fields, "{kind}");
        }
    }

    #[test]
    fn every_kind_is_found_by_each_of_its_names_and_stands_at_its_place() {
        for (place, kind) in KINDS.iter().enumerate() {
            assert_eq!(kind.index, place, "{kind}");
            assert_eq!(by_resource(kind.group, kind.version, kind.plural), Some(*kind));
            assert_eq!(by_api_version(&kind.api_version(), kind.kind), Some(*kind));
            assert_eq!(by_resource(kind.group, "v9", kind.plural), None);
        }
        assert_eq!(BY_PLURAL.len(), KINDS.len());
        assert_eq!(BY_NAME.len(), KINDS.len());
        assert_eq!(by_plural("apps", "pods"), None);
        for (place, dialect) in DIALECTS.iter().enumerate() {
            assert_eq!(dialect.index, KINDS.len() + place, "{dialect}");
            assert!(by_resource(dialect.group, dialect.version, dialect.plural) == Some(*dialect));
            assert_eq!(by_api_version(&dialect.api_version(), dialect.kind), Some(dialect.stored()));
            assert!(KINDS.contains(&dialect.stored()) && dialect.stored().dialect.is_none());
        }
        for (place, computed) in COMPUTED.iter().enumerate() {
            assert_eq!(computed.index, KINDS.len() + DIALECTS.len() + place, "{computed}");
            assert_eq!(by_resource(computed.group, computed.version, computed.plural), Some(*computed));
            assert_eq!(
                by_api_version(&computed.api_version(), computed.kind),
                None,
                "nothing of it is stored"
            );
        }
        assert!(served().all(|kind| kind.is_computed() == COMPUTED.contains(&kind)));
    }
}
