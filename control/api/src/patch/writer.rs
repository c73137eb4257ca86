//! Names of managers: what they may be, and what a client is called that does not name itself.
//!
//! The rules are those of Kubernetes' `ValidateFieldManager` and of its API server for the rest.

use crate::status::FieldError;

/// Longest name of a manager, bytes.
const NAME_BYTES_MAX: usize = 128;
/// Who has neither a name nor a user agent.
const UNKNOWN: &str = "unknown";

/// What is wrong with a manager's name that stands at `path`; an empty one says nothing and is right.
pub fn check(name: &str, path: &str) -> Option<FieldError> {
    if name.len() > NAME_BYTES_MAX {
        return Some(FieldError::too_long(path, NAME_BYTES_MAX));
    }
    let (at, odd) = name.char_indices().find(|(_, c)| !is_printable(*c))?;
    let why = format!("invalid character U+{:04X} (at position {at})", u32::from(odd));
    Some(FieldError::invalid(path, name, why))
}

/// The manager that a client writes as: its `fieldManager`, else its user agent up to the first slash, without what
/// cannot be printed and cut to a name's length.
pub fn of_client(field_manager: Option<&str>, user_agent: Option<&str>) -> String {
    if let Some(name) = field_manager.filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    let mut name = String::new();
    let product = user_agent.and_then(|agent| agent.split('/').next()).unwrap_or("");
    for c in product.chars().filter(|c| is_printable(*c)) {
        if name.len() + c.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        name.push(c);
    }
    if name.is_empty() { UNKNOWN.to_owned() } else { name }
}

/// Whether a character shows: letters, marks, numbers, punctuation, symbols and the space. Rust escapes all others,
/// and beside them three of punctuation, and marks at the beginning of a text.
fn is_printable(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || ['a', c].iter().collect::<String>().escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_names_itself_or_is_named_by_its_user_agent() {
        assert_eq!(of_client(Some("kubectl"), Some("curl/8")), "kubectl");
        assert_eq!(of_client(None, Some("curl/8.5 (x)")), "curl");
        assert_eq!(of_client(Some(""), Some("curl")), "curl");
        for nameless in [None, Some(""), Some("/1.0"), Some("\u{1}")] {
            assert_eq!(of_client(None, nameless), "unknown", "{nameless:?}");
        }
        assert_eq!(of_client(None, Some(&"é".repeat(100))), "é".repeat(64), "whole letters, 128 bytes");
    }

    #[test]
    fn names_are_short_and_printable() {
        let printable = ["", "Müller's \"tool\" \\ 漢字 ½ €", "e\u{301}", &"x".repeat(128)];
        for name in printable {
            assert_eq!(check(name, "fieldManager"), None, "{name:?}");
        }
        for name in
            ["\u{1}", "a\tb", "\u{200b}", "\u{202e}", "\u{a0}", "\u{e000}", "\u{2028}", &"x".repeat(129)]
        {
            assert!(check(name, "fieldManager").is_some(), "{name:?}");
        }
        assert_eq!(
            check("é\u{1}b", "fieldManager").unwrap().to_string(),
            "fieldManager: Invalid value: \"é\\u0001b\": invalid character U+0001 (at position 2)"
        );
    }
}
