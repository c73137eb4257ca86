//! Validation of CustomResourceDefinitions: names, versions, columns, conversion; the schemas have files of their own.

mod schema;

use std::collections::HashSet;

use serde_json::Value;

use super::{IMMUTABLE, Rules, flag, items, name, not_empty, one_of, text, webhook};
use crate::status::{Errors, FieldError};

/// Longest word of a version's end, bytes.
const WARNING_BYTES_MAX: usize = 256;
/// Where it stands that the definition of a group of Kubernetes' own was approved.
const APPROVED: &str = "api-approved.kubernetes.io";

/// A CustomResourceDefinition.
pub(crate) static DEFINITION: Rules = Rules {
    create: |object, _, errors| {
        definition(object, errors);
        approval(object, errors);
    },
    update: |new, old, _, errors| {
        definition(new, errors);
        // One that nobody asked about when it was made is not asked about because another field changes.
        if approved(new) != approved(old) {
            approval(new, errors);
        }
        stays(new, old, errors);
    },
    status: |object, errors| {
        let accepted = object.pointer("/status/acceptedNames").unwrap_or(&Value::Null);
        names(accepted, "status.acceptedNames", errors);
    },
};

fn definition(definition: &Value, errors: &mut Errors) {
    let spec = definition.get("spec").unwrap_or(&Value::Null);
    let given = spec.get("names").unwrap_or(&Value::Null);
    let own = definition.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("");
    let (group, plural) = (text(spec, "group"), text(given, "plural"));
    if own != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", own, why));
    }
    let broken = name::dns_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if !broken.is_empty() {
        errors.push(FieldError::invalid("spec.group", group, broken.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
    }
    one_of(spec, "spec", "scope", &["Cluster", "Namespaced"], true, errors);
    versions(items(spec, "versions"), errors);
    for key in ["plural", "singular", "kind", "listKind"] {
        not_empty(given, "spec.names", key, errors);
    }
    names(given, "spec.names", errors);
    conversion(spec.get("conversion").unwrap_or(&Value::Null), errors);
    stored(definition, errors);
    if flag(spec, "preserveUnknownFields") {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", true, why));
    }
}

fn versions(versions: &[Value], errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, version) in versions.iter().enumerate() {
        let (path, given) = (format!("spec.versions[{at}]"), text(version, "name"));
        seen.insert(given);
        let broken = name::dns_label_1035(given);
        if !broken.is_empty() {
            errors.push(FieldError::invalid(format!("{path}.name"), given, broken.join(",")));
        }
        deprecation(version, &path, errors);
        judge_schema(version, &path, errors);
        scale(version, &path, errors);
        for (at, column) in items(version, "additionalPrinterColumns").iter().enumerate() {
            self::column(column, &format!("{path}.additionalPrinterColumns[{at}]"), errors);
        }
        schema::selectable(version, &path, errors);
    }
    let mut wrong = |why: &str| errors.push(FieldError::invalid("spec.versions", versions.to_vec(), why));
    if seen.len() < versions.len() {
        wrong("must contain unique version names");
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        wrong("must have exactly one version marked as storage version");
    }
}

/// A version has a schema.
fn judge_schema(version: &Value, path: &str, errors: &mut Errors) {
    let path = format!("{path}.schema.openAPIV3Schema");
    let Some(schema) = version.pointer("/schema/openAPIV3Schema").filter(|s| !s.is_null()) else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let with_status = version.pointer("/subresources/status").is_some_and(|status| !status.is_null());
    schema::schema(schema, &path, with_status, errors);
}

fn deprecation(version: &Value, path: &str, errors: &mut Errors) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let mut wrong =
        |why: &str| errors.push(FieldError::invalid(format!("{path}.deprecationWarning"), warning, why));
    if !flag(version, "deprecated") {
        wrong("can only be set for deprecated versions");
        return;
    }
    if warning.len() > WARNING_BYTES_MAX {
        wrong("must be <= 256 characters long");
    }
    if warning.is_empty() {
        wrong("must not be an empty string");
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        wrong(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

/// Where the replicas of a custom resource stand.
fn scale(version: &Value, path: &str, errors: &mut Errors) {
    let Some(scale) = version.pointer("/subresources/scale").filter(|s| !s.is_null()) else { return };
    let path = format!("{path}.subresources.scale");
    for (key, roots, required, why) in [
        ("specReplicasPath", &[".spec."][..], true, "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], true, "should be a json path under .status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            false,
            "should be a json path under either .spec or .status",
        ),
    ] {
        let given = text(scale, key);
        if given.is_empty() {
            if required {
                errors.push(FieldError::required(format!("{path}.{key}"), ""));
            }
        } else if !given.starts_with('.') {
            let why = "must be a simple json path starting with .";
            errors.push(FieldError::invalid(format!("{path}.{key}"), given, why));
        } else if !roots.iter().any(|root| given.starts_with(root)) {
            errors.push(FieldError::invalid(format!("{path}.{key}"), given, why));
        }
    }
}

fn column(column: &Value, path: &str, errors: &mut Errors) {
    const TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
    const FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    not_empty(column, path, "name", errors);
    let (type_, format, json_path) = (text(column, "type"), text(column, "format"), text(column, "jsonPath"));
    let why = format!("must be one of {}", TYPES.join(","));
    if type_.is_empty() {
        errors.push(FieldError::required(format!("{path}.type"), &why));
    } else if !TYPES.contains(&type_) {
        errors.push(FieldError::invalid(format!("{path}.type"), type_, why));
    }
    if !format.is_empty() && !FORMATS.contains(&format) {
        let why = format!("must be one of {}", FORMATS.join(","));
        errors.push(FieldError::invalid(format!("{path}.format"), format, why));
    }
    // The path has Kubernetes' own case.
    if json_path.is_empty() {
        errors.push(FieldError::required(format!("{path}.JSONPath"), ""));
    } else if !json_path.starts_with('.') {
        let why = "must be a simple json path starting with .";
        errors.push(FieldError::invalid(format!("{path}.JSONPath"), json_path, why));
    }
}

fn names(names: &Value, path: &str, errors: &mut Errors) {
    let mut judge = |key: String, given: &str, prefix: &str, broken: Vec<String>| {
        if !given.is_empty() && !broken.is_empty() {
            let why = format!("{prefix}{}", broken.join(","));
            errors.push(FieldError::invalid(format!("{path}.{key}"), given, why));
        }
    };
    for key in ["plural", "singular"] {
        judge(key.to_owned(), text(names, key), "", name::dns_label_1035(text(names, key)));
    }
    for key in ["kind", "listKind"] {
        let broken = name::dns_label_1035(&text(names, key).to_lowercase());
        judge(key.to_owned(), text(names, key), "may have mixed case, but should otherwise match: ", broken);
    }
    for list in ["shortNames", "categories"] {
        for (at, given) in items(names, list).iter().enumerate() {
            let given = given.as_str().unwrap_or("");
            judge(format!("{list}[{at}]"), given, "", name::dns_label_1035(given));
        }
    }
    let (kind, list) = (text(names, "kind"), text(names, "listKind"));
    if !kind.is_empty() && kind == list {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(format!("{path}.listKind"), list, why));
    }
}

fn conversion(conversion: &Value, errors: &mut Errors) {
    let path = "spec.conversion";
    one_of(conversion, path, "strategy", &["None", "Webhook"], true, errors);
    let hook = conversion.get("webhook").filter(|hook| !hook.is_null());
    let config = hook.and_then(|hook| hook.get("clientConfig")).filter(|config| !config.is_null());
    let versions = hook.map_or(&[][..], |hook| items(hook, "conversionReviewVersions"));
    let (config_at, versions_at) =
        (format!("{path}.webhookClientConfig"), format!("{path}.conversionReviewVersions"));
    if text(conversion, "strategy") == "Webhook" {
        match config {
            None => {
                let why = "required when strategy is set to Webhook";
                errors.push(FieldError::required(config_at, why));
            }
            Some(config) => webhook::client(config, &config_at, errors),
        }
        webhook::review_versions(versions, &versions_at, "", errors);
        return;
    }
    let why = "should not be set when strategy is not set to Webhook";
    if config.is_some() {
        errors.push(FieldError::forbidden(config_at, why));
    }
    if !versions.is_empty() {
        errors.push(FieldError::forbidden(versions_at, why));
    }
}

/// Versions that objects may be stored in must stay.
fn stored(definition: &Value, errors: &mut Errors) {
    let path = "status.storedVersions";
    let spec = definition.get("spec").unwrap_or(&Value::Null);
    let stored = definition.get("status").map_or(&[][..], |status| items(status, "storedVersions"));
    if stored.is_empty() {
        errors.push(FieldError::invalid(path, stored.to_vec(), "must have at least one stored version"));
        return;
    }
    let versions: HashSet<&str> =
        items(spec, "versions").iter().map(|version| text(version, "name")).collect();
    for (at, version) in stored.iter().enumerate() {
        if errors.is_closed() {
            return;
        }
        let version = version.as_str().unwrap_or("");
        if !versions.contains(version) {
            let why = format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {version} and removes \
                 {version} from status.storedVersions"
            );
            errors.push(FieldError::invalid(format!("{path}[{at}]"), version, why));
        }
    }
}

/// What a definition says of whether Kubernetes' community has looked at it.
#[derive(PartialEq)]
enum Approved {
    Missing,
    /// It was not asked.
    Bypassed,
    /// A link to where it was.
    Link,
    Unreadable,
}

fn approved(definition: &Value) -> Approved {
    let given = definition["metadata"]["annotations"][APPROVED].as_str().unwrap_or("");
    let link = given
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'));
    match given {
        "" => Approved::Missing,
        given if given.starts_with("unapproved") => Approved::Bypassed,
        _ if link => Approved::Link,
        _ => Approved::Unreadable,
    }
}

/// Groups of Kubernetes' own are for definitions that its community has looked at, or that say they have not been.
fn approval(definition: &Value, errors: &mut Errors) {
    let group = definition["spec"]["group"].as_str().unwrap_or("");
    let own = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    if !own {
        return;
    }
    let path = format!("metadata.annotations[{APPROVED}]");
    let must = format!("protected groups must have approval annotation \"{APPROVED}\"");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match approved(definition) {
        Approved::Bypassed | Approved::Link => {}
        Approved::Missing => errors.push(FieldError::required(path, &format!("{must}, {see}"))),
        Approved::Unreadable => {
            let given = definition["metadata"]["annotations"][APPROVED].clone();
            let why = format!("{must} with either a URL or a reason starting with \"unapproved\", {see}");
            errors.push(FieldError::invalid(path, given, why));
        }
    }
}

/// What custom resources are stored by cannot change, once they may be there.
fn stays(new: &Value, old: &Value, errors: &mut Errors) {
    let established = old.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|all| {
        all.iter().any(|c| text(c, "type") == "Established" && text(c, "status") == "True")
    });
    for (pointer, path, always) in [
        ("/spec/scope", "spec.scope", false),
        ("/spec/names/kind", "spec.names.kind", false),
        ("/spec/group", "spec.group", true),
        ("/spec/names/plural", "spec.names.plural", true),
    ] {
        let value = |object: &Value| object.pointer(pointer).cloned().unwrap_or_default();
        if (always || established) && value(new) != value(old) {
            errors.push(FieldError::invalid(path, value(new), IMMUTABLE));
        }
    }
}
