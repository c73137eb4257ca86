//! Clusters in network namespaces: every packet goes through the real kernel by the real programs.

#[path = "cluster/bed.rs"]
mod bed;
#[path = "cluster/capture.rs"]
mod capture;
#[path = "cluster/chat.rs"]
mod chat;
#[path = "cluster/cipher.rs"]
mod cipher;
#[path = "cluster/clsact.rs"]
mod clsact;
#[path = "cluster/departed.rs"]
mod departed;
#[path = "cluster/direct.rs"]
mod direct;
#[path = "cluster/dry.rs"]
mod dry;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "these tests use a part of the frames")]
mod frame;
#[path = "cluster/host_ports.rs"]
mod host_ports;
#[path = "cluster/mtu.rs"]
mod mtu;
#[path = "cluster/native.rs"]
mod native;
#[path = "packet/object.rs"]
mod object;
#[path = "cluster/paths.rs"]
mod paths;
#[path = "cluster/process.rs"]
mod process;
#[path = "packet/release.rs"]
mod release;
#[path = "cluster/replaced.rs"]
mod replaced;
#[path = "cluster/restart.rs"]
mod restart;
#[path = "cluster/six.rs"]
mod six;
#[path = "cluster/sweep.rs"]
mod sweep;
#[path = "cluster/traffic.rs"]
mod traffic;
#[path = "cluster/tunnel.rs"]
mod tunnel;
#[path = "cluster/upgrade.rs"]
mod upgrade;
#[path = "cluster/xdp.rs"]
mod xdp;

/// Where the processes of a cluster begin; a test with nothing to do otherwise.
#[test]
fn role() {
    process::role();
}
