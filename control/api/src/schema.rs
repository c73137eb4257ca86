//! The table of Kubernetes' types: fields, their types, wire numbers, list and merge keys.
//!
//! Written by `cargo xtask schema` into `schema/kubernetes.tsv` and read once, on first use; names stay in the
//! program's own pages, so the table costs a few hundred kilobytes. It knows shapes only, no rule about values.

mod words;

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

pub use self::words::Words;

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
/// The schema within a CustomResourceDefinition.
pub const JSON_SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
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
    /// Fields, sorted by name.
    pub fields: Vec<Field>,
}

/// One field of a type.
#[derive(Debug)]
pub struct Field {
    /// Name in JSON.
    pub name: &'static str,
    /// Protobuf field number and, for structs that JSON has inline, the numbers within; zeros behind. All zeros for
    /// `apiVersion` and `kind`, which protobuf has around the object and nowhere else.
    pub numbers: [u32; NUMBERS_MAX],
    /// Type.
    pub type_: Type,
    /// Whether the documentation calls it required.
    pub required: bool,
    /// Whether the zero value means that the field is absent; see [`Field::is_absent`].
    pub zero_is_absent: bool,
    /// Whether the zero value is published as the field's default.
    pub zero_is_default: bool,
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
}

/// How many structs may stand in each other without a name in JSON.
pub const NUMBERS_MAX: usize = 3;

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
    /// A length of time as Go spells it, `1m30s`.
    Duration,
    /// Any object.
    Raw,
    /// Any JSON value.
    Json,
    /// In the schema of a CustomResourceDefinition: a schema, or something else.
    SchemaOr(Other),
    /// The set of fields an apply manager owns.
    Fields,
    /// A type of the table, by name.
    Ref(&'static str),
    /// A list.
    List(Box<Type>),
    /// A map from strings.
    Map(Box<Type>),
}

/// What may stand in place of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// `true` or `false`.
    Bool,
    /// A list of schemas.
    Schemas,
    /// A list of strings.
    Strings,
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

    /// Whether a value says no more than an absent field does. Lists and maps without entries never do: protobuf cannot
    /// hold them. Of other zeros (`false`, `0`, `""`, a struct without fields) Kubernetes' types say it field by field:
    /// where they hold a value and no pointer, and leave the zero out of JSON.
    pub fn is_absent(&self, value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(items) if matches!(self.type_, Type::List(_)) => items.is_empty(),
            Value::Object(entries) if matches!(self.type_, Type::Map(_)) => entries.is_empty(),
            _ if !self.zero_is_absent => false,
            Value::Bool(flag) => !flag,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::Object(object) => object.is_empty() && matches!(self.type_, Type::Ref(_)),
            Value::String(text) => match self.type_ {
                Type::Quantity => text == "0",
                Type::Duration => text == "0s",
                Type::IntOrString => false,
                _ => text.is_empty(),
            },
            Value::Array(_) => false,
        }
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
            "duration" => Self::Duration,
            "raw" => Self::Raw,
            "json" => Self::Json,
            "schema-or-bool" => Self::SchemaOr(Other::Bool),
            "schemas" => Self::SchemaOr(Other::Schemas),
            "schema-or-strings" => Self::SchemaOr(Other::Strings),
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

/// Every definition, in no order.
pub fn definitions() -> impl Iterator<Item = &'static Definition> {
    TABLE.values()
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
                let (name, gvk, flags) = (next(), next(), next());
                current = Some(Definition {
                    name,
                    group_version_kind: read_gvk(gvk),
                    atomic: flags.contains('a'),
                    fields: Vec::new(),
                });
            }
            "F" => {
                let (name, numbers, type_, flags) = (next(), next(), next(), next());
                let (Some(numbers), Some(type_)) = (read_numbers(numbers), Type::parse(type_)) else {
                    continue;
                };
                let Some(definition) = &mut current else { continue };
                definition.fields.push(Field {
                    name,
                    numbers,
                    type_,
                    required: flags.contains('r'),
                    zero_is_absent: flags.contains('z'),
                    zero_is_default: flags.contains('d'),
                    atomic: flags.contains('a'),
                    list_type: next(),
                    list_map_keys: next(),
                    merge_key: next(),
                    patch_strategy: next(),
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

/// `2.17` for field 17 of message 2; nothing for what protobuf does not have.
fn read_numbers(text: &str) -> Option<[u32; NUMBERS_MAX]> {
    let mut numbers = [0; NUMBERS_MAX];
    for (at, number) in text.split('.').filter(|n| !n.is_empty()).enumerate() {
        *numbers.get_mut(at)? = number.parse().ok()?;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::kind::served;

    #[test]
    fn every_kind_and_every_reference_has_a_definition() {
        for kind in served() {
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
        assert_eq!(TEXT.lines().filter(|l| l.starts_with("D\t")).count(), TABLE.len());
    }

    /// What is not in protobuf would be lost in silence: nothing but the names around an object may be without number.
    #[test]
    fn every_field_but_the_type_has_a_protobuf_number_of_its_own() {
        for definition in TABLE.values() {
            let mut seen = HashSet::new();
            for field in &definition.fields {
                let is_type = matches!(field.name, "apiVersion" | "kind");
                assert!(field.numbers[0] != 0 || is_type, "{}.{}", definition.name, field.name);
                assert!(
                    field.numbers[0] == 0 || seen.insert(field.numbers),
                    "{}.{}",
                    definition.name,
                    field.name
                );
            }
            // Nor may a number be both a field and a struct around fields.
            for [outer, ..] in seen.iter().filter(|numbers| numbers[1] != 0) {
                assert!(!seen.contains(&[*outer, 0, 0]), "{}", definition.name);
            }
        }
    }

    #[test]
    fn every_wanted_kind_is_there() {
        for wanted in [
            "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration ValidatingWebhookConfiguration \
             ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding",
            "apiextensions.k8s.io/v1 CustomResourceDefinition",
            "apps/v1 ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet",
            "authentication.k8s.io/v1 SelfSubjectReview TokenRequest TokenReview",
            "authorization.k8s.io/v1 LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview \
             SubjectAccessReview",
            "autoscaling/v1 HorizontalPodAutoscaler Scale",
            "autoscaling/v2 HorizontalPodAutoscaler",
            "batch/v1 CronJob Job",
            "certificates.k8s.io/v1 CertificateSigningRequest",
            "coordination.k8s.io/v1 Lease",
            "discovery.k8s.io/v1 EndpointSlice",
            "events.k8s.io/v1 Event",
            "meta.k8s.io/v1 PartialObjectMetadata",
            "metrics.k8s.io/v1beta1 NodeMetrics PodMetrics",
            "networking.k8s.io/v1 IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR",
            "node.k8s.io/v1 RuntimeClass",
            "policy/v1 Eviction PodDisruptionBudget",
            "rbac.authorization.k8s.io/v1 ClusterRole ClusterRoleBinding Role RoleBinding",
            "scheduling.k8s.io/v1 PriorityClass",
            "storage.k8s.io/v1 CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment \
             VolumeAttributesClass",
            "v1 Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume \
             PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount \
             Status",
        ] {
            let mut words = wanted.split_whitespace();
            let version = words.next().unwrap();
            for kind in words {
                assert!(by_api_version(version, kind).is_some(), "{version} {kind}");
            }
        }
    }

    #[test]
    fn knows_keys_and_numbers() {
        let spec = definition("io.k8s.api.core.v1.PodSpec").unwrap();
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.merge_key, "name");
        assert_eq!(containers.numbers, [2, 0, 0]);
        assert!(containers.required && containers.has_strategy("merge"));
        let volume = definition("io.k8s.api.core.v1.Volume").unwrap();
        assert_eq!(volume.field("configMap").unwrap().numbers, [2, 19, 0]);
        assert!(spec.field("volumes").unwrap().has_strategy("retainKeys"));
        assert_eq!(by_api_version("apps/v1", "Deployment").unwrap().short_name(), "Deployment");
    }
}
