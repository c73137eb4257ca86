//! Field selectors: `=`, `==` and `!=` on the few fields a kind lists.

use serde_json::Value;

use super::{SELECTOR_BYTES_MAX, SelectorError};
use crate::kind::Kind;
use crate::object::Object;

/// A field selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    path: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads a field selector as it stands in a URL (decoded).
    ///
    /// # Errors
    /// The grammar is broken, or `kind` cannot be selected by a field.
    pub fn parse(kind: &Kind, text: &str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(SelectorError::TooLong);
        }
        let mut terms = Vec::new();
        for part in split_unescaped(text).iter().filter(|p| !p.is_empty()) {
            let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (path, true, value)
            } else {
                return Err(SelectorError::Grammar(format!(
                    "invalid selector: '{part}'; can't understand '{part}'"
                )));
            };
            let known = matches!(path, "metadata.name" | "metadata.namespace")
                || kind.selectable_fields.contains(&path);
            if !known {
                return Err(SelectorError::Field(path.to_owned()));
            }
            let path = kind.stored_field(path).into_owned();
            terms.push(FieldTerm { path, equal, value: unescape(value) });
        }
        Ok(Self { terms })
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value a field must have, if the selector says so with `=`.
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.path == path).map(|t| t.value.as_str())
    }

    /// The one name that can match, if the selector names it.
    pub fn exact_name(&self) -> Option<&str> {
        self.exact("metadata.name")
    }

    /// Whether an object is selected; reads its bytes only for fields outside `metadata`.
    pub fn matches(&self, object: &Object) -> bool {
        let by_meta = self.terms.iter().all(|term| match term.path.as_str() {
            "metadata.name" => term.holds(&object.meta.name),
            "metadata.namespace" => term.holds(&object.meta.namespace),
            _ => true,
        });
        if !by_meta || self.terms.iter().all(|t| t.path.starts_with("metadata.")) {
            return by_meta;
        }
        serde_json::from_slice::<Value>(&object.json).is_ok_and(|value| self.matches_value(&value))
    }

    /// Whether an object in JSON is selected.
    pub fn matches_value(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| term.holds(&field_text(object, &term.path)))
    }
}

impl FieldTerm {
    fn holds(&self, value: &str) -> bool {
        (self.value == value) == self.equal
    }
}

/// A field's value as field selectors compare it; absent fields have the zero value of their type.
pub fn field_text(object: &Value, path: &str) -> String {
    let follow = |path: &str| path.split('.').try_fold(object, |at, part| at.get(part));
    let found = match path {
        // An Event's `source` and `reportingComponent` are one selectable thing: who reported it.
        "source" => follow("source.component").or_else(|| object.get("reportingComponent")),
        // A Job's field has another name here than in the Job.
        "status.successful" => follow("status.succeeded"),
        _ => follow(path),
    };
    match found.unwrap_or(&Value::Null) {
        Value::String(text) => text.clone(),
        Value::Null => match path {
            "spec.unschedulable" | "spec.hostNetwork" => "false".to_owned(),
            "status.replicas" | "status.successful" => "0".to_owned(),
            _ => String::new(),
        },
        // As in Kubernetes a list may be named (`status.podIPs`), and is compared as nothing.
        Value::Array(_) | Value::Object(_) => String::new(),
        other => other.to_string(),
    }
}

fn split_unescaped(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let Some(last) = parts.last_mut() else { break };
        match c {
            ',' => parts.push(String::new()),
            '\\' => {
                last.push('\\');
                last.extend(chars.next());
            }
            other => last.push(other),
        }
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}
