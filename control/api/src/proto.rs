//! Kubernetes' protobuf form, read and written from the schema table: no message struct stands anywhere.
//!
//! The wire is the magic `k8s\0`, then `runtime.Unknown` (apiVersion and kind, then the object's own message). Go's
//! structs write every field that is no pointer, empty or not, so what stands empty on the wire and is no pointer in
//! Go is left out of the JSON, as Go's own JSON leaves it out.

mod write;

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};
pub use write::encode;

use crate::schema::{self, Definition, Field, Type};
use crate::time::rfc3339;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body begins with.
pub const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may stand in each other.
const DEPTH_MAX: usize = 64;

/// Why bytes are not the message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// The magic is missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    /// The bytes end within a field, or a number is too long.
    #[error("proto: unexpected end of the message or malformed number")]
    Truncated,
    /// A field has another wire type than its number says.
    #[error("proto: wrong wire type for a field")]
    WireType,
    /// A text is not UTF-8.
    #[error("proto: a string is not UTF-8")]
    Utf8,
    /// Messages stand deeper in each other than any type of the API does.
    #[error("proto: messages are nested deeper than {DEPTH_MAX}")]
    Depth,
    /// A time, quantity or embedded JSON has no meaning.
    #[error("proto: a value cannot be converted to JSON")]
    Value,
}

/// One field as it stands on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// Reads fields one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (first, rest) = self.rest.split_first().ok_or(ProtoError::Truncated)?;
            self.rest = rest;
            if shift < 64 {
                value |= u64::from(first & 0x7f) << shift;
            }
            if first & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtoError::Truncated)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], ProtoError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ProtoError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, ProtoError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| ProtoError::Truncated)?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Wire::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| ProtoError::Truncated)?))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtoError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(ProtoError::WireType),
        };
        Ok(Some((number, wire)))
    }
}

/// Reads a body as `definition`; `apiVersion` and `kind` are those the body names.
///
/// # Errors
/// The bytes are no such message.
pub fn decode(bytes: &[u8], definition: &Definition) -> Result<Value, ProtoError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(ProtoError::Magic)?;
    let mut unknown = Fields { rest };
    let (mut type_meta, mut raw): (&[u8], &[u8]) = (&[], &[]);
    while let Some((number, wire)) = unknown.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => type_meta = bytes,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut object = message(definition, raw, 0)?;
    let mut names = Fields { rest: type_meta };
    while let Some((number, wire)) = names.next()? {
        let key = match number {
            1 => "apiVersion",
            2 => "kind",
            _ => continue,
        };
        object.insert(key.into(), text(wire)?.into());
    }
    Ok(Value::Object(object))
}

/// `apiVersion` and kind that a body names, before its type is known.
///
/// # Errors
/// The bytes are no `runtime.Unknown`.
pub fn type_meta(bytes: &[u8]) -> Result<(String, String), ProtoError> {
    let mut unknown = Fields { rest: bytes.strip_prefix(MAGIC).ok_or(ProtoError::Magic)? };
    let mut names = (String::new(), String::new());
    while let Some((number, wire)) = unknown.next()? {
        if let (1, Wire::Bytes(bytes)) = (number, wire) {
            let mut fields = Fields { rest: bytes };
            while let Some((number, wire)) = fields.next()? {
                match number {
                    1 => names.0 = text(wire)?,
                    2 => names.1 = text(wire)?,
                    _ => {}
                }
            }
        }
    }
    Ok(names)
}

fn text(wire: Wire<'_>) -> Result<String, ProtoError> {
    let Wire::Bytes(bytes) = wire else { return Err(ProtoError::WireType) };
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| ProtoError::Utf8)
}

fn message(definition: &Definition, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, ProtoError> {
    let mut object = Map::new();
    read_into(&mut object, definition, bytes, None, depth)?;
    let unset = |name: &String, value: &Value| {
        let counted = definition.name.ends_with("Status") && value.as_i64() == Some(0);
        definition.field(name).is_some_and(|f| !f.required && (counted || is_unset(f, value)))
    };
    object.retain(|name, value| !value.is_null() && !unset(name, value));
    Ok(object)
}

/// Reads fields into `object`; within `outer`, those of a struct that JSON has inline.
fn read_into(
    object: &mut Map<String, Value>,
    definition: &Definition,
    bytes: &[u8],
    outer: Option<u32>,
    depth: usize,
) -> Result<(), ProtoError> {
    if depth > DEPTH_MAX {
        return Err(ProtoError::Depth);
    }
    let mut fields = Fields { rest: bytes };
    while let Some((number, wire)) = fields.next()? {
        let path = outer.map_or((number, None), |outer| (outer, Some(number)));
        if let Some(field) = definition.fields.iter().find(|f| f.number == Some(path)) {
            add(object, field, wire, depth)?;
        } else if outer.is_none()
            && definition.fields.iter().any(|f| matches!(f.number, Some((n, Some(_))) if n == number))
        {
            let Wire::Bytes(inner) = wire else { return Err(ProtoError::WireType) };
            read_into(object, definition, inner, Some(number), depth + 1)?;
        }
    }
    Ok(())
}

fn add(
    object: &mut Map<String, Value>,
    field: &Field,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), ProtoError> {
    match &field.type_ {
        Type::List(item) => {
            let entry = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            let Some(items) = entry.as_array_mut() else { return Ok(()) };
            match (&**item, wire) {
                (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(packed)) => {
                    let mut numbers = Fields { rest: packed };
                    while !numbers.rest.is_empty() {
                        let number = numbers.varint()?;
                        items.push(scalar(item, Wire::Varint(number), depth)?);
                    }
                }
                _ => items.push(scalar(item, wire, depth)?),
            }
        }
        Type::Map(item) => {
            let entry = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            let (Some(entries), Wire::Bytes(bytes)) = (entry.as_object_mut(), wire) else {
                return Err(ProtoError::WireType);
            };
            let (key, value) = map_entry(item, bytes, depth)?;
            entries.insert(key, value);
        }
        type_ => {
            object.insert(field.name.into(), scalar(type_, wire, depth)?);
        }
    }
    Ok(())
}

fn map_entry(item: &Type, bytes: &[u8], depth: usize) -> Result<(String, Value), ProtoError> {
    let mut fields = Fields { rest: bytes };
    let (mut key, mut value) = (String::new(), None);
    while let Some((number, wire)) = fields.next()? {
        match number {
            1 => key = text(wire)?,
            2 => value = Some(scalar(item, wire, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        None => scalar(item, Wire::Bytes(&[]), depth).unwrap_or(Value::Null),
    };
    Ok((key, value))
}

fn scalar(type_: &Type, wire: Wire<'_>, depth: usize) -> Result<Value, ProtoError> {
    match (type_, wire) {
        (Type::String, _) => Ok(text(wire)?.into()),
        // Negative numbers stand as 64-bit two's complement.
        (Type::Int32 | Type::Int64, Wire::Varint(number)) => Ok(number.cast_signed().into()),
        (Type::Bool, Wire::Varint(number)) => Ok((number != 0).into()),
        (Type::Double, Wire::Fixed64(bits)) => Ok(f64::from_bits(bits).into()),
        (_, Wire::Bytes(bytes)) => structured(type_, bytes, depth),
        _ => Err(ProtoError::WireType),
    }
}

fn structured(type_: &Type, bytes: &[u8], depth: usize) -> Result<Value, ProtoError> {
    match type_ {
        Type::Bytes => Ok(base64::engine::general_purpose::STANDARD.encode(bytes).into()),
        Type::Ref(name) => match schema::definition(name) {
            Some(definition) => message(definition, bytes, depth + 1).map(Value::Object),
            None => Ok(Value::Null),
        },
        // A list as a map's value is a message with one repeated field.
        Type::List(item) => {
            let mut fields = Fields { rest: bytes };
            let mut items = Vec::new();
            while let Some((number, wire)) = fields.next()? {
                if number == 1 {
                    items.push(scalar(item, wire, depth + 1)?);
                }
            }
            Ok(Value::Array(items))
        }
        _ => wrapped(type_, bytes),
    }
}

/// Quantities, times and the like: small messages that JSON has as one value.
fn wrapped(type_: &Type, bytes: &[u8]) -> Result<Value, ProtoError> {
    let mut fields = Fields { rest: bytes };
    let (mut one, mut two, mut bytes_of) = (0_i64, 0_i64, [None, None, None]);
    while let Some((number, wire)) = fields.next()? {
        match (number, wire) {
            (1, Wire::Varint(n)) => one = n.cast_signed(),
            (2, Wire::Varint(n)) => two = n.cast_signed(),
            (1..=3, Wire::Bytes(b)) => bytes_of[number as usize - 1] = Some(b),
            _ => {}
        }
    }
    let text_of = |bytes: Option<&[u8]>| {
        std::str::from_utf8(bytes.unwrap_or_default()).map(str::to_owned).map_err(|_| ProtoError::Utf8)
    };
    match type_ {
        Type::Quantity => text_of(bytes_of[0]).map(|t| if t.is_empty() { "0".into() } else { t.into() }),
        Type::IntOrString if one == 1 => text_of(bytes_of[2]).map(Value::String),
        Type::IntOrString => Ok(two.into()),
        Type::Time | Type::MicroTime => {
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            let nanos = i32::try_from(two).map_err(|_| ProtoError::Value)?;
            let time = Timestamp::new(one, nanos).map_err(|_| ProtoError::Value)?;
            Ok(rfc3339(time, *type_ == Type::MicroTime).into())
        }
        Type::Raw | Type::Fields => match bytes_of[0] {
            None | Some([]) => Ok(Value::Null),
            Some(json) => serde_json::from_slice(json).map_err(|_| ProtoError::Value),
        },
        _ => Err(ProtoError::WireType),
    }
}

/// Whether a value on the wire means "not set" because Go's field is no pointer. Which are none stands in no schema;
/// the lists are those of the Go types' documentation.
fn is_unset(field: &Field, value: &Value) -> bool {
    const VALUE_BOOLS: &[&str] = &[
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "paused",
        "publishNotReadyAddresses",
        "readOnly",
        "stdin",
        "stdinOnce",
        "tty",
        "unschedulable",
    ];
    const VALUE_NUMBERS: &[&str] = &[
        "active",
        "availableReplicas",
        "code",
        "count",
        "failed",
        "failureThreshold",
        "fullyLabeledReplicas",
        "generation",
        "hostPort",
        "initialDelaySeconds",
        "minReadySeconds",
        "nodePort",
        "observedGeneration",
        "periodSeconds",
        "readyReplicas",
        "retryAfterSeconds",
        "successThreshold",
        "succeeded",
        "unavailableReplicas",
        "updatedReplicas",
        "healthCheckNodePort",
    ];
    const VALUE_STRUCTS: &[&str] = &[
        "daemonEndpoints",
        "lastState",
        "loadBalancer",
        "metadata",
        "nodeInfo",
        "resources",
        "source",
        "state",
        "status",
        "strategy",
        "updateStrategy",
        "spec",
        "template",
    ];
    match value {
        Value::String(text) => text.is_empty() && field.name != "storageClassName",
        Value::Bool(false) => VALUE_BOOLS.contains(&field.name),
        Value::Number(number) => number.as_i64() == Some(0) && VALUE_NUMBERS.contains(&field.name),
        Value::Object(object) => object.is_empty() && VALUE_STRUCTS.contains(&field.name),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
