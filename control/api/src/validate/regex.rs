//! Regular expressions as Go's `regexp` reads them (RE2's syntax, with Perl's extensions): whether one is any, and Go's words for
//! why not. Nothing is matched here.
//!
//! Other libraries' syntax is another: Rust's refuses `[[a]`, `{` as a letter and `\Q…\E`, and reads `&&` in a class as an operator.
//! See decision 0025.

/// Most copies that repetitions within each other may ask for.
const REPEAT_MAX: u64 = 1000;
/// Most nodes one below the other, and a few more: a part that Go joins with its neighbour is counted by itself here.
const HEIGHT_MAX: u32 = 1000 + 4;
/// Most instructions that one may come to.
const SIZE_MAX: u64 = (128 << 20) / 40;
/// Most groups one within the other that are only for grouping. Go has no such bound: they leave no node.
const OPEN_MAX: usize = 10_000;
/// Numbers from here on are all the same: too large.
const NUMBER_MAX: u64 = 100_000_000;

/// Whether Go's `regexp` takes this for an expression.
///
/// # Errors
/// Go's own message.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let mut parser = Parser { pattern, at: 0, open: vec![Group::new(false)], captures: 0, named: true };
    parser.run().map_err(|(code, expression)| format!("error parsing regexp: {code}: `{expression}`"))
}

/// What Go calls it, and the part of the expression that it is about.
type Broken<'a> = (&'static str, &'a str);

const RANGE: &str = "invalid character class range";
const ESCAPE: &str = "invalid escape sequence";
const CAPTURE: &str = "invalid named capture";
const PERL: &str = "invalid or unsupported Perl syntax";
const NESTED_REPEAT: &str = "invalid nested repetition operator";
const REPEAT_SIZE: &str = "invalid repeat count";
const NO_BRACKET: &str = "missing closing ]";
const NO_PAREN: &str = "missing closing )";
const NO_ARGUMENT: &str = "missing argument to repetition operator";
const BACKSLASH: &str = "trailing backslash at end of expression";
const PAREN: &str = "unexpected )";
const DEEP: &str = "expression nests too deeply";
const LARGE: &str = "expression too large";

/// A part that has been read, as far as bounds ask for it.
#[derive(Clone, Copy)]
struct Part {
    form: Form,
    /// Instructions.
    size: u64,
    /// Nodes one below the other, itself the first.
    height: u32,
    /// Most copies of what is repeated in it.
    copies: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Letter,
    Sequence,
    Choice,
    Other,
}

impl Part {
    const ONE: Self = Self { form: Form::Other, size: 1, height: 1, copies: 1 };
    const LETTER: Self = Self { form: Form::Letter, ..Self::ONE };
}

/// Parts that are taken together: one after the other, or one of them.
#[derive(Clone, Copy)]
struct Several {
    form: Form,
    count: u32,
    size: u64,
    height: u32,
    copies: u64,
    last: Option<Part>,
}

impl Several {
    fn new(form: Form) -> Self {
        Self { form, count: 0, size: 0, height: 0, copies: 1, last: None }
    }

    fn push(&mut self, part: Part) {
        let joined = part.form == Form::Letter && self.last.is_some_and(|last| last.form == Form::Letter);
        if part.form == self.form {
            // A sequence within a sequence is none of its own.
            self.height = self.height.max(part.height - 1);
            self.count += 2;
        } else {
            self.height = self.height.max(part.height);
            self.count += u32::from(self.form == Form::Choice || !joined);
        }
        let between = u64::from(self.form == Form::Choice && self.last.is_some());
        self.size = self.size.saturating_add(part.size + between);
        self.copies = self.copies.max(part.copies);
        self.last = Some(part);
    }

    /// All of them as one.
    fn whole(&self) -> Part {
        match self.last {
            None => Part::ONE,
            Some(last) if self.count == 1 => Part { size: self.size, ..last },
            Some(_) => {
                Part { form: self.form, size: self.size, height: self.height + 1, copies: self.copies }
            }
        }
    }
}

/// What is open since a `(`, or since the start.
struct Group {
    capture: bool,
    choices: Several,
    /// Of the choice that is being read, all but its last part.
    before: Several,
    /// Its last part: what a repetition is of.
    last: Option<Part>,
}

impl Group {
    fn new(capture: bool) -> Self {
        Self {
            capture,
            choices: Several::new(Form::Choice),
            before: Several::new(Form::Sequence),
            last: None,
        }
    }

    fn push(&mut self, part: Part) {
        if let Some(last) = self.last.replace(part) {
            self.before.push(last);
        }
    }

    /// The choice that is being read has ended.
    fn choice(&mut self) {
        if let Some(last) = self.last.take() {
            self.before.push(last);
        }
        self.choices.push(self.before.whole());
        self.before = Several::new(Form::Sequence);
    }
}

struct Parser<'a> {
    pattern: &'a str,
    at: usize,
    open: Vec<Group>,
    /// Groups that are open and are captures.
    captures: u32,
    /// Whether there may be a `:]` in what has not been read: it is not looked for twice.
    named: bool,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.pattern[self.at..]
    }

    fn since(&self, start: usize) -> &'a str {
        &self.pattern[start..self.at]
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn push(&mut self, part: Part) -> Result<(), Broken<'a>> {
        let whole = self.pattern;
        if let Some(group) = self.open.last_mut() {
            group.push(part);
        }
        match part {
            _ if part.size > SIZE_MAX => Err((LARGE, whole)),
            _ if part.height > HEIGHT_MAX => Err((DEEP, whole)),
            _ => Ok(()),
        }
    }

    fn run(&mut self) -> Result<(), Broken<'a>> {
        // Where the repetition began that was just read.
        let mut repeated = None;
        while let Some(first) = self.rest().chars().next() {
            let start = self.at;
            let mut repetition = None;
            match first {
                '(' if self.rest().starts_with("(?") => self.extension()?,
                '(' => {
                    self.at += 1;
                    self.group(true)?;
                }
                '|' => {
                    self.at += 1;
                    if let Some(group) = self.open.last_mut() {
                        group.choice();
                    }
                }
                ')' => {
                    self.at += 1;
                    self.close()?;
                }
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    self.at += 1;
                    let size = if first == '*' { 2 } else { 1 };
                    self.repeat(start, repeated, |part| Part { size: part.size + size, ..part })?;
                    repetition = Some(start);
                }
                '{' => match self.counts() {
                    None => {
                        self.at += 1;
                        self.push(Part::LETTER)?;
                    }
                    Some((min, max)) => {
                        self.counted(start, repeated, min, max)?;
                        repetition = Some(start);
                    }
                },
                '^' | '$' | '.' => {
                    self.at += 1;
                    self.push(Part::ONE)?;
                }
                '\\' => self.backslash()?,
                _ => {
                    self.at += first.len_utf8();
                    self.push(Part::LETTER)?;
                }
            }
            repeated = repetition;
        }
        if self.open.len() > 1 {
            return Err((NO_PAREN, self.pattern));
        }
        let whole = self.open.pop().map(|mut group| {
            group.choice();
            group.choices.whole()
        });
        match whole {
            Some(part) if part.size > SIZE_MAX => Err((LARGE, self.pattern)),
            Some(part) if part.height > HEIGHT_MAX => Err((DEEP, self.pattern)),
            _ => Ok(()),
        }
    }

    fn group(&mut self, capture: bool) -> Result<(), Broken<'a>> {
        self.captures += u32::from(capture);
        if self.captures > HEIGHT_MAX || self.open.len() > OPEN_MAX {
            return Err((DEEP, self.pattern));
        }
        self.open.push(Group::new(capture));
        Ok(())
    }

    fn close(&mut self) -> Result<(), Broken<'a>> {
        if self.open.len() < 2 {
            return Err((PAREN, self.pattern));
        }
        let Some(mut group) = self.open.pop() else { return Ok(()) };
        group.choice();
        let mut part = group.choices.whole();
        if group.capture {
            self.captures -= 1;
            part = Part { form: Form::Other, size: part.size + 2, height: part.height + 1, ..part };
        }
        self.push(part)
    }

    /// The last part, repeated. The operator, of which the first has been read, is not itself repeated.
    fn repeat(
        &mut self,
        start: usize,
        repeated: Option<usize>,
        made: impl Fn(Part) -> Part,
    ) -> Result<Part, Broken<'a>> {
        if self.rest().starts_with('?') {
            self.at += 1;
        }
        if let Some(before) = repeated {
            return Err((NESTED_REPEAT, self.since(before)));
        }
        let operator = self.since(start);
        let last = self.open.last_mut().and_then(|group| group.last.as_mut());
        let last = last.ok_or((NO_ARGUMENT, operator))?;
        *last = Part { form: Form::Other, height: last.height + 1, ..made(*last) };
        match *last {
            part if part.size > SIZE_MAX => Err((LARGE, self.pattern)),
            part if part.height > HEIGHT_MAX => Err((DEEP, self.pattern)),
            part => Ok(part),
        }
    }

    fn counted(
        &mut self,
        start: usize,
        repeated: Option<usize>,
        min: u64,
        max: Option<u64>,
    ) -> Result<(), Broken<'a>> {
        let operator = self.since(start);
        if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || min > max) {
            return Err((REPEAT_SIZE, operator));
        }
        let part = self.repeat(start, repeated, |part| {
            let size = match max {
                None if min == 0 => part.size + 2,
                None => part.size * min + 1,
                Some(max) => (part.size * max + (max - min)).max(1),
            };
            let copies = match max {
                Some(0) => 0,
                Some(max) => part.copies.saturating_mul(max),
                None => part.copies.saturating_mul(min.max(1)),
            };
            Part { size, copies, ..part }
        })?;
        if (min >= 2 || max >= Some(2)) && part.copies > REPEAT_MAX {
            return Err((REPEAT_SIZE, self.since(start)));
        }
        Ok(())
    }

    /// `{2}`, `{2,}` or `{2,5}`, if it is one of these: otherwise the brace is a letter, and nothing has been read.
    fn counts(&mut self) -> Option<(u64, Option<u64>)> {
        let inner = self.rest().strip_prefix('{')?;
        let (min, inner) = number(inner)?;
        let (max, inner) = match inner.strip_prefix(',') {
            None => (Some(min), inner),
            Some(inner) if inner.starts_with('}') => (None, inner),
            Some(inner) => number(inner).map(|(max, inner)| (Some(max), inner))?,
        };
        let after = inner.strip_prefix('}')?;
        self.at = self.pattern.len() - after.len();
        Some((min, max))
    }

    /// `(?P<name>`, `(?<name>`, `(?flags)` or `(?flags:`.
    fn extension(&mut self) -> Result<(), Broken<'a>> {
        let (start, rest) = (self.at, self.rest());
        let named = match rest.as_bytes() {
            [_, _, b'P', b'<', _, ..] => Some(4),
            [_, _, b'<', _, ..] => Some(3),
            _ => None,
        };
        if let Some(name_at) = named {
            let end = rest.find('>').ok_or((CAPTURE, rest))?;
            self.at += end + 1;
            let name = rest.get(name_at..end).unwrap_or("");
            if name.is_empty() || !name.bytes().all(|c| c == b'_' || c.is_ascii_alphanumeric()) {
                return Err((CAPTURE, self.since(start)));
            }
            return self.group(true);
        }
        self.at += 2;
        let (mut negated, mut flagged) = (false, false);
        while let Some(next) = self.next() {
            match next {
                'i' | 'm' | 's' | 'U' => flagged = true,
                '-' if !negated => (negated, flagged) = (true, false),
                ':' | ')' if !negated || flagged => {
                    return if next == ':' { self.group(false) } else { Ok(()) };
                }
                _ => break,
            }
        }
        Err((PERL, self.since(start)))
    }

    fn backslash(&mut self) -> Result<(), Broken<'a>> {
        let rest = self.rest();
        match rest.as_bytes().get(1) {
            Some(b'A' | b'b' | b'B' | b'z') => {
                self.at += 2;
                self.push(Part::ONE)
            }
            Some(b'C') => Err((ESCAPE, &rest[..2])),
            Some(b'Q') => {
                let (quoted, after) = rest[2..].split_once("\\E").unwrap_or((&rest[2..], ""));
                self.at = self.pattern.len() - after.len();
                quoted.chars().try_for_each(|_| self.push(Part::LETTER))
            }
            _ if self.shorthand()? => self.push(Part::ONE),
            _ => {
                self.escape()?;
                self.push(Part::LETTER)
            }
        }
    }

    /// `\d` and its like, or `\p{Greek}`, if it is one of these.
    fn shorthand(&mut self) -> Result<bool, Broken<'a>> {
        let (start, rest) = (self.at, self.rest());
        match rest.as_bytes() {
            [b'\\', b'd' | b'D' | b's' | b'S' | b'w' | b'W', ..] => {
                self.at += 2;
                return Ok(true);
            }
            [b'\\', b'p' | b'P', ..] => {}
            _ => return Ok(false),
        }
        self.at += 2;
        let name = match self.next() {
            Some('{') => {
                let end = rest.find('}').ok_or((RANGE, rest))?;
                self.at = start + end + 1;
                &rest[3..end]
            }
            _ => self.since(start + 2),
        };
        // Which names there are depends on Go's version: all that could be one are taken.
        let name = name.strip_prefix('^').unwrap_or(name);
        let known = name.bytes().any(|c| c.is_ascii_alphabetic())
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b' '));
        if known { Ok(true) } else { Err((RANGE, self.since(start))) }
    }

    /// An escape that is one letter, as a number.
    fn escape(&mut self) -> Result<u32, Broken<'a>> {
        let start = self.at;
        self.at += 1;
        let letter = self.next().ok_or((BACKSLASH, ""))?;
        let octal = |next: Option<u8>| next.is_some_and(|c| (b'0'..=b'7').contains(&c));
        let code = match letter {
            'a' => Some(7),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(0x09),
            'v' => Some(0x0b),
            'x' => self.hexadecimal(),
            // A digit alone would be a reference back, which there is not.
            '1'..='7' if !octal(self.rest().bytes().next()) => None,
            '0'..='7' => {
                let mut code = letter.to_digit(8).unwrap_or(0);
                for _ in 1..3 {
                    if octal(self.rest().bytes().next()) {
                        code = code * 8 + self.next().and_then(|c| c.to_digit(8)).unwrap_or(0);
                    }
                }
                Some(code)
            }
            _ if letter.is_ascii() && !letter.is_ascii_alphanumeric() => Some(u32::from(letter)),
            _ => None,
        };
        code.ok_or((ESCAPE, self.since(start)))
    }

    /// What is behind `\x`: two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.next()?;
        if first != '{' {
            let second = self.next()?.to_digit(16);
            return Some(first.to_digit(16)? * 16 + second?);
        }
        let mut code = None;
        loop {
            match self.next()? {
                '}' => return code,
                digit => code = Some(code.unwrap_or(0) * 16 + digit.to_digit(16)?),
            }
            if code > Some(u32::from(char::MAX)) {
                return None;
            }
        }
    }

    /// `[a-z]`.
    fn class(&mut self) -> Result<(), Broken<'a>> {
        let whole = self.rest();
        self.at += 1;
        if self.rest().starts_with('^') {
            self.at += 1;
        }
        let mut first = true;
        while first || !self.rest().starts_with(']') {
            first = false;
            if self.rest().starts_with("[:") && self.named()? {
                continue;
            }
            if self.shorthand()? {
                continue;
            }
            let start = self.at;
            let low = self.letter(whole)?;
            let mut after = self.rest().chars();
            if after.next() == Some('-') && after.next().is_some_and(|next| next != ']') {
                self.at += 1;
                if self.letter(whole)? < low {
                    return Err((RANGE, self.since(start)));
                }
            }
        }
        self.at += 1;
        self.push(Part::ONE)
    }

    /// `[:alnum:]` within a class, if it is one.
    fn named(&mut self) -> Result<bool, Broken<'a>> {
        const NAMES: &[&str] = &[
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        let start = self.at;
        let end = if self.named { self.rest()[2..].find(":]") } else { None };
        self.named = end.is_some();
        let Some(end) = end else { return Ok(false) };
        let name = &self.rest()[2..2 + end];
        self.at += end + 4;
        if NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            Ok(true)
        } else {
            Err((RANGE, self.since(start)))
        }
    }

    /// A letter of a class, as a number: half a surrogate pair is one for Go.
    fn letter(&mut self, class: &'a str) -> Result<u32, Broken<'a>> {
        if self.rest().starts_with('\\') {
            return self.escape();
        }
        self.next().map(u32::from).ok_or((NO_BRACKET, class))
    }
}

/// A number without zeroes before it, and what is behind it.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || digits > 1 && text.starts_with('0') {
        return None;
    }
    let (digits, rest) = text.split_at(digits);
    Some((digits.parse().map_or(NUMBER_MAX, |number: u64| number.min(NUMBER_MAX)), rest))
}
