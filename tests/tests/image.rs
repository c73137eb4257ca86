//! Images on a whole cluster: from a real registry, and from an archive through the control plane.

use std::time::Duration;

use weft_tests::cluster::{COMMAND_MAX, given};
use weft_tests::{Cluster, until};

fn pod(name: &str, image: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers: [{{ name: c, image: '{image}', command: [/bin/sleep, '3600'] }}]
"
    )
}

#[test]
fn an_image_of_a_registry_is_pulled_and_run() {
    let cluster = Cluster::up(1, &["--no-demo"]);
    let dir = cluster.dir();
    let config = dir.join("registry.yml");
    let text = format!(
        "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: '{}' }} }}\nhttp: {{ addr: '127.0.0.1:5000' }}\n",
        dir.join("registry").display()
    );
    std::fs::write(&config, text).unwrap();
    // Loopback of the node: its namespace is the machine that the registry runs on.
    let registry = cluster.spawn("node-1", &["docker-registry", "serve", &config.to_string_lossy()]);
    let source = format!("docker-archive:{}", given("WEFT_DEMO_IMAGE"));
    let push = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", &source];
    until("the registry to take an image", COMMAND_MAX, || {
        let target = "docker://127.0.0.1:5000/team/demo:7";
        (cluster.exec("node-1", &[&push[..], &[target]].concat()).code == 0).then_some(())
    });
    cluster.apply(&pod("pulled", "127.0.0.1:5000/team/demo:7")).ok();
    cluster.ready("pulled");
    let status = cluster.get(&["pod", "pulled"])["status"]["containerStatuses"][0].clone();
    let id = status["imageID"].as_str().unwrap_or_default();
    assert!(id.starts_with("127.0.0.1:5000/team/demo@sha256:"), "{status}");
    // By digest it is the same image, and nothing has to be pulled for it.
    cluster.apply(&pod("by-digest", id)).ok();
    cluster.ready("by-digest");
    let events = cluster.kubectl(&["get", "events"]).ok();
    assert!(events.contains("Successfully pulled image \"127.0.0.1:5000/team/demo:7\""), "{events}");

    // What cannot be pulled says so where kubectl describe shows it, and runs once it is there.
    cluster.apply(&pod("missing", "127.0.0.1:5000/team/none:1")).ok();
    let waiting = until("the reason in the Pod's status", COMMAND_MAX, || {
        let state = cluster.get(&["pod", "missing"])["status"]["containerStatuses"][0]["state"].clone();
        let reason = state["waiting"]["reason"].as_str().unwrap_or_default().to_owned();
        ["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()).then_some(state)
    });
    assert!(waiting.to_string().contains("127.0.0.1:5000/team/none:1"), "{waiting}");
    let said = cluster.kubectl(&["describe", "pod", "missing"]).ok();
    assert!(said.contains("Failed") && said.contains("is not in the registry"), "{said}");
    cluster.exec("node-1", &[&push[..], &["docker://127.0.0.1:5000/team/none:1"]].concat()).ok();
    until("the Pod to run once its image is there", Duration::from_secs(90), || {
        (cluster.get(&["pod", "missing"])["status"]["phase"] == "Running").then_some(())
    });
    registry.kill();
}

#[test]
fn agentctl_reaches_every_node_from_anywhere() {
    let cluster = Cluster::up(2, &[]);
    let loaded = cluster.agentctl(&["--node", "node-2", "image", "load", &given("WEFT_DEMO_IMAGE")]).ok();
    assert!(loaded.contains("weft.local/demo:1"), "{loaded}");
    let images = cluster.agentctl(&["--node", "node-2", "image", "list"]).ok();
    assert!(images.contains("weft.local/demo:1"), "{images}");
    let status: serde_json::Value =
        serde_json::from_str(&cluster.agentctl(&["--node", "node-2", "status", "-o", "json"]).ok()).unwrap();
    assert!(status.to_string().contains("node-2"), "{status}");
    let pods = cluster.agentctl(&["--node", "node-1", "pod", "list"]).ok();
    assert!(pods.contains("web-"), "{pods}");
    let services = cluster.agentctl(&["--node", "node-1", "service", "list"]).ok();
    for name in ["default/web", "default/kubernetes"] {
        assert!(services.contains(name), "{services}");
    }
    let refused = cluster.agentctl(&["--node", "node-9", "status"]).refused();
    assert!(refused.contains("node-9"), "{refused}");
    let refused = cluster.agentctl(&["--socket", "/no/such.sock", "status"]).refused();
    assert!(refused.contains("/no/such.sock"), "{refused}");
}
