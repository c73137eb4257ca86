//! A node dies: who was connected to a Pod there hears it as soon as the control plane has withdrawn the Pod, and not by a timeout
//! of his own many minutes later.

use std::time::{Duration, Instant};

use weft_tests::{Cluster, until};

/// Until the node counts as lost (by its neighbours' word, or else by its Lease of 40 s), its Pods are withdrawn and it was asked
/// in vain.
const HEARD_MAX: Duration = Duration::from_secs(75);

/// A server on node-2 with a Service, and a client on node-1 that holds a connection to it.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: { name: far, labels: { app: far } }
spec:
  nodeName: node-2
  containers:
    - { name: c, image: 'weft.local/demo:1' }
---
apiVersion: v1
kind: Service
metadata: { name: far }
spec:
  selector: { app: far }
  ports: [{ name: http, port: 80, targetPort: 8080 }]
---
apiVersion: v1
kind: Pod
metadata: { name: holds }
spec:
  nodeName: node-1
  restartPolicy: Never
  containers:
    - name: c
      image: 'weft.local/demo:1'
      command: [/bin/sh, -c]
      args: ['until weft-demo get http://far/hostname --timeout-ms 500; do sleep 0.2; done;
              weft-demo hold far:80 --seconds 300 --interval-ms 100 --gap-ms 300000']
";

#[test]
fn connections_to_a_dead_node_end() {
    let cluster = Cluster::up(2, &[]);
    cluster.apply(PODS).ok();
    for pod in ["far", "holds"] {
        cluster.ready(pod);
    }
    until("the client to be connected", Duration::from_secs(20), || {
        cluster.kubectl(&["logs", "holds"]).stdout.contains("far").then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    // Nothing comes from the node any more, no end of a connection either.
    cluster.exec("node-2", &["ip", "link", "set", "uplink0", "down"]).ok();
    let died = Instant::now();
    let phase = until("the client's connection to end", HEARD_MAX, || {
        let phase = cluster.get(&["pod", "holds"])["status"]["phase"].as_str().unwrap_or_default().to_owned();
        (phase != "Running").then_some(phase)
    });
    eprintln!("heard after {:?}", died.elapsed());
    let log = cluster.kubectl(&["logs", "holds"]).ok();
    assert_eq!(phase, "Failed", "{log}");
    assert!(log.contains("connection broke") && log.contains("Software caused connection abort"), "{log}");
}
