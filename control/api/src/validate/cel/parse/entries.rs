//! Lists, maps and messages: entries between brackets.

use super::super::Type;
use super::super::lex::Kind;
use super::{Form, Parser, Result, Step, Value, What};

/// A list, a map or a message.
pub(super) struct Entries<'a> {
    pub(super) at: usize,
    pub(super) type_: Type<'a>,
    /// In a map: it is the key that is read.
    pub(super) key: bool,
    pub(super) depth: u16,
}

impl Entries<'_> {
    fn close(&self) -> &'static str {
        if self.type_ == Type::List { "]" } else { "}" }
    }
}

impl<'a> Parser<'a, '_> {
    /// A list, a map or a message, of which the first bracket has been read.
    pub(super) fn entries(&mut self, at: usize, type_: Type<'a>) -> Result<Step<'a>> {
        // A comma alone is allowed as well.
        let more = !self.take(",")?;
        self.entry(Entries { at, type_, key: false, depth: 0 }, more)
    }

    /// The next entry, if there is to be one and the end is not there.
    pub(super) fn entry(&mut self, mut entries: Entries<'a>, more: bool) -> Result<Step<'a>> {
        if !more || self.is(entries.close()) {
            self.expect(entries.close())?;
            let Entries { at, type_, depth, .. } = entries;
            return Ok(Step::Member(Value { at, type_, depth, form: Form::Other }, None));
        }
        self.take("?")?;
        entries.key = entries.type_ == Type::Map;
        if matches!(entries.type_, Type::Message(_)) {
            if !matches!(self.token.kind, Kind::Name | Kind::Quoted) {
                return Err(self.unexpected("{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}"));
            }
            self.advance()?;
            self.expect(":")?;
        }
        self.open(What::Entries(entries))
    }

    /// `Object.spec{replicas: 1}`, of which the name has been read.
    pub(super) fn message(&mut self, start: usize) -> Result<Step<'a>> {
        let at = self.token.at;
        let written = self.source[start..at].trim();
        // The name is a type's: it was taken for a variable's.
        let mut parts =
            written.trim_start_matches('.').trim_start().split(|c: char| c != '_' && !c.is_alphanumeric());
        let root = parts.next().unwrap_or("");
        if let Some(uses) = self.uses.get_mut(root) {
            uses.pop();
        }
        let known = matches!(root, "google" | "kubernetes" | "net")
            || self.scope.patches && matches!(root, "Object" | "JSONPatch");
        if !known {
            self.trouble(at, format!("undeclared reference to '{written}' (in container '')"));
        }
        self.advance()?;
        // With blanks or comments in it the name is not put together.
        let name = written.trim_start_matches('.');
        let is_name = name.bytes().all(|c| matches!(c, b'_' | b'.') || c.is_ascii_alphanumeric());
        self.entries(start, if is_name { Type::Message(name) } else { Type::Dyn })
    }
}
