//! Kinds of `apiextensions.k8s.io`.

use super::{BASE as CORE, Kind, Subresource::*};
use crate::{default, table, validate};

const BASE: Kind = Kind { group: "apiextensions.k8s.io", ..CORE };

/// `CustomResourceDefinition`; what it defines is not served yet.
pub(super) const CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    subresources: &[Status],
    schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    has_generation: true,
    default: default::extensions::definition,
    rules: &validate::extensions::DEFINITION,
    printer: &table::NAME_AND_TIME,
    ..BASE
};
