//! OpenAPI v3 documents, one per group and version, made from the kinds table and the schema table.
//!
//! What clients read in them: which fields there are (`kubectl explain`), how lists merge (`kubectl apply`), and that
//! PATCH knows `fieldValidation` (without it they ask for OpenAPI v2 in protobuf).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::discovery::{group_versions, verbs};
use crate::kind::{Kind, Subresource, served};
use crate::review::{REVIEWS, Review};
use crate::schema::{self, Definition, Field, Other, Type};

/// One group and version.
struct Document {
    group: &'static str,
    version: &'static str,
    json: Bytes,
    hash: String,
}

static DOCUMENTS: LazyLock<Vec<Document>> = LazyLock::new(|| {
    group_versions()
        .into_iter()
        .map(|(group, version)| {
            let json = Bytes::from(make(group, version).to_string());
            let hash = format!("{:016X}", fnv1a(&json));
            Document { group, version, json, hash }
        })
        .collect()
});

/// FNV-1a, 64 bit: names a document's content, guards nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The path of a group and version without the leading slash: `api/v1`, `apis/apps/v1`.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The document of `/openapi/v3`: where the others are.
pub fn index() -> Value {
    let paths: Map<String, Value> = DOCUMENTS
        .iter()
        .map(|d| {
            let root = root(d.group, d.version);
            let url = format!("/openapi/v3/{root}?hash={}", d.hash);
            (root, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The document of a group and version as JSON bytes, if it is served.
pub fn document(group: &str, version: &str) -> Option<Bytes> {
    find(group, version).map(|d| d.json.clone())
}

/// The hash of a document's content, as the index has it; an entity tag.
pub fn hash(group: &str, version: &str) -> Option<&'static str> {
    find(group, version).map(|d| d.hash.as_str())
}

fn find(group: &str, version: &str) -> Option<&'static Document> {
    DOCUMENTS.iter().find(|d| d.group == group && d.version == version)
}

fn make(group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let mut wanted = BTreeSet::from([schema::STATUS, schema::DELETE_OPTIONS, schema::LIST_META]);
    let mut schemas = Map::new();
    for kind in served().filter(|k| k.group == group && k.version == version) {
        self::paths(kind, &mut paths);
        wanted.insert(kind.schema);
        schemas.insert(format!("{}List", kind.schema), list_schema(kind));
    }
    for review in REVIEWS.iter().copied().filter(|r| r.group == group && r.version == version) {
        let (path, item) = review_path(review);
        paths.insert(path, item);
        wanted.insert(review.schema);
    }
    let mut open: Vec<&'static str> = wanted.iter().copied().collect();
    while let Some(name) = open.pop() {
        let Some(definition) = schema::definition(name) else { continue };
        for field in &definition.fields {
            if let Some(inner) = field.type_.definition()
                && wanted.insert(inner.name)
            {
                open.push(inner.name);
            }
        }
    }
    for name in wanted {
        let Some(definition) = schema::definition(name) else { continue };
        schemas.insert(name.to_owned(), self::definition(definition));
        for (name, schema) in definition.fields.iter().filter_map(|f| published(leaf(&f.type_))) {
            schemas.entry(name).or_insert(schema);
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// The type of a list's items or a map's values, or else the type itself.
fn leaf(type_: &Type) -> &Type {
    match type_ {
        Type::List(inner) | Type::Map(inner) => leaf(inner),
        _ => type_,
    }
}

/// Types that have a schema of their own although the table has no definition of them.
fn published(type_: &Type) -> Option<(&'static str, Value)> {
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

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn definition(definition: &Definition) -> Value {
    let properties: Map<String, Value> =
        definition.fields.iter().map(|f| (f.name.to_owned(), property(f))).collect();
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

fn property(field: &Field) -> Value {
    let mut out = type_schema(&field.type_);
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

fn list_schema(kind: &Kind) -> Value {
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

/// The paths of one kind.
fn paths(kind: &Kind, paths: &mut Map<String, Value>) {
    let named = Named::from(kind);
    let root = format!("/{}", root(kind.group, kind.version));
    let within = if kind.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
    let mut parameters = Vec::new();
    if kind.namespaced {
        parameters.push(path_parameter("namespace", "The namespace."));
        let mut all = json!({"parameters": []});
        all["get"] = operation(&named, "list", "ForAllNamespaces");
        paths.insert(format!("{root}/{}", kind.plural), all);
    }
    let mut collection = json!({"parameters": parameters});
    collection["get"] = operation(&named, "list", "");
    collection["post"] = operation(&named, "post", "");
    if verbs(kind).contains(&"deletecollection") {
        collection["delete"] = operation(&named, "deletecollection", "");
    }
    paths.insert(format!("{within}/{}", kind.plural), collection);
    parameters.push(path_parameter("name", "The object's name."));
    let one = |suffix: &str| {
        let mut item = json!({"parameters": parameters});
        for verb in ["get", "put", "patch"] {
            item[verb] = operation(&named, verb, suffix);
        }
        item
    };
    let mut item = one("");
    item["delete"] = operation(&named, "delete", "");
    paths.insert(format!("{within}/{}/{{name}}", kind.plural), item);
    for (part, suffix) in [
        (Subresource::Status, "Status"),
        (Subresource::Approval, "Approval"),
        (Subresource::EphemeralContainers, "Ephemeralcontainers"),
        (Subresource::Resize, "Resize"),
    ] {
        if kind.serves(part) {
            paths.insert(format!("{within}/{}/{{name}}/{}", kind.plural, part.as_str()), one(suffix));
        }
    }
}

/// A review is asked, and that is all.
fn review_path(review: &Review) -> (String, Value) {
    let within = if review.namespaced { "/namespaces/{namespace}" } else { "" };
    let mut parameters = Vec::new();
    if review.namespaced {
        parameters.push(path_parameter("namespace", "The namespace."));
    }
    let item = json!({"parameters": parameters, "post": operation(&review.into(), "post", "")});
    (format!("/{}{within}/{}", root(review.group, review.version), review.plural), item)
}

/// What an operation is about.
struct Named {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    namespaced: bool,
    schema: &'static str,
}

impl From<&Kind> for Named {
    fn from(kind: &Kind) -> Self {
        let &Kind { group, version, kind, namespaced, schema, .. } = kind;
        Self { group, version, kind, namespaced, schema }
    }
}

impl From<&Review> for Named {
    fn from(review: &Review) -> Self {
        let &Review { group, version, kind, namespaced, schema, .. } = review;
        Self { group, version, kind, namespaced, schema }
    }
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string", "uniqueItems": true}})
}

fn query_parameter(name: &str, type_: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": type_, "uniqueItems": true}})
}

fn operation(kind: &Named, action: &str, suffix: &str) -> Value {
    let scope = if kind.namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
    let group: String = kind
        .group
        .split('.')
        .next()
        .map(capital)
        .filter(|g| !g.is_empty())
        .unwrap_or_else(|| "Core".to_owned());
    let verb = match action {
        "get" => "read",
        "put" => "replace",
        "post" => "create",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let media = |schema: Value| json!({"application/json": {"schema": schema}});
    let answer = match action {
        "list" => reference(&format!("{}List", kind.schema)),
        "delete" | "deletecollection" => reference(schema::STATUS),
        _ => reference(kind.schema),
    };
    let mut out = json!({
        "operationId": format!("{verb}{group}{}{scope}{}{suffix}", capital(kind.version), kind.kind),
        "tags": [format!("{}_{}", group.to_lowercase(), kind.version)],
        "parameters": parameters(action),
        "responses": {"200": {"description": "OK", "content": media(answer)}, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    });
    match action {
        "post" | "put" => {
            out["requestBody"] = json!({"required": true, "content": media(reference(kind.schema))});
        }
        "delete" | "deletecollection" => {
            out["requestBody"] = json!({"content": media(reference(schema::DELETE_OPTIONS))});
        }
        "patch" => {
            let content: Map<String, Value> = crate::patch::MEDIA_TYPES
                .iter()
                .map(|t| ((*t).to_owned(), json!({"schema": {"type": "object"}})))
                .collect();
            out["requestBody"] = json!({"required": true, "content": content});
        }
        _ => {}
    }
    out
}

fn parameters(action: &str) -> Vec<Value> {
    let mut out = Vec::new();
    if matches!(action, "post" | "put" | "patch" | "delete" | "deletecollection") {
        out.push(query_parameter("dryRun", "string", "With 'All', nothing is stored."));
    }
    match action {
        "post" | "put" | "patch" => {
            out.push(query_parameter("fieldManager", "string", "Who makes the change."));
            let about = "What happens to unknown and duplicate fields: Ignore, Warn or Strict.";
            out.push(query_parameter("fieldValidation", "string", about));
        }
        "list" | "deletecollection" => {
            for name in
                ["continue", "fieldSelector", "labelSelector", "resourceVersion", "resourceVersionMatch"]
            {
                out.push(query_parameter(name, "string", "Which objects."));
            }
            out.push(query_parameter("limit", "integer", "Most objects in one answer."));
            out.push(query_parameter("timeoutSeconds", "integer", "How long the call may take."));
        }
        "delete" => {
            out.push(query_parameter("gracePeriodSeconds", "integer", "Seconds until the object is gone."));
            out.push(query_parameter("propagationPolicy", "string", "Orphan, Background or Foreground."));
        }
        _ => {}
    }
    if action == "list" {
        out.push(query_parameter("watch", "boolean", "Changes instead of a list."));
    }
    if action == "patch" {
        out.push(query_parameter("force", "boolean", "Take fields from other managers when applying."));
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(group: &str, version: &str) -> Value {
        serde_json::from_slice(&document(group, version).unwrap()).unwrap()
    }

    #[test]
    fn index_points_at_documents_by_hash() {
        let index = index();
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
        assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={}", hash("apps", "v1").unwrap()));
        assert_eq!(index["paths"].as_object().unwrap().len(), group_versions().len());
        assert!(document("apps", "v9").is_none());
    }

    #[test]
    fn patch_of_each_kind_knows_field_validation() {
        for kind in served() {
            let document = read(kind.group, kind.version);
            let found = document["paths"].as_object().unwrap().values().any(|path| {
                let patch = &path["patch"];
                patch["x-kubernetes-group-version-kind"]["kind"] == kind.kind
                    && patch["parameters"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
            });
            assert!(found, "{kind}");
        }
    }

    fn references<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                out.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|v| references(v, out));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, out)),
            _ => {}
        }
    }

    /// Of every type of the table, so also of those whose kinds have no row yet.
    #[test]
    fn every_type_can_be_published() {
        for definition in schema::definitions() {
            let schema = super::definition(definition);
            let published: Vec<&str> = definition
                .fields
                .iter()
                .filter_map(|f| published(leaf(&f.type_)))
                .map(|(name, _)| name)
                .collect();
            let mut found = Vec::new();
            references(&schema, &mut found);
            for reference in found {
                let name = reference.strip_prefix("#/components/schemas/").unwrap();
                assert!(schema::definition(name).is_some() || published.contains(&name), "{name}");
            }
            for field in &definition.fields {
                let property = &schema["properties"][field.name];
                let says = ["type", "allOf"].iter().any(|key| property.get(key).is_some());
                assert!(says, "{}.{}", definition.name, field.name);
            }
        }
        let properties = &super::definition(schema::definition(schema::JSON_SCHEMA).unwrap())["properties"];
        let package = "#/components/schemas/io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
        for (field, name) in [
            ("default", "JSON"),
            ("additionalProperties", "JSONSchemaPropsOrBool"),
            ("not", "JSONSchemaProps"),
        ] {
            assert_eq!(properties[field]["allOf"][0]["$ref"], format!("{package}.{name}"));
        }
        assert_eq!(properties["enum"]["items"]["allOf"][0]["$ref"], format!("{package}.JSON"));
        assert_eq!(properties["x-kubernetes-list-type"]["type"], "string");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for (group, version) in group_versions() {
            let document = read(group, version);
            let mut found = Vec::new();
            references(&document, &mut found);
            assert!(found.len() > 10);
            for reference in found {
                let name = reference.strip_prefix("#/components/schemas/").unwrap();
                assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn merge_keys_are_published() {
        let document = read("apps", "v1");
        let containers =
            &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(
            containers["items"]["allOf"][0]["$ref"],
            "#/components/schemas/io.k8s.api.core.v1.Container"
        );
    }
}
