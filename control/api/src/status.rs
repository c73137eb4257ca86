//! The one wire error: Kubernetes' `Status`, with the wording clients know. Also the errors of single fields.

mod errors;

use std::{fmt, io};

pub(crate) use self::errors::Errors;

use serde_json::{Map, Value, json};

use crate::kind::Kind;

/// A refusal as it goes to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, for example `NotFound`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What the refusal is about.
    pub details: Option<Box<Details>>,
    /// The token by which a list goes on although its state is gone.
    pub continues: Option<Box<str>>,
}

/// What a refusal is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// Group of the resource.
    pub group: String,
    /// Plural of the resource, or kind for `Invalid`.
    pub kind: String,
    /// One per field.
    pub causes: Vec<Cause>,
    /// When to try again, seconds; 0 for no word about it.
    pub retry_after_seconds: u32,
}

/// One cause of a refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// For example `FieldValueInvalid`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Path of the field.
    pub field: String,
}

impl std::error::Error for Status {}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continues: None }
    }

    fn about(self, kind: &Kind, name: &str) -> Self {
        self.about_resource(kind.group, kind.plural, name)
    }

    fn about_resource(mut self, group: &str, resource: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.name = name.to_owned();
        details.group = group.to_owned();
        details.kind = resource.to_owned();
        self
    }

    /// 404: there is no such object.
    #[must_use]
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.resource())).about(kind, name)
    }

    /// 404: nothing is served at this path.
    #[must_use]
    pub fn path_not_found() -> Self {
        let mut status = Self::new(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 409: the name is taken.
    #[must_use]
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", kind.resource()))
            .about(kind, name)
    }

    /// 409: the object was written since it was read.
    #[must_use]
    pub fn conflict(kind: &Kind, name: &str) -> Self {
        Self::conflict_because(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 with its own words, for example a failed precondition.
    #[must_use]
    pub fn conflict_because(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// 422: fields are wrong.
    #[must_use]
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_type(kind.group, kind.kind, name, errors)
    }

    /// 422 for a type that is no stored kind, such as DeleteOptions.
    #[must_use]
    pub fn invalid_type(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let what = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        // Those of rules are bounded by themselves.
        let errors = &errors[..errors.len().min(errors::COUNT_MAX + 1)];
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let told = match told.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let mut status = Self::new(422, "Invalid", format!("{what} \"{name}\" is invalid: {told}"));
        status.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes: errors.iter().map(FieldError::cause).collect(),
            retry_after_seconds: 0,
        }));
        status
    }

    /// 403: this object may not be touched so, by rule and not by right.
    #[must_use]
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        Self::forbidden_resource(kind.group, kind.plural, name, why)
    }

    /// 403: the same, for a resource that may not be served.
    #[must_use]
    pub fn forbidden_resource(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let mut message = resource.to_owned();
        if !group.is_empty() {
            message = format!("{message}.{group}");
        }
        if !name.is_empty() {
            message = format!("{message} \"{name}\"");
        }
        Self::new(403, "Forbidden", format!("{message} is forbidden: {why}"))
            .about_resource(group, resource, name)
    }

    /// 403 for a request that is about no object.
    #[must_use]
    pub fn forbidden_request(message: impl Into<String>) -> Self {
        let mut status = Self::new(403, "Forbidden", message);
        status.details = Some(Box::default());
        status
    }

    /// 401: nobody known.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400: the request cannot be read.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 410: the revision or continue token is older than what is kept.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 405: the verb is not served for this resource.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let mut status = Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// 406: no wanted form can be given.
    #[must_use]
    pub fn not_acceptable(served: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", served.join(", "));
        Self::new(406, "NotAcceptable", message)
    }

    /// 415: the body's form is not known.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 413: the body is longer than the limit.
    #[must_use]
    pub fn request_too_large(limit_bytes: usize) -> Self {
        Self::request_too_large_because(format!("limit is {limit_bytes}"))
    }

    /// 413: the request asks for too much.
    #[must_use]
    pub fn request_too_large_because(why: impl fmt::Display) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    /// 429: come back later.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::retry(429, "TooManyRequests", message, retry_after_seconds)
    }

    /// 504: it was not done in time.
    #[must_use]
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::retry(504, "Timeout", message, retry_after_seconds)
    }

    /// 503: cannot serve now.
    #[must_use]
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 500: a fault of the server.
    #[must_use]
    pub fn internal(message: impl fmt::Display) -> Self {
        let mut status = Self::new(500, "InternalError", format!("Internal error occurred: {message}"));
        let cause = Cause { reason: "", message: message.to_string(), field: String::new() };
        status.details = Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
        status
    }

    fn retry(code: u16, reason: &'static str, message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(code, reason, message);
        status.details = Some(Box::new(Details { retry_after_seconds, ..Details::default() }));
        status
    }

    /// With a cause that is no field's.
    #[must_use]
    pub fn caused(mut self, reason: &'static str, message: impl Into<String>) -> Self {
        let cause = Cause { reason, message: message.into(), field: String::new() };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// When to try again, seconds, for the header `Retry-After`.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0)
    }

    /// The JSON body.
    pub fn to_json(&self) -> Value {
        let mut body = envelope("Failure");
        body.insert("message".into(), self.message.clone().into());
        body.insert("reason".into(), self.reason.into());
        if let Some(token) = &self.continues {
            body.insert("metadata".into(), json!({ "continue": token }));
        }
        if let Some(details) = &self.details {
            body.insert("details".into(), details.to_json());
        }
        body.insert("code".into(), self.code.into());
        Value::Object(body)
    }

    /// The JSON body of a successful delete.
    pub fn deleted(kind: &Kind, name: &str, uid: &str) -> Value {
        let mut body = envelope("Success");
        let mut details = Details {
            name: name.into(),
            group: kind.group.into(),
            kind: kind.plural.into(),
            ..Details::default()
        }
        .to_json();
        details["uid"] = uid.into();
        body.insert("details".into(), details);
        Value::Object(body)
    }
}

fn envelope(status: &str) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("kind".into(), "Status".into());
    body.insert("apiVersion".into(), "v1".into());
    body.insert("metadata".into(), json!({}));
    body.insert("status".into(), status.into());
    body
}

impl Details {
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind)] {
            if !value.is_empty() {
                out.insert(key.into(), value.clone().into());
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".into(), self.causes.iter().map(Cause::to_json).collect());
        }
        if self.retry_after_seconds > 0 {
            out.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [("reason", self.reason), ("message", &self.message), ("field", &self.field)] {
            if !value.is_empty() {
                out.insert(key.into(), value.into());
            }
        }
        Value::Object(out)
    }
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Path, for example `spec.ports[0].port`.
    pub path: String,
    /// What kind of wrong.
    pub reason: FieldReason,
    /// The whole message without the path.
    message: String,
}

/// What kind of wrong a field is; the names are those of `metav1.CauseType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldReason {
    /// Malformed, out of bounds or changed although immutable.
    Invalid,
    /// Missing.
    Required,
    /// Not one of the known values.
    NotSupported,
    /// Twice in a list of unique values.
    Duplicate,
    /// May not be set here.
    Forbidden,
    /// Longer than allowed.
    TooLong,
    /// More than allowed.
    TooMany,
    /// Names something that is not there.
    NotFound,
}

impl FieldReason {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
        }
    }
}

/// A value as messages show it: text quoted, the rest as JSON.
fn shown(value: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 512;
    let mut beginning =
        Beginning { bytes: Vec::new(), bytes_max: (SHOWN_CHARS_MAX + 1) * char::MAX_LEN_UTF8 };
    // Whoever has enough of it ends the writing.
    let _ = serde_json::to_writer(&mut beginning, value);
    let mut text = String::from_utf8_lossy(&beginning.bytes).into_owned();
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Takes the beginning of what is written, and refuses the rest.
struct Beginning {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.bytes_max - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text no longer than `bytes_max`, its mark for what is left out aside.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

impl FieldError {
    /// Longest path and longest message, bytes: names, and words about values, come out of what a client sent.
    const PATH_BYTES_MAX: usize = 2048;
    const MESSAGE_BYTES_MAX: usize = 4096;

    fn new(path: impl Into<String>, reason: FieldReason, message: String) -> Self {
        Self {
            path: cut(path.into(), Self::PATH_BYTES_MAX),
            reason,
            message: cut(message, Self::MESSAGE_BYTES_MAX),
        }
    }

    /// That only so many errors are told, and that there are `more`.
    fn more(told: usize, more: usize) -> Self {
        let mut message = format!("Too many: only the first {told} errors are shown");
        if more > 0 {
            message = format!("{message}, and there are at least {more} more");
        }
        Self::new("", FieldReason::TooMany, message)
    }

    /// All but the path.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    fn bytes(&self) -> usize {
        self.path.len() + self.message.len()
    }

    /// A value that breaks a rule; `detail` is the rule.
    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl fmt::Display) -> Self {
        Self::new(path, FieldReason::Invalid, format!("Invalid value: {}: {detail}", shown(&value.into())))
    }

    /// As [`FieldError::invalid`], of a value that says nothing when it is shown.
    pub fn invalid_whole(path: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self::new(path, FieldReason::Invalid, format!("Invalid value: {detail}"))
    }

    /// A value that is missing.
    pub fn required(path: impl Into<String>, detail: &str) -> Self {
        let message =
            if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self::new(path, FieldReason::Required, message)
    }

    /// A value that is none of `valid`.
    pub fn not_supported(path: impl Into<String>, value: impl Into<Value>, valid: &[&str]) -> Self {
        let mut valid: Vec<String> = valid.iter().map(|v| format!("\"{v}\"")).collect();
        valid.sort();
        let message =
            format!("Unsupported value: {}: supported values: {}", shown(&value.into()), valid.join(", "));
        Self::new(path, FieldReason::NotSupported, message)
    }

    /// A value that is there twice.
    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(path, FieldReason::Duplicate, format!("Duplicate value: {}", shown(&value.into())))
    }

    /// A field that may not be set so.
    pub fn forbidden(path: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self::new(path, FieldReason::Forbidden, format!("Forbidden: {detail}"))
    }

    /// A value longer than `bytes_max`.
    pub fn too_long(path: impl Into<String>, bytes_max: usize) -> Self {
        Self::new(path, FieldReason::TooLong, format!("Too long: may not be more than {bytes_max} bytes"))
    }

    /// A list of `items`, more than `items_max`.
    pub fn too_many(path: impl Into<String>, items: usize, items_max: usize) -> Self {
        let message = format!("Too many: {items}: must have at most {items_max} items");
        Self::new(path, FieldReason::TooMany, message)
    }

    /// A value that names something that is not there.
    pub fn not_found(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(path, FieldReason::NotFound, format!("Not found: {}", shown(&value.into())))
    }

    /// As [`FieldError::not_found`], with what there is.
    pub fn not_found_because(
        path: impl Into<String>,
        value: impl Into<Value>,
        detail: impl fmt::Display,
    ) -> Self {
        Self::new(path, FieldReason::NotFound, format!("Not found: {}: {detail}", shown(&value.into())))
    }

    fn cause(&self) -> Cause {
        Cause { reason: self.reason.as_str(), message: self.message.clone(), field: self.path.clone() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind;

    #[test]
    fn wording_is_kubernetes_own() {
        assert_eq!(Status::not_found(&kind::POD, "x").to_string(), "pods \"x\" not found");
        assert_eq!(
            Status::already_exists(&kind::DEPLOYMENT, "web").to_string(),
            "deployments.apps \"web\" already exists"
        );
        assert_eq!(
            Status::conflict(&kind::DEPLOYMENT, "web").to_string(),
            "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply your \
             changes to the latest version and try again"
        );
    }

    #[test]
    fn invalid_lists_each_cause() {
        let errors = [
            FieldError::required("spec.containers", ""),
            FieldError::not_supported("spec.restartPolicy", "Sometimes", &["Always", "Never", "OnFailure"]),
        ];
        let one = Status::invalid(&kind::POD, "p", &errors[..1]);
        assert_eq!(one.message, "Pod \"p\" is invalid: spec.containers: Required value");
        let both = Status::invalid(&kind::DEPLOYMENT, "d", &errors);
        assert_eq!(
            both.message,
            "Deployment.apps \"d\" is invalid: [spec.containers: Required value, spec.restartPolicy: Unsupported value: \
             \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"]"
        );
        let json = both.to_json();
        assert_eq!(json["code"], 422);
        assert_eq!(json["details"]["causes"][1]["reason"], "FieldValueNotSupported");
        assert_eq!(json["details"]["causes"][1]["field"], "spec.restartPolicy");
        assert_eq!(json["status"], "Failure");
    }

    #[test]
    fn deleted_names_the_object() {
        let body = Status::deleted(&kind::POD, "p", "u-1");
        assert_eq!(body["status"], "Success");
        assert_eq!(body["details"]["uid"], "u-1");
        assert_eq!(body["details"]["kind"], "pods");
    }

    #[test]
    fn retry_is_told() {
        assert_eq!(Status::too_many_requests("slow down", 3).retry_after_seconds(), Some(3));
        assert_eq!(Status::unauthorized().retry_after_seconds(), None);
    }
}
