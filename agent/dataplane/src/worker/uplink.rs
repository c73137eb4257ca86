//! The uplink under a running agent: when it takes packets of another length, or other nodes are reached in another way, the
//! tunnel's device and the Pods' get what that leaves.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Worker, chain};
use crate::{links, pods};

/// How often the uplink is looked at, seconds.
const LOOKS_SECONDS: u64 = 5;

/// When to look.
pub(super) fn looks() -> Interval {
    let mut looks = interval(Duration::from_secs(LOOKS_SECONDS));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

impl Worker {
    /// Takes up another MTU of the uplink, and other addresses. One that is gone for a while is as it was.
    pub(super) async fn look_at_uplink(&mut self) {
        let uplink = &self.links.uplink;
        if let Ok(Some(device)) = self.netlink.device(&uplink.name).await
            && device.index == uplink.index
        {
            let reach = links::reach(&self.netlink, &self.config, &device).await;
            self.links.uplink.mtu_bytes = device.mtu_bytes;
            if let Ok(reach) = reach
                && reach != self.links.reach
            {
                self.reach_otherwise(reach).await;
            }
        }
        self.measure().await;
    }

    /// Gives the devices their MTU where it has changed. What fails is tried again at the next look.
    pub(super) async fn measure(&mut self) {
        let uplink_bytes = self.links.uplink.mtu_bytes;
        let mtu = self.links.reach.mtu(&self.config, uplink_bytes, self.desired.peers.values());
        if mtu == self.links.mtu && !self.mtu_owed {
            return;
        }
        if mtu != self.links.mtu {
            tracing::info!(
                uplink = %self.links.uplink.name,
                uplink_mtu_bytes = self.links.uplink.mtu_bytes,
                pod_mtu_bytes = mtu.pods_bytes,
                "pods and tunnel take packets of another length now"
            );
        }
        let cut = self.links.mtu.cut;
        self.links.mtu = mtu;
        if mtu.cut && !cut {
            self.report_cut();
        }
        self.mtu_owed = false;
        let set = self.netlink.set_mtu(&self.links.vxlan, mtu.tunnel_bytes).await;
        self.links.vxlan.mtu_bytes = mtu.tunnel_bytes;
        if let Err(error) = set {
            self.mtu_owed = true;
            tracing::warn!(error = %chain(&error), "the tunnel keeps its MTU for now");
        }
        for cipher in &mut self.links.ciphers {
            cipher.mtu_bytes = self.links.uplink.mtu_bytes.saturating_sub(self.config.encryption_bytes);
            if let Err(error) = self.netlink.set_mtu(cipher, cipher.mtu_bytes).await {
                self.mtu_owed = true;
                tracing::warn!(error = %chain(&error), "the device that encrypts keeps its MTU for now");
            }
        }
        for pod in self.pods.values() {
            if let Err(error) = pods::resize(&self.netlink, pod, mtu.pods_bytes).await {
                self.mtu_owed = true;
                tracing::warn!(error = %chain(&error), "the pod keeps its MTU for now");
            }
        }
    }

    /// Says that the uplink is too small.
    pub(super) fn report_cut(&self) {
        if self.links.mtu.cut {
            tracing::warn!(
                uplink = %self.links.uplink.name,
                uplink_mtu_bytes = self.links.uplink.mtu_bytes,
                "the uplink takes too little for what Pods must be able to send: packets between nodes go in pieces"
            );
        }
    }
}
