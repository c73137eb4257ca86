//! The table of Kubernetes' types: fields, their types, wire numbers, list and merge keys.
//!
//! Written by `cargo xtask schema` into `schema/kubernetes.tsv` and read once, on first use; names stay in the
//! program's own pages, so the table costs a few hundred kilobytes. It knows shapes only, no rule about values.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The table's text.
static TEXT: &str = include_str!("../schema/kubernetes.tsv");

static TABLE: LazyLock<HashMap<&'static str, Definition>> = LazyLock::new(|| read(TEXT));

/// The name of `metadata`'s definition.
pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// The name of the definition of a list's `metadata`.
pub const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
/// The body of a DELETE.
pub const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
/// The wire error.
pub const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
/// The `scale` subresource.
pub const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
/// The `token` subresource.
pub const TOKEN_REQUEST: &str = "io.k8s.api.authentication.v1.TokenRequest";
/// The `binding` subresource.
pub const BINDING: &str = "io.k8s.api.core.v1.Binding";
/// The `eviction` subresource.
pub const EVICTION: &str = "io.k8s.api.policy.v1.Eviction";

/// One type of the API.
#[derive(Debug)]
pub struct Definition {
    /// Full name, for example `io.k8s.api.core.v1.PodSpec`.
    pub name: &'static str,
    /// Group, version and kind, for types that are requests or objects of their own.
    pub group_version_kind: Option<(&'static str, &'static str, &'static str)>,
    /// Whether server-side apply takes the whole struct as one value.
    pub atomic: bool,
    /// First sentence of the documentation.
    pub description: &'static str,
    /// Fields, sorted by name.
    pub fields: Vec<Field>,
}

/// One field of a type.
#[derive(Debug)]
pub struct Field {
    /// Name in JSON.
    pub name: &'static str,
    /// Protobuf field number and, for structs that JSON has inline, the number within. `None`: not in the bindings.
    pub number: Option<(u32, Option<u32>)>,
    /// Type.
    pub type_: Type,
    /// Whether the documentation calls it required.
    pub required: bool,
    /// Whether server-side apply takes the whole map as one value, which its type does not say.
    pub atomic: bool,
    /// `atomic`, `set`, `map` or empty.
    pub list_type: &'static str,
    /// Keys of a list of type `map`, comma-separated.
    pub list_map_keys: &'static str,
    /// Key by which a strategic merge patch finds an item; empty for lists of scalars and lists that are replaced.
    pub merge_key: &'static str,
    /// What a strategic merge patch does: `merge`, `replace`, `retainKeys`, comma-separated.
    pub patch_strategy: &'static str,
    /// First sentence of the documentation.
    pub description: &'static str,
}

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// UTF-8 text.
    String,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Boolean.
    Bool,
    /// Floating point.
    Double,
    /// Bytes, base64 in JSON.
    Bytes,
    /// A quantity such as `100m`.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// RFC 3339, seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// Any JSON.
    Raw,
    /// The set of fields an apply manager owns.
    Fields,
    /// A type of the table, by name.
    Ref(&'static str),
    /// A list.
    List(Box<Type>),
    /// A map from strings.
    Map(Box<Type>),
}

impl Definition {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| &self.fields[at])
    }

    /// The short name, as Kubernetes' Go types have it: `PodSpec`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

impl Field {
    /// Whether server-side apply takes the field as one value, or an item of it if it is a list.
    pub fn is_whole(&self) -> bool {
        let of_type = !matches!(self.type_, Type::Map(_));
        self.atomic || of_type && self.type_.definition().is_some_and(|definition| definition.atomic)
    }

    /// Whether `strategy` is among the patch strategies.
    pub fn has_strategy(&self, strategy: &str) -> bool {
        self.patch_strategy.split(',').any(|s| s == strategy)
    }
}

impl Type {
    /// The definition behind a reference, or behind a list's or map's items.
    pub fn definition(&self) -> Option<&'static Definition> {
        match self {
            Self::Ref(name) => definition(name),
            Self::List(inner) | Self::Map(inner) => inner.definition(),
            _ => None,
        }
    }

    fn parse(text: &'static str) -> Option<Self> {
        Some(match text {
            "string" => Self::String,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "bool" => Self::Bool,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "quantity" => Self::Quantity,
            "intstr" => Self::IntOrString,
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "raw" => Self::Raw,
            "fields" => Self::Fields,
            _ => match text.split_at_checked(1)? {
                ("&", name) => Self::Ref(name),
                ("[", inner) => Self::List(Box::new(Self::parse(inner)?)),
                ("{", inner) => Self::Map(Box::new(Self::parse(inner)?)),
                _ => return None,
            },
        })
    }
}

/// The definition of that full name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    TABLE.get(name)
}

/// The definition of an `apiVersion` and kind, also of those that are no stored kind.
pub fn by_api_version(api_version: &str, kind: &str) -> Option<&'static Definition> {
    if kind == "DeleteOptions" {
        return definition(DELETE_OPTIONS);
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    TABLE.values().find(|d| d.group_version_kind == Some((group, version, kind)))
}

fn read(text: &'static str) -> HashMap<&'static str, Definition> {
    let mut table = HashMap::new();
    let mut current: Option<Definition> = None;
    let mut keep = |definition: Option<Definition>| {
        if let Some(mut definition) = definition {
            definition.fields.sort_by_key(|f| f.name);
            table.insert(definition.name, definition);
        }
    };
    for line in text.lines() {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or("");
        match next() {
            "D" => {
                keep(current.take());
                let (name, gvk, flags, description) = (next(), next(), next(), next());
                current = Some(Definition {
                    name,
                    group_version_kind: read_gvk(gvk),
                    atomic: flags.contains('a'),
                    description,
                    fields: Vec::new(),
                });
            }
            "F" => {
                let (name, number, type_, flags) = (next(), next(), next(), next());
                let (Some(type_), Some(definition)) = (Type::parse(type_), &mut current) else { continue };
                definition.fields.push(Field {
                    name,
                    number: read_number(number),
                    type_,
                    required: flags.contains('r'),
                    atomic: flags.contains('a'),
                    list_type: next(),
                    list_map_keys: next(),
                    merge_key: next(),
                    patch_strategy: next(),
                    description: next(),
                });
            }
            _ => {}
        }
    }
    keep(current);
    table
}

fn read_gvk(text: &'static str) -> Option<(&'static str, &'static str, &'static str)> {
    let (rest, kind) = text.rsplit_once('/')?;
    let (group, version) = rest.split_once('/')?;
    Some((group, version, kind))
}

fn read_number(text: &str) -> Option<(u32, Option<u32>)> {
    match text.split_once('.') {
        Some((outer, inner)) => Some((outer.parse().ok()?, Some(inner.parse().ok()?))),
        None => Some((text.parse().ok()?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::KINDS;

    #[test]
    fn every_kind_and_every_reference_has_a_definition() {
        for kind in KINDS {
            assert!(definition(kind.schema).is_some(), "{}", kind.schema);
        }
        for name in [DELETE_OPTIONS, STATUS, SCALE, TOKEN_REQUEST, BINDING, EVICTION, OBJECT_META, LIST_META]
        {
            assert!(definition(name).is_some(), "{name}");
        }
        for definition in TABLE.values() {
            for field in &definition.fields {
                let mut inner = &field.type_;
                while let Type::List(next) | Type::Map(next) = inner {
                    inner = next;
                }
                if let Type::Ref(name) = inner {
                    assert!(super::definition(name).is_some(), "{}.{}", definition.name, field.name);
                }
            }
        }
        let fields = TEXT.lines().filter(|l| l.starts_with("F\t")).count();
        assert_eq!(fields, TABLE.values().map(|d| d.fields.len()).sum::<usize>());
    }

    #[test]
    fn knows_keys_and_numbers() {
        let spec = definition("io.k8s.api.core.v1.PodSpec").unwrap();
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.merge_key, "name");
        assert_eq!(containers.number, Some((2, None)));
        assert!(containers.required && containers.has_strategy("merge"));
        let volume = definition("io.k8s.api.core.v1.Volume").unwrap();
        assert_eq!(volume.field("configMap").unwrap().number, Some((2, Some(19))));
        assert!(spec.field("volumes").unwrap().has_strategy("retainKeys"));
        assert_eq!(by_api_version("apps/v1", "Deployment").unwrap().short_name(), "Deployment");
    }
}
