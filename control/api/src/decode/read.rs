//! Reading JSON into a value while noting fields that stand twice.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{FINDINGS_MAX, Step, dotted};

/// Longest name of a field, bytes.
const NAME_BYTES_MAX: usize = 64 * 1024;

/// Parses JSON and notes fields that stand twice (the last one wins).
pub(super) fn json(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut reader = Reader { path: Vec::new(), doubles: Vec::new() };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = ReadValue(&mut reader).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, reader.doubles))
}

struct Reader {
    path: Vec<Step>,
    doubles: Vec<String>,
}

struct ReadValue<'a>(&'a mut Reader);

impl<'de> DeserializeSeed<'de> for ReadValue<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ReadValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            self.0.path.push(Step::Index(out.len()));
            let next = items.next_element_seed(ReadValue(self.0));
            self.0.path.pop();
            match next? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key.len() > NAME_BYTES_MAX {
                return Err(A::Error::custom("field name is too long"));
            }
            self.0.path.push(Step::Field(key.clone()));
            if out.contains_key(&key) && self.0.doubles.len() < FINDINGS_MAX {
                self.0.doubles.push(format!("duplicate field \"{}\"", dotted(&self.0.path)));
            }
            let value = entries.next_value_seed(ReadValue(self.0));
            self.0.path.pop();
            out.insert(key, value?);
        }
        Ok(Value::Object(out))
    }
}
