//! Bodies as clients send them, and the way there and back.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kind;

fn definition(kind: &kind::Kind) -> &'static Definition {
    schema::definition(kind.schema).unwrap()
}

fn there_and_back(kind: &kind::Kind, object: &Value) {
    let bytes = encode(object, definition(kind)).unwrap();
    assert_eq!(&decode(&bytes, definition(kind)).unwrap(), object);
    assert_eq!(type_meta(&bytes).unwrap(), (kind.api_version(), kind.kind.to_owned()));
}

#[test]
fn every_kind_of_value_survives() {
    there_and_back(
        &kind::POD,
        &json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "labels": {"a": "b", "e": ""}, "creationTimestamp": "2024-01-02T03:04:05Z",
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {".": {}}}}]},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "500m"}}, "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}],
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                "securityContext": {"runAsUser": 0, "privileged": false}}],
                "securityContext": {}, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                "volumes": [{"name": "v", "configMap": {"name": "m", "defaultMode": 420}}, {"name": "e", "emptyDir": {}}],
                "tolerations": [{"key": "k", "tolerationSeconds": -1}]}}),
    );
    there_and_back(
        &kind::SECRET,
        &json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "AAEC/w==", "empty": ""}, "type": "Opaque"}),
    );
    there_and_back(
        &kind::LEASE,
        &json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"renewTime": "2024-01-02T03:04:05.678901Z"}}),
    );
    there_and_back(
        &kind::SERVICE,
        &json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": "web"}]}}),
    );
}

#[test]
fn garbage_is_refused() {
    let pod = definition(&kind::POD);
    assert_eq!(decode(b"{}", pod), Err(ProtoError::Magic));
    assert_eq!(decode(b"k8s\0\x12\x7f", pod), Err(ProtoError::Truncated));
    assert_eq!(decode(b"k8s\0\x0b", pod), Err(ProtoError::WireType));
    // Field 0, which is none: fields that are not in protobuf must not be found by it.
    assert_eq!(decode(b"k8s\0\x12\x03\x02\x01a", pod), Err(ProtoError::WireType));
    assert_eq!(decode(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", pod), Err(ProtoError::Truncated));
}

fn name() -> impl Strategy<Value = String> {
    "[a-z]{1,8}"
}

prop_compose! {
    fn pod()(name in name(), labels in proptest::collection::btree_map(name(), "[A-Za-z0-9 ü]{0,9}", 1..5),
             grace in proptest::option::of(any::<i64>()), user in proptest::option::of(any::<i64>()),
             mode in any::<i32>(), milli in 0..100_000_i64, args in proptest::collection::vec(".{0,9}", 1..5),
             port in any::<u16>(), token in any::<bool>()) -> Value {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "c", "args": args, "ports": [{"containerPort": port}],
                "resources": {"requests": {"cpu": format!("{milli}m")}}}],
                "automountServiceAccountToken": token,
                "volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": mode}}]}});
        if let Some(grace) = grace { pod["spec"]["terminationGracePeriodSeconds"] = grace.into(); }
        if let Some(user) = user { pod["spec"]["securityContext"] = json!({"runAsUser": user}); }
        pod
    }
}

proptest! {
    #[test]
    fn there_and_back_again(pod in pod()) {
        let bytes = encode(&pod, definition(&kind::POD)).unwrap();
        prop_assert_eq!(decode(&bytes, definition(&kind::POD)).unwrap(), pod);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut body = MAGIC.to_vec();
        body.push(0x12);
        body.push(u8::try_from(bytes.len().min(127)).unwrap());
        body.extend_from_slice(&bytes);
        let _ = decode(&body, definition(&kind::POD));
    }
}
