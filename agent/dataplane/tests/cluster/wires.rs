//! What the cables of a bed are like, and what else may be at the uplinks, for the program at the uplink's driver.

#[path = "offload.rs"]
mod offload;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use weft_dataplane::{Dataplane, netns};

use super::{Bed, block_on, chain, ip, link_details};

impl Bed {
    /// Has the bridge's ports take what a driver at their other ends sends.
    pub(crate) fn takes_frames(&mut self) {
        let underlay = PathBuf::from(format!("/run/netns/{}-u", self.id));
        let ports = self.plugs().map(|name| format!("p{name}")).collect::<Vec<_>>();
        let links = || ports.iter().map(|port| offload::takes_frames(port)).collect::<Vec<_>>();
        self.takers = netns::within(&underlay, links).expect("namespace");
    }

    /// Has all cables carry what wires do: packets with their checksums, of which a driver may send some back.
    pub(crate) fn as_on_wires(&mut self) {
        self.takes_frames();
        for name in self.plugs() {
            let place = PathBuf::from(format!("/run/netns/{}-{name}", self.id));
            netns::within(&place, || offload::finishes_checksums("eth0")).expect("namespace");
        }
    }

    fn plugs(&self) -> impl Iterator<Item = String> {
        let machines =
            self.machines.iter().map(|machine| machine.name.trim_start_matches("node-").to_owned());
        machines.chain(["c".to_owned()])
    }

    /// Gives a machine a device whose driver has no XDP; once.
    pub(crate) fn without_xdp(&self, machine: usize, name: &str) {
        if !self.devices(machine).iter().any(|device| device == name) {
            let number = self.machines[machine].name.trim_start_matches("node-").to_owned();
            ip(&format!("-n {}-{number} link add {name} type bridge", self.id));
            ip(&format!("-n {}-{number} link set {name} up", self.id));
        }
    }

    /// What `ip` says of a machine's device.
    pub(crate) fn link(&self, machine: usize, device: &str) -> String {
        netns::within(&self.machines[machine].netns, || link_details(device)).expect("namespace")
    }

    /// Puts somebody else's program at the driver of a machine's uplink, for as long as what is given back is held.
    pub(crate) fn others_program(&self, machine: usize) -> OwnedFd {
        netns::within(&self.machines[machine].netns, || offload::takes_frames("eth0")).expect("namespace")
    }

    /// Gives a machine's cable another MTU, at both ends.
    pub(crate) fn set_cable_mtu(&self, machine: usize, mtu_bytes: u32) {
        let number = self.machines[machine].name.trim_start_matches("node-").to_owned();
        ip(&format!("-n {}-u link set p{number} mtu {mtu_bytes}", self.id));
        self.set_uplink_mtu(machine, mtu_bytes);
    }

    /// Pins of links to the drivers of a machine, by name, and what tells each pin from one made anew.
    pub(crate) fn driver_pins(&self, machine: usize) -> Vec<(String, u64)> {
        let links = self.machines[machine].config.bpffs_dir.join("links");
        let entries = fs::read_dir(links).expect("pins").map(|entry| entry.expect("a pin"));
        let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry));
        let ours = named.filter(|(name, _)| name.starts_with("xdp"));
        ours.map(|(name, entry)| (name, entry.metadata().expect("its number").ino())).collect()
    }

    /// Removes all that a machine's dataplane has left.
    pub(crate) fn remove(&self, machine: usize) {
        let machine = &self.machines[machine];
        let config = machine.config.clone();
        let removed = netns::within(&machine.netns, || block_on(Dataplane::remove_everything(&config)));
        removed.expect("namespace").unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
}
