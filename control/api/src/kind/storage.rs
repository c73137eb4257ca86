//! Kinds of `storage.k8s.io`.

use super::{BASE as CORE, Kind, STATUS_ALONE, Subresource::*};
use crate::{default, table, validate};

const BASE: Kind = Kind { group: "storage.k8s.io", namespaced: false, ..CORE };

/// `StorageClass`.
pub(super) const STORAGE_CLASS: Kind = Kind {
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    schema: "io.k8s.api.storage.v1.StorageClass",
    default: default::storage::class,
    rules: &validate::storage::CLASS,
    printer: &table::storage::CLASS,
    ..BASE
};
/// `VolumeAttachment`.
pub(super) const VOLUME_ATTACHMENT: Kind = Kind {
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    subresources: &[Status],
    status_keeps: STATUS_ALONE,
    schema: "io.k8s.api.storage.v1.VolumeAttachment",
    default: default::storage::attachment,
    rules: &validate::storage::ATTACHMENT,
    printer: &table::storage::ATTACHMENT,
    ..BASE
};
/// `CSIDriver`.
pub(super) const CSI_DRIVER: Kind = Kind {
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    schema: "io.k8s.api.storage.v1.CSIDriver",
    default: default::storage::driver,
    rules: &validate::csi::DRIVER,
    printer: &table::storage::DRIVER,
    ..BASE
};
/// `CSINode`.
pub(super) const CSI_NODE: Kind = Kind {
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    schema: "io.k8s.api.storage.v1.CSINode",
    rules: &validate::csi::NODE,
    printer: &table::storage::NODE,
    ..BASE
};
/// `CSIStorageCapacity`.
pub(super) const CSI_STORAGE_CAPACITY: Kind = Kind {
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    namespaced: true,
    schema: "io.k8s.api.storage.v1.CSIStorageCapacity",
    rules: &validate::csi::CAPACITY,
    printer: &table::storage::CAPACITY,
    ..BASE
};
/// `VolumeAttributesClass`.
pub(super) const VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    schema: "io.k8s.api.storage.v1.VolumeAttributesClass",
    rules: &validate::storage::ATTRIBUTES_CLASS,
    printer: &table::storage::ATTRIBUTES_CLASS,
    ..BASE
};
