//! OpenAPI v2 out of the parts of v3: bodies are parameters there, and a reference may have words beside it.

use serde_json::{Map, Value, json};

use crate::proto;

/// Where v3 and v2 keep their types.
const PLACES: (&str, &str) = ("#/components/schemas/", "#/definitions/");
/// What lists are answered in beside what objects are.
const WATCHED: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

pub(super) fn document(info: &Value, paths: Map<String, Value>, schemas: Map<String, Value>) -> Value {
    let paths: Map<String, Value> = paths.into_iter().map(|(path, item)| (path, self::item(item))).collect();
    let definitions: Map<String, Value> =
        schemas.into_iter().map(|(name, schema)| (name, self::schema(schema))).collect();
    json!({"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions})
}

fn item(item: Value) -> Value {
    let Value::Object(item) = item else { return item };
    let entries = item.into_iter().map(|(key, value)| {
        let value = if key == "parameters" { parameters(value).into() } else { operation(value) };
        (key, value)
    });
    Value::Object(entries.collect())
}

fn operation(mut operation: Value) -> Value {
    let action = operation["x-kubernetes-action"].as_str().unwrap_or("").to_owned();
    let mut parameters = self::parameters(operation["parameters"].take());
    let Value::Object(out) = &mut operation else { return operation };
    out.remove("parameters");
    out.insert("consumes".into(), json!(["*/*"]));
    if let Some(mut body) = out.remove("requestBody") {
        let required = body["required"] == true;
        if action == "patch" {
            let types: Vec<String> =
                body["content"].as_object().into_iter().flat_map(|content| content.keys().cloned()).collect();
            out.insert("consumes".into(), types.into());
        }
        let schema = first_schema(&mut body["content"]);
        parameters.insert(0, json!({"name": "body", "in": "body", "required": required, "schema": schema}));
    }
    let mut produces = Vec::new();
    for response in
        out.get_mut("responses").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
    {
        let Some(mut content) = response.as_object_mut().and_then(|response| response.remove("content"))
        else {
            continue;
        };
        if produces.is_empty() {
            produces = content.as_object().into_iter().flat_map(|types| types.keys().cloned()).collect();
        }
        response["schema"] = first_schema(&mut content);
    }
    if produces.iter().any(|type_| type_ == "application/json") {
        produces.push(proto::MEDIA_TYPE.to_owned());
    }
    if parameters.iter().any(|parameter| parameter["name"] == "watch") {
        produces.extend(WATCHED.map(ToOwned::to_owned));
    }
    out.insert("produces".into(), produces.into());
    if !parameters.is_empty() {
        out.insert("parameters".into(), parameters.into());
    }
    operation
}

/// The type that a body has in whichever media type.
fn first_schema(content: &mut Value) -> Value {
    let first = content.as_object_mut().and_then(|content| content.values_mut().next());
    first.map_or_else(|| json!({}), |media| schema(media["schema"].take()))
}

fn parameters(parameters: Value) -> Vec<Value> {
    let Value::Array(parameters) = parameters else { return Vec::new() };
    let flat = |mut parameter: Value| {
        if let (Value::Object(schema), Value::Object(out)) = (parameter["schema"].take(), &mut parameter) {
            out.remove("schema");
            out.extend(schema);
        }
        parameter
    };
    parameters.into_iter().map(flat).collect()
}

fn schema(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else { return schema };
    // All that stands in `allOf` is one reference.
    if let Some(Value::Array(several)) = schema.remove("allOf") {
        schema.extend(
            several
                .into_iter()
                .filter_map(|one| match one {
                    Value::Object(one) => Some(one),
                    _ => None,
                })
                .flatten(),
        );
    }
    if let Some(Value::String(place)) = schema.get_mut("$ref") {
        *place = place.replace(PLACES.0, PLACES.1);
    }
    // Defaults that say nothing are of the third version.
    let is_zero = |value: &Value| *value == json!({}) || *value == "" || *value == 0 || *value == false;
    if schema.get("default").is_some_and(is_zero) {
        schema.remove("default");
    }
    // A number or a text: there is a format for it.
    if schema.remove("oneOf").is_some() {
        schema.insert("type".into(), "string".into());
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            *inner = self::schema(inner.take());
        }
    }
    for inner in
        schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
    {
        *inner = self::schema(inner.take());
    }
    Value::Object(schema)
}
