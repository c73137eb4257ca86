//! Specifications of small containers.

use super::*;

fn pod(container: &Value) -> Pod {
    let pod = json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" }, "spec": { "containers": [container] } });
    serde_json::from_value(pod).unwrap()
}

fn spec(container: &Value) -> Result<Value, SpecError> {
    let pod = pod(container);
    let limits = Limits {
        capabilities: vec!["CAP_CHOWN".into(), "CAP_NET_ADMIN".into(), "CAP_KILL".into()],
        oom_score_adj_min: 100,
    };
    let image =
        RunConfig { cmd: Some(vec!["default".into()]), working_dir: "/w".into(), ..RunConfig::default() };
    let parts = Parts {
        pod: &pod,
        container: &pod.spec.containers[0],
        image: &image,
        user: User::default(),
        env: vec![],
        variables: &[("V".into(), "value".into())],
        binds: vec![Bind::new("/node/hosts".into(), "/etc/hosts", false)],
        namespaces: Path::new("/ns"),
        cgroup: Path::new("/weft/pod/c"),
        limits: &limits,
        cgroup_v2_only: false,
    };
    Ok(serde_json::to_value(build(&parts)?).unwrap())
}

#[test]
fn defaults() {
    let spec = spec(&json!({ "name": "c" })).unwrap();
    assert_eq!(spec["process"]["args"], json!(["default"]));
    assert_eq!(spec["process"]["cwd"], "/w");
    let mut effective: Vec<String> =
        serde_json::from_value(spec["process"]["capabilities"]["effective"].clone()).unwrap();
    effective.sort();
    assert_eq!(effective, ["CAP_CHOWN", "CAP_KILL"]);
    assert_eq!(spec["process"]["oomScoreAdj"], 1000);
    assert!(spec["process"].get("apparmorProfile").is_none());
    assert_eq!(spec["linux"]["cgroupsPath"], "/weft/pod/c");
    let net =
        spec["linux"]["namespaces"].as_array().unwrap().iter().find(|n| n["type"] == "network").unwrap();
    assert_eq!(net["path"], "/ns/net");
    assert!(spec["linux"]["maskedPaths"].as_array().unwrap().len() > 5);
    assert!(spec.get("hostname").is_none_or(Value::is_null));
}

#[test]
fn limits_become_cgroup_numbers() {
    let container = json!({ "name": "c", "command": ["run", "$(V)"], "resources": {
        "requests": { "cpu": "250m" }, "limits": { "cpu": "500m", "memory": "64Mi" } } });
    let spec = spec(&container).unwrap();
    assert_eq!(spec["process"]["args"], json!(["run", "value"]));
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["cpu"]["shares"], 256);
    assert_eq!(resources["cpu"]["quota"], 50_000);
    assert_eq!(resources["memory"]["limit"], 64 << 20);
}

#[test]
fn capabilities_never_exceed_the_agents() {
    let container = json!({ "name": "c", "securityContext": {
        "capabilities": { "add": ["NET_ADMIN", "SYS_TIME"], "drop": ["ALL"] }, "runAsNonRoot": false } });
    let spec = spec(&container).unwrap();
    assert_eq!(spec["process"]["capabilities"]["bounding"], json!(["CAP_NET_ADMIN"]));
    let root = super::tests::spec(&json!({ "name": "c", "securityContext": { "runAsNonRoot": true } }));
    assert!(matches!(root, Err(SpecError::Root)));
}
