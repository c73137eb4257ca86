//! The tokens of CEL, as cel-go's grammar (`CEL.g4`) has them.

use super::Trouble;

/// What a token is. Its text is a part of the expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    End,
    /// A name, also one that is reserved.
    Name,
    /// A name between backticks.
    Quoted,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    True,
    False,
    Null,
    In,
    /// A sign of one letter or two.
    Sign,
}

/// A token: what, and from where to where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) at: usize,
    pub(super) text: &'a str,
}

/// Signs, the longer ones first.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%",
];

pub(super) struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, at: 0 }
    }

    /// The next token; at the end, that, again and again.
    pub(super) fn next(&mut self) -> Result<Token<'a>, Trouble> {
        self.skip();
        let (at, rest) = (self.at, &self.source[self.at..]);
        let (kind, bytes) = match rest.as_bytes() {
            [] => (Kind::End, 0),
            [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => number(rest),
            [b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'"' | b'\'', ..] => match quote(rest) {
                Some((bytes, start)) => (
                    if bytes { Kind::Bytes } else { Kind::Text },
                    text(rest, start).map_err(|end| unknown(at, rest, end))?,
                ),
                None => name(rest),
            },
            [b'`', ..] => {
                let inner = rest[1..].bytes().take_while(|c| {
                    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-' | b'/' | b' ')
                });
                let end = 1 + inner.count();
                if end == 1 || !rest[end..].starts_with('`') {
                    return Err(unknown(at, rest, end));
                }
                (Kind::Quoted, end + 1)
            }
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Kind::Sign, sign.len()),
                None => {
                    // These begin a sign of two letters, which the letter behind them does not end.
                    return Err(unknown(at, rest, usize::from(rest.starts_with(['&', '|', '=']))));
                }
            },
        };
        self.at += bytes;
        Ok(Token { kind, at, text: &rest[..bytes] })
    }

    /// White space and comments.
    fn skip(&mut self) {
        let mut rest = &self.source[self.at..];
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\r', '\n', '\x0c']);
            if !rest.starts_with("//") {
                break;
            }
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        }
        self.at = self.source.len() - rest.len();
    }
}

/// What is no token, up to the letter at `end` of `rest` that none goes on with.
fn unknown(at: usize, rest: &str, end: usize) -> Trouble {
    const TOLD_MAX: usize = 64;
    let end = end + rest[end..].chars().next().map_or(0, char::len_utf8);
    let told = &rest[..rest.floor_char_boundary(end.min(TOLD_MAX))];
    Trouble::at(at, format!("Syntax error: token recognition error at: '{told}'"))
}

fn name(rest: &str) -> (Kind, usize) {
    let bytes = rest.bytes().take_while(|c| *c == b'_' || c.is_ascii_alphanumeric()).count();
    let kind = match &rest[..bytes] {
        "true" => Kind::True,
        "false" => Kind::False,
        "null" => Kind::Null,
        "in" => Kind::In,
        _ => Kind::Name,
    };
    (kind, bytes)
}

fn number(rest: &str) -> (Kind, usize) {
    let bytes = rest.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|c| c.is_ascii_digit()).count();
    let unsigned = |kind: Kind, end: usize| match bytes.get(end) {
        Some(b'u' | b'U') => (Kind::Uint, end + 1),
        _ => (kind, end),
    };
    if rest.starts_with("0x") {
        let hexadecimal = bytes[2..].iter().take_while(|c| c.is_ascii_hexdigit()).count();
        if hexadecimal > 0 {
            return unsigned(Kind::Int, 2 + hexadecimal);
        }
    }
    let (mut end, mut kind) = (digits(0), Kind::Int);
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        (end, kind) = (end + 1 + digits(end + 1), Kind::Double);
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if digits((end + 1 + sign).min(bytes.len())) > 0 {
            return (Kind::Double, end + 1 + sign + digits(end + 1 + sign));
        }
    }
    if kind == Kind::Int { unsigned(kind, end) } else { (kind, end) }
}

/// Whether a text begins here: whether of bytes, and where its quotes are.
fn quote(rest: &str) -> Option<(bool, usize)> {
    let bytes = rest.as_bytes();
    let of_bytes = usize::from(matches!(bytes.first(), Some(b'b' | b'B')));
    let raw = usize::from(matches!(bytes.get(of_bytes), Some(b'r' | b'R')));
    let start = of_bytes + raw;
    matches!(bytes.get(start), Some(b'"' | b'\'')).then_some((of_bytes == 1, start))
}

/// Where the text ends whose quotes are at `start`.
///
/// # Errors
/// Where it breaks off.
fn text(rest: &str, start: usize) -> Result<usize, usize> {
    let bytes = rest.as_bytes();
    let raw = start > 0 && matches!(bytes[start - 1], b'r' | b'R');
    let quote = bytes[start];
    let long = bytes[start..].starts_with(&[quote; 3]);
    let mut at = start + if long { 3 } else { 1 };
    while let Some(byte) = bytes.get(at) {
        match byte {
            _ if *byte == quote && !long => return Ok(at + 1),
            _ if *byte == quote && bytes[at..].starts_with(&[quote; 3]) => return Ok(at + 3),
            b'\n' | b'\r' if !long => return Err(at),
            b'\\' if !raw => at = escape(bytes, at)?,
            _ => at += 1,
        }
    }
    // An empty text is no beginning of a long one that does not end: nothing can follow it so closely.
    Err(rest.len())
}

/// Where the escape ends that begins at `at`.
fn escape(bytes: &[u8], at: usize) -> Result<usize, usize> {
    let digits = |count: usize, right: fn(&u8) -> bool| {
        let found = bytes[at + 2..].iter().take(count).take_while(|byte| right(byte)).count();
        if found == count { Ok(at + 2 + count) } else { Err(at + 2 + found) }
    };
    match bytes.get(at + 1) {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => {
            Ok(at + 2)
        }
        Some(b'0'..=b'3') => digits(2, |byte| (b'0'..=b'7').contains(byte)),
        Some(b'x' | b'X') => digits(2, u8::is_ascii_hexdigit),
        Some(b'u') => digits(4, u8::is_ascii_hexdigit),
        Some(b'U') => digits(8, u8::is_ascii_hexdigit),
        _ => Err(at + 1),
    }
}

/// What a text means whose token this is.
///
/// # Errors
/// In cel-go's words, if an escape is of no character.
pub(super) fn meaning(token: &str, of_bytes: bool) -> Result<String, &'static str> {
    let start = token.find(['"', '\'']).unwrap_or(0);
    let (raw, quoted) = (token[..start].ends_with(['r', 'R']), &token[start..]);
    let long = quoted.len() >= 6 && (quoted.starts_with("\"\"\"") || quoted.starts_with("'''"));
    let edge = if long { 3 } else { 1 };
    let mut rest = quoted.get(edge..quoted.len() - edge).unwrap_or("");
    let mut meant = String::with_capacity(rest.len());
    if raw {
        return Ok(rest.to_owned());
    }
    while let Some(escape) = rest.find('\\') {
        meant.push_str(&rest[..escape]);
        let letter = rest.as_bytes().get(escape + 1).copied().unwrap_or(b'\\');
        let (digits, radix) = match letter {
            b'x' | b'X' => (escape + 2..escape + 4, 16),
            b'u' | b'U' if of_bytes => return Err("unable to unescape string"),
            b'u' => (escape + 2..escape + 6, 16),
            b'U' => (escape + 2..escape + 10, 16),
            b'0'..=b'3' => (escape + 1..escape + 4, 8),
            _ => {
                meant.push(match letter {
                    b'a' => '\x07',
                    b'b' => '\x08',
                    b'f' => '\x0c',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    b'v' => '\x0b',
                    other => char::from(other),
                });
                rest = &rest[escape + 2..];
                continue;
            }
        };
        let code = rest.get(digits.clone()).and_then(|digits| u32::from_str_radix(digits, radix).ok());
        meant.push(code.and_then(char::from_u32).ok_or("invalid unicode code point")?);
        rest = &rest[digits.end..];
    }
    meant.push_str(rest);
    Ok(meant)
}
