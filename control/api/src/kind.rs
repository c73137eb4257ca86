//! The table of served kinds: one row per kind, and no code per kind anywhere that a row can say it.

use std::fmt;

/// One served kind: its names on the wire and what may be asked of it.
///
/// Two kinds are the same when their group and name are; compare with `==`.
#[derive(Debug)]
pub struct Kind {
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
    /// What may follow the name in the URL.
    pub subresources: &'static [Subresource],
    /// Fields a field selector may name, beside `metadata.name` and `metadata.namespace`; dotted paths.
    pub selectable_fields: &'static [&'static str],
    /// Name of the kind's definition in the schema tables, for example `io.k8s.api.core.v1.Pod`.
    pub schema: &'static str,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || (self.group == other.group && self.kind == other.kind)
    }
}
impl Eq for Kind {}
impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.group, self.kind).hash(state);
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

/// A path element behind an object's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subresource {
    /// `status`: the status alone is written, spec changes are ignored.
    Status,
    /// `scale`: an `autoscaling/v1` Scale over `spec.replicas`.
    Scale,
    /// `binding`: the scheduler's decision for a Pod.
    Binding,
    /// `log`: a container's output.
    Log,
    /// `exec`: a command in a container.
    Exec,
    /// `attach`: a container's own streams.
    Attach,
    /// `portforward`: TCP into a Pod.
    PortForward,
    /// `proxy`: HTTP through the API server.
    Proxy,
    /// `token`: a bound ServiceAccount token.
    Token,
    /// `finalize`: a Namespace's finalizers.
    Finalize,
}

impl Subresource {
    /// The path element.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
            Self::Token => "token",
            Self::Finalize => "finalize",
        }
    }

    /// The subresource of a path element.
    pub fn parse(text: &str) -> Option<Self> {
        use Subresource::*;
        [Status, Scale, Binding, Log, Exec, Attach, PortForward, Proxy, Token, Finalize]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

use Subresource::*;

const BASE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    subresources: &[],
    selectable_fields: &[],
    schema: "",
};

/// `Node`.
pub static NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    subresources: &[Status, Proxy],
    selectable_fields: &["spec.unschedulable"],
    schema: "io.k8s.api.core.v1.Node",
    ..BASE
};
/// `Namespace`.
pub static NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    subresources: &[Status, Finalize],
    selectable_fields: &["status.phase"],
    schema: "io.k8s.api.core.v1.Namespace",
    ..BASE
};
/// `Pod`.
pub static POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[Status, Binding, Log, Exec, Attach, PortForward, Proxy],
    selectable_fields: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    schema: "io.k8s.api.core.v1.Pod",
    ..BASE
};
/// `Service`.
pub static SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[Status, Proxy],
    selectable_fields: &["spec.clusterIP", "spec.type"],
    schema: "io.k8s.api.core.v1.Service",
    ..BASE
};
/// `Endpoints`.
pub static ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    schema: "io.k8s.api.core.v1.Endpoints",
    ..BASE
};
/// `EndpointSlice`.
pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    schema: "io.k8s.api.discovery.v1.EndpointSlice",
    ..BASE
};
/// `ConfigMap`.
pub static CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    schema: "io.k8s.api.core.v1.ConfigMap",
    ..BASE
};
/// `Secret`.
pub static SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    selectable_fields: &["type"],
    schema: "io.k8s.api.core.v1.Secret",
    ..BASE
};
/// `ServiceAccount`.
pub static SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Token],
    schema: "io.k8s.api.core.v1.ServiceAccount",
    ..BASE
};
/// `Event` of the core group; `events.k8s.io` comes with the rest of the kinds.
pub static EVENT: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    selectable_fields: &[
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
    schema: "io.k8s.api.core.v1.Event",
    ..BASE
};
/// `Deployment`.
pub static DEPLOYMENT: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[Status, Scale],
    schema: "io.k8s.api.apps.v1.Deployment",
    ..BASE
};
/// `ReplicaSet`.
pub static REPLICA_SET: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[Status, Scale],
    selectable_fields: &["status.replicas"],
    schema: "io.k8s.api.apps.v1.ReplicaSet",
    ..BASE
};
/// `Lease`.
pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    schema: "io.k8s.api.coordination.v1.Lease",
    ..BASE
};

/// Every served kind, in the order discovery lists them.
pub static KINDS: &[&Kind] = &[
    &NODE,
    &NAMESPACE,
    &POD,
    &SERVICE,
    &ENDPOINTS,
    &CONFIG_MAP,
    &SECRET,
    &SERVICE_ACCOUNT,
    &EVENT,
    &DEPLOYMENT,
    &REPLICA_SET,
    &ENDPOINT_SLICE,
    &LEASE,
];

/// The kind behind `/apis/<group>/<version>/<plural>`, if it is served.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The kind of an object's `apiVersion` and `kind`, if it is served.
pub fn by_api_version(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    KINDS.iter().copied().find(|k| k.group == group && k.version == version && k.kind == kind)
}
