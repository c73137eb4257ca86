//! What Kubernetes says of its types, for documents that people read. It is kept packed, a fifth of its length, and
//! unpacked by whoever makes such a document, who drops it then.

use std::collections::HashMap;
use std::io::Read as _;

use flate2::read::ZlibDecoder;

static PACKED: &[u8] = include_bytes!("../../schema/words.zz");

/// What is said of every type and of its fields.
#[derive(Debug, Default)]
pub struct Words {
    /// By the type's full name and, behind it, the field's; empty for the type itself.
    texts: HashMap<String, HashMap<String, String>>,
}

impl Words {
    /// Unpacks all of them.
    #[must_use]
    pub fn unpack() -> Self {
        let mut text = String::new();
        // The bytes are the program's own: a test reads them all.
        let _ = ZlibDecoder::new(PACKED).read_to_string(&mut text);
        let (mut words, mut type_) = (Self::default(), String::new());
        for line in text.lines() {
            let mut columns = line.splitn(3, '\t');
            let (Some(row), Some(name), Some(said)) = (columns.next(), columns.next(), columns.next()) else {
                continue;
            };
            let field = match row {
                "D" => {
                    name.clone_into(&mut type_);
                    String::new()
                }
                _ => name.to_owned(),
            };
            words.texts.entry(type_.clone()).or_default().insert(field, unfolded(said));
        }
        words
    }

    /// What is said of a type; empty if nothing is.
    pub fn of(&self, type_: &str) -> &str {
        self.of_field(type_, "")
    }

    /// What is said of a type's field; empty if nothing is.
    pub fn of_field(&self, type_: &str, field: &str) -> &str {
        self.texts.get(type_).and_then(|fields| fields.get(field)).map_or("", String::as_str)
    }
}

/// A text with its lines: they end in a backslash and an `n`.
fn unfolded(text: &str) -> String {
    let (mut out, mut characters) = (String::with_capacity(text.len()), text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.push(if characters.next() == Some('n') { '\n' } else { '\\' }),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::definitions;

    #[test]
    fn something_is_said_of_every_type_and_field() {
        // Where the sources say nothing: the schema of JSON schemas, and three fields.
        const SILENT: &[&str] =
            &["JSONSchemaProps", "ExternalDocumentation", "WatchEvent", "CertificateSigningRequest"];
        let words = Words::unpack();
        for definition in definitions() {
            assert!(!words.of(definition.name).is_empty(), "{}", definition.name);
            for field in &definition.fields {
                let said = words.of_field(definition.name, field.name);
                let may_be_silent = SILENT.contains(&definition.short_name());
                assert!(may_be_silent || !said.is_empty(), "{}.{}", definition.name, field.name);
            }
        }
        assert_eq!((words.of("none"), words.of_field("none", "a")), ("", ""));
    }

    #[test]
    fn texts_are_whole_and_have_their_lines() {
        let words = Words::unpack();
        let policy = words.of_field("io.k8s.api.core.v1.PodSpec", "dnsPolicy");
        assert!(policy.contains("explicitly to 'ClusterFirstWithHostNet'."), "{policy}");
        let steps =
            words.of_field("io.k8s.api.admissionregistration.v1.ValidatingWebhook", "matchConditions");
        assert!(steps.contains("\n\nThe exact matching logic is (in order):\n  1. If ANY"), "{steps}");
        assert_eq!(unfolded(r"a\nb\\n"), "a\nb\\n");
    }
}
