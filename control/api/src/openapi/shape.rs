//! Types as OpenAPI v3 has them, made from the schema table.

use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::schema::{self, Definition, Field, Other, Type, Words};

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

/// The name of a type that has a schema of its own although the table has no definition of it.
fn name_of(type_: &Type) -> Option<&'static str> {
    Some(match type_ {
        Type::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Type::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        Type::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        Type::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Type::Duration => "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
        Type::Raw => "io.k8s.apimachinery.pkg.runtime.RawExtension",
        Type::Fields => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        Type::Json => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
        Type::SchemaOr(Other::Bool) => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool"
        }
        Type::SchemaOr(Other::Schemas) => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray"
        }
        Type::SchemaOr(Other::Strings) => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"
        }
        _ => return None,
    })
}

/// The name and the schema of such a type.
pub(super) fn published(type_: &Type, words: &Words) -> Option<(&'static str, Value)> {
    let name = name_of(type_)?;
    let mut schema = match type_ {
        Type::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Type::IntOrString => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        Type::Time | Type::MicroTime => json!({"type": "string", "format": "date-time"}),
        Type::Duration => json!({"type": "string"}),
        Type::Raw | Type::Fields => json!({"type": "object"}),
        _ => json!({}),
    };
    // Of two of them the sources say nothing.
    schema["description"] = match type_ {
        Type::Quantity => "An amount such as 100m or 1Gi.".into(),
        Type::IntOrString => "A number or a string.".into(),
        _ => words.of(name).into(),
    };
    Some((name, schema))
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn definition(definition: &Definition, words: &Words) -> Value {
    let properties: Map<String, Value> =
        definition.fields.iter().map(|f| (f.name.to_owned(), property(definition, f, words))).collect();
    let required: Vec<&str> = definition.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    let mut out = json!({"type": "object", "description": words.of(definition.name)});
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

fn property(within: &Definition, field: &Field, words: &Words) -> Value {
    let mut out = type_schema(&field.type_);
    if let Some((.., value)) =
        DEFAULTS.iter().find(|(type_, name, _)| (within.name, field.name) == (*type_, *name))
    {
        out["default"] = (*value).into();
    } else if let Some(zero) = zero(&field.type_).filter(|_| field.zero_is_default) {
        out["default"] = zero;
    }
    let said = words.of_field(within.name, field.name);
    if !said.is_empty() {
        out["description"] = said.into();
    }
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

/// The zero value of a type, where it is published.
fn zero(type_: &Type) -> Option<Value> {
    Some(match type_ {
        Type::String => "".into(),
        Type::Int32 | Type::Int64 | Type::Double => 0.into(),
        Type::Bool => false.into(),
        Type::Ref(_) => json!({}),
        _ => return None,
    })
}

/// The schema of a list's items or of a map's values: none is a pointer, so each has its zero value.
fn item_schema(type_: &Type) -> Value {
    let mut out = type_schema(type_);
    if let Some(zero) = zero(type_) {
        out["default"] = zero;
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
        Type::List(item) => json!({"type": "array", "items": item_schema(item)}),
        Type::Map(item) => json!({"type": "object", "additionalProperties": item_schema(item)}),
        _ => name_of(type_).map_or_else(|| json!({}), all_of),
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
            "metadata": {"allOf": [reference(schema::LIST_META)], "default": {}, "description": "Standard list metadata."},
            "items": {"type": "array", "items": {"allOf": [reference(kind.schema)], "default": {}}, "description": "The objects."},
        },
        "x-kubernetes-group-version-kind": [{"group": kind.group, "version": kind.version, "kind": format!("{}List", kind.kind)}],
    })
}
