//! Selectors: which objects a list, a watch or a workload means, by labels or by fields.
//!
//! Label selectors have the grammar of the Kubernetes documentation (`a=b,c!=d,e in (f,g),h notin (i),j,!k`); field
//! selectors know `=`, `==` and `!=`.

mod field;

use std::collections::BTreeMap;
use std::fmt;

pub use field::{FieldSelector, field_text};

use crate::view::LabelSelector;

/// Longest selector read, bytes.
const SELECTOR_BYTES_MAX: usize = 16 * 1024;

/// Why a text or structure is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The grammar is broken.
    #[error("unable to parse requirement: {0}")]
    Grammar(String),
    /// A label key or value is malformed.
    #[error("unable to parse requirement: {0}")]
    Label(String),
    /// A structure's operator is not known.
    #[error("\"{0}\" is not a valid label selector operator")]
    Operator(String),
    /// The kind cannot be selected by this field.
    #[error("field label not supported: {0}")]
    Field(String),
    /// Longer than read.
    #[error("selector is longer than {SELECTOR_BYTES_MAX} bytes")]
    TooLong,
}

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    nothing: bool,
    requirements: Vec<Requirement>,
}

/// One requirement; all of a selector's must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    /// The label is a number greater than the value (node affinity, label strings).
    GreaterThan,
    /// The label is a number less than the value.
    LessThan,
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self { nothing: true, requirements: Vec::new() }
    }

    /// All of these labels; an empty map selects everything.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.clone()],
            })
            .collect();
        Self { nothing: false, requirements }
    }

    /// A workload's selector; an empty one selects everything.
    ///
    /// # Errors
    /// An operator is not known, or its values do not fit it.
    pub fn from_label_selector(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut out = Self::from_map(&selector.match_labels);
        for expression in &selector.match_expressions {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.to_owned())),
            };
            let wants_values = matches!(operator, Operator::In | Operator::NotIn);
            if wants_values == expression.values.is_empty() {
                let rule = if wants_values { "values must be non-empty" } else { "values must be empty" };
                return Err(SelectorError::Label(format!("{}: {rule}", expression.key)));
            }
            out.requirements.push(Requirement {
                key: expression.key.clone(),
                operator,
                values: expression.values.clone(),
            });
        }
        Ok(out)
    }

    /// Reads a selector as it stands in a URL (decoded).
    ///
    /// # Errors
    /// The grammar is broken or a key or value is malformed.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(SelectorError::TooLong);
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        let mut requirements = Vec::new();
        if parser.peek().is_none() {
            return Ok(Self::everything());
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.next() {
                None => return Ok(Self { nothing: false, requirements }),
                Some(Token::Comma) => {}
                Some(other) => return Err(unexpected(&other, "',' or the end")),
            }
        }
    }

    /// Whether these labels are selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let number = |text: &str| text.parse::<i64>().ok();
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let Some((have, bound)) =
                    value.and_then(|v| number(v)).zip(self.values.first().and_then(|v| number(v)))
                else {
                    return false;
                };
                if self.operator == Operator::GreaterThan { have > bound } else { have < bound }
            }
        }
    }
}

/// The selector as text, as `status.selector` of a Scale has it.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            let Requirement { key, operator, values } = requirement;
            match (operator, values.as_slice()) {
                (Operator::In, [one]) => write!(f, "{key}={one}")?,
                (Operator::NotIn, [one]) => write!(f, "{key}!={one}")?,
                (Operator::In, several) => write!(f, "{key} in ({})", several.join(","))?,
                (Operator::NotIn, several) => write!(f, "{key} notin ({})", several.join(","))?,
                (Operator::Exists, _) => f.write_str(key)?,
                (Operator::DoesNotExist, _) => write!(f, "!{key}")?,
                (Operator::GreaterThan, values) => write!(f, "{key}>{}", values.join(","))?,
                (Operator::LessThan, values) => write!(f, "{key}<{}", values.join(","))?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Open,
    Close,
    Equal,
    NotEqual,
    Not,
    Greater,
    Less,
}

fn tokens(text: &str) -> Result<Vec<Token>, SelectorError> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            c if c.is_whitespace() => continue,
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            '>' => Token::Greater,
            '<' => Token::Less,
            '=' => {
                chars.next_if_eq(&'=');
                Token::Equal
            }
            '!' => {
                if chars.next_if_eq(&'=').is_some() {
                    Token::NotEqual
                } else {
                    Token::Not
                }
            }
            c if is_word(c) => {
                let mut word = String::from(c);
                while let Some(next) = chars.next_if(|c| is_word(*c)) {
                    word.push(next);
                }
                Token::Word(word)
            }
            other => return Err(SelectorError::Grammar(format!("unexpected character '{other}'"))),
        });
    }
    Ok(out)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')
}

fn unexpected(token: &Token, wanted: &str) -> SelectorError {
    let shown = match token {
        Token::Word(word) => word.as_str(),
        Token::Comma => ",",
        Token::Open => "(",
        Token::Close => ")",
        Token::Equal => "=",
        Token::NotEqual => "!=",
        Token::Not => "!",
        Token::Greater => ">",
        Token::Less => "<",
    };
    SelectorError::Grammar(format!("found '{shown}', expected: {wanted}"))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        match self.next() {
            Some(Token::Word(key)) => match crate::validate::name::qualified(&key).into_iter().next() {
                None => Ok(key),
                Some(rule) => Err(SelectorError::Label(format!("key: Invalid value: \"{key}\": {rule}"))),
            },
            Some(other) => Err(unexpected(&other, "identifier")),
            None => Err(SelectorError::Grammar("found '', expected: identifier".to_owned())),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.peek() == Some(&Token::Not) {
            self.at += 1;
            let key = self.key()?;
            return Ok(Requirement { key, operator: Operator::DoesNotExist, values: Vec::new() });
        }
        let key = self.key()?;
        let operator = match self.peek() {
            None | Some(Token::Comma) => {
                return Ok(Requirement { key, operator: Operator::Exists, values: Vec::new() });
            }
            Some(Token::Equal) => Operator::In,
            Some(Token::NotEqual) => Operator::NotIn,
            Some(Token::Greater) => Operator::GreaterThan,
            Some(Token::Less) => Operator::LessThan,
            Some(Token::Word(word)) if word == "in" || word == "notin" => {
                let operator = if word == "in" { Operator::In } else { Operator::NotIn };
                self.at += 1;
                let values = self.list()?;
                return checked(key, operator, values);
            }
            Some(other) => return Err(unexpected(other, "in, notin, =, ==, !=, gt, lt")),
        };
        self.at += 1;
        let value = match self.peek() {
            None | Some(Token::Comma) => String::new(),
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                word
            }
            Some(other) => return Err(unexpected(other, "identifier")),
        };
        checked(key, operator, vec![value])
    }

    fn list(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            Some(Token::Open) => {}
            Some(other) => return Err(unexpected(&other, "'('")),
            None => return Err(SelectorError::Grammar("found '', expected: '('".to_owned())),
        }
        let mut values = Vec::new();
        loop {
            let mut value = String::new();
            if let Some(Token::Word(word)) = self.peek() {
                value.clone_from(word);
                self.at += 1;
            }
            values.push(value);
            match self.next() {
                Some(Token::Comma) => {}
                Some(Token::Close) => return Ok(values),
                Some(other) => return Err(unexpected(&other, "',', or ')'")),
                None => return Err(SelectorError::Grammar("found '', expected: ',', or ')'".to_owned())),
            }
        }
    }
}

fn checked(key: String, operator: Operator, values: Vec<String>) -> Result<Requirement, SelectorError> {
    for value in &values {
        if let Some(rule) = crate::validate::name::label_value(value).into_iter().next() {
            return Err(SelectorError::Label(format!(
                "values[0][{key}]: Invalid value: \"{value}\": {rule}"
            )));
        }
    }
    Ok(Requirement { key, operator, values })
}

#[cfg(test)]
mod tests;
