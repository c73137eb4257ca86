//! The shapes of names, labels and keys, with the rules' own words.
//!
//! Each function returns the broken rules, none when the text is fine; the wording is that of Kubernetes'
//! `util/validation`. Rules: RFC 1123 and RFC 1035 labels, and the API conventions on labels and annotations.

const DNS_1123_LABEL_BYTES_MAX: usize = 63;
const DNS_1123_SUBDOMAIN_BYTES_MAX: usize = 253;
const QUALIFIED_NAME_BYTES_MAX: usize = 63;

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
     '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const WILDCARD_RULE: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which \
     must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
     '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
     alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
     validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
     for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
     'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const PORT_NAME_RULE: &str = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";

/// The words for a text that is too long.
fn too_long(bytes_max: usize) -> String {
    format!("must be no more than {bytes_max} bytes")
}

fn is_lower(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().copied().is_some_and(is_lower)
        && bytes.last().copied().is_some_and(is_lower)
        && bytes.iter().all(|c| is_lower(*c) || *c == b'-')
}

/// `[A-Za-z0-9][-A-Za-z0-9_.]*[A-Za-z0-9]`.
fn is_qualified_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

/// A DNS label (RFC 1123): Namespaces, containers, ports' names in Services.
pub fn dns_label(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > DNS_1123_LABEL_BYTES_MAX {
        broken.push(too_long(DNS_1123_LABEL_BYTES_MAX));
    }
    if !is_label_shape(text) {
        broken.push(LABEL_RULE.to_owned());
    }
    broken
}

/// A DNS subdomain (RFC 1123): most objects' names.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > DNS_1123_SUBDOMAIN_BYTES_MAX {
        broken.push(too_long(DNS_1123_SUBDOMAIN_BYTES_MAX));
    }
    if !text.split('.').all(is_label_shape) {
        broken.push(SUBDOMAIN_RULE.to_owned());
    }
    broken
}

/// A DNS subdomain (RFC 1123) below any label: `*.example.com`.
pub fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > DNS_1123_SUBDOMAIN_BYTES_MAX {
        broken.push(too_long(DNS_1123_SUBDOMAIN_BYTES_MAX));
    }
    if !text.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_label_shape)) {
        broken.push(WILDCARD_RULE.to_owned());
    }
    broken
}

/// A DNS label (RFC 1035), which starts with a letter.
pub fn dns_label_1035(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > DNS_1123_LABEL_BYTES_MAX {
        broken.push(too_long(DNS_1123_LABEL_BYTES_MAX));
    }
    if !is_label_shape(text) || !text.as_bytes()[0].is_ascii_lowercase() {
        broken.push(LABEL_1035_RULE.to_owned());
    }
    broken
}

/// `prefix/name` or `name`: keys of labels and annotations, taints, finalizers, resources.
pub fn qualified(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            broken.push(format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                QUALIFIED_RULE.strip_prefix("name part ").unwrap_or(QUALIFIED_RULE)
            ));
            return broken;
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                broken.push("prefix part must be non-empty".to_owned());
            } else {
                broken.extend(dns_subdomain(prefix).into_iter().map(|rule| format!("prefix part {rule}")));
            }
            name
        }
    };
    if name.is_empty() {
        broken.push("name part must be non-empty".to_owned());
    } else if name.len() > QUALIFIED_NAME_BYTES_MAX {
        broken.push(format!("name part {}", too_long(QUALIFIED_NAME_BYTES_MAX)));
    }
    if !is_qualified_shape(name) {
        broken.push(QUALIFIED_RULE.to_owned());
    }
    broken
}

/// The value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > QUALIFIED_NAME_BYTES_MAX {
        broken.push(too_long(QUALIFIED_NAME_BYTES_MAX));
    }
    if !text.is_empty() && !is_qualified_shape(text) {
        broken.push(LABEL_VALUE_RULE.to_owned());
    }
    broken
}

/// A key of a ConfigMap's or Secret's data.
pub fn config_key(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > DNS_1123_SUBDOMAIN_BYTES_MAX {
        broken.push(too_long(DNS_1123_SUBDOMAIN_BYTES_MAX));
    }
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
    {
        broken.push(CONFIG_KEY_RULE.to_owned());
    }
    if text == "." || text == ".." || text.starts_with("..") {
        let rule = if text == "." || text == ".." {
            format!("must not be '{text}'")
        } else {
            "must not start with '..'".to_owned()
        };
        broken.push(rule);
    }
    broken
}

/// The name of a container's port (an IANA service name).
pub fn port_name(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > 15 {
        broken.push("must be no more than 15 characters".to_owned());
    }
    if !text.bytes().all(|c| is_lower(c) || c == b'-') {
        broken.push(PORT_NAME_RULE.to_owned());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        broken.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        broken.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        broken.push("must not begin or end with a hyphen".to_owned());
    }
    broken
}

/// The name of an environment variable: any printable ASCII but `=`.
pub fn env_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

/// A name as part of a URL path: kinds without a DNS rule of their own.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// A port number.
pub fn port(number: i64) -> Option<&'static str> {
    (!(1..=65535).contains(&number)).then_some("must be between 1 and 65535, inclusive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(dns_subdomain("a-b.c1").is_empty());
        assert_eq!(dns_subdomain("node with spaces"), [SUBDOMAIN_RULE]);
        assert!(
            !dns_subdomain("A").is_empty()
                && !dns_subdomain("").is_empty()
                && !dns_subdomain("a..b").is_empty()
        );
        assert!(dns_label("1-a").is_empty() && !dns_label("a.b").is_empty());
        assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert!(!dns_label_1035("1a").is_empty() && dns_label_1035("a1").is_empty());
        assert!(!dns_label_1035("").is_empty());
    }

    #[test]
    fn labels_and_keys() {
        assert!(qualified("app.kubernetes.io/name").is_empty() && qualified("a").is_empty());
        for wrong in ["", "a/b/c", "/a", "a/", "-a", "A_/x", "a b"] {
            assert!(!qualified(wrong).is_empty(), "{wrong}");
        }
        assert!(
            label_value("").is_empty() && label_value("V1_x.y").is_empty() && !label_value("a b").is_empty()
        );
        assert!(config_key("a.b-c_D").is_empty());
        assert!(!config_key("..").is_empty() && !config_key("a/b").is_empty() && !config_key("").is_empty());
        assert!(
            port_name("http-1").is_empty() && !port_name("1").is_empty() && !port_name("a--b").is_empty()
        );
        assert!(env_name("A.b-C").is_empty() && !env_name("a=b").is_empty() && !env_name("").is_empty());
        assert!(port(0).is_some() && port(65535).is_none() && port(70000).is_some());
    }
}
