//! The grammar of CEL, as cel-go has it, and what of an expression's meaning needs no schema: which names it uses, which functions it
//! calls, and what it comes to, as far as that can be seen.
//!
//! Nothing is kept of an expression but the names that it uses and has not declared itself: there is no tree, so that no tree is too
//! deep. What is within a macro that declares a variable is read before it can be known for one; so names wait in
//! `uses`, by their places, and the macro takes its own out again.

mod call;
mod entries;

use std::collections::HashMap;

use self::entries::Entries;
use super::lex::{self, Kind, Lexer, Token};
use super::{Scope, Trouble, Type};

/// Most expressions within each other, and most nodes one below the other: cel-go's bounds.
const DEPTH_MAX: u16 = 250;
/// Most of what is wrong that is told of one expression.
const TROUBLES_MAX: usize = 8;
/// What may begin an operand, in cel-go's words.
const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                       BYTES, IDENTIFIER}";
/// Words that no variable may have for a name; fields may.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
/// Names of types, and the first parts of others.
const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "google",
    "int",
    "kubernetes",
    "list",
    "map",
    "net",
    "null_type",
    "optional_type",
    "string",
    "type",
    "uint",
];

/// A part of an expression.
#[derive(Clone, Copy)]
struct Value<'a> {
    at: usize,
    type_: Type<'a>,
    /// Nodes one below the other, as far as cel-go counts them.
    depth: u16,
    form: Form<'a>,
}

/// What a part looks like, where that matters to what is around it.
#[derive(Clone, Copy)]
enum Form<'a> {
    Name(&'a str),
    Select,
    /// A text, as it is written.
    Text(&'a str),
    Other,
}

/// Where a name stands that is not declared by the expression, and which of its fields is asked for.
struct Use<'a> {
    at: usize,
    /// With the place where it is asked for.
    field: Option<(usize, &'a str)>,
}

/// What is between two operands, or before one: the stronger, the closer it binds.
#[derive(Clone, Copy)]
struct Operator<'a> {
    strength: u8,
    sign: &'a str,
    at: usize,
}

/// Strengths: of what joins truths, up to `LOGIC`, of what compares, and of what stands before its one operand.
const LOGIC: u8 = 2;
const COMPARISON: u8 = 3;
const PREFIX: u8 = 6;

/// An operator that waits for its right side, and its left side.
struct Waiting<'a> {
    left: Option<Value<'a>>,
    operator: Operator<'a>,
}

/// What has been opened and waits for the expression within it.
struct Opened<'a> {
    what: What<'a>,
    /// How many operators wait that are not that expression's.
    base: usize,
}

enum What<'a> {
    /// `(`
    Bracket,
    /// `which ?`
    Yes {
        at: usize,
        which: Value<'a>,
    },
    /// `which ? yes :`
    No {
        at: usize,
        which: Value<'a>,
        yes: Value<'a>,
    },
    /// `of[`
    Index {
        at: usize,
        of: Value<'a>,
    },
    Call(Call<'a>),
    Entries(Entries<'a>),
}

/// A call, of a function or a macro, on something or not.
struct Call<'a> {
    at: usize,
    target: Option<Value<'a>>,
    /// The first part of the function's name, where that has two.
    namespace: Option<&'a str>,
    name: &'a str,
    arguments: Vec<Argument<'a>>,
    /// Where the next argument begins.
    start: usize,
}

/// With the place where it begins.
type Argument<'a> = (usize, Value<'a>);

/// What comes next: reading goes from one to the next without recursion, however deep an expression is.
enum Step<'a> {
    Operand,
    /// What of a value may be taken; if it may still be the name of a message, where that began.
    Member(Value<'a>, Option<usize>),
    /// An operator behind a value.
    Operation(Value<'a>),
    /// An expression has ended.
    Ended(Value<'a>),
}

pub(super) struct Parser<'a, 's> {
    source: &'a str,
    scope: &'s Scope<'s>,
    lexer: Lexer<'a>,
    token: Token<'a>,
    opened: Vec<Opened<'a>>,
    waiting: Vec<Waiting<'a>>,
    /// Expressions that are open.
    depth: u16,
    /// By name, in the order of their places.
    uses: HashMap<&'a str, Vec<Use<'a>>>,
    /// What is wrong with the meaning.
    troubles: Vec<Trouble>,
}

/// Whether a text is the name of something that may be declared.
pub(in crate::validate) fn is_name(text: &str) -> bool {
    let first = Lexer::new(text).next();
    first.is_ok_and(|token| token.kind == Kind::Name && token.text == text) && !RESERVED.contains(&text)
}

/// What is known of an expression that is right.
pub(super) struct Read<'a> {
    pub(super) type_: Type<'a>,
    pub(super) uses: Vec<&'a str>,
}

type Result<T> = std::result::Result<T, Trouble>;

impl<'a, 's> Parser<'a, 's> {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with its form, which is one thing, or with its meaning.
    pub(super) fn read(source: &'a str, scope: &'s Scope<'s>) -> std::result::Result<Read<'a>, Vec<Trouble>> {
        let mut lexer = Lexer::new(source);
        let token = lexer.next().map_err(|trouble| vec![trouble])?;
        let (opened, waiting, uses, troubles) = (Vec::new(), Vec::new(), HashMap::new(), Vec::new());
        let mut parser = Self { source, scope, lexer, token, opened, waiting, depth: 1, uses, troubles };
        let value = parser.expression().map_err(|trouble| vec![trouble])?;
        if parser.token.kind != Kind::End {
            return Err(vec![parser.unexpected("<EOF>")]);
        }
        parser.undeclared();
        if parser.troubles.is_empty() {
            return Ok(Read { type_: value.type_, uses: parser.uses.into_keys().collect() });
        }
        parser.troubles.sort_by_key(|trouble| trouble.at);
        parser.troubles.truncate(TROUBLES_MAX);
        Err(parser.troubles)
    }

    /// What is left of names must be known from outside.
    fn undeclared(&mut self) {
        for (name, uses) in &self.uses {
            let composed = self.scope.composed.filter(|_| *name == "variables");
            let known = self.scope.variables.contains(name)
                || TYPES.contains(name)
                || self.scope.patches && matches!(*name, "JSONPatch" | "Object");
            let troubles = uses.iter().filter_map(|used| match (composed, used.field) {
                (Some(fields), Some((at, field))) if !fields.contains(field) => {
                    Some(Trouble::at(at, format!("undefined field '{field}'")))
                }
                (None, _) if !known => {
                    Some(Trouble::at(used.at, format!("undeclared reference to '{name}' (in container '')")))
                }
                _ => None,
            });
            self.troubles.extend(troubles.take(TROUBLES_MAX));
        }
    }

    fn trouble(&mut self, at: usize, why: String) {
        // Which of them is first is known when all are there.
        if self.troubles.len() < 16 * TROUBLES_MAX {
            self.troubles.push(Trouble::at(at, why));
        }
    }

    fn advance(&mut self) -> Result<()> {
        self.token = self.lexer.next()?;
        Ok(())
    }

    fn is(&self, sign: &str) -> bool {
        self.token.kind == Kind::Sign && self.token.text == sign
    }

    fn take(&mut self, sign: &str) -> Result<bool> {
        let is = self.is(sign);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn expect(&mut self, sign: &str) -> Result<()> {
        if self.take(sign)? { Ok(()) } else { Err(self.unexpected(&format!("'{sign}'"))) }
    }

    fn unexpected(&self, expected: &str) -> Trouble {
        const TOLD_MAX: usize = 64;
        let text = if self.token.kind == Kind::End { "<EOF>" } else { self.token.text };
        let told = &text[..text.floor_char_boundary(TOLD_MAX)];
        Trouble::at(self.token.at, format!("Syntax error: mismatched input '{told}' expecting {expected}"))
    }

    /// A node of which cel-go counts how deep it is.
    fn node(&self, at: usize, below: &[&Value<'a>], type_: Type<'a>) -> Result<Value<'a>> {
        let depth = 1 + below.iter().map(|value| value.depth).max().unwrap_or(0);
        if depth > DEPTH_MAX {
            return Err(Trouble::whole("max recursion depth exceeded".to_owned()));
        }
        Ok(Value { at, type_, depth, form: Form::Other })
    }

    fn expression(&mut self) -> Result<Value<'a>> {
        let mut step = Step::Operand;
        loop {
            step = match step {
                Step::Operand => self.operand()?,
                Step::Member(value, path) => self.member(value, path)?,
                Step::Operation(value) => self.operation(value)?,
                Step::Ended(value) => match self.opened.pop() {
                    None => return Ok(value),
                    Some(opened) => self.close(opened.what, value)?,
                },
            }
        }
    }

    /// Begins an expression within what has been opened.
    fn open(&mut self, what: What<'a>) -> Result<Step<'a>> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Trouble::whole(format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        self.opened.push(Opened { what, base: self.waiting.len() });
        Ok(Step::Operand)
    }

    /// Goes on behind an expression in what was opened.
    fn close(&mut self, what: What<'a>, value: Value<'a>) -> Result<Step<'a>> {
        // Between `?` and `:` there is none of its own.
        self.depth -= u16::from(!matches!(what, What::Yes { .. }));
        match what {
            What::Bracket => {
                self.expect(")")?;
                Ok(Step::Member(value, None))
            }
            What::Yes { at, which } => {
                self.expect(":")?;
                self.open(What::No { at, which, yes: value })
            }
            What::No { at, which, yes } => Ok(Step::Ended(self.chosen(at, &which, &yes, &value)?)),
            What::Index { at, of } => {
                self.expect("]")?;
                Ok(Step::Member(self.node(at, &[&of, &value], Type::Dyn)?, None))
            }
            What::Call(mut call) => {
                call.arguments.push((call.start, value));
                if self.take(",")? {
                    call.start = self.token.at;
                    return self.open(What::Call(call));
                }
                self.expect(")")?;
                Ok(Step::Member(self.called(&call)?, None))
            }
            What::Entries(mut entries) => {
                entries.depth = entries.depth.max(value.depth);
                if entries.key {
                    self.expect(":")?;
                    entries.key = false;
                    return self.open(What::Entries(entries));
                }
                let more = self.take(",")?;
                self.entry(entries, more)
            }
        }
    }

    fn chosen(&mut self, at: usize, which: &Value<'a>, yes: &Value<'a>, no: &Value<'a>) -> Result<Value<'a>> {
        if !which.type_.may_be(Type::Bool) {
            let told = format!("'({}, {}, {})'", which.type_, yes.type_, no.type_);
            self.trouble(at, format!("found no matching overload for '_?_:_' applied to {told}"));
        }
        let type_ = if yes.type_ == no.type_ { yes.type_ } else { Type::Dyn };
        self.node(at, &[which, yes, no], type_)
    }

    fn operation(&mut self, mut value: Value<'a>) -> Result<Step<'a>> {
        let next = self.operator();
        let base = self.opened.last().map_or(0, |opened| opened.base);
        while self.waiting.len() > base {
            let ends =
                |waits: &mut Waiting<'a>| next.is_none_or(|next| next.strength <= waits.operator.strength);
            let Some(waits) = self.waiting.pop_if(ends) else { break };
            value = self.join(&waits, value)?;
        }
        if let Some(operator) = next {
            self.advance()?;
            self.waiting.push(Waiting { left: Some(value), operator });
            return Ok(Step::Operand);
        }
        // What is between `?` and `:` is no choice itself.
        let choice = self.opened.last().is_some_and(|opened| matches!(opened.what, What::Yes { .. }));
        if !choice && self.is("?") {
            let what = What::Yes { at: self.token.at, which: value };
            self.advance()?;
            self.opened.push(Opened { what, base: self.waiting.len() });
            return Ok(Step::Operand);
        }
        Ok(Step::Ended(value))
    }

    /// The operator that is next, if one is.
    fn operator(&self) -> Option<Operator<'a>> {
        let Token { kind, at, text: sign } = self.token;
        let strength = match (kind, sign) {
            (Kind::Sign, "||") => 1,
            (Kind::Sign, "&&") => LOGIC,
            (Kind::In, _) | (Kind::Sign, "<" | "<=" | ">=" | ">" | "==" | "!=") => COMPARISON,
            (Kind::Sign, "+" | "-") => 4,
            (Kind::Sign, "*" | "/" | "%") => 5,
            _ => return None,
        };
        Some(Operator { strength, sign, at })
    }

    fn join(&mut self, waits: &Waiting<'a>, right: Value<'a>) -> Result<Value<'a>> {
        let Operator { strength, sign, at } = waits.operator;
        let Some(left) = &waits.left else {
            if sign == "!" && !right.type_.may_be(Type::Bool) {
                let told = right.type_;
                self.trouble(at, format!("found no matching overload for '!_' applied to '({told})'"));
            }
            return Ok(Value { at, form: Form::Other, ..right });
        };
        if strength > LOGIC {
            let type_ = match (strength, left.type_ == right.type_) {
                (COMPARISON, _) => Type::Bool,
                (_, true) => left.type_,
                (_, false) => Type::Dyn,
            };
            return self.node(at, &[left, &right], type_);
        }
        if !left.type_.may_be(Type::Bool) || !right.type_.may_be(Type::Bool) {
            let told = format!("'({}, {})'", left.type_, right.type_);
            self.trouble(at, format!("found no matching overload for '_{sign}_' applied to {told}"));
        }
        // cel-go makes balanced trees of these, however many they are.
        let depth = left.depth.max(right.depth);
        Ok(Value { at, type_: Type::Bool, depth, form: Form::Other })
    }

    /// The signs before an operand, and what it begins with.
    fn operand(&mut self) -> Result<Step<'a>> {
        let (at, mut sign) = (self.token.at, "");
        if self.is("!") || self.is("-") {
            sign = self.token.text;
            let mut odd = false;
            while self.take(sign)? {
                odd = !odd;
            }
            if odd {
                let operator = Operator { strength: PREFIX, sign, at };
                self.waiting.push(Waiting { left: None, operator });
            }
        }
        let Token { kind, at, .. } = self.token;
        if self.take("(")? {
            return self.open(What::Bracket);
        }
        if self.take("[")? {
            return self.entries(at, Type::List);
        }
        if self.take("{")? {
            return self.entries(at, Type::Map);
        }
        if kind == Kind::Name || self.is(".") {
            return self.name();
        }
        let Some((type_, form)) = self.literal(sign == "-")? else { return Err(self.unexpected(OPERAND)) };
        self.advance()?;
        Ok(Step::Member(Value { at, type_, depth: 0, form }, None))
    }

    fn member(&mut self, value: Value<'a>, path: Option<usize>) -> Result<Step<'a>> {
        let at = self.token.at;
        if self.take(".")? {
            let optional = self.take("?")?;
            let (kind, mut field) = (self.token.kind, self.token.text);
            match kind {
                Kind::Name => {}
                Kind::Quoted => field = &field[1..field.len() - 1],
                _ => return Err(self.no_field()),
            }
            self.advance()?;
            if kind == Kind::Name && !optional && self.is("(") {
                return self.call(Some(value), field);
            }
            let path = path.filter(|_| kind == Kind::Name && !optional);
            return Ok(Step::Member(self.select(at, value, field, optional)?, path));
        }
        if self.take("[")? {
            self.take("?")?;
            return self.open(What::Index { at, of: value });
        }
        match path.filter(|_| self.is("{")) {
            Some(start) => self.message(start),
            None => Ok(Step::Operation(value)),
        }
    }

    fn no_field(&self) -> Trouble {
        if matches!(self.token.kind, Kind::True | Kind::False | Kind::Null) {
            return self.unexpected("IDENTIFIER");
        }
        let text = if self.token.kind == Kind::End { "" } else { self.token.text };
        let told = &text[..text.floor_char_boundary(64)];
        Trouble::at(self.token.at, format!("Syntax error: no viable alternative at input '.{told}'"))
    }

    fn select(&mut self, at: usize, of: Value<'a>, field: &'a str, optional: bool) -> Result<Value<'a>> {
        if let Form::Name(name) = of.form
            && let Some(used) = self.uses.get_mut(name).and_then(|uses| uses.last_mut())
            && used.at == of.at
        {
            used.field = Some((at, field));
        }
        if matches!(of.type_, Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Text | Type::Bytes) {
            self.trouble(at, format!("type '{}' does not support field selection", of.type_));
        }
        let node = self.node(at, &[&of], Type::Dyn)?;
        Ok(Value { form: if optional { Form::Other } else { Form::Select }, ..node })
    }

    /// A name or a call of one; a dot before it means that no macro has declared it.
    fn name(&mut self) -> Result<Step<'a>> {
        let at = self.token.at;
        let rooted = self.take(".")?;
        let name = self.token.text;
        if self.token.kind != Kind::Name {
            return Err(self.unexpected("IDENTIFIER"));
        }
        if RESERVED.contains(&name) {
            return Err(Trouble::at(at, format!("reserved identifier: {name}")));
        }
        self.advance()?;
        if self.is("(") {
            return self.call(None, if rooted && name == "has" { "." } else { name });
        }
        self.uses.entry(name).or_default().push(Use { at, field: None });
        Ok(Step::Member(Value { at, type_: Type::Dyn, depth: 0, form: Form::Name(name) }, Some(at)))
    }

    /// The literal that is next, if one is; it is not left behind.
    fn literal(&mut self, negative: bool) -> Result<Option<(Type<'a>, Form<'a>)>> {
        let mut text = self.token.text;
        // A minus of its own is part of a number, so that the smallest one can be written.
        let signed = self.token.kind == Kind::Sign && text == "-";
        let at = self.token.at;
        if signed {
            self.advance()?;
            text = self.token.text;
        }
        let wrong = |what: &str| Trouble::at(at, format!("invalid {what} literal"));
        let magnitude = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        let found = match self.token.kind {
            Kind::Int => {
                let max = i64::MAX.unsigned_abs() + u64::from(negative || signed);
                magnitude(text).ok().filter(|number| *number <= max).ok_or_else(|| wrong("int"))?;
                Type::Int
            }
            Kind::Uint => {
                magnitude(&text[..text.len() - 1]).map_err(|_| wrong("uint"))?;
                Type::Uint
            }
            Kind::Double => {
                text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| wrong("double"))?;
                Type::Double
            }
            _ if signed => return Err(self.unexpected(OPERAND)),
            Kind::Text => {
                lex::meaning(text, false).map_err(|why| Trouble::at(at, why.to_owned()))?;
                return Ok(Some((Type::Text, Form::Text(text))));
            }
            Kind::Bytes => {
                lex::meaning(text, true).map_err(|why| Trouble::at(at, why.to_owned()))?;
                Type::Bytes
            }
            Kind::True | Kind::False => Type::Bool,
            Kind::Null => Type::Null,
            _ => return Ok(None),
        };
        Ok(Some((found, Form::Other)))
    }
}
