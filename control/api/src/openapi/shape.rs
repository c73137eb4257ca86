//! Types as OpenAPI v3 has them, made from the schema table.

use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::schema::{self, Definition, Field, Other, Type};

/// What the server puts into a field that is left out, where Kubernetes publishes it: type, field and value.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("io.k8s.api.core.v1.ContainerPort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.ServicePort", "protocol", "TCP"),
];

/// The type of a list's items or a map's values, or else the type itself.
pub(super) fn leaf(type_: &Type) -> &Type {
    match type_ {
        Type::List(inner) | Type::Map(inner) => leaf(inner),
        _ => type_,
    }
}

/// Types that have a schema of their own although the table has no definition of them.
pub(super) fn published(type_: &Type) -> Option<(&'static str, Value)> {
    Some(match type_ {
        Type::Quantity => (
            "io.k8s.apimachinery.pkg.api.resource.Quantity",
            json!({"oneOf": [{"type": "string"}, {"type": "number"}], "description": "An amount such as 100m or 1Gi."}),
        ),
        Type::IntOrString => (
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}], "description": "A number or a string."}),
        ),
        Type::Time => (
            "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
            json!({"type": "string", "format": "date-time", "description": "RFC 3339."}),
        ),
        Type::MicroTime => (
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
            json!({"type": "string", "format": "date-time", "description": "RFC 3339 with microseconds."}),
        ),
        Type::Duration => (
            "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
            json!({"type": "string", "description": "A length of time such as 1m30s."}),
        ),
        Type::Raw => (
            "io.k8s.apimachinery.pkg.runtime.RawExtension",
            json!({"type": "object", "description": "Any object."}),
        ),
        Type::Fields => (
            "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
            json!({"type": "object", "description": "The set of fields that a manager owns."}),
        ),
        Type::Json => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
            json!({"description": "Any JSON value."}),
        ),
        Type::SchemaOr(Other::Bool) => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
            json!({"description": "A schema, true or false."}),
        ),
        Type::SchemaOr(Other::Schemas) => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
            json!({"description": "A schema or a list of schemas."}),
        ),
        Type::SchemaOr(Other::Strings) => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
            json!({"description": "A schema or a list of strings."}),
        ),
        _ => return None,
    })
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn definition(definition: &Definition) -> Value {
    let properties: Map<String, Value> =
        definition.fields.iter().map(|f| (f.name.to_owned(), property(definition, f))).collect();
    let required: Vec<&str> = definition.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    let mut out = json!({"type": "object", "description": definition.description});
    if !properties.is_empty() {
        out["properties"] = properties.into();
    }
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    if definition.atomic {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some((group, version, kind)) = definition.group_version_kind {
        out["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
    }
    out
}

fn property(within: &Definition, field: &Field) -> Value {
    let mut out = type_schema(&field.type_);
    if let Some((.., value)) =
        DEFAULTS.iter().find(|(type_, name, _)| (within.name, field.name) == (*type_, *name))
    {
        out["default"] = (*value).into();
    }
    out["description"] = field.description.into();
    if !field.list_type.is_empty() {
        out["x-kubernetes-list-type"] = field.list_type.into();
    }
    if !field.list_map_keys.is_empty() {
        out["x-kubernetes-list-map-keys"] = field.list_map_keys.split(',').collect();
    }
    if !field.merge_key.is_empty() {
        out["x-kubernetes-patch-merge-key"] = field.merge_key.into();
    }
    if !field.patch_strategy.is_empty() {
        out["x-kubernetes-patch-strategy"] = field.patch_strategy.into();
    }
    if field.atomic {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    out
}

/// References stand in `allOf`, since in OpenAPI 3.0 nothing may stand beside `$ref`.
fn type_schema(type_: &Type) -> Value {
    let all_of = |name: &str| json!({"allOf": [reference(name)]});
    match type_ {
        Type::String => json!({"type": "string"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Bool => json!({"type": "boolean"}),
        Type::Double => json!({"type": "number", "format": "double"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Ref(name) => all_of(name),
        Type::List(item) => json!({"type": "array", "items": type_schema(item)}),
        Type::Map(item) => json!({"type": "object", "additionalProperties": type_schema(item)}),
        _ => published(type_).map_or_else(|| json!({}), |(name, _)| all_of(name)),
    }
}

pub(super) fn list_schema(kind: &Kind) -> Value {
    json!({
        "type": "object",
        "description": format!("{0}List is a list of {0} objects.", kind.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of this list's form."},
            "kind": {"type": "string", "description": "The name of this list's kind."},
            "metadata": {"allOf": [reference(schema::LIST_META)], "description": "Standard list metadata."},
            "items": {"type": "array", "items": {"allOf": [reference(kind.schema)]}, "description": "The objects."},
        },
        "x-kubernetes-group-version-kind": [{"group": kind.group, "version": kind.version, "kind": format!("{}List", kind.kind)}],
    })
}
