//! An agent of another build, for the tests of upgrades: it starts the dataplane in a machine's network namespace as its
//! settings say, tells how that went in one line, and stays until it is killed. Knows nothing of a control plane.

use std::io::{self, BufRead as _};
use std::path::Path;

use weft_dataplane::desired::Node;
use weft_dataplane::{Config, Dataplane, PacketHooks, Xdp, chain, netns};

/// Settings come as lines: network namespace, object, name, address, range of Pods, range of all Pods, range of Services,
/// directory of pins, directory of state, cgroup, "true" or "false" for balancing at connect, for
/// classifiers instead of tcx, and for the program at the uplink's driver.
fn main() {
    let lines: Vec<String> = io::stdin().lock().lines().take(13).map_while(Result::ok).collect();
    let [
        namespace,
        object,
        name,
        address,
        pods,
        all_pods,
        services,
        pins,
        state,
        cgroup,
        socket_lb,
        clsact,
        xdp,
    ] = lines.as_slice()
    else {
        println!("failed: {} lines of settings", lines.len());
        return;
    };
    let node = Node {
        name: name.clone(),
        addresses: vec![address.parse().expect("an address")],
        pod_cidrs: vec![pods.parse().expect("a range")],
        ..Node::default()
    };
    let mut config = Config::new(node, object.into());
    config.cluster_cidrs = vec![all_pods.parse().expect("a range")];
    config.service_cidrs = vec![services.parse().expect("a range")];
    config.bpffs_dir = pins.into();
    config.state_dir = state.into();
    config.cgroup_path = cgroup.into();
    config.socket_lb = socket_lb == "true";
    config.packet_hooks = if clsact == "true" { PacketHooks::Clsact } else { PacketHooks::Probe };
    config.xdp = if xdp == "true" { Xdp::On } else { Xdp::Off };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let started = netns::within(Path::new(namespace), || runtime.block_on(Dataplane::start(config)));
    match started.expect("the namespace") {
        Ok(_dataplane) => {
            println!("started with layout {}", weft_dataplane_abi::LAYOUT);
            loop {
                std::thread::park();
            }
        }
        Err(error) => println!("failed: {}", chain(&error)),
    }
}
