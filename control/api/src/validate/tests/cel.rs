//! Expressions in CEL: what is taken for one, what is refused and in which words, and that no hostile one is worse than an error.

use std::collections::HashSet;

use super::super::cel::{Broken, Compiled, Scope, Type, compile};

const ALL: Scope<'_> = Scope {
    variables: &[
        "self",
        "oldSelf",
        "object",
        "oldObject",
        "request",
        "params",
        "namespaceObject",
        "authorizer",
    ],
    composed: None,
    patches: true,
};

/// All of them, and a policy's own.
fn read<'a>(expression: &'a str, wanted: &[Type<'_>]) -> Result<Compiled<'a>, Broken> {
    let own = HashSet::from(["limit", "names"]);
    compile(expression, &Scope { composed: Some(&own), ..ALL }, wanted)
}

/// What is wrong with an expression, in cel-go's words.
fn wrong(expression: &str) -> String {
    match read(expression, &[]) {
        Ok(_) => String::new(),
        Err(Broken::Compilation(why) | Broken::Program(why) | Broken::Result(why)) => why,
    }
}

#[test]
fn what_definitions_and_policies_say() {
    for right in [
        // Of the kind that Gateway API, cert-manager and Kubernetes' own pages have.
        "self.minReplicas <= self.replicas && self.replicas <= self.maxReplicas",
        "self == oldSelf",
        "!has(oldSelf.value) || has(self.value)",
        "has(self.issuer) != has(self.selfSigned)",
        "self.type == 'ExternalName' ? has(self.host) : !has(self.host)",
        "(self.kind == 'Service' && self.group == '') ? has(self.port) : true",
        "self.listeners.all(l, l.protocol in ['HTTP', 'HTTPS', 'TLS'] ? !has(l.extra) : true)",
        "self.listeners.all(a, self.listeners.exists_one(b, a.name == b.name))",
        "self.all(a, self.exists_one(b, a.port == b.port && (has(a.host) ? a.host == b.host : !has(b.host))))",
        "self.filters.filter(f, f.type == 'RequestRedirect').size() <= 1",
        "size(self.routes.map(r, r.weight).filter(w, w > 0)) > 0",
        "self.names.map(n, n.startsWith('x-'), n.substring(2)) == ['a', 'b']",
        "self.paths.all(p, p.matches('^/[a-z0-9/]*$') && !p.contains('//') && !p.endsWith('/..'))",
        "self.metadata.name.size() < 64 && self.metadata.name == self.metadata.name.lowerAscii()",
        "self.set1.all(e, !(e in self.set2))",
        "'available' in self.stateCounts && self.stateCounts['available'] >= 1",
        "self.widgets.exists(w, w.key == 'x' && w.foo < 10)",
        "self.details.keys.all(k, !k.matches('^[a-zA-Z]*$'))",
        "type(self) == string ? self == '99%' : self == 42",
        "duration(self.expiry) > duration('24h') && timestamp(self.at) < timestamp('2030-01-01T00:00:00Z')",
        "self.created + self.ttl < self.expired",
        "self.created.getFullYear() > 2020 && self.at.getHours('Europe/Berlin') < 12",
        "quantity(self.memory).isLessThan(quantity('4Gi')) && isQuantity(self.cpu)",
        "quantity('1Gi').add(quantity('1Mi')).compareTo(quantity(self.memory)) <= 0",
        "isIP(self.address) && ip(self.address).family() == 4 && !ip(self.address).isLoopback()",
        "ip.isCanonical(self.address) && self.addresses.all(ip, ip.isCanonical(ip))",
        "cidr(self.range).containsIP('10.0.0.1') && cidr(self.range).prefixLength() == 24 && isCIDR(self.range)",
        "isURL(self.url) && url(self.url).getScheme() == 'https' && url(self.url).getQuery().size() == 0",
        "semver(self.version).isGreaterThan(semver('1.2.3')) && isSemver(self.version, true)",
        "!format.dns1123Label().validate(self.name).hasValue()",
        "format.named(self.format).value().validate(self.text) == optional.none()",
        "self.list.isSorted() && self.list.sum() < 10 && self.list.indexOf(1) != self.list.lastIndexOf(1)",
        "self.list.sort() == self.list.distinct().slice(0, 2) && lists.range(3).reverse().includes(2)",
        "self.items.sortBy(i, i.weight).map(i, i.name).join(',') == ''",
        "sets.contains(self.a, [1, 2]) && sets.intersects(self.a, self.b) || sets.equivalent(self.a, self.b)",
        "self.text.find('[0-9]+') == '123' && self.text.findAll('[a-z]', 2).size() == 2",
        "'%s has %d'.format([self.name, self.items.size()]) + strings.quote(self.name)",
        "self.?spec.?template[?0].orValue(1) == 1 && self.labels[?'a'].hasValue()",
        "[?self.?a, 1] == [] && {?'a': self.?b, 'c': 2} == {}",
        "oldSelf.orValue('') == '' || optional.of(self) == optional.ofNonZeroValue(1)",
        "self.?a.optMap(a, a + 1).or(optional.of(1)).value() == 2 && self.?b.optFlatMap(b, b.?c).hasValue()",
        "self.labels.all(k, v, k.size() < 63 && v != '') && self.list.exists(i, v, i == v)",
        "self.list.existsOne(i, v, i > v) && self.labels.exists_one(k, k == 'a')",
        "self.labels.transformList(k, v, v != '', k + v).size() == self.labels.transformMap(k, v, v + '!').size()",
        "self.list.transformMapEntry(i, v, {v: i}) == {}",
        "cel.bind(name, self.metadata.name, name.size() > 3 && name != self.other)",
        "self.__namespace__ == 'a' && self.x__dash__y == 1 && self.namespace == self.if",
        "self.`x-y/z.w` == 1",
        r#"r"\d+\s" == r'\d' && self == R"""a"b""" "#,
        r#"b"\x41\101" == B'A' && br'\x' == bR"""x""" "#,
        "\"\"\"two\nlines \"quoted\" \"\"\" != '''it's''' && '' == \"\"",
        r#""\a\b\f\n\r\t\v\"\'\\\?\`\x7f\u00e9\U0001F600\012" != ''"#,
        "1 + 2 * 3 % 4 - -5 == 0x1F && 1u < 0xFFu && 1.5e-3 < .5 && 1e9 > 2.0",
        "-9223372036854775808 < 9223372036854775807 && !!true && --1 == 1 && !(-1 > 0)",
        "1 == 1 == true && [1, 2,].size() == 2 && {'a': 1,} != {} && [,] == []",
        "self.a // why\n  && self.b // last",
        "\tself.a\r\n&& self.b\x0c",
        ".self.a == 1 && dyn(self.b) == null && self.c == [null]",
        // Policies.
        "object.spec.replicas <= int(params.maxReplicas)",
        "object.spec.template.spec.containers.all(c, has(c.resources) && has(c.resources.limits))",
        "!(request.userInfo.username in ['system:admin']) && request.operation == 'CREATE'",
        "namespaceObject.metadata.labels['env'] != 'test' || oldObject == null",
        "authorizer.group('apps').resource('deployments').subresource('scale').namespace('n').name('a').check('get').allowed()",
        "authorizer.requestResource.check('custom').allowed() || authorizer.path('/healthz').check('get').reason() == ''",
        "authorizer.serviceAccount('n', 's').group('').resource('pods').fieldSelector('a=b').labelSelector('c').check('list').errored()",
        "variables.names.all(n, n.size() < variables.limit)",
        "Object{spec: Object.spec{replicas: 1, template: Object.spec.template{metadata: Object.spec.template.metadata{labels: {'a': 'b'}}}}}",
        "Object{metadata: Object.metadata{namespace: 'a', `b-c`: 1, ?name: optional.of('x'),},}",
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 1}] + (has(object.x) ? [JSONPatch{op: 'remove', path: '/x'}] : [])",
        "google.protobuf.Duration{seconds: 1} != duration('2s') && type(self) == google.protobuf.Timestamp",
    ] {
        assert_eq!(wrong(right), "", "{right}");
    }
}

#[test]
fn what_is_no_expression() {
    for (expression, told) in [
        ("self.a ==", "1:10: Syntax error: mismatched input '<EOF>' expecting {'[', "),
        ("self.a = 1", "1:8: Syntax error: token recognition error at: '= '"),
        ("self.a & self.b", "1:8: Syntax error: token recognition error at: '& '"),
        ("self.a == 1)", "1:12: Syntax error: mismatched input ')' expecting <EOF>"),
        ("(self.a == 1", "1:13: Syntax error: mismatched input '<EOF>' expecting ')'"),
        ("self.a[1", "1:9: Syntax error: mismatched input '<EOF>' expecting ']'"),
        ("self.a in [1, 2", "1:16: Syntax error: mismatched input '<EOF>' expecting ']'"),
        ("self.a in [1,, 2]", "1:14: Syntax error: mismatched input ','"),
        ("{'a': 1, 'b'}", "1:13: Syntax error: mismatched input '}' expecting ':'"),
        ("self a", "1:6: Syntax error: mismatched input 'a' expecting <EOF>"),
        ("self.", "1:6: Syntax error: no viable alternative at input '.'"),
        ("self.1", "1:5: Syntax error: mismatched input '.1' expecting <EOF>"),
        ("self.in", "1:6: Syntax error: no viable alternative at input '.in'"),
        ("self.true", "1:6: Syntax error: mismatched input 'true' expecting IDENTIFIER"),
        ("self.?f(1)", "1:8: Syntax error: mismatched input '(' expecting <EOF>"),
        ("`self`.a", "1:1: Syntax error: mismatched input '`self`'"),
        ("size(self,)", "1:11: Syntax error: mismatched input ')'"),
        ("a ? b", "1:6: Syntax error: mismatched input '<EOF>' expecting ':'"),
        ("self.a ? self.b ? 1 : 2 : 3", "1:17: Syntax error: mismatched input '?' expecting ':'"),
        ("!-self", "1:3: Syntax error: mismatched input 'self'"),
        ("-!self", "1:2: Syntax error: mismatched input '!'"),
        ("self and self", "1:6: Syntax error: mismatched input 'and'"),
        ("not self.a", "1:5: Syntax error: mismatched input 'self'"),
        ("self.a === 1", "1:10: Syntax error: token recognition error at: '= '"),
        ("self.a <> 1", "1:9: Syntax error: mismatched input '>'"),
        ("'abc", "1:1: Syntax error: token recognition error at: ''abc'"),
        ("'a\nb'", "1:1: Syntax error: token recognition error at: ''a\n'"),
        (r"'\d+'", r"1:1: Syntax error: token recognition error at: ''\d'"),
        (r"'\x4'", r"1:1: Syntax error: token recognition error at: ''\x4''"),
        ("\"\"\"open\"\"", "1:1: Syntax error: token recognition error at: '\"\"\"open\"\"'"),
        (r"'\ud800'", "1:1: invalid unicode code point"),
        (r"b'\u0041'", "1:1: unable to unescape string"),
        ("9223372036854775808", "1:1: invalid int literal"),
        ("0x1FFFFFFFFFFFFFFFF == 1", "1:1: invalid int literal"),
        ("18446744073709551616u", "1:1: invalid uint literal"),
        ("1e999", "1:1: invalid double literal"),
        ("0x", "1:2: Syntax error: mismatched input 'x' expecting <EOF>"),
        ("namespace == 'a'", "1:1: reserved identifier: namespace"),
        ("self.all(if, true)", "1:10: reserved identifier: if"),
        ("has(self)", "1:5: invalid argument to has() macro"),
        ("has(self['a'])", "1:9: invalid argument to has() macro"),
        ("self.all(a.b, true)", "1:11: argument must be a simple name"),
        ("self.all(a, a, true)", "1:13: duplicate variable name: a"),
        ("self.all(__result__, true)", "1:10: iteration variable overwrites accumulator variable"),
        ("", "1:1: Syntax error: mismatched input '<EOF>'"),
        ("@", "1:1: Syntax error: token recognition error at: '@'"),
        ("self\n  .a ==\n  ä", "3:3: Syntax error: token recognition error at: 'ä'"),
    ] {
        let why = wrong(expression);
        assert!(why.starts_with(&format!("ERROR: <input>:{told}")), "{expression}: {why}");
    }
}

#[test]
fn what_has_no_meaning() {
    for (expression, told) in [
        ("selfie.a", "1:1: undeclared reference to 'selfie' (in container '')"),
        ("self.a && foo(self)", "1:14: undeclared reference to 'foo' (in container '')"),
        ("self.a.foo()", "1:11: undeclared reference to 'foo' (in container '')"),
        ("self.all(x)", "1:9: undeclared reference to 'all' (in container '')"),
        ("has(self.a, self.b)", "1:4: undeclared reference to 'has' (in container '')"),
        ("math.greatest(1, 2) == 2", "1:1: undeclared reference to 'math' (in container '')"),
        ("optional.some(1) == 1", "1:1: undeclared reference to 'optional' (in container '')"),
        ("self.l.all(x, x > 0) && x", "1:25: undeclared reference to 'x' (in container '')"),
        ("x.all(x, x > 0)", "1:1: undeclared reference to 'x' (in container '')"),
        ("cel.bind(y, y, y)", "1:13: undeclared reference to 'y' (in container '')"),
        (
            "self.l.all(x, self.m.exists(y, y == x)) && y",
            "1:44: undeclared reference to 'y' (in container '')",
        ),
        ("Foo{a: 1} == self", "1:4: undeclared reference to 'Foo' (in container '')"),
        ("variables.other > 1", "1:10: undefined field 'other'"),
        ("1 && true", "1:3: found no matching overload for '_&&_' applied to '(int, bool)'"),
        ("!'a'", "1:1: found no matching overload for '!_' applied to '(string)'"),
        ("'a' ? 1 : 2", "1:5: found no matching overload for '_?_:_' applied to '(string, int, int)'"),
        ("!-1 == !self", "1:1: found no matching overload for '!_' applied to '(int)'"),
        ("'a'.b", "1:4: type 'string' does not support field selection"),
        ("self.all(x, 1)", "1:13: expected type 'bool' but found 'int'"),
        ("self.a.matches('(')", "1:16: invalid matches argument"),
    ] {
        let why = wrong(expression);
        assert!(why.starts_with(&format!("ERROR: <input>:{told}\n")), "{expression}: {why}");
    }
    assert_eq!(
        wrong("foo\n  || self.ä"),
        "ERROR: <input>:2:11: Syntax error: token recognition error at: 'ä'\n |   || self.ä\n | ..........＾"
    );
    assert_eq!(
        wrong("foo ||\tbar(1)"),
        "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo || bar(1)\n | ^\n\
         ERROR: <input>:1:11: undeclared reference to 'bar' (in container '')\n | foo || bar(1)\n | ..........^"
    );
    assert_eq!(
        read("self.a.find(')') == ''", &[]).unwrap_err(),
        Broken::Program("error parsing regexp: unexpected ): `)`".to_owned())
    );
    for (expression, wanted, found) in [
        ("'a' + 'b'", Type::Bool, "string"),
        ("self.a == 1", Type::Text, "bool"),
        ("self.all(x, true)", Type::Text, "bool"),
        ("[self]", Type::Bool, "list"),
        ("self.a ? 1 : 2", Type::Bool, "int"),
        ("Object.spec{}", Type::Message("Object"), "Object.spec"),
        ("size(self)", Type::Bool, "int"),
    ] {
        let broken = read(expression, &[wanted]).unwrap_err();
        assert_eq!(broken, Broken::Result(found.to_owned()), "{expression}");
    }
    for (expression, wanted) in [("self.a", Type::Bool), ("self.a ? 'a' : self.b", Type::Text)] {
        assert!(read(expression, &[wanted]).is_ok(), "{expression}");
    }
}

#[test]
fn names_are_found_wherever_they_stand() {
    // Behind however many right ones.
    let expression = format!("{}variables.nope", "variables.limit && ".repeat(8));
    assert!(wrong(&expression).contains("undefined field 'nope'"), "{}", wrong(&expression));
    for message in [".Object{}", "Object // it\n{}", "Object{spec: Object . spec{}}"] {
        assert!(read(message, &[Type::Message("Object")]).is_ok(), "{message}");
    }
    assert_eq!(wrong(".size(self) == 1"), "");
    assert!(wrong(".nonsense(self)").contains("undeclared reference to 'nonsense'"));
    assert_eq!(wrong(&format!("size(self{})", ".a".repeat(250))), "", "a call on nothing is no step deeper");
}

#[test]
fn hostile_expressions_end_with_an_error() {
    let many = 10_000;
    let around = |open: &str, inner: &str, close: &str, count: usize| {
        open.repeat(count) + inner + &close.repeat(count)
    };
    let deep = "ERROR: <input>:-1:0: expression recursion limit exceeded: 250";
    let long = "ERROR: <input>:-1:0: max recursion depth exceeded";
    let too_long =
        "ERROR: <input>:-1:0: expression code point size exceeds limit: size: 100001, limit 100000";
    for (expression, told) in [
        (around("(", "true", ")", many), deep),
        (around("[", "", "]", many), deep),
        (around("{1:", "1", "}", many), deep),
        (around("self[", "1", "]", many), deep),
        (around("size(", "self", ")", many), deep),
        (around("self.all(x,", "true", ")", 8_000), deep),
        ("true ? 1 : ".repeat(9_000) + "2", deep),
        (around("Object{a:", "1", "}", 9_000), deep),
        ("self".to_owned() + &".a".repeat(many), long),
        ("self".to_owned() + &"[0]".repeat(many), long),
        ("self".to_owned() + &".trim()".repeat(many), long),
        ("1".to_owned() + &"+1".repeat(many), long),
        ("1".to_owned() + &"==1".repeat(many), long),
        ("(".repeat(many), deep),
        ("a".repeat(100_001), too_long),
        ("ä".repeat(100_001), too_long),
        // cel-go takes these, whatever their number.
        ("!".repeat(many) + "true", ""),
        ("-".repeat(many) + "1", ""),
        ("true && ".repeat(many) + "true", ""),
        ("self.a || ".repeat(9_999) + "true", ""),
        (format!("self in [{}]", vec!["1"; 40_000].join(",")), ""),
        (around("(", "true", ")", 249), ""),
        ("self".to_owned() + &".a".repeat(250), ""),
        ("'".to_owned() + &"ä".repeat(99_990) + "'", ""),
        (around("self.all(x, x in [x, y, ", "1", "])", 120), "ERROR: <input>:1:"),
        (vec!["foo"; 20_000].join("||"), "ERROR: <input>:1:1: undeclared reference to 'foo'"),
        ((0..12_000).map(|n| format!("a{n}||")).collect::<String>() + "b", "ERROR: <input>:1:1: undeclared"),
    ] {
        // A small part of what the server's threads have, on which other things are already.
        let start: String = expression.chars().take(40).collect();
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        let why = thread.spawn(move || wrong(&expression)).unwrap().join().expect("no overflow");
        assert!(why.starts_with(told) && why.is_empty() == told.is_empty(), "{start}: {why:.200}");
        assert!(why.len() < 8_192, "{start}: {} bytes", why.len());
    }
}
