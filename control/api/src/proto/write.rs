//! Writing Kubernetes' protobuf form.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::Value;

use super::{MAGIC, ProtoError};
use crate::schema::{self, Definition, Field, Other, Type};
use crate::time::parse_go_duration;

/// Writes an object as a whole body with the magic. Left out is what protobuf cannot hold: lists and maps without
/// entries, and `apiVersion` and `kind` of objects within the object.
///
/// # Errors
/// A value has not the type its field says.
pub fn encode(object: &Value, definition: &Definition) -> Result<Vec<u8>, ProtoError> {
    let name = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or("");
    Ok(body(name("apiVersion"), name("kind"), &encode_message(object, definition)?))
}

/// The message alone that an object is, for [`body`] and [`item`](super::item).
///
/// # Errors
/// As [`encode`].
pub fn encode_message(object: &Value, definition: &Definition) -> Result<Vec<u8>, ProtoError> {
    let mut message = Vec::new();
    write_message(&mut message, object, definition)?;
    Ok(message)
}

/// A whole body with the magic, of an object's message.
pub fn body(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let names = names(api_version, kind);
    // Beside them there are two keys and two lengths.
    let mut out = Vec::with_capacity(MAGIC.len() + names.len() + message.len() + 22);
    out.extend_from_slice(MAGIC);
    write_bytes(&mut out, 1, &names);
    write_bytes(&mut out, 2, message);
    out
}

/// What stands around an object: its type.
pub(super) fn names(api_version: &str, kind: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_bytes(&mut out, 1, api_version.as_bytes());
    write_bytes(&mut out, 2, kind.as_bytes());
    out
}

pub(crate) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn write_key(out: &mut Vec<u8>, number: u32, wire: u64) {
    write_varint(out, u64::from(number) << 3 | wire);
}

pub(crate) fn write_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    write_key(out, number, 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn write_message(
    out: &mut Vec<u8>,
    value: &Value,
    definition: &Definition,
) -> Result<(), ProtoError> {
    let object = value.as_object().ok_or(ProtoError::Value)?;
    let mut fields: Vec<(&Field, &Value)> = object
        .iter()
        .filter_map(|(name, value)| Some((definition.field(name)?, value)))
        .filter(|(field, value)| field.numbers[0] != 0 && !value.is_null())
        .collect();
    fields.sort_by_key(|(field, _)| field.numbers);
    write_level(out, &fields, 0)
}

/// Writes fields that are sorted by their numbers and have those before `level` in common.
fn write_level(out: &mut Vec<u8>, fields: &[(&Field, &Value)], level: usize) -> Result<(), ProtoError> {
    for same in fields.chunk_by(|(a, _), (b, _)| a.numbers[level] == b.numbers[level]) {
        let (field, value) = same[0];
        let number = field.numbers[level];
        if field.numbers.get(level + 1).is_none_or(|inner| *inner == 0) {
            write_field(out, number, value, &field.type_)?;
        } else {
            let mut inner = Vec::new();
            write_level(&mut inner, same, level + 1)?;
            write_bytes(out, number, &inner);
        }
    }
    Ok(())
}

fn write_field(out: &mut Vec<u8>, number: u32, value: &Value, type_: &Type) -> Result<(), ProtoError> {
    match (type_, value) {
        (Type::Json, Value::Null) => write_bytes(out, number, &[]),
        (_, Value::Null) => {}
        (Type::List(item), Value::Array(items)) => {
            for entry in items {
                write_field(out, number, entry, item)?;
            }
        }
        (Type::Map(item), Value::Object(entries)) => {
            for (key, value) in entries {
                let mut entry = Vec::new();
                write_bytes(&mut entry, 1, key.as_bytes());
                if let (Type::List(_), Value::Array(_)) = (&**item, value) {
                    let mut wrapped = Vec::new();
                    write_field(&mut wrapped, 1, value, item)?;
                    write_bytes(&mut entry, 2, &wrapped);
                } else {
                    write_field(&mut entry, 2, value, item)?;
                }
                write_bytes(out, number, &entry);
            }
        }
        (Type::Int32 | Type::Int64, Value::Number(n)) => {
            write_key(out, number, 0);
            write_varint(out, n.as_i64().ok_or(ProtoError::Value)?.cast_unsigned());
        }
        (Type::Bool, Value::Bool(flag)) => {
            write_key(out, number, 0);
            write_varint(out, u64::from(*flag));
        }
        (Type::Double, Value::Number(n)) => {
            write_key(out, number, 1);
            out.extend_from_slice(&n.as_f64().ok_or(ProtoError::Value)?.to_bits().to_le_bytes());
        }
        (Type::String, Value::String(text)) => write_bytes(out, number, text.as_bytes()),
        (Type::Bytes, Value::String(text)) => {
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| ProtoError::Value)?;
            write_bytes(out, number, &bytes);
        }
        _ => {
            let mut inner = Vec::new();
            write_structured(&mut inner, value, type_)?;
            write_bytes(out, number, &inner);
        }
    }
    Ok(())
}

fn write_structured(out: &mut Vec<u8>, value: &Value, type_: &Type) -> Result<(), ProtoError> {
    match (type_, value) {
        (Type::Ref(name), _) => {
            write_message(out, value, schema::definition(name).ok_or(ProtoError::Value)?)?;
        }
        (Type::Quantity, Value::String(text)) => write_bytes(out, 1, text.as_bytes()),
        (Type::Quantity, Value::Number(number)) => write_bytes(out, 1, number.to_string().as_bytes()),
        (Type::IntOrString, Value::String(text)) => {
            write_field(out, 1, &1.into(), &Type::Int64)?;
            write_bytes(out, 3, text.as_bytes());
        }
        (Type::IntOrString, Value::Number(_)) => {
            write_field(out, 1, &0.into(), &Type::Int64)?;
            write_field(out, 2, value, &Type::Int32)?;
        }
        (Type::Time | Type::MicroTime, Value::String(text)) => {
            let time: Timestamp = text.parse().map_err(|_| ProtoError::Value)?;
            write_field(out, 1, &time.as_second().into(), &Type::Int64)?;
            write_field(out, 2, &time.subsec_nanosecond().into(), &Type::Int32)?;
        }
        (Type::Duration, Value::String(text)) => {
            let nanos = parse_go_duration(text).ok_or(ProtoError::Value)?;
            write_field(out, 1, &nanos.into(), &Type::Int64)?;
        }
        (Type::SchemaOr(Other::Bool), Value::Bool(_)) => write_field(out, 1, value, &Type::Bool)?,
        (Type::SchemaOr(Other::Bool), _) => {
            write_field(out, 1, &true.into(), &Type::Bool)?;
            write_field(out, 2, value, &Type::Ref(schema::JSON_SCHEMA))?;
        }
        (Type::SchemaOr(other), Value::Array(items)) => {
            let item = if *other == Other::Strings { Type::String } else { Type::Ref(schema::JSON_SCHEMA) };
            for entry in items {
                write_field(out, 2, entry, &item)?;
            }
        }
        (Type::SchemaOr(_), _) => write_field(out, 1, value, &Type::Ref(schema::JSON_SCHEMA))?,
        (Type::Raw | Type::Json | Type::Fields, _) => write_bytes(out, 1, value.to_string().as_bytes()),
        _ => return Err(ProtoError::Value),
    }
    Ok(())
}
