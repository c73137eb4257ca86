//! Kinds of the core group.

use super::{BASE, Kind, Subresource::*};
use crate::validate::name;
use crate::{default, table, validate};

/// `Node`.
pub(super) const NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    subresources: &[Status, Proxy],
    selectable_fields: &["spec.unschedulable"],
    schema: "io.k8s.api.core.v1.Node",
    default: default::config::node,
    rules: &validate::node::RULES,
    printer: &table::cluster::NODE,
    ..BASE
};
/// `Namespace`.
pub(super) const NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[Status, Finalize],
    selectable_fields: &["status.phase"],
    schema: "io.k8s.api.core.v1.Namespace",
    name_rules: name::dns_label,
    default: default::config::namespace,
    rules: &validate::config::NAMESPACE,
    printer: &table::cluster::NAMESPACE,
    ..BASE
};
/// `Pod`.
pub(super) const POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        Status,
        Binding,
        Eviction,
        EphemeralContainers,
        Resize,
        Log,
        Exec,
        Attach,
        PortForward,
        Proxy,
    ],
    selectable_fields: &[
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
    // Old kubelets break them.
    status_keeps: &["ownerReferences"],
    schema: "io.k8s.api.core.v1.Pod",
    has_generation: true,
    default: default::pod::pod,
    prepare: default::pod::select_by_own_labels,
    rules: &validate::pod::RULES,
    printer: &table::pod::PRINTER,
    ..BASE
};
/// `Service`.
pub(super) const SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[Status, Proxy],
    selectable_fields: &["spec.clusterIP", "spec.type"],
    schema: "io.k8s.api.core.v1.Service",
    create_on_update: true,
    name_rules: name::dns_label_1035,
    default: default::service::service,
    rules: &validate::service::RULES,
    printer: &table::network::SERVICE,
    ..BASE
};
/// `Endpoints`.
pub(super) const ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    schema: "io.k8s.api.core.v1.Endpoints",
    create_on_update: true,
    default: default::config::endpoints,
    rules: &validate::endpoints::ENDPOINTS,
    printer: &table::network::ENDPOINTS,
    ..BASE
};
/// `ConfigMap`.
pub(super) const CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    schema: "io.k8s.api.core.v1.ConfigMap",
    rules: &validate::config::CONFIG_MAP,
    printer: &table::cluster::CONFIG_MAP,
    ..BASE
};
/// `Secret`.
pub(super) const SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    selectable_fields: &["type"],
    schema: "io.k8s.api.core.v1.Secret",
    default: default::config::secret,
    rules: &validate::config::SECRET,
    printer: &table::cluster::SECRET,
    ..BASE
};
/// `ServiceAccount`.
pub(super) const SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Token],
    schema: "io.k8s.api.core.v1.ServiceAccount",
    rules: &validate::config::SERVICE_ACCOUNT,
    printer: &table::cluster::SERVICE_ACCOUNT,
    ..BASE
};
/// `Event`; `events.k8s.io` has the same in other words.
pub(super) const EVENT: Kind = Kind {
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
    create_on_update: true,
    default: default::config::event,
    rules: &validate::config::EVENT,
    printer: &table::cluster::EVENT,
    ..BASE
};
/// `PersistentVolume`.
pub(super) const PERSISTENT_VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    subresources: &[Status],
    schema: "io.k8s.api.core.v1.PersistentVolume",
    default: default::volume::persistent_volume,
    rules: &validate::persistent_volume::RULES,
    printer: &table::volume::PERSISTENT_VOLUME,
    ..BASE
};
/// `PersistentVolumeClaim`.
pub(super) const PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    subresources: &[Status],
    schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
    default: default::volume::claim,
    rules: &validate::claim::RULES,
    printer: &table::volume::CLAIM,
    ..BASE
};
/// `ResourceQuota`.
pub(super) const RESOURCE_QUOTA: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    subresources: &[Status],
    schema: "io.k8s.api.core.v1.ResourceQuota",
    rules: &validate::quota::RULES,
    printer: &table::policy::RESOURCE_QUOTA,
    ..BASE
};
/// `LimitRange`.
pub(super) const LIMIT_RANGE: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    schema: "io.k8s.api.core.v1.LimitRange",
    create_on_update: true,
    default: default::policy::limit_range,
    rules: &validate::limit_range::RULES,
    printer: &table::NAME_AND_TIME,
    ..BASE
};
/// `PodTemplate`.
pub(super) const POD_TEMPLATE: Kind = Kind {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    schema: "io.k8s.api.core.v1.PodTemplate",
    has_generation: true,
    default: default::workload::pod_template,
    rules: &validate::template::POD_TEMPLATE,
    printer: &table::workload::POD_TEMPLATE,
    ..BASE
};
/// `ReplicationController`.
pub(super) const REPLICATION_CONTROLLER: Kind = Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    subresources: &[Status, Scale],
    selectable_fields: &["status.replicas"],
    schema: "io.k8s.api.core.v1.ReplicationController",
    has_generation: true,
    default: default::workload::replication_controller,
    rules: &validate::workload::REPLICATION_CONTROLLER,
    printer: &table::workload::REPLICATION_CONTROLLER,
    ..BASE
};
/// `ComponentStatus`.
pub(super) const COMPONENT_STATUS: Kind = Kind {
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short_names: &["cs"],
    namespaced: false,
    verbs: &["get", "list"],
    schema: "io.k8s.api.core.v1.ComponentStatus",
    printer: &table::cluster::COMPONENT_STATUS,
    ..BASE
};
