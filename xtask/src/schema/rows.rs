//! The table's rows: what the JSON schemas and Go's types say of one type, put together.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::go::{GoField, GoTypes, MAP, SLICE, STRUCT};

/// How many structs may stand in each other without a name in JSON: what the API crate's tables hold.
const NUMBERS_MAX: usize = 3;

/// What Go's types say of a field.
#[derive(Debug)]
struct Known<'a> {
    /// Protobuf numbers, those of embedded structs first; empty if the field is not in protobuf.
    numbers: Vec<u32>,
    field: &'a GoField,
    /// Whether JSON is to leave the zero value out.
    omits: bool,
}

pub(super) fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// Types that are one value in JSON, or whose JSON is not what their fields say.
pub(super) fn scalar_of(definition: &str) -> Option<&'static str> {
    Some(match definition {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => "quantity",
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => "intstr",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Duration" => "duration",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => "time",
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => "microtime",
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => "fields",
        "io.k8s.apimachinery.pkg.runtime.RawExtension" => "raw",
        _ => {
            match definition.strip_prefix("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON")? {
                "" => "json",
                "SchemaPropsOrArray" => "schemas",
                "SchemaPropsOrBool" => "schema-or-bool",
                "SchemaPropsOrStringArray" => "schema-or-strings",
                _ => return None,
            }
        }
    })
}

fn type_of(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        return scalar_of(name).map_or_else(|| format!("&{name}"), str::to_owned);
    }
    if let Some(items) = schema.get("items") {
        return format!("[{}", type_of(items));
    }
    if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        return format!("{{{}", type_of(values));
    }
    let format = schema.get("format").and_then(Value::as_str);
    match (json_type(schema), format) {
        ("string", Some("byte")) => "bytes",
        ("string", Some("date-time")) => "time",
        ("string", _) => "string",
        ("integer", Some("int32")) => "int32",
        ("integer", _) => "int64",
        ("boolean", _) => "bool",
        ("number", _) => "double",
        _ => "raw",
    }
    .to_owned()
}

fn json_type(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(one)) => one,
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).find(|t| *t != "null").unwrap_or("")
        }
        _ => "",
    }
}

/// Writes the rows of one definition.
///
/// # Errors
/// Go's types do not know it, or know it in a form that the table cannot say.
pub(super) fn write(
    table: &mut String,
    words: &mut String,
    name: &str,
    definition: &Value,
    types: &GoTypes,
) -> Result<()> {
    let gvk = definition.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
    let gvk = match gvk.map(Vec::as_slice) {
        Some([one]) => {
            check_list(name, types)?;
            format!("{}/{}/{}", text(one, "group"), text(one, "version"), text(one, "kind"))
        }
        _ => String::new(),
    };
    let flags = if is_atomic(definition) { "a" } else { "" };
    let _ = writeln!(table, "D\t{name}\t{gvk}\t{flags}");
    describe(words, name, definition);
    let required: Vec<&str> = strings(definition, "required").collect();
    for (field, schema) in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let place = || format!("{name}.{field}");
        let known = known(&go_name(name), field, types).with_context(place)?;
        let type_ = type_of(schema);
        if known.numbers.len() > NUMBERS_MAX {
            bail!("{}: embedded more than {NUMBERS_MAX} deep", place());
        }
        check_type(&type_, known.field).with_context(place)?;
        let required = required.contains(&field.as_str());
        let mut flags = String::new();
        for (flag, holds) in [
            ('r', required),
            ('a', is_atomic(schema)),
            ('z', zero_is_absent(&known, &type_, required)),
            ('d', has_default(&known, &type_)),
        ] {
            flags.extend(holds.then_some(flag));
        }
        let numbers: Vec<String> = known.numbers.iter().map(u32::to_string).collect();
        let keys: Vec<&str> = strings(schema, "x-kubernetes-list-map-keys").collect();
        let _ = writeln!(
            table,
            "F\t{field}\t{}\t{type_}\t{flags}\t{}\t{}\t{}\t{}",
            numbers.join("."),
            text(schema, "x-kubernetes-list-type"),
            keys.join(","),
            text(schema, "x-kubernetes-patch-merge-key"),
            text(schema, "x-kubernetes-patch-strategy"),
        );
        let _ = writeln!(words, "F\t{field}\t{}", one_line(text(schema, "description")));
    }
    Ok(())
}

/// Whether nobody can tell the zero value from an absent one: Go holds no pointer, and JSON leaves the zero out. Go
/// writes empty structs all the same; those that the documentation does not require are taken as absent, since a
/// client that reads and writes an object back adds them. Lists and maps need no flag: empty ones never stand in
/// protobuf.
fn zero_is_absent(known: &Known, type_: &str, required: bool) -> bool {
    let is_list = type_.starts_with(['[', '{']);
    let stays = known.field.pointer || is_list || known.field.kind == STRUCT && required;
    known.omits && !stays
}

/// Whether Kubernetes publishes the zero value as the field's default, as its generator of OpenAPI does it: of structs that
/// are no pointers, and of texts, numbers and flags that are always in JSON.
fn has_default(known: &Known, type_: &str) -> bool {
    let field = known.field;
    let is_zero = matches!(type_, "string" | "int32" | "int64" | "bool" | "double") && !known.omits;
    !field.pointer && (is_zero || type_.starts_with('&') && field.kind == STRUCT)
}

/// Lists are slices and maps are maps. A slice with a name whose tag does not say that it is repeated is a message of
/// its own in protobuf: as a map's value the API crate knows it so, as a field there is none yet.
fn check_type(type_: &str, field: &GoField) -> Result<()> {
    let fits = match type_.as_bytes().first() {
        Some(b'[') => field.kind == SLICE && (!field.named || field.tag.contains(",rep,")),
        Some(b'{') => field.kind == MAP,
        _ => field.kind != MAP && (field.kind != SLICE || type_ == "bytes"),
    };
    if !fits {
        bail!("{type_} in JSON, but kind {} in Go", field.kind);
    }
    Ok(())
}

/// Whether apply takes the whole struct or map as one value.
fn is_atomic(schema: &Value) -> bool {
    text(schema, "x-kubernetes-map-type") == "atomic"
}

/// `k8s.io/api/core/v1.Pod` of `io.k8s.api.core.v1.Pod`.
fn go_name(definition: &str) -> String {
    let path = definition.strip_prefix("io.k8s.").unwrap_or(definition);
    let (package, name) = path.rsplit_once('.').unwrap_or(("", path));
    format!("k8s.io/{}.{name}", package.replace('.', "/"))
}

/// Every list of objects has its metadata at 1 and its items at 2; the API crate counts on it.
fn check_list(definition: &str, types: &GoTypes) -> Result<()> {
    let list = format!("{}List", go_name(definition));
    if types.contains_key(&list) {
        for (field, number) in [("metadata", 1), ("items", 2)] {
            if known(&list, field, types)?.numbers != [number] {
                bail!("{list} has its {field} at another place than other lists");
            }
        }
    }
    Ok(())
}

/// What Go says of a JSON field, also of one of an embedded struct.
fn known<'a>(type_: &str, field: &str, types: &'a GoTypes) -> Result<Known<'a>> {
    let fields = types.get(type_).with_context(|| format!("no client carries the Go type {type_}"))?;
    for go in fields {
        let (json, omits) = json_tag(go);
        if json == field {
            let numbers = protobuf_number(&go.tag).into_iter().collect();
            return Ok(Known { numbers, field: go, omits });
        }
    }
    // Only then what is embedded: a struct's own field hides those.
    for go in fields.iter().filter(|go| json_tag(go).0.is_empty() && !go.struct_name.is_empty()) {
        if let Ok(mut inner) = known(&go.struct_name, field, types) {
            match protobuf_number(&go.tag) {
                Some(number) => inner.numbers.insert(0, number),
                None => inner.numbers.clear(),
            }
            return Ok(inner);
        }
    }
    bail!("the Go type {type_} has no field {field}")
}

/// The name in JSON, empty for embedded structs, and whether JSON leaves the zero value out.
fn json_tag(field: &GoField) -> (&str, bool) {
    let mut parts = tag_part(&field.tag, "json").split(',');
    let name = parts.next().unwrap_or("");
    (name, parts.any(|option| matches!(option, "omitempty" | "omitzero")))
}

/// The text between the quotes behind a key.
fn tag_part<'a>(tag: &'a str, key: &str) -> &'a str {
    let found = tag.split_once(&format!("{key}:\"")).and_then(|(_, rest)| rest.split_once('"'));
    found.map_or("", |(part, _)| part)
}

fn protobuf_number(tag: &str) -> Option<u32> {
    tag_part(tag, "protobuf").split(',').nth(1)?.parse().ok()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn strings<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Writes what is said of a definition.
pub(super) fn describe(words: &mut String, name: &str, definition: &Value) {
    let _ = writeln!(words, "D\t{name}\t{}", one_line(text(definition, "description")));
}

/// A text whose lines end in a backslash and an `n`.
fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', " ").replace("\r\n", "\n").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn field(tag: &str, struct_name: &str, pointer: bool) -> GoField {
        let list = tag.contains(",rep,");
        let kind = if list {
            SLICE
        } else if struct_name.is_empty() {
            24
        } else {
            STRUCT
        };
        GoField { tag: tag.to_owned(), pointer, kind, struct_name: struct_name.to_owned(), named: false }
    }

    fn types() -> GoTypes {
        GoTypes::from([
            (
                "k8s.io/api/x/v1.Outer".to_owned(),
                vec![
                    field(r#"json:",inline""#, "k8s.io/api/x/v1.TypeMeta", false),
                    field(r#"json:"name" protobuf:"bytes,1,opt,name=name""#, "", false),
                    field(
                        r#"json:",inline" protobuf:"bytes,2,opt,name=middle""#,
                        "k8s.io/api/x/v1.Middle",
                        false,
                    ),
                    field(
                        r#"json:"none,omitempty" protobuf:"bytes,3,opt,name=none""#,
                        "k8s.io/api/x/v1.Inner",
                        false,
                    ),
                    field(
                        r#"json:"set,omitempty" protobuf:"bytes,4,opt,name=set""#,
                        "k8s.io/api/x/v1.Inner",
                        true,
                    ),
                    field(r#"json:"list" protobuf:"bytes,5,rep,name=list""#, "", false),
                ],
            ),
            (
                "k8s.io/api/x/v1.Middle".to_owned(),
                vec![field(
                    r#"json:",inline" protobuf:"bytes,7,opt,name=inner""#,
                    "k8s.io/api/x/v1.Inner",
                    false,
                )],
            ),
            (
                "k8s.io/api/x/v1.Inner".to_owned(),
                vec![
                    field(r#"json:"deep,omitempty" protobuf:"varint,9,opt,name=deep""#, "", false),
                    field(r#"json:"name" protobuf:"bytes,8,opt,name=name""#, "", false),
                ],
            ),
            (
                "k8s.io/api/x/v1.TypeMeta".to_owned(),
                vec![field(r#"json:"kind,omitempty" protobuf:"bytes,1,opt,name=kind""#, "", false)],
            ),
        ])
    }

    #[test]
    fn numbers_and_zeros_come_from_gos_tags() {
        let schema = json!({"required": ["name"], "properties": {
            "deep": {"type": "integer", "format": "int32"}, "kind": {"type": "string"}, "list": {"items": {"type": "string"}},
            "name": {"type": "string"}, "none": {"$ref": "#/$defs/io.k8s.api.x.v1.Inner"}, "set": {"$ref": "#/$defs/io.k8s.api.x.v1.Inner"}}});
        let mut table = String::new();
        write(&mut table, &mut String::new(), "io.k8s.api.x.v1.Outer", &schema, &types()).unwrap();
        let rows: Vec<&str> = table.lines().map(str::trim_end).collect();
        assert_eq!(
            rows,
            [
                "D\tio.k8s.api.x.v1.Outer",
                "F\tdeep\t2.7.9\tint32\tz",
                "F\tkind\t\tstring\tz",
                "F\tlist\t5\t[string",
                "F\tname\t1\tstring\trd",
                "F\tnone\t3\t&io.k8s.api.x.v1.Inner\tzd",
                "F\tset\t4\t&io.k8s.api.x.v1.Inner",
            ]
        );
    }

    #[test]
    fn what_go_does_not_know_is_an_error() {
        let write = |name: &str, schema: Value| {
            write(&mut String::new(), &mut String::new(), name, &schema, &types())
        };
        let field = |name: &str| json!({"properties": {name: {"type": "string"}}});
        let refused = write("io.k8s.api.x.v1.Outer", field("other")).unwrap_err();
        assert_eq!(
            format!("{refused:#}"),
            "io.k8s.api.x.v1.Outer.other: the Go type k8s.io/api/x/v1.Outer has no field other"
        );
        assert!(write("io.k8s.api.x.v1.None", field("name")).is_err());
        assert!(
            format!("{:#}", write("io.k8s.api.x.v1.Outer", field("list")).unwrap_err())
                .contains("string in JSON, but kind 23")
        );
    }

    #[test]
    fn lists_have_their_items_where_all_have_them() {
        let list = |metadata: u32| {
            let metadata =
                format!(r#"json:"metadata,omitempty" protobuf:"bytes,{metadata},opt,name=metadata""#);
            let items = r#"json:"items" protobuf:"bytes,2,rep,name=items""#;
            GoTypes::from([(
                "k8s.io/api/x/v1.InnerList".to_owned(),
                vec![field(&metadata, "", false), field(items, "", false)],
            )])
        };
        assert!(check_list("io.k8s.api.x.v1.Inner", &list(1)).is_ok());
        assert!(check_list("io.k8s.api.x.v1.Inner", &list(3)).is_err());
    }

    #[test]
    fn spells_types() {
        let list = json!({"type": ["array", "null"], "items": {"$ref": "#/$defs/io.k8s.api.core.v1.EnvVar"}});
        assert_eq!(type_of(&list), "[&io.k8s.api.core.v1.EnvVar");
        let map =
            json!({"type": "object", "additionalProperties": {"type": ["string", "null"], "format": "byte"}});
        assert_eq!(type_of(&map), "{bytes");
        let quantity = json!({"$ref": "#/$defs/io.k8s.apimachinery.pkg.api.resource.Quantity"});
        assert_eq!(type_of(&quantity), "quantity");
    }
}
