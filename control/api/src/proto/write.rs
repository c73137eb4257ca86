//! Writing Kubernetes' protobuf form.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::Value;

use super::{MAGIC, ProtoError};
use crate::schema::{self, Definition, Type};

/// Writes an object as a whole body with the magic; fields without a number are left out.
///
/// # Errors
/// A value has not the type its field says.
pub fn encode(object: &Value, definition: &Definition) -> Result<Vec<u8>, ProtoError> {
    let mut names = Vec::new();
    for (number, key) in [(1, "apiVersion"), (2, "kind")] {
        write_bytes(&mut names, number, object.get(key).and_then(Value::as_str).unwrap_or("").as_bytes());
    }
    let mut raw = Vec::new();
    write_message(&mut raw, object, definition)?;
    let mut out = MAGIC.to_vec();
    write_bytes(&mut out, 1, &names);
    write_bytes(&mut out, 2, &raw);
    Ok(out)
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write_key(out: &mut Vec<u8>, number: u32, wire: u64) {
    write_varint(out, u64::from(number) << 3 | wire);
}

fn write_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    write_key(out, number, 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn write_message(out: &mut Vec<u8>, value: &Value, definition: &Definition) -> Result<(), ProtoError> {
    let object = value.as_object().ok_or(ProtoError::Value)?;
    let mut inline: Vec<(u32, Vec<u8>)> = Vec::new();
    for (name, value) in object {
        let Some((field, (number, inner))) = definition.field(name).and_then(|f| Some((f, f.number?))) else {
            continue;
        };
        match inner {
            None => write_field(out, number, value, &field.type_)?,
            Some(inner) => {
                if !inline.iter().any(|(n, _)| *n == number) {
                    inline.push((number, Vec::new()));
                }
                if let Some((_, bytes)) = inline.iter_mut().find(|(n, _)| *n == number) {
                    write_field(bytes, inner, value, &field.type_)?;
                }
            }
        }
    }
    for (number, bytes) in inline {
        write_bytes(out, number, &bytes);
    }
    Ok(())
}

fn write_field(out: &mut Vec<u8>, number: u32, value: &Value, type_: &Type) -> Result<(), ProtoError> {
    match (type_, value) {
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
        (Type::Raw | Type::Fields, _) => write_bytes(out, 1, value.to_string().as_bytes()),
        _ => return Err(ProtoError::Value),
    }
    Ok(())
}
