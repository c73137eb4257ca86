//! OpenAPI v2 in protobuf, by the messages of gnostic (`openapiv2/OpenAPIv2.proto`), which kubectl and helm read.

use serde_json::{Map, Value};

use crate::proto::{write_bytes, write_key, write_varint};

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn text(&mut self, number: u32, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            write_bytes(&mut self.0, number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u32, value: &Value) {
        for text in value.as_array().into_iter().flatten() {
            self.text(number, text);
        }
    }

    fn flag(&mut self, number: u32, value: &Value) {
        if value == true {
            write_key(&mut self.0, number, 0);
            write_varint(&mut self.0, 1);
        }
    }

    fn inner(&mut self, number: u32, inner: &Self) {
        write_bytes(&mut self.0, number, &inner.0);
    }

    /// An entry of a map: its name and its value.
    fn named(&mut self, number: u32, name: &str, value: &Self) {
        let mut entry = Self::default();
        write_bytes(&mut entry.0, 1, name.as_bytes());
        entry.inner(2, value);
        self.inner(number, &entry);
    }

    /// What begins with `x-`, each as YAML, which JSON is.
    fn extensions(&mut self, number: u32, object: &Value) {
        for (name, value) in entries(object).filter(|(name, _)| name.starts_with("x-")) {
            self.named(number, name, &any(value));
        }
    }
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flat_map(Map::iter)
}

/// `Any`: a value as YAML.
fn any(value: &Value) -> Message {
    let mut out = Message::default();
    write_bytes(&mut out.0, 2, value.to_string().as_bytes());
    out
}

/// `oneof`s and lists of one kind of thing: a message with nothing but this field.
fn only(number: u32, inner: &Message) -> Message {
    let mut out = Message::default();
    out.inner(number, inner);
    out
}

/// `Document`.
pub(super) fn document(document: &Value) -> Vec<u8> {
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    let (mut paths, mut definitions) = (Message::default(), Message::default());
    for (path, item) in entries(&document["paths"]) {
        paths.named(2, path, &self::item(item));
    }
    for (name, schema) in entries(&document["definitions"]) {
        definitions.named(1, name, &self::schema(schema));
    }
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.inner(2, &info);
    out.inner(8, &paths);
    out.inner(9, &definitions);
    out.0
}

/// `PathItem`.
fn item(item: &Value) -> Message {
    let mut out = Message::default();
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(operation) = item.get(method) {
            out.inner(number, &self::operation(operation));
        }
    }
    parameters(&mut out, 9, &item["parameters"]);
    out
}

/// `Operation`.
fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, &operation["tags"]);
    out.text(5, &operation["operationId"]);
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    parameters(&mut out, 8, &operation["parameters"]);
    let mut responses = Message::default();
    for (code, response) in entries(&operation["responses"]) {
        let mut told = Message::default();
        told.text(1, &response["description"]);
        if let Some(schema) = response.get("schema") {
            told.inner(2, &only(1, &self::schema(schema)));
        }
        responses.named(1, code, &only(1, &told));
    }
    out.inner(9, &responses);
    out.extensions(13, operation);
    out
}

/// `ParametersItem`s.
fn parameters(out: &mut Message, number: u32, parameters: &Value) {
    for parameter in parameters.as_array().into_iter().flatten() {
        out.inner(number, &only(1, &self::parameter(parameter)));
    }
}

/// `Parameter`: of a body, or a `NonBodyParameter` of the query or the path.
fn parameter(parameter: &Value) -> Message {
    let mut out = Message::default();
    if parameter["in"] == "body" {
        out.text(2, &parameter["name"]);
        out.text(3, &parameter["in"]);
        out.flag(4, &parameter["required"]);
        out.inner(5, &schema(&parameter["schema"]));
        return only(1, &out);
    }
    let (place, type_, unique) = if parameter["in"] == "query" { (3, 6, 20) } else { (4, 5, 19) };
    out.flag(1, &parameter["required"]);
    out.text(2, &parameter["in"]);
    out.text(3, &parameter["description"]);
    out.text(4, &parameter["name"]);
    out.text(type_, &parameter["type"]);
    out.flag(unique, &parameter["uniqueItems"]);
    only(2, &only(place, &out))
}

/// `Schema`.
fn schema(schema: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &schema["$ref"]);
    out.text(2, &schema["format"]);
    out.text(4, &schema["description"]);
    if let Some(default) = schema.get("default") {
        out.inner(5, &any(default));
    }
    out.texts(19, &schema["required"]);
    if let Some(inner) = schema.get("additionalProperties") {
        out.inner(21, &only(1, &self::schema(inner)));
    }
    if schema["type"].is_string() {
        let mut type_ = Message::default();
        type_.text(1, &schema["type"]);
        out.inner(22, &type_);
    }
    if let Some(items) = schema.get("items") {
        out.inner(23, &only(1, &self::schema(items)));
    }
    if let Some(properties) = schema.get("properties") {
        let mut named = Message::default();
        for (name, property) in entries(properties) {
            named.named(1, name, &self::schema(property));
        }
        out.inner(25, &named);
    }
    out.extensions(31, schema);
    out
}
