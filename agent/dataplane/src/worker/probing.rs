//! A question about a packet: where it begins is known here, the rest is the dry run's.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::Worker;
use crate::dry::{self, DryError, Packet};
use crate::netlink::Device;

impl Worker {
    /// Has the packet walk on a thread of its own, which inherits this one's network namespace: loading programs takes long.
    pub(super) fn probe(
        &self,
        (namespace, name): &(String, String),
        packet: Packet,
        answer: oneshot::Sender<Result<dry::Answer, DryError>>,
    ) {
        let start = match self.start_of(namespace, name, packet.to.is_ipv6()) {
            Ok(start) => start,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let busy = self.probing.clone();
        if busy.swap(true, Ordering::AcqRel) {
            return drop(answer.send(Err(DryError::Busy)));
        }
        let work = move || {
            let said = dry::run(&start, &packet);
            busy.store(false, Ordering::Release);
            drop(answer.send(said));
        };
        if std::thread::Builder::new().name("weft-dry".to_owned()).spawn(work).is_err() {
            // The answer's sender went with the thread that never was: who asked hears that.
            self.probing.store(false, Ordering::Release);
        }
    }

    fn start_of(&self, namespace: &str, name: &str, v6: bool) -> Result<dry::Start, DryError> {
        let pod = self.pods.values().find(|pod| pod.namespace == namespace && pod.name == name);
        let pod = pod.ok_or_else(|| DryError::NoPod(format!("{namespace}/{name}")))?;
        let from = pod.ips.iter().copied().find(|ip| ip.is_ipv6() == v6);
        let device = |device: &Device| (device.name.clone(), device.index, device.mtu_bytes);
        Ok(dry::Start {
            object: self.config.object_path.clone(),
            maps: self.pins.maps(),
            pod_device: pod.device.clone(),
            pod_ifindex: pod.ifindex,
            mac: pod.mac,
            gateway_mac: pod.gateway_mac,
            from: from.ok_or_else(|| DryError::NoAddress(format!("{namespace}/{name}")))?,
            pod_mtu_bytes: self.links.mtu.pods_bytes,
            overlay: device(&self.links.vxlan),
            uplink: device(&self.links.uplink),
        })
    }
}
