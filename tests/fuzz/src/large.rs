//! Inputs as long as they may be, of all that is there many times: what a function does with them shows how its time grows.

use std::fmt::Write as _;

use serde_json::json;
use weft_api::kind::{self, KINDS, Kind};
use weft_api::{proto, schema};
use weft_spdy::{Connection, Headers, ResetStatus, Role};

use crate::spdy;

/// The large inputs of a target, each by a name, about so long.
pub fn inputs(target: &str, bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    match target {
        "json" => objects(bytes_max),
        "protobuf" => messages(bytes_max),
        "patch" => patches(bytes_max),
        "apply" => configurations(bytes_max),
        "selector" => selectors(bytes_max),
        "expressions" => expressions(bytes_max),
        "spdy" => streams(bytes_max),
        "websocket" => frames(bytes_max),
        _ => Vec::new(),
    }
}

/// The byte that names a kind.
fn byte(kind: &Kind) -> u8 {
    u8::try_from(kind.index).unwrap_or(0)
}

/// `before`, as many of `item` (of its number) as there is room for, `after`.
fn many(bytes_max: usize, before: &str, after: &str, item: impl Fn(usize) -> String) -> String {
    let mut text = before.to_owned();
    for number in 0.. {
        let next = item(number);
        if text.len() + next.len() + after.len() + 64 > bytes_max {
            break;
        }
        if number > 0 {
            text.push(',');
        }
        text.push_str(&next);
    }
    text + after
}

/// Lists and maps that grow, by the kind that has them: what is before them, the n-th item, what is after them.
type Growing = (&'static str, &'static Kind, &'static str, fn(usize) -> String, &'static str);

fn named(number: usize) -> String {
    format!(r#"{{"name":"n{number}"}}"#)
}

fn pair(number: usize) -> String {
    format!(r#""k{number}":"v""#)
}

fn word(number: usize) -> String {
    format!(r#""example.org/{number}""#)
}

const GROWING: &[Growing] = &[
    ("labels", &kind::POD, r#"{"metadata":{"name":"a","labels":{"#, pair, "}}}"),
    ("annotations", &kind::POD, r#"{"metadata":{"name":"a","annotations":{"#, pair, "}}}"),
    ("finalizers", &kind::POD, r#"{"metadata":{"name":"a","finalizers":["#, word, "]}}"),
    (
        "owners",
        &kind::POD,
        r#"{"metadata":{"name":"a","ownerReferences":["#,
        |n| format!(r#"{{"apiVersion":"v1","kind":"Pod","name":"p{n}","uid":"u{n}","controller":true}}"#),
        "]}}",
    ),
    (
        "managers",
        &kind::POD,
        r#"{"metadata":{"name":"a","managedFields":["#,
        |n| {
            format!(
                r#"{{"manager":"m{n}","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{{"f:a":{{}}}}}}"#
            )
        },
        "]}}",
    ),
    ("containers", &kind::POD, r#"{"metadata":{"name":"a"},"spec":{"containers":["#, named, "]}}"),
    ("same", &kind::POD, r#"{"spec":{"containers":["#, |_| r#"{"name":"same"}"#.to_owned(), "]}}"),
    ("env", &kind::POD, r#"{"spec":{"containers":[{"name":"a","env":["#, named, "]}]}}"),
    (
        "ports",
        &kind::POD,
        r#"{"spec":{"containers":[{"name":"a","ports":["#,
        |n| format!(r#"{{"containerPort":{},"name":"p{n}","hostPort":{}}}"#, n % 65_536, n % 65_536),
        "]}]}}",
    ),
    (
        "mounts",
        &kind::POD,
        r#"{"spec":{"containers":[{"name":"a","volumeMounts":["#,
        |n| format!(r#"{{"name":"v{n}","mountPath":"/{n}"}}"#),
        "]}]}}",
    ),
    ("volumes", &kind::POD, r#"{"spec":{"containers":[{"name":"a"}],"volumes":["#, named, "]}}"),
    (
        "tolerations",
        &kind::POD,
        r#"{"spec":{"containers":[{"name":"a"}],"tolerations":["#,
        |n| format!(r#"{{"key":"k{n}","operator":"Exists"}}"#),
        "]}}",
    ),
    (
        "spread",
        &kind::POD,
        r#"{"spec":{"topologySpreadConstraints":["#,
        |n| format!(r#"{{"maxSkew":1,"topologyKey":"k{n}","whenUnsatisfiable":"DoNotSchedule"}}"#),
        "]}}",
    ),
    ("data", &kind::CONFIG_MAP, r#"{"metadata":{"name":"a"},"data":{"#, pair, "}}"),
    ("secrets", &kind::SECRET, r#"{"metadata":{"name":"a"},"stringData":{"#, pair, "}}"),
    (
        "service",
        &kind::SERVICE,
        r#"{"metadata":{"name":"a"},"spec":{"ports":["#,
        |n| format!(r#"{{"name":"p{n}","port":{},"nodePort":{}}}"#, n % 65_536, n % 65_536),
        "]}}",
    ),
    (
        "slices",
        &kind::ENDPOINT_SLICE,
        r#"{"addressType":"IPv4","endpoints":["#,
        |n| format!(r#"{{"addresses":["10.{}.{}.{}"]}}"#, n >> 16 & 255, n >> 8 & 255, n & 255),
        "]}",
    ),
    (
        "endpoints",
        &kind::ENDPOINTS,
        r#"{"subsets":[{"ports":[{"port":1}],"addresses":["#,
        |n| format!(r#"{{"ip":"10.{}.{}.{}"}}"#, n >> 16 & 255, n >> 8 & 255, n & 255),
        "]}]}",
    ),
    ("unknown", &kind::POD, r#"{"metadata":{"name":"a"},"#, |n| format!(r#""unknown{n}":{n}"#), "}"),
    ("doubles", &kind::POD, r#"{"metadata":{"#, |_| r#""name":"a""#.to_owned(), "}}"),
];

/// Each kind whose name is known by its plural, with a list of its own that grows.
const LISTS: &[(&str, &str, &str)] = &[
    (
        "networkpolicies",
        r#"{"spec":{"podSelector":{},"ingress":["#,
        r#"{"from":[{"ipBlock":{"cidr":"10.0.0.0/8"}}]}"#,
    ),
    ("ingresses", r#"{"spec":{"rules":["#, r#"{"host":"a.example.org","http":{"paths":[]}}"#),
    (
        "customresourcedefinitions",
        r#"{"spec":{"versions":["#,
        r#"{"name":"v1","served":true,"storage":true}"#,
    ),
    ("validatingwebhookconfigurations", r#"{"webhooks":["#, r#"{"name":"a.example.org","rules":[]}"#),
    ("roles", r#"{"rules":["#, r#"{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}"#),
    ("rolebindings", r#"{"subjects":["#, r#"{"kind":"User","name":"a"}"#),
    ("limitranges", r#"{"spec":{"limits":["#, r#"{"type":"Pod","max":{"cpu":"1"}}"#),
    ("resourcequotas", r#"{"spec":{"scopes":["#, r#""BestEffort""#),
    (
        "jobs",
        r#"{"spec":{"podFailurePolicy":{"rules":["#,
        r#"{"action":"Ignore","onExitCodes":{"values":[1]}}"#,
    ),
    (
        "horizontalpodautoscalers",
        r#"{"spec":{"metrics":["#,
        r#"{"type":"Resource","resource":{"name":"cpu"}}"#,
    ),
    ("csinodes", r#"{"spec":{"drivers":["#, r#"{"name":"a","nodeID":"a"}"#),
    (
        "storageclasses",
        r#"{"allowedTopologies":["#,
        r#"{"matchLabelExpressions":[{"key":"a","values":["b"]}]}"#,
    ),
];

/// What closes the brackets that a beginning leaves open.
fn closing(before: &str) -> String {
    let mut open = Vec::new();
    for sign in before.chars() {
        match sign {
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' => drop(open.pop()),
            _ => {}
        }
    }
    open.iter().rev().collect()
}

fn texts(bytes_max: usize) -> Vec<(String, &'static Kind, String)> {
    let mut texts: Vec<(String, &'static Kind, String)> = Vec::new();
    for (name, kind, before, item, after) in GROWING {
        texts.push(((*name).to_owned(), kind, many(bytes_max, before, after, item)));
    }
    for (plural, before, item) in LISTS {
        if let Some(kind) = KINDS.iter().find(|kind| kind.plural == *plural) {
            texts.push((
                (*plural).to_owned(),
                kind,
                many(bytes_max, before, &closing(before), |_| (*item).to_owned()),
            ));
        }
    }
    let half = bytes_max / 2 - 64;
    texts.push(("arrays".into(), &kind::POD, format!("{}{}", "[".repeat(half), "]".repeat(half))));
    let deep = half / 5;
    texts.push(("objects".into(), &kind::POD, format!("{}1{}", r#"{"a":"#.repeat(deep), "}".repeat(deep))));
    let long = "x".repeat(bytes_max - 256);
    texts.push(("name".into(), &kind::POD, json!({ "metadata": { "name": long } }).to_string()));
    texts.push((
        "image".into(),
        &kind::POD,
        json!({ "spec": { "containers": [{ "name": long }] } }).to_string(),
    ));
    texts.push((
        "quoted".into(),
        &kind::POD,
        format!(r#"{{"metadata":{{"name":"{}"}}}}"#, r"\u0041".repeat(half / 4)),
    ));
    texts.push((
        "digits".into(),
        &kind::POD,
        format!(r#"{{"spec":{{"priority":{}}}}}"#, "9".repeat(bytes_max - 256)),
    ));
    texts
}

fn objects(bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    texts(bytes_max)
        .into_iter()
        .map(|(name, kind, text)| (name, [&[byte(kind)], text.as_bytes()].concat()))
        .collect()
}

fn messages(bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    for (name, kind, text) in texts(bytes_max) {
        let (Some(definition), Ok(value)) = (schema::definition(kind.schema), serde_json::from_str(&text))
        else {
            continue;
        };
        if let Ok(bytes) = proto::encode(&value, definition) {
            let body = bytes.strip_prefix(proto::MAGIC).unwrap_or(&bytes);
            messages.push((name, [&[byte(kind)], body].concat()));
        }
    }
    // The envelope's bytes field, with one thing in it again and again: empty messages, unknown numbers, messages in messages.
    let wrap = |inner: Vec<u8>| {
        let mut body = vec![byte(&kind::POD), 0x12];
        let mut length = inner.len();
        while length > 127 {
            body.push(u8::try_from(length & 127).unwrap_or(0) | 128);
            length >>= 7;
        }
        body.push(u8::try_from(length).unwrap_or(0));
        body.extend(inner);
        body
    };
    for (name, part) in [("empty", &[0x0a, 0][..]), ("unknown", &[0x78, 1]), ("status", &[0x1a, 2, 0x0a, 0])]
    {
        messages.push((name.to_owned(), wrap(part.repeat((bytes_max - 16) / part.len()))));
    }
    messages
}

fn patches(bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    let mut patches = Vec::new();
    let mut push = |name: &str, type_: u8, text: String| {
        patches.push((name.to_owned(), [&[type_, byte(&kind::POD)], text.as_bytes()].concat()));
    };
    let operation = |text: &'static str| move |_: usize| text.to_owned();
    let (add, head) = (
        r#"{"op":"add","path":"/metadata/finalizers/0","value":"x"}"#,
        r#"{"op":"add","path":"/spec/containers/0","value":{"name":"x"}}"#,
    );
    push("add", 0, many(bytes_max, "[", "]", operation(add)));
    push("front", 0, many(bytes_max, "[", "]", operation(head)));
    push("test", 0, many(bytes_max, "[", "]", operation(r#"{"op":"test","path":"/spec","value":{}}"#)));
    push(
        "copy",
        0,
        many(bytes_max, "[", "]", operation(r#"{"op":"copy","from":"/spec","path":"/spec/containers/0/x"}"#)),
    );
    push(
        "move",
        0,
        many(
            bytes_max,
            "[",
            "]",
            operation(r#"{"op":"move","from":"/spec/containers/0","path":"/spec/containers/1"}"#),
        ),
    );
    // As many as may be, each with a long way.
    let ways: Vec<String> = (0..bytes_max / 350)
        .map(|_| format!(r#"{{"op":"remove","path":"/a{}"}}"#, "/b".repeat(140)))
        .collect();
    push("ways", 0, format!("[{}]", ways.join(",")));
    for (name, kind, text) in texts(bytes_max) {
        if std::ptr::eq(kind, &kind::POD) {
            push(&format!("merge-{name}"), 1, text.clone());
            push(&format!("strategic-{name}"), 2, text);
        }
    }
    let delete = |n: usize| format!(r#"{{"name":"n{n}","$patch":"delete"}}"#);
    push("delete", 2, many(bytes_max, r#"{"spec":{"containers":["#, "]}}", delete));
    push("replace", 2, many(bytes_max, r#"{"spec":{"containers":[{"$patch":"replace"},"#, "]}}", named));
    push("order", 2, many(bytes_max, r#"{"spec":{"$setElementOrder/containers":["#, "]}}", named));
    let mut both = String::from(r#"{"spec":{"$setElementOrder/containers":["#);
    let list: Vec<String> = (0..bytes_max / 55).map(named).collect();
    let _ = write!(both, r#"{}],"containers":[{}]}}}}"#, list.join(","), list.join(","));
    push("ordered", 2, both);
    push(
        "primitive",
        2,
        many(bytes_max, r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["#, "]}}", word),
    );
    push(
        "retain",
        2,
        many(bytes_max, r#"{"spec":{"volumes":[{"name":"data","$retainKeys":["#, "]}]}}", word),
    );
    patches
}

fn configurations(bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    let mut configurations: Vec<(String, Vec<u8>)> = objects(bytes_max);
    let mut push = |name: &str, text: String| {
        configurations.push((name.to_owned(), [&[byte(&kind::POD)], text.as_bytes()].concat()));
    };
    let lines = |line: &str| line.repeat((bytes_max - 64) / line.len());
    push("block-list", format!("metadata:\n  finalizers:\n{}", lines("  - a\n")));
    push("dashes", lines("- "));
    push("braces", lines("{a: "));
    push("brackets", lines("["));
    push("keys", lines("? "));
    push("anchors", lines("- &a b\n"));
    push("aliases", format!("- &a b\n{}", lines("- *a\n")));
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..40 {
        let before = level - 1;
        let _ = writeln!(bomb, "a{level}: &a{level} [{}]", vec![format!("*a{before}"); 10].join(","));
    }
    push("bomb", bomb);
    push("merge", format!("a: &a {{b: c}}\nd:\n{}", lines("  <<: *a\n")));
    push("documents", lines("---\n"));
    push("comments", lines("# x\n"));
    push("folded", format!("a: >\n{}", lines("  x\n")));
    push("quoted", format!("a: \"{}\"", lines("\\\n ")));
    let mut stairs = String::new();
    for level in 0..(bytes_max * 3 / 2).isqrt() {
        let _ = writeln!(stairs, "{}a:", " ".repeat(level));
    }
    push("stairs", stairs);
    configurations
}

fn selectors(bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    let of = |name: &str, text: String| (name.to_owned(), [&[byte(&kind::POD)], text.as_bytes()].concat());
    vec![
        of("pairs", "a=b,".repeat(4_000)),
        of("set", format!("a in ({})", vec!["b"; 8_000].join(","))),
        of("brackets", "a in (".repeat(2_700)),
        of("fields", "metadata.name=a,".repeat(1_000)),
        of("escaped", format!("metadata.name={}", r"\,".repeat(8_000))),
        of("signs", "!".repeat(16_000)),
        of("long", "a".repeat(bytes_max - 1)),
    ]
}

/// In CEL, about as long as one may be, and patterns, which may be as long as they like.
fn expressions(bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    const CEL_BYTES: usize = 99_000;
    let of = |name: &str, place: u8, text: String| (name.to_owned(), [&[place], text.as_bytes()].concat());
    let cel = |name: &str, item: &str, end: &str| of(name, 0, item.repeat(CEL_BYTES / item.len()) + end);
    let pattern = |name: &str, item: &str| of(name, 2, item.repeat(bytes_max / item.len()));
    let nested = "self.all(x, x in [".repeat(120) + &"x, ".repeat(30_000) + "1" + &"])".repeat(120);
    let bound = "cel.bind(x, [x], ".repeat(240) + "[" + &"x, ".repeat(30_000) + "1]" + &")".repeat(240);
    vec![
        cel("brackets", "(", ""),
        cel("signs", "!", "true"),
        cel("choices", "a?b:", "c"),
        cel("truths", "a||b&&", "c"),
        cel("names", "foo||", "c"),
        cel("sums", "1+", "1"),
        cel("fields", "self.a ", ""),
        cel("comments", "//\n", "true"),
        cel("lists", "[1,", ""),
        of("texts", 1, format!("'{}'", "\\n".repeat(CEL_BYTES / 2))),
        of("macros", 0, nested),
        of("bound", 3, bound),
        of("long", 4, "a".repeat(bytes_max)),
        pattern("groups", "(a|"),
        pattern("closed", "(a)"),
        pattern("classes", "[[:"),
        pattern("counts", "{1,"),
        pattern("quoted", "\\Qa\\E"),
        pattern("repeated", "a{1000}"),
    ]
}

/// Frames as a client sends them, masked by zeroes.
fn frames(bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    let of = |name: &str, first: &[u8], frame: &[u8]| {
        let count = (bytes_max - first.len() - 1) / frame.len();
        (name.to_owned(), [&[255], first, &frame.repeat(count)].concat())
    };
    let start: &[u8] = &[0x02, 0x81, 0, 0, 0, 0, 1];
    let mut whole = vec![0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    whole.extend(vec![1; 1 << 20]);
    vec![
        of("small", &[], &[0x82, 0x82, 0, 0, 0, 0, 1, b'x']),
        of("empty", &[], &[0x82, 0x80, 0, 0, 0, 0]),
        of("pieces", start, &[0x00, 0x81, 0, 0, 0, 0, b'x']),
        of("no-pieces", start, &[0x00, 0x80, 0, 0, 0, 0]),
        of("pings", &[], &[0x89, 0x81, 0, 0, 0, 0, b'x']),
        of("whole", &[], &whole),
        of("agent", &[], &[1, 0, 0, 0, 0]),
        of("agents-words", &[], &[1, 0, 0, 0, 3, b'a', b'b', b'c']),
    ]
}

/// Many of the same, of what needs no header block, and streams that come and go.
fn streams(bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    let whole = |name: &str, first: u8, bytes: Vec<u8>| (name.to_owned(), [vec![first], bytes].concat());
    let of = |name: &str, frame: &[u8]| whole(name, 255, frame.repeat((bytes_max - 1) / frame.len()));
    let by_client = |deed: &dyn Fn(&mut Connection, u32)| {
        let mut client = Connection::new(Role::Client, spdy::LIMITS);
        let mut bytes = Vec::new();
        while bytes.len() < bytes_max - (64 << 10) {
            let headers = Headers::default().with("streamtype", "data").with("port", "8080");
            // What nobody answers is given up, so that there is a next one.
            let Ok(stream) = client.open(&headers) else { break };
            deed(&mut client, stream);
            client.reset(stream, ResetStatus::CANCEL);
            bytes.extend_from_slice(&client.take_output());
        }
        bytes
    };
    vec![
        of("pings", &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]),
        of("settings", &[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0]),
        of("resets", &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 5]),
        of("no-stream", &[0, 0, 0, 1, 0, 0, 0, 0]),
        whole("come-and-go", 255, by_client(&|_, _| {})),
        whole("come-and-go-bytewise", 0, by_client(&|_, _| {})),
        whole(
            "data",
            7,
            by_client(&|client, stream| {
                client.data(stream, &[b'x'; 20_000]);
                client.finish(stream);
            }),
        ),
    ]
}
