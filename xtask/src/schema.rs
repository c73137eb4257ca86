//! `schema`: writes the table of Kubernetes' types that the API crate reads (`control/api/schema/kubernetes.tsv`).
//!
//! Names, types, required fields, list and merge keys come from the published JSON schema definitions, field numbers
//! from the protobuf bindings of the crate `k8s-pb`; both are Apache-2.0. Which kinds are wanted is read from the
//! kinds table. It must not know what the table is used for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::Workspace;

/// Definitions that requests and answers need although they are no stored kind.
const FURTHER_ROOTS: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
    "io.k8s.api.autoscaling.v1.Scale",
    "io.k8s.api.authentication.v1.TokenRequest",
    "io.k8s.api.authentication.v1.TokenReview",
    "io.k8s.api.authentication.v1.SelfSubjectReview",
    "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    "io.k8s.api.authorization.v1.SubjectAccessReview",
    "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
    "io.k8s.api.core.v1.Binding",
    "io.k8s.api.policy.v1.Eviction",
];
/// Longest description kept, bytes: what `kubectl explain` shows of a field.
const DESCRIPTION_BYTES_MAX: usize = 200;

/// A field of a protobuf message: its number, and its message type if it has one.
#[derive(Clone, Debug)]
struct ProtoField {
    number: u32,
    message: Option<String>,
}

/// Messages by lower-case full name, fields by name in lower case without underscores.
type Messages = BTreeMap<String, BTreeMap<String, ProtoField>>;

/// Settings of `schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The JSON schema definitions of one Kubernetes version: `_definitions.json` of the unpacked PyPI package
    /// kubernetes-validate
    #[arg(long, value_name = "FILE")]
    definitions: PathBuf,
    /// The folder `src` of the unpacked crate k8s-pb
    #[arg(long, value_name = "DIR")]
    bindings: PathBuf,
    /// The version, as the table's head names it
    #[arg(long, default_value = "1.37")]
    version: String,
}

/// Writes the table into the API crate; which definitions are wanted is read from its kinds table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let api = Workspace::find()?.root.join("control/api");
    let table = table(&args.definitions, &args.bindings, &api.join("src/kind"), &args.version)?;
    let out = api.join("schema/kubernetes.tsv");
    fs::write(&out, &table).with_context(|| format!("writing {}", out.display()))?;
    let definitions = table.lines().filter(|l| l.starts_with("D\t")).count();
    println!("{}: {definitions} definitions, {} bytes", out.display(), table.len());
    Ok(())
}

fn table(definitions: &Path, bindings: &Path, kinds: &Path, version: &str) -> Result<String> {
    let text = fs::read(definitions).with_context(|| format!("reading {}", definitions.display()))?;
    let document: Value = serde_json::from_slice(&text).context("the definitions are no JSON")?;
    let Some(defs) = document.get("$defs").or_else(|| document.get("definitions")).and_then(Value::as_object)
    else {
        bail!("the definitions have no \"$defs\"");
    };
    let mut messages = Messages::new();
    for folder in ["api", "apimachinery"] {
        read_bindings(&bindings.join(folder), &format!("io.k8s.{folder}"), &mut messages)?;
    }
    let roots = roots(kinds)?;
    let names = reachable(defs, &roots)?;
    let mut table = format!(
        "# Kubernetes' types, written by `cargo xtask schema`; do not edit.\n\
         # Sources, both Apache-2.0, Copyright The Kubernetes Authors: the JSON schemas of Kubernetes {version} (PyPI package\n\
         # kubernetes-validate) for names, types and keys; the protobuf bindings of the crate k8s-pb for field numbers.\n\
         # D name group/version/kind flags description; F name number type flags list-type keys merge-key strategy description.\n"
    );
    for name in &names {
        write_definition(&mut table, name, &defs[name], &messages);
    }
    Ok(table)
}

/// What the files of the kinds table name, and what else is needed.
fn roots(kinds: &Path) -> Result<Vec<String>> {
    let mut roots: Vec<String> = FURTHER_ROOTS.iter().map(|r| (*r).to_owned()).collect();
    let files = fs::read_dir(kinds).with_context(|| format!("reading {}", kinds.display()))?;
    for file in files {
        let path = file?.path();
        let source = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for line in source.lines() {
            let name = line.trim().strip_prefix("schema: \"").and_then(|l| l.strip_suffix("\","));
            roots.extend(name.map(str::to_owned));
        }
    }
    Ok(roots)
}

fn reachable(defs: &serde_json::Map<String, Value>, roots: &[String]) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let mut open = roots.to_vec();
    while let Some(name) = open.pop() {
        let Some(definition) = defs.get(&name) else { bail!("no definition {name}") };
        if scalar_of(&name).is_some() || !seen.insert(name) {
            continue;
        }
        for field in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            collect_refs(field.1, &mut open);
        }
    }
    Ok(seen)
}

fn collect_refs(schema: &Value, open: &mut Vec<String>) {
    if let Some(name) = reference(schema) {
        open.push(name.to_owned());
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner) {
            collect_refs(inner, open);
        }
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// Types that are one value on the wire.
fn scalar_of(definition: &str) -> Option<&'static str> {
    Some(match definition {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => "quantity",
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => "intstr",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => "time",
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => "microtime",
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => "fields",
        "io.k8s.apimachinery.pkg.runtime.RawExtension" => "raw",
        _ => return None,
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

fn write_definition(table: &mut String, name: &str, definition: &Value, messages: &Messages) {
    let gvk = definition.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
    let gvk = match gvk.map(Vec::as_slice) {
        Some([one]) => format!("{}/{}/{}", text(one, "group"), text(one, "version"), text(one, "kind")),
        _ => String::new(),
    };
    let flags = if is_atomic(definition) { "a" } else { "" };
    let _ = writeln!(table, "D\t{name}\t{gvk}\t{flags}\t{}", description(definition));
    let required: Vec<&str> = definition
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let message = messages.get(&name.to_lowercase());
    for (field, schema) in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let number = message.and_then(|m| number_of(m, field, messages)).unwrap_or_default();
        let mut flags = String::new();
        if required.contains(&field.as_str()) {
            flags.push('r');
        }
        if is_atomic(schema) {
            flags.push('a');
        }
        let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
        let keys: Vec<&str> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
        let _ = writeln!(
            table,
            "F\t{field}\t{number}\t{}\t{flags}\t{}\t{}\t{}\t{}\t{}",
            type_of(schema),
            text(schema, "x-kubernetes-list-type"),
            keys.join(","),
            text(schema, "x-kubernetes-patch-merge-key"),
            text(schema, "x-kubernetes-patch-strategy"),
            description(schema),
        );
    }
}

/// Whether apply takes the whole struct or map as one value.
fn is_atomic(schema: &Value) -> bool {
    text(schema, "x-kubernetes-map-type") == "atomic"
}

/// The number of a field; `2.17` for field 17 of an embedded message 2 that JSON has inline.
fn number_of(message: &BTreeMap<String, ProtoField>, field: &str, messages: &Messages) -> Option<String> {
    let plain = field.to_lowercase();
    if let Some(found) = message.get(&plain) {
        return Some(found.number.to_string());
    }
    // Embedded structs of the Go types: one message field whose fields JSON has one level up.
    const EMBEDDED: &[&str] = &[
        "localobjectreference",
        "volumesource",
        "persistentvolumesource",
        "handler",
        "ephemeralcontainercommon",
    ];
    for embedded in EMBEDDED {
        let Some(outer) = message.get(*embedded) else { continue };
        let Some(inner) = outer.message.as_ref().and_then(|m| messages.get(m)) else { continue };
        if let Some(found) = inner.get(&plain) {
            return Some(format!("{}.{}", outer.number, found.number));
        }
    }
    None
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// The first sentence, on one line.
fn description(schema: &Value) -> String {
    let whole = text(schema, "description");
    let paragraph = whole.split("\n\n").next().unwrap_or("");
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line
        .match_indices(". ")
        .map(|(at, _)| at + 1)
        .find(|at| !line[..*at].ends_with("e.g.") && !line[..*at].ends_with("i.e."));
    let mut end = end.unwrap_or(line.len()).min(DESCRIPTION_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].to_owned()
}

/// Reads every `mod.rs` below `folder` as the protobuf package `package`.
fn read_bindings(folder: &Path, package: &str, messages: &mut Messages) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("").to_owned();
        if path.is_dir() {
            read_bindings(&path, &format!("{package}.{name}"), messages)?;
        } else if name == "mod.rs" {
            let source = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            read_messages(&source, package, messages);
        }
    }
    Ok(())
}

/// Reads the structs that `prost` wrote: `#[prost(type, …, tag = "N")]`, then `pub name: Type,`.
fn read_messages(source: &str, package: &str, messages: &mut Messages) {
    let mut current: Option<String> = None;
    let mut number: Option<u32> = None;
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.split([' ', '{']).next().unwrap_or("");
            let full = format!("{package}.{name}").to_lowercase();
            messages.entry(full.clone()).or_default();
            current = Some(full);
        } else if line.starts_with("#[prost(") {
            let tag = line.split("tag = \"").nth(1).and_then(|t| t.split('"').next());
            number = tag.and_then(|t| t.parse().ok());
        } else if let (Some(rest), Some(tag), Some(message)) = (line.strip_prefix("pub "), number, &current) {
            let Some((name, first)) = rest.split_once(':') else { continue };
            let mut spelled = first.to_owned();
            while !spelled.trim_end().ends_with(',') {
                let Some(next) = lines.next() else { break };
                spelled.push_str(next.trim());
            }
            let name = name.trim_start_matches("r#").replace('_', "").to_lowercase();
            let field = ProtoField { number: tag, message: message_type(&spelled, package) };
            messages.entry(message.clone()).or_default().insert(name, field);
            number = None;
        }
    }
}

/// The message named in `Option<Name>` of the same package.
fn message_type(spelled: &str, package: &str) -> Option<String> {
    let inner = spelled.split('<').nth(1)?.split('>').next()?;
    (!inner.contains("::") && !inner.is_empty()).then(|| format!("{package}.{inner}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_types_and_embedded_messages() {
        let source = r#"
pub struct Volume {
    #[prost(string, optional, tag = "1")]
    pub name: ::core::option::Option<::prost::alloc::string::String>,
    #[prost(message, optional, tag = "2")]
    pub volume_source: ::core::option::Option<VolumeSource>,
}
pub struct VolumeSource {
    #[prost(message, optional, tag = "19")]
    pub config_map:
        ::core::option::Option<ConfigMapVolumeSource>,
}"#;
        let mut messages = Messages::new();
        read_messages(source, "io.k8s.api.core.v1", &mut messages);
        let volume = &messages["io.k8s.api.core.v1.volume"];
        assert_eq!(number_of(volume, "name", &messages).as_deref(), Some("1"));
        assert_eq!(number_of(volume, "configMap", &messages).as_deref(), Some("2.19"));
        assert_eq!(number_of(volume, "nothing", &messages), None);
    }

    #[test]
    fn spells_types() {
        let list = serde_json::json!({"type": ["array", "null"], "items": {"$ref": "#/$defs/io.k8s.api.core.v1.EnvVar"}});
        assert_eq!(type_of(&list), "[&io.k8s.api.core.v1.EnvVar");
        let map = serde_json::json!({"type": "object", "additionalProperties": {"type": ["string", "null"], "format": "byte"}});
        assert_eq!(type_of(&map), "{bytes");
        let quantity = serde_json::json!({"$ref": "#/$defs/io.k8s.apimachinery.pkg.api.resource.Quantity"});
        assert_eq!(type_of(&quantity), "quantity");
    }
}
