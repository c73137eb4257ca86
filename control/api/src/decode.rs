//! Request bodies: JSON or protobuf bytes become a checked JSON object of known fields.
//!
//! Unknown fields, `null`s and zeros that say no more than an absent field ([`Field::is_absent`]) are taken out, and
//! quantities, times and numbers get their canonical spelling, as a typed decoder would do; so JSON and protobuf of the
//! same object are read as the same. What was unknown or double is an error, a warning or nothing, as the client's
//! `fieldValidation` says. It knows types, no rule about values.
//!
//! [`Field::is_absent`]: crate::schema::Field::is_absent

mod read;

use std::fmt;

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::proto;
use crate::quantity::Quantity;
use crate::schema::{self, Definition, Other, Type};
use crate::status::Status;

/// Media types of request bodies.
pub const MEDIA_TYPES: &[&str] = &["application/json", proto::MEDIA_TYPE];
/// How many unknown or double fields are told.
const FINDINGS_MAX: usize = 64;

/// What happens to unknown and double fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the answer carries warnings.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter `fieldValidation`.
    ///
    /// # Errors
    /// 422 for an unknown value.
    pub fn parse(text: Option<&str>) -> Result<Self, Status> {
        match text {
            None | Some("") => Ok(Self::default()),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Warn") => Ok(Self::Warn),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => {
                let error = crate::status::FieldError::not_supported(
                    "fieldValidation",
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                );
                Err(Status::invalid_type("meta.k8s.io", "CreateOptions", "", &[error]))
            }
        }
    }
}

/// A body that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object: known fields only, with `apiVersion` and `kind`.
    pub value: Value,
    /// What to tell the client in `Warning` headers.
    pub warnings: Vec<String>,
}

/// Reads an object of `kind`.
///
/// # Errors
/// 415 for an unknown media type; 400 for a body that is not of the kind, has wrong types or, when strict, unknown
/// or double fields.
pub fn body(
    kind: &Kind,
    bytes: &[u8],
    content_type: Option<&str>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let names = Names { api_version: &kind.api_version(), version: kind.version, kind: kind.kind };
    decode(kind.schema, &names, bytes, content_type, validation)
}

/// Reads an object of a type that is no stored kind, by the name of its definition, such as
/// [`schema::DELETE_OPTIONS`].
///
/// # Errors
/// As [`body`].
pub fn any(
    schema_name: &str,
    bytes: &[u8],
    content_type: Option<&str>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let definition = defined(schema_name)?;
    let (api_version, version) = match definition.group_version_kind {
        Some(("", version, _)) => (version.to_owned(), version),
        Some((group, version, _)) => (format!("{group}/{version}"), version),
        // DeleteOptions come under every group's version.
        None => (String::new(), "v1"),
    };
    let names = Names { api_version: &api_version, version, kind: definition.short_name() };
    decode(schema_name, &names, bytes, content_type, validation)
}

/// Reads an apply configuration: YAML, which JSON is; it is not checked.
///
/// # Errors
/// 400.
pub fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    let text = std::str::from_utf8(bytes).map_err(|e| Status::bad_request(e.to_string()))?;
    serde_saphyr::from_str(text).map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))
}

/// Checks and tidies an object that came about otherwise, for example by a patch.
///
/// # Errors
/// 400 as for [`body`].
pub fn check(
    schema_name: &str,
    value: &mut Value,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    check_with(schema_name, value, validation, Zeros::Drop)
}

/// As [`check`] for an apply configuration, whose zeros stay: its manager owns what it names.
///
/// # Errors
/// As [`check`].
pub fn configuration(
    schema_name: &str,
    value: &mut Value,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    check_with(schema_name, value, validation, Zeros::Keep)
}

fn check_with(
    schema_name: &str,
    value: &mut Value,
    validation: FieldValidation,
    zeros: Zeros,
) -> Result<Vec<String>, Status> {
    let definition = defined(schema_name)?;
    let version = definition.group_version_kind.map_or("v1", |g| g.1);
    let names = Names { api_version: "", version, kind: definition.short_name() };
    tidy(definition, &names, value, (Vec::new(), zeros), validation)
}

fn defined(schema_name: &str) -> Result<&'static Definition, Status> {
    schema::definition(schema_name).ok_or_else(|| Status::internal(format!("no definition {schema_name}")))
}

struct Names<'a> {
    /// Empty: any.
    api_version: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl Names<'_> {
    fn refuse(&self, why: impl fmt::Display) -> Status {
        let Self { kind, version, .. } = self;
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    }

    fn unrecognized(&self, why: impl fmt::Display) -> Status {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why}",
            self.kind
        ))
    }
}

fn decode(
    schema_name: &str,
    names: &Names<'_>,
    bytes: &[u8],
    content_type: Option<&str>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let definition = defined(schema_name)?;
    let media_type = content_type.unwrap_or("").split(';').next().unwrap_or("").trim();
    let (mut value, doubles) = match media_type {
        proto::MEDIA_TYPE => {
            (proto::decode(bytes, definition).map_err(|e| names.unrecognized(e))?, Vec::new())
        }
        "" | "application/json" if bytes.starts_with(proto::MAGIC) => {
            return Err(Status::unsupported_media_type(MEDIA_TYPES));
        }
        "" | "*/*" | "application/json" => read::json(bytes)
            .map_err(|e| names.unrecognized(format!("couldn't get version/kind; json parse error: {e}")))?,
        _ => return Err(Status::unsupported_media_type(MEDIA_TYPES)),
    };
    identify(names, &mut value)?;
    let warnings = tidy(definition, names, &mut value, (doubles, Zeros::Drop), validation)?;
    Ok(Decoded { value, warnings })
}

/// Checks `apiVersion` and `kind`, and fills them in where the body leaves them out.
fn identify(names: &Names<'_>, value: &mut Value) -> Result<(), Status> {
    let Some(object) = value.as_object_mut() else {
        return Err(
            names.unrecognized("couldn't get version/kind; json parse error: the body is not an object")
        );
    };
    let given = |object: &Map<String, Value>, key: &str| {
        match object.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(names.unrecognized(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go struct field .{key} of \
             type string",
            go_value(other)
        ))),
    }
    };
    let (api_version, kind) = (given(object, "apiVersion")?, given(object, "kind")?);
    if !kind.is_empty() && kind != names.kind {
        let version = api_version.rsplit('/').next().unwrap_or("");
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: the kind in the data ({kind}) does not match the \
             expected kind ({})",
            names.kind, names.kind
        )));
    }
    if !api_version.is_empty() && !names.api_version.is_empty() && api_version != names.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            names.api_version
        )));
    }
    if !names.api_version.is_empty() {
        object.insert("apiVersion".into(), names.api_version.into());
    }
    object.insert("kind".into(), names.kind.into());
    Ok(())
}

fn tidy(
    definition: &Definition,
    names: &Names<'_>,
    value: &mut Value,
    (mut findings, zeros): (Vec<String>, Zeros),
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let mut walk = Walk { path: Vec::new(), findings: Vec::new(), zeros };
    walk.structure(definition, value).map_err(|e| names.refuse(e))?;
    let mut unknown = walk.findings;
    unknown.append(&mut findings);
    unknown.truncate(FINDINGS_MAX);
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(unknown),
        FieldValidation::Strict if unknown.is_empty() => Ok(unknown),
        FieldValidation::Strict => {
            Err(names.refuse(format!("strict decoding error: {}", unknown.join(", "))))
        }
    }
}

/// One step from the root of an object to a field.
#[derive(Clone, Debug)]
enum Step {
    Field(String),
    Index(usize),
}

/// The path as unknown fields are told: `spec.containers[0].foo`.
fn dotted(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Field(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(at) => out.push_str(&format!("[{at}]")),
        }
    }
    out
}

/// A field of another type than it should be; the words are those of Go's decoder, which clients know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WrongType(String);

impl fmt::Display for WrongType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What happens to zeros that say no more than an absent field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zeros {
    Drop,
    Keep,
}

struct Walk {
    path: Vec<Step>,
    findings: Vec<String>,
    zeros: Zeros,
}

impl Walk {
    fn structure(&mut self, definition: &Definition, value: &mut Value) -> Result<(), WrongType> {
        let Value::Object(object) = value else {
            return Err(self.wrong(value, &go_name(definition), definition));
        };
        let mut dropped = Vec::new();
        for (name, value) in object.iter_mut() {
            self.path.push(Step::Field(name.clone()));
            match definition.field(name) {
                None => {
                    if self.findings.len() < FINDINGS_MAX {
                        self.findings.push(format!("unknown field \"{}\"", dotted(&self.path)));
                    }
                    dropped.push(name.clone());
                }
                Some(_) if value.is_null() => dropped.push(name.clone()),
                Some(field) => {
                    self.field(&field.type_, value, definition)?;
                    if self.zeros == Zeros::Drop && field.is_absent(value) {
                        dropped.push(name.clone());
                    }
                }
            }
            self.path.pop();
        }
        for name in dropped {
            object.remove(&name);
        }
        Ok(())
    }

    fn field(&mut self, type_: &Type, value: &mut Value, within: &Definition) -> Result<(), WrongType> {
        match (type_, &mut *value) {
            (Type::Raw | Type::Json, _) | (Type::Fields, Value::Object(_)) => {}
            (Type::String, Value::String(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::SchemaOr(Other::Bool), Value::Bool(_)) => {}
            (Type::Double, Value::Number(number)) => {
                if let Some(Ok(canonical)) = number.as_f64().map(proto::double) {
                    *value = canonical;
                }
            }
            (Type::Duration, Value::String(text)) => match crate::time::parse_go_duration(text) {
                Some(nanos) => *value = crate::time::go_duration(nanos).into(),
                None => {
                    return Err(WrongType(format!(
                        "{}: time: invalid duration \"{text}\"",
                        dotted(&self.path)
                    )));
                }
            },
            // Go has neither a schema nor anything else then.
            (Type::SchemaOr(_), Value::Array(items)) if items.is_empty() => *value = Value::Null,
            (Type::SchemaOr(Other::Schemas), Value::Array(items)) => {
                self.items(items, &Type::Ref(schema::JSON_SCHEMA), within)?;
            }
            (Type::SchemaOr(Other::Strings), Value::Array(items)) => {
                self.items(items, &Type::String, within)?;
            }
            (Type::SchemaOr(_), Value::Object(_)) => {
                self.field(&Type::Ref(schema::JSON_SCHEMA), value, within)?;
            }
            (Type::Int32 | Type::Int64, Value::Number(number)) => {
                let fits = |n: i64| *type_ == Type::Int64 || i32::try_from(n).is_ok();
                if !number.as_i64().is_some_and(fits) {
                    return Err(self.wrong(value, &go_type(type_), within));
                }
            }
            (Type::IntOrString, Value::String(_)) => {}
            (Type::IntOrString, Value::Number(number)) => {
                if number.as_i64().is_none_or(|n| i32::try_from(n).is_err()) {
                    return Err(self.wrong(value, "int32", within));
                }
            }
            (Type::Bytes, Value::String(text)) => {
                if let Err(error) = base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
                    return Err(WrongType(format!("{}: illegal base64 data: {error}", dotted(&self.path))));
                }
            }
            (Type::Quantity, Value::String(_) | Value::Number(_)) => match Quantity::from_value(value) {
                Ok(quantity) => *value = quantity.to_string().into(),
                Err(error) => return Err(WrongType(format!("{}: {error}", dotted(&self.path)))),
            },
            (Type::Time | Type::MicroTime, Value::String(text)) => *value = self.time(type_, text)?.into(),
            (Type::Ref(name), _) => {
                if let Some(inner) = schema::definition(name) {
                    self.structure(inner, value)?;
                }
            }
            (Type::List(item), Value::Array(items)) => self.items(items, item, within)?,
            (Type::Map(item), Value::Object(entries)) => {
                for (key, entry) in entries.iter_mut() {
                    self.entry(Step::Field(key.clone()), item, entry, within)?;
                }
            }
            _ => return Err(self.wrong(value, &go_type(type_), within)),
        }
        Ok(())
    }

    fn items(&mut self, items: &mut [Value], type_: &Type, within: &Definition) -> Result<(), WrongType> {
        for (at, entry) in items.iter_mut().enumerate() {
            self.entry(Step::Index(at), type_, entry, within)?;
        }
        Ok(())
    }

    /// One entry of a list or map.
    fn entry(
        &mut self,
        step: Step,
        type_: &Type,
        entry: &mut Value,
        within: &Definition,
    ) -> Result<(), WrongType> {
        self.path.push(step);
        replace_null(type_, entry);
        if !entry.is_null() {
            self.field(type_, entry, within)?;
        }
        self.path.pop();
        Ok(())
    }

    fn time(&self, type_: &Type, text: &str) -> Result<String, WrongType> {
        let time: jiff::Timestamp = text.parse().map_err(|_| {
            WrongType(format!(
                "{}: parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse",
                dotted(&self.path)
            ))
        })?;
        Ok(crate::time::rfc3339(time, *type_ == Type::MicroTime))
    }

    fn wrong(&self, value: &Value, wanted: &str, within: &Definition) -> WrongType {
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|s| match s {
                Step::Field(name) => Some(name.as_str()),
                Step::Index(_) => None,
            })
            .collect();
        WrongType(format!(
            "json: cannot unmarshal {} into Go struct field {}.{} of type {wanted}",
            go_value(value),
            within.short_name(),
            fields.join(".")
        ))
    }
}

/// A `null` in a list or map is the zero value.
fn replace_null(type_: &Type, entry: &mut Value) {
    if entry.is_null() {
        *entry = match type_ {
            Type::String | Type::Bytes => "".into(),
            Type::Bool => false.into(),
            Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => 0.into(),
            Type::Quantity => "0".into(),
            Type::List(_) => Value::Array(Vec::new()),
            Type::Ref(_) | Type::Map(_) | Type::Fields => Value::Object(Map::new()),
            Type::Duration => "0s".into(),
            Type::Time | Type::MicroTime | Type::Raw | Type::Json | Type::SchemaOr(_) => return,
        };
    }
}

fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) => format!("number {number}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

fn go_name(definition: &Definition) -> String {
    let mut parts = definition.name.rsplit('.');
    let (name, package) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    format!("{package}.{name}")
}

fn go_type(type_: &Type) -> String {
    match type_ {
        Type::String | Type::IntOrString => "string".to_owned(),
        Type::Quantity => "resource.Quantity".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Double => "float64".to_owned(),
        Type::Bytes => "[]uint8".to_owned(),
        Type::Time => "v1.Time".to_owned(),
        Type::MicroTime => "v1.MicroTime".to_owned(),
        Type::Duration => "v1.Duration".to_owned(),
        Type::Raw => "runtime.RawExtension".to_owned(),
        Type::Json => "v1.JSON".to_owned(),
        Type::SchemaOr(Other::Bool) => "v1.JSONSchemaPropsOrBool".to_owned(),
        Type::SchemaOr(Other::Schemas) => "v1.JSONSchemaPropsOrArray".to_owned(),
        Type::SchemaOr(Other::Strings) => "v1.JSONSchemaPropsOrStringArray".to_owned(),
        Type::Fields => "v1.FieldsV1".to_owned(),
        Type::Ref(name) => schema::definition(name).map_or_else(|| (*name).to_owned(), go_name),
        Type::List(item) => format!("[]{}", go_type(item)),
        Type::Map(item) => format!("map[string]{}", go_type(item)),
    }
}

#[cfg(test)]
mod forms;
#[cfg(test)]
mod tests;
