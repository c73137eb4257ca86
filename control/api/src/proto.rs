//! Kubernetes' protobuf form, read and written from the schema table: no message struct stands anywhere.
//!
//! The wire is the magic `k8s\0`, then `runtime.Unknown` (apiVersion and kind, then the object's own message). What
//! stands on the wire is read as it stands, zeros too: which of them mean nothing is for `decode` to say, of JSON bodies
//! as of these (decision 0016).

mod several;
mod write;

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};
pub use several::{event, item, list_head};
pub use write::{body, encode, encode_message};
pub(crate) use write::{write_bytes, write_key, write_varint};

use crate::schema::{self, Definition, Field, NUMBERS_MAX, Other, Type};
use crate::time::{go_duration, rfc3339};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body begins with.
pub const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may stand in each other.
const DEPTH_MAX: usize = 64;
/// How deep objects and lists may stand in each other in JSON: what readers of the stored object take.
const NESTING_MAX: usize = 120;
/// Below this, every whole number is a floating point number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

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
        if number == 0 {
            return Err(ProtoError::WireType);
        }
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
    let object = Value::Object(object);
    if nesting(&object) > NESTING_MAX { Err(ProtoError::Depth) } else { Ok(object) }
}

fn nesting(value: &Value) -> usize {
    match value {
        Value::Object(object) => 1 + object.values().map(nesting).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        _ => 0,
    }
}

/// A floating point number as JSON spells it: a whole number without a fraction.
///
/// # Errors
/// It is infinite or no number.
pub(crate) fn double(number: f64) -> Result<Value, ProtoError> {
    if number.fract() == 0.0 && number.abs() < WHOLE_MAX {
        return Ok((number as i64).into());
    }
    serde_json::Number::from_f64(number).map(Value::Number).ok_or(ProtoError::Value)
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
    read_into(&mut object, definition, bytes, (&mut [0; NUMBERS_MAX], 0), depth)?;
    object.retain(|_, value| !value.is_null());
    Ok(object)
}

/// Reads fields into `object`; the numbers up to `level` are those of the structs, inline in JSON, that stand around.
fn read_into(
    object: &mut Map<String, Value>,
    definition: &Definition,
    bytes: &[u8],
    (numbers, level): (&mut [u32; NUMBERS_MAX], usize),
    depth: usize,
) -> Result<(), ProtoError> {
    if depth > DEPTH_MAX {
        return Err(ProtoError::Depth);
    }
    let mut fields = Fields { rest: bytes };
    while let Some((number, wire)) = fields.next()? {
        numbers[level] = number;
        if let Some(field) = definition.fields.iter().find(|f| f.numbers == *numbers) {
            add(object, field, wire, depth)?;
        } else if definition.fields.iter().any(|f| f.numbers[..=level] == numbers[..=level]) {
            let Wire::Bytes(inner) = wire else { return Err(ProtoError::WireType) };
            read_into(object, definition, inner, (numbers, level + 1), depth + 1)?;
        }
        numbers[level] = 0;
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
        (Type::Double, Wire::Fixed64(bits)) => double(f64::from_bits(bits)),
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
        Type::SchemaOr(other) => schema_or(*other, bytes, depth),
        _ => wrapped(type_, bytes),
    }
}

/// A schema (1, with a boolean 2) or what stands in its place (2, a boolean 1); what Go writes if both are there.
fn schema_or(other: Other, bytes: &[u8], depth: usize) -> Result<Value, ProtoError> {
    let definition = schema::definition(schema::JSON_SCHEMA).ok_or(ProtoError::Value)?;
    let inner = |wire| match wire {
        Wire::Bytes(bytes) => message(definition, bytes, depth + 1).map(Value::Object),
        _ => Err(ProtoError::WireType),
    };
    let (mut flag, mut schema, mut items) = (false, None, Vec::new());
    let mut fields = Fields { rest: bytes };
    while let Some((number, wire)) = fields.next()? {
        match (other, number, wire) {
            (Other::Bool, 1, Wire::Varint(number)) => flag = number != 0,
            (Other::Bool, 2, _) | (_, 1, _) => schema = Some(inner(wire)?),
            (Other::Schemas, 2, _) => items.push(inner(wire)?),
            (Other::Strings, 2, _) => items.push(text(wire)?.into()),
            _ => {}
        }
    }
    Ok(match (schema, other) {
        _ if !items.is_empty() => items.into(),
        (Some(schema), _) => schema,
        (None, Other::Bool) => flag.into(),
        (None, _) => Value::Null,
    })
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
        Type::Duration => Ok(go_duration(one).into()),
        Type::Raw | Type::Json | Type::Fields => match bytes_of[0] {
            None | Some([]) => Ok(Value::Null),
            Some(json) => serde_json::from_slice(json).map_err(|_| ProtoError::Value),
        },
        _ => Err(ProtoError::WireType),
    }
}

#[cfg(test)]
mod tests;
