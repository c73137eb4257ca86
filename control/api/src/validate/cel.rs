//! Expressions in CEL: whether one is any, whether it uses only names that are there, and whether what it comes to is what is wanted,
//! as far as that can be seen without a schema. Nothing is evaluated here.
//!
//! What is told reads as cel-go's, which Kubernetes passes on: `ERROR: <input>:1:6: …` with the line and a mark below the place.
//! Types of fields, of overloads and what an expression may cost are not judged; what Kubernetes takes is never refused. Why
//! the grammar is one of our own is written in decision 0025.

mod function;
mod lex;
mod parse;

use std::collections::HashSet;
use std::fmt;

pub(super) use parse::is_name;

use crate::status::{Errors, FieldError};

/// Most letters of an expression: cel-go's bound.
const LETTERS_MAX: usize = 100_000;
/// Longest line that is shown with what is wrong in it, bytes. cel-go shows longer ones.
const LINE_BYTES_MAX: usize = 512;

/// What comes of an expression, as far as it is seen: `Dyn` may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type<'a> {
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Null,
    List,
    Map,
    /// A message of this name.
    Message(&'a str),
}

impl Type<'_> {
    fn may_be(self, wanted: Self) -> bool {
        self == Self::Dyn || wanted == Self::Dyn || self == wanted
    }
}

impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn => "dyn",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::Null => "null_type",
            Self::List => "list",
            Self::Map => "map",
            Self::Message(name) => name,
        })
    }
}

/// The names that an expression may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// Variables.
    pub(super) variables: &'a [&'a str],
    /// The fields of the variable `variables`, if that is there.
    pub(super) composed: Option<&'a HashSet<&'a str>>,
    /// Whether it may make objects and JSON patches.
    pub(super) patches: bool,
}

impl<'a> Scope<'a> {
    /// These variables alone.
    pub(super) const fn of(variables: &'a [&'a str]) -> Self {
        Self { variables, composed: None, patches: false }
    }
}

/// What is wrong, and where.
#[derive(Debug)]
struct Trouble {
    /// Of the expression as a whole if there is none.
    at: Option<usize>,
    why: String,
    /// It shows when the expression is made a program.
    program: bool,
}

impl Trouble {
    fn at(at: usize, why: String) -> Self {
        Self { at: Some(at), why, program: false }
    }

    fn whole(why: String) -> Self {
        Self { at: None, why, program: false }
    }

    /// As cel-go shows it.
    fn show(&self, source: &str) -> String {
        let Some(at) = self.at else { return format!("ERROR: <input>:-1:0: {}", self.why) };
        let before = &source[..at];
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let (line, column) = (before.matches('\n').count() + 1, source[start..at].chars().count());
        let mut shown = format!("ERROR: <input>:{line}:{}: {}", column + 1, self.why);
        let text = source[start..].split('\n').next().unwrap_or("");
        if text.len() <= LINE_BYTES_MAX {
            let dots = text.chars().take(column).map(|c| if c.is_ascii() { '.' } else { '．' });
            let wide = text.chars().nth(column).is_some_and(|c| !c.is_ascii());
            let mark = dots.chain([if wide { '＾' } else { '^' }]);
            shown = format!("{shown}\n | {}\n | {}", text.replace('\t', " "), mark.collect::<String>());
        }
        shown
    }
}

/// Why an expression is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It has no meaning, in cel-go's words.
    Compilation(String),
    /// No program can be made of it.
    Program(String),
    /// It comes to something else: what.
    Result(String),
}

/// An expression that is taken.
#[derive(Debug)]
pub(super) struct Compiled<'a> {
    uses: Vec<&'a str>,
}

impl Compiled<'_> {
    /// Whether it uses this variable.
    pub(super) fn uses(&self, name: &str) -> bool {
        self.uses.contains(&name)
    }
}

/// Reads an expression, which must come to one of `wanted`, or to anything if that is empty.
///
/// # Errors
/// Why it is not taken.
pub(super) fn compile<'a>(
    expression: &'a str,
    scope: &Scope<'_>,
    wanted: &[Type<'_>],
) -> Result<Compiled<'a>, Broken> {
    let letters = if expression.len() > LETTERS_MAX { expression.chars().count() } else { 0 };
    if letters > LETTERS_MAX {
        let why = format!("expression code point size exceeds limit: size: {letters}, limit {LETTERS_MAX}");
        return Err(Broken::Compilation(Trouble::whole(why).show("")));
    }
    let read = parse::Parser::read(expression, scope).map_err(|troubles| {
        if let [only] = troubles.as_slice()
            && only.program
        {
            return Broken::Program(only.why.clone());
        }
        let shown: Vec<String> = troubles.iter().map(|trouble| trouble.show(expression)).collect();
        Broken::Compilation(shown.join("\n"))
    })?;
    if !wanted.is_empty() && !wanted.iter().any(|wanted| read.type_.may_be(*wanted)) {
        return Err(Broken::Result(read.type_.to_string()));
    }
    Ok(Compiled { uses: read.uses })
}

/// Judges an expression of a policy or a webhook at `path`, if there is any.
pub(super) fn judge(
    expression: &str,
    path: &str,
    scope: &Scope<'_>,
    wanted: &[Type<'_>],
    errors: &mut Errors,
) {
    if expression.trim().is_empty() || errors.is_full() {
        return;
    }
    let why = match compile(expression, scope, wanted) {
        Ok(_) => return,
        Err(Broken::Compilation(why)) => format!("compilation failed: {why}"),
        Err(Broken::Program(why)) => format!("program instantiation failed: {why}"),
        Err(Broken::Result(found)) => match wanted {
            [one] => format!("must evaluate to {one} but got {found}"),
            several => {
                let several: Vec<String> = several.iter().map(ToString::to_string).collect();
                format!("must evaluate to one of [{}] but got {found}", several.join(" "))
            }
        },
    };
    errors.push(FieldError::invalid(path, expression, why));
}
