//! JSON and protobuf of the same object are read as the same: of every type of the table, and of what kubectl sends.

use base64::Engine as _;
use proptest::prelude::{ProptestConfig, TestCaseError, prop_assert_eq, proptest};
use serde_json::{Map, Value, json};

use super::*;
use crate::kind;
use crate::schema::Field;

/// How deep generated structs stand in each other below the type they are made for; each type is made for itself too.
const DEPTH_MAX: usize = 3;

/// Numbers from a seed (SplitMix64), so that a failure's seed says all.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_of<'a, T: ?Sized>(&mut self, values: &[&'a T]) -> &'a T {
        values[self.below(values.len())]
    }
}

/// An object as some client might send it: with zeros, empty lists, nulls and odd spellings, and without the names of
/// objects within objects, which protobuf has none of.
fn object(definition: &Definition, depth: usize, random: &mut Random) -> Value {
    let mut out = Map::new();
    for field in definition.fields.iter().filter(|f| f.numbers[0] != 0) {
        // Deep down only a few, or objects would grow without end.
        if random.below(1 + 3 * depth) == 0 {
            let null = random.below(16) == 0;
            out.insert(
                field.name.into(),
                if null { Value::Null } else { value(&field.type_, depth, random) },
            );
        }
    }
    out.into()
}

fn value(type_: &Type, depth: usize, random: &mut Random) -> Value {
    match type_ {
        Type::String => match random.below(6) {
            // Longer than a length of one byte says.
            0 => "ß".repeat(random.below(150)).into(),
            _ => random.one_of(&["", "a", "ü\u{0}\n", "0", "1h"]).into(),
        },
        Type::Int32 => match random.below(2) {
            0 => (random.next() as i32).into(),
            _ => [0, 1, -1, i32::MIN, i32::MAX][random.below(5)].into(),
        },
        Type::Int64 => match random.below(2) {
            0 => random.next().cast_signed().into(),
            _ => [0, 1, -1, i64::MIN, i64::MAX][random.below(5)].into(),
        },
        Type::Bool => (random.below(2) == 0).into(),
        Type::Double => match random.below(3) {
            0 => [7, i64::MAX][random.below(2)].into(),
            1 => json!([0.0, 7.0, -0.5, 1e300, 9.3e18][random.below(5)]),
            _ => Some(f64::from_bits(random.next())).filter(|f| f.is_finite()).unwrap_or(0.25).into(),
        },
        Type::Bytes => {
            let bytes = random.next().to_le_bytes();
            base64::engine::general_purpose::STANDARD.encode(&bytes[..random.below(4)]).into()
        }
        Type::Quantity => match random.below(4) {
            0 => 2.into(),
            1 => {
                let suffix = random.one_of(&["", "n", "u", "m", "k", "M", "Gi", "Ti", "e2"]);
                let (whole, part) = (random.below(2_000), random.below(1_000));
                format!("{}{whole}.{part}{suffix}", random.one_of(&["", "-"])).into()
            }
            _ => random.one_of(&["0", "0.5", "100m", "1024Mi", "1e3"]).into(),
        },
        Type::IntOrString => match random.below(2) {
            0 => [0, 80, -1, i32::MIN][random.below(4)].into(),
            _ => random.one_of(&["", "web", "50%"]).into(),
        },
        Type::Time | Type::MicroTime => match random.below(2) {
            0 => {
                let seconds = i64::try_from(random.below(8_000_000_000)).unwrap() - 2_000_000_000;
                let nanos = i32::try_from(random.below(1_000_000_000)).unwrap();
                jiff::Timestamp::new(seconds, nanos).unwrap().to_string().into()
            }
            _ => {
                let zoned = "2024-05-06T07:08:09.123456789+02:00";
                random.one_of(&["1970-01-01T00:00:00Z", zoned, "1901-01-01T00:00:00Z"]).into()
            }
        },
        Type::Duration => random.one_of(&["0s", "90s", "1.5h", "-3ms"]).into(),
        Type::Fields => json!({"f:a": {".": {}, "k:{\"b\":1}": {}}}),
        Type::Raw => [json!({}), json!({"a": [null, {"b": 1.5}], "c": ""})][random.below(2)].clone(),
        Type::Json => {
            [json!(null), json!(0), json!(""), json!({"a": null}), json!([[], -1.5])][random.below(5)].clone()
        }
        Type::Ref(_) if depth >= DEPTH_MAX => json!({}),
        Type::Ref(name) => object(schema::definition(name).unwrap(), depth + 1, random),
        Type::List(item) => {
            (0..random.below(3)).map(|_| value(item, depth, random)).collect::<Vec<_>>().into()
        }
        Type::Map(item) => {
            let keys = (0..random.below(3)).map(|at| ["", "a.b/c", "ü"][at].to_owned());
            keys.map(|key| (key, value(item, depth, random))).collect::<Map<_, _>>().into()
        }
        Type::SchemaOr(other) => match (random.below(2), other) {
            (0, _) => value(&Type::Ref(schema::JSON_SCHEMA), depth, random),
            (_, Other::Bool) => value(&Type::Bool, depth, random),
            (_, Other::Schemas) => {
                value(&Type::List(Box::new(Type::Ref(schema::JSON_SCHEMA))), depth, random)
            }
            (_, Other::Strings) => value(&Type::List(Box::new(Type::String)), depth, random),
        },
    }
}

/// What is kept of a value that came as protobuf.
fn through_protobuf(definition: &Definition, value: &Value) -> Value {
    let bytes = proto::encode(value, definition).unwrap();
    let mut read = proto::decode(&bytes, definition).unwrap();
    // The names around the object, which this one has none of.
    read.as_object_mut().unwrap().retain(|name, _| name != "apiVersion" && name != "kind");
    check(definition.name, &mut read, FieldValidation::Strict).unwrap();
    read
}

fn same_of_both_forms(definition: &Definition, seed: u64) -> Result<(), TestCaseError> {
    let sent = object(definition, 0, &mut Random(seed));
    let mut kept = sent.clone();
    check(definition.name, &mut kept, FieldValidation::Strict).unwrap();
    prop_assert_eq!(&through_protobuf(definition, &kept), &kept, "kept: {} {}", definition.name, seed);
    prop_assert_eq!(
        &through_protobuf(definition, &sent),
        &kept,
        "sent: {} {} {}",
        definition.name,
        seed,
        &sent
    );
    let mut again = kept.clone();
    check(definition.name, &mut again, FieldValidation::Strict).unwrap();
    prop_assert_eq!(again, kept, "kept again: {} {}", definition.name, seed);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_type_is_read_the_same_of_both_forms(seed in proptest::num::u64::ANY) {
        // References to objects have fields of the same names as stand around an object: they come within others.
        let has = |d: &Definition, name| d.field(name).is_some_and(|f| f.numbers[0] != 0);
        let is_reference = |d: &&Definition| has(d, "apiVersion") || has(d, "kind");
        for definition in schema::definitions().filter(|d| !is_reference(d)) {
            same_of_both_forms(definition, seed)?;
        }
    }
}

/// What the objects of every kind come to that a client sends as JSON: they survive protobuf, read as a request and as
/// an answer.
fn survives(definition: &Definition, seed: u64) -> Result<(), TestCaseError> {
    let (group, version, kind) = definition.group_version_kind.unwrap();
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut sent = object(definition, 0, &mut Random(seed));
    sent["apiVersion"] = api_version.clone().into();
    sent["kind"] = kind.into();
    let read = |bytes: &[u8], type_: &str| {
        // A stored kind by its row, as requests are read; what is no such kind by its definition.
        let served = kind::served().find(|k| k.schema == definition.name);
        match served {
            Some(kind) => body(kind, bytes, Some(type_), FieldValidation::Strict),
            None => any(definition.name, bytes, Some(type_), FieldValidation::Strict),
        }
        .map_err(|status| TestCaseError::fail(format!("{}: {status}", definition.name)))
        .map(|decoded| decoded.value)
    };
    let kept = read(sent.to_string().as_bytes(), "application/json")?;
    // Numbers come out of their text as they went in.
    check(definition.name, &mut sent, FieldValidation::Strict).unwrap();
    prop_assert_eq!(&kept, &sent, "{} {}", definition.name, seed);
    prop_assert_eq!(&read(kept.to_string().as_bytes(), "application/json")?, &kept, "{}", definition.name);
    let wire = proto::encode(&kept, definition).unwrap();
    prop_assert_eq!(proto::type_meta(&wire).unwrap(), (api_version, kind.to_owned()));
    // What a client reads that has nothing but the message: every value is on the wire, and nothing else.
    let answered = proto::decode(&wire, definition).unwrap();
    prop_assert_eq!(&answered, &kept, "{} {}", definition.name, seed);
    prop_assert_eq!(proto::encode(&answered, definition).unwrap(), wire.clone(), "{}", definition.name);
    prop_assert_eq!(read(&wire, proto::MEDIA_TYPE)?, kept, "{} {}", definition.name, seed);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_object_of_every_kind_survives_protobuf(seed in proptest::num::u64::ANY) {
        for definition in schema::definitions().filter(|d| d.group_version_kind.is_some()) {
            survives(definition, seed)?;
        }
    }
}

/// Of which schemas of CustomResourceDefinitions have some.
#[test]
fn doubles_come_out_of_their_text_as_they_went_in() {
    let mut random = Random(7);
    let doubles = (0..20_000).map(|_| f64::from_bits(random.next())).filter(|double| double.is_finite());
    for double in doubles {
        let text = json!({"maximum": double}).to_string();
        let (mut read, _) = read::json(text.as_bytes()).unwrap();
        check(schema::JSON_SCHEMA, &mut read, FieldValidation::Strict).unwrap();
        assert_eq!(read["maximum"].as_f64(), Some(double), "{text}");
    }
}

#[test]
fn every_kind_is_among_those_that_survive() {
    let schemas = kind::served().map(|k| k.schema).chain(crate::review::REVIEWS.iter().map(|r| r.schema));
    for name in schemas.chain([
        schema::SCALE,
        schema::TOKEN_REQUEST,
        schema::BINDING,
        schema::EVICTION,
        schema::STATUS,
    ]) {
        assert!(schema::definition(name).unwrap().group_version_kind.is_some(), "{name}");
    }
}

/// The generator makes each kind of value and each kind of zero: a property over nothing would hold too.
#[test]
fn the_generator_reaches_everything() {
    let (mut values, mut zeros, mut nulls) = (Vec::new(), Vec::new(), 0);
    let mut note = |field: &Field, value: &Value| {
        let name = format!("{:?}", field.type_).split(['(', ' ']).next().unwrap().to_owned();
        let list = if field.is_absent(value) { &mut zeros } else { &mut values };
        nulls += usize::from(value.is_null());
        if !list.contains(&name) {
            list.push(name);
        }
    };
    for definition in schema::definitions() {
        for seed in 0..8 {
            for (name, value) in object(definition, 0, &mut Random(seed)).as_object().unwrap() {
                note(definition.field(name).unwrap(), value);
            }
        }
    }
    values.sort();
    zeros.sort();
    assert_eq!(
        values,
        [
            "Bool",
            "Bytes",
            "Double",
            "Duration",
            "Fields",
            "Int32",
            "Int64",
            "IntOrString",
            "Json",
            "List",
            "Map",
            "MicroTime",
            "Quantity",
            "Raw",
            "Ref",
            "SchemaOr",
            "String",
            "Time"
        ]
    );
    assert!(nulls > 0);
    for zero in ["Bool", "Bytes", "Int32", "IntOrString", "List", "Map", "Quantity", "Ref", "String"] {
        assert!(zeros.iter().any(|z| z == zero), "{zero}: {zeros:?}");
    }
}

/// Bodies of `kubectl create` of kubectl 1.37.1 as they came over the wire, each with what `--dry-run=client -o json` of
/// the same command prints.
#[test]
fn what_kubectl_sends_is_what_it_prints() {
    macro_rules! recorded {
        ($($name:literal)*) => {
            [$((
                include_bytes!(concat!("recorded/", $name, ".bin")).as_slice(),
                include_bytes!(concat!("recorded/", $name, ".json")).as_slice(),
            )),*]
        };
    }
    let bodies = recorded!("clusterrole" "cronjob" "deployment" "ingress" "job" "poddisruptionbudget" "priorityclass"
        "resourcequota" "rolebinding" "service");
    for (sent, printed) in bodies {
        let (api_version, kind) = proto::type_meta(sent).unwrap();
        let definition = schema::by_api_version(&api_version, &kind).unwrap();
        let read =
            |bytes, type_| any(definition.name, bytes, Some(type_), FieldValidation::Strict).unwrap().value;
        let printed = read(printed, "application/json");
        assert_eq!(read(sent, proto::MEDIA_TYPE), printed, "{kind}");
        // And as Kubernetes' clients read what we send.
        let encoded = proto::encode(&printed, definition).unwrap();
        assert_eq!(read(&encoded, proto::MEDIA_TYPE), printed, "{kind}");
    }
}

/// Of kubectl's Deployment nothing is left of what Go writes only because its fields are no pointers.
#[test]
fn zeros_of_go_are_left_out() {
    let read = any(
        "io.k8s.api.apps.v1.Deployment",
        include_bytes!("recorded/deployment.bin"),
        Some(proto::MEDIA_TYPE),
        FieldValidation::Strict,
    );
    assert_eq!(
        read.unwrap().value,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx"}]}}}})
    );
}

/// The same name, another meaning: what is a pointer in one type is none in another.
#[test]
fn zeros_count_where_gos_field_is_a_pointer() {
    let kept = |name: &str, mut value: Value| {
        check(name, &mut value, FieldValidation::Strict).unwrap();
        value
    };
    for (name, sent, expected) in [
        (
            "io.k8s.api.apps.v1.DeploymentSpec",
            json!({"replicas": 0, "paused": false}),
            json!({"replicas": 0}),
        ),
        ("io.k8s.api.autoscaling.v1.ScaleSpec", json!({"replicas": 0}), json!({})),
        (
            "io.k8s.api.core.v1.ConfigMapKeySelector",
            json!({"key": "", "optional": false}),
            json!({"key": "", "optional": false}),
        ),
        (
            "io.k8s.api.core.v1.PodSpec",
            json!({"containers": [], "securityContext": {}, "hostNetwork": false, "hostUsers": false}),
            json!({"securityContext": {}, "hostUsers": false}),
        ),
        (
            "io.k8s.api.core.v1.Container",
            json!({"name": "", "resources": {}, "securityContext": {"privileged": false}}),
            json!({"name": "", "securityContext": {"privileged": false}}),
        ),
        (
            "io.k8s.api.core.v1.ContainerStatus",
            json!({"restartCount": 0, "ready": false, "started": false}),
            json!({"restartCount": 0, "ready": false, "started": false}),
        ),
        ("io.k8s.api.core.v1.VolumeMount", json!({"readOnly": false, "subPath": ""}), json!({})),
        (
            "io.k8s.api.core.v1.Volume",
            json!({"name": "v", "emptyDir": {"medium": "", "sizeLimit": "0"}}),
            json!({"name": "v", "emptyDir": {"sizeLimit": "0"}}),
        ),
        (
            "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
            json!({"storageClassName": "", "volumeName": ""}),
            json!({"storageClassName": ""}),
        ),
        (
            "io.k8s.api.core.v1.ServicePort",
            json!({"port": 0, "targetPort": 0, "nodePort": 0}),
            json!({"port": 0}),
        ),
        (
            "io.k8s.api.batch.v1.JobSpec",
            json!({"suspend": false, "parallelism": 0, "template": {}}),
            json!({"suspend": false, "parallelism": 0, "template": {}}),
        ),
        (
            "io.k8s.api.networking.v1.NetworkPolicySpec",
            json!({"podSelector": {}, "ingress": []}),
            json!({"podSelector": {}}),
        ),
        (
            "io.k8s.api.policy.v1.PodDisruptionBudgetSpec",
            json!({"minAvailable": 0, "selector": {}}),
            json!({"minAvailable": 0, "selector": {}}),
        ),
        ("io.k8s.api.discovery.v1.EndpointConditions", json!({"ready": false}), json!({"ready": false})),
    ] {
        assert_eq!(kept(name, sent), expected, "{name}");
    }
}

/// An applier owns what it names, zeros too.
#[test]
fn configurations_keep_their_zeros() {
    let mut config = json!({"spec": {"paused": false, "replicas": 0, "template": {"spec": {"containers": [{"name": "c", "resources": {}}]}}}});
    let before = config.clone();
    configuration("io.k8s.api.apps.v1.Deployment", &mut config, FieldValidation::Strict).unwrap();
    assert_eq!(config, before);
}

/// Embedded structs of three levels, and the types whose JSON is not what their fields say, byte by byte.
#[test]
fn the_wire_is_kubernetes() {
    let raw = |name: &str, value: Value| {
        let body = proto::encode(&value, schema::definition(name).unwrap()).unwrap();
        // Behind the magic and the empty names (two fields of no bytes each): the object's own message.
        body[10..].to_vec()
    };
    let rule = "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations";
    // 2 { 1: "C", 2 { 1: "g", 4: "*" } }, 1: "n"
    let expected = [10, 1, b'n', 18, 11, 10, 1, b'C', 18, 6, 10, 1, b'g', 34, 1, b'*'];
    let value = json!({"resourceNames": ["n"], "operations": ["C"], "apiGroups": ["g"], "scope": "*"});
    assert_eq!(raw(rule, value)[2..], expected);
    let props = schema::JSON_SCHEMA;
    for (value, expected) in [
        (json!({"additionalProperties": false}), vec![242, 1, 2, 8, 0]),
        (json!({"additionalProperties": {}}), vec![242, 1, 4, 8, 1, 18, 0]),
        (json!({"items": {}}), vec![194, 1, 2, 10, 0]),
        (json!({"items": [{}]}), vec![194, 1, 2, 18, 0]),
        (json!({"default": {"a": 1}}), [vec![66, 9, 10, 7], b"{\"a\":1}".to_vec()].concat()),
        (json!({"enum": [null, 1]}), vec![162, 1, 0, 162, 1, 3, 10, 1, b'1']),
        (json!({"$ref": "x", "$schema": "y"}), vec![18, 1, b'y', 26, 1, b'x']),
        (json!({"x-kubernetes-preserve-unknown-fields": false}), vec![176, 2, 0]),
        (json!({"maximum": 5}), [vec![73], 5_f64.to_le_bytes().to_vec()].concat()),
    ] {
        assert_eq!(raw(props, value.clone())[2..], expected, "{value}");
    }
}
