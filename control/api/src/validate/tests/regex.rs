//! Regular expressions as Go reads them.

use super::super::regex::check;

#[test]
fn what_go_takes() {
    for right in [
        "",
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "a|b|",
        "(|a)*",
        "()",
        "^*",
        "a{,5}",
        "a{x}",
        "{",
        "}",
        "]",
        "a{1",
        "x{0}",
        "x{1000}",
        "x{2,}",
        "(x{10}){100}",
        "((x{1000}){0}){1000}",
        "[[a]",
        "[]a]",
        "[^]a]",
        "[a-]",
        "[-a]",
        "[a-b-c]",
        "[&&]",
        "[a&&b]",
        "[~~]",
        "[[:alpha:][:^digit:]_]",
        "[[:alpha]",
        r"[\d\s\w\D\S\W\pL]",
        r"\d\D\s\S\w\W\b\B\A\z",
        r"\pN\PN\p{Greek}\p{^Lu}\P{^Han}[\p{L}]",
        r"\Qa.(b\E+",
        r"\Q(",
        r"\Q\E",
        r"(?P<n>a)(?<m_1>b)",
        "(?s).",
        "(?i)a(?-i:b)(?mU-s:c)",
        "(?i)",
        "a(?i)*",
        r"\x41\x{10FFFF}\x{D800}\07\012\101",
        r"[\x{D800}-\x{E000}]",
        r"\a\f\n\r\t\v\_\-\/\.",
        r"^(\d{1,3}\.){3}\d{1,3}$",
        r"^\${[A-Z]+}$",
        "é+",
        "a*?b+?c??d{2}?",
        r"^(([^:/?#]+):)?(//([^/?#]*))?",
        "(?:a|b)*",
        "a||b",
    ] {
        assert_eq!(check(right), Ok(()), "{right}");
    }
}

#[test]
fn what_go_refuses() {
    for (pattern, told) in [
        ("(", "missing closing ): `(`"),
        ("(a|b", "missing closing ): `(a|b`"),
        (")", "unexpected ): `)`"),
        ("a)", "unexpected ): `a)`"),
        ("[a-z", "missing closing ]: `[a-z`"),
        ("x[]", "missing closing ]: `[]`"),
        ("[[:alpha:]", "missing closing ]: `[[:alpha:]`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[a--b]", "invalid character class range: `a--`"),
        ("[[:word2:]]", "invalid character class range: `[:word2:]`"),
        (r"\p{}", r"invalid character class range: `\p{}`"),
        (r"\p{L", r"invalid character class range: `\p{L`"),
        (r"\p", r"invalid character class range: `\p`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("(+?)", "missing argument to repetition operator: `+?`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        (r"\Q\E*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*+", "invalid nested repetition operator: `*+`"),
        ("a+{2}", "invalid nested repetition operator: `+{2}`"),
        ("a???", "invalid nested repetition operator: `???`"),
        ("x{1001}", "invalid repeat count: `{1001}`"),
        ("x{2,1}", "invalid repeat count: `{2,1}`"),
        ("x{1,99999999999999999999}", "invalid repeat count: `{1,99999999999999999999}`"),
        ("(x{100}){11}", "invalid repeat count: `{11}`"),
        ("((x{2}y{30})+){34}", "invalid repeat count: `{34}`"),
        (r"\", "trailing backslash at end of expression: ``"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\xg0", r"invalid escape sequence: `\xg0`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"\x{}", r"invalid escape sequence: `\x{}`"),
        (r"\é", r"invalid escape sequence: `\é`"),
        (r"[\b]", r"invalid escape sequence: `\b`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?>a)", "invalid or unsupported Perl syntax: `(?>`"),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?", "invalid or unsupported Perl syntax: `(?`"),
        ("(?P=n)", "invalid or unsupported Perl syntax: `(?P`"),
        ("(?<=a)b", "invalid named capture: `(?<=a)b`"),
        ("(?P<a-b>c)", "invalid named capture: `(?P<a-b>`"),
        ("(?P<>c)", "invalid named capture: `(?P<>`"),
    ] {
        assert_eq!(check(pattern), Err(format!("error parsing regexp: {told}")), "{pattern}");
    }
}

#[test]
fn hostile_patterns_end() {
    const COUNT: usize = 1 << 20;
    for (pattern, code) in [
        ("(".repeat(COUNT), "expression nests too deeply"),
        ("(?:".repeat(COUNT), "expression nests too deeply"),
        ("(a".repeat(1_001) + &")".repeat(1_001), "expression nests too deeply"),
        ("(".repeat(900) + &")".repeat(900), ""),
        ("a*".repeat(COUNT), ""),
        ("a|".repeat(COUNT), ""),
        ("[[:".repeat(COUNT), "missing closing ]"),
        ("[a]".repeat(COUNT), ""),
        ("{1".repeat(COUNT), ""),
        ("{".to_owned() + &"1".repeat(COUNT), ""),
        (r"\Qa\E".repeat(COUNT), ""),
        ("(?i)".repeat(COUNT), ""),
        ("(a{30}){30}".repeat(10_000), "expression too large"),
        ("a".repeat(3 << 20), ""),
        ("((a{10}){10}){10}".repeat(2_000), ""),
    ] {
        let start = pattern[..12.min(pattern.len())].to_owned();
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        let told = thread.spawn(move || check(&pattern)).unwrap().join().expect("no overflow");
        match told {
            Ok(()) => assert_eq!(code, "", "{start}"),
            Err(why) => {
                let expected = format!("error parsing regexp: {code}: `");
                assert!(!code.is_empty() && why.starts_with(&expected), "{start}: {why:.100}");
            }
        }
    }
}
