//! The node's own routes to the Pods of other nodes, and what the ways there leave of a packet.

use super::{Worker, chain};
use crate::dataplane::Routing;
use crate::desired::{Change, Peer};
use crate::links::{self, LinkError};
use crate::mtu::Carriage;
use crate::reach::Reach;

/// What a change means for the routes to other nodes.
pub(super) enum Routes {
    To(Peer),
    All,
    Fewer,
    Same,
}

impl Routes {
    pub(super) fn of(change: &Change) -> Self {
        match change {
            Change::PutPeer(peer) => Self::To(peer.clone()),
            Change::ReplaceAll(_) => Self::All,
            Change::RemovePeer(_) => Self::Fewer,
            _ => Self::Same,
        }
    }
}

impl Worker {
    /// Makes the routes as a change wants them, which has been taken in; what fails is owed.
    pub(super) async fn route(&mut self, routes: Routes) -> Result<(), LinkError> {
        let routed = match routes {
            Routes::To(peer) => links::put_peer(&self.netlink, &self.config, &self.links, &peer).await,
            Routes::All => self.put_peers().await,
            Routes::Fewer if self.complete => self.keep_peers().await,
            Routes::Fewer => Ok(()),
            Routes::Same => return Ok(()),
        };
        self.routes_owed |= routed.is_err();
        self.measure().await;
        routed
    }

    /// Routes to all other nodes known, and none to others once all are known.
    pub(super) async fn put_peers(&mut self) -> Result<(), LinkError> {
        for peer in self.desired.peers.values() {
            links::put_peer(&self.netlink, &self.config, &self.links, peer).await?;
        }
        if self.complete {
            self.keep_peers().await?;
        }
        self.routes_owed = false;
        Ok(())
    }

    /// Takes up that other nodes are reached in other ways now: the uplink has another address.
    pub(super) async fn reach_otherwise(&mut self, reach: Reach) {
        tracing::info!(uplink = %self.links.uplink.name, "the uplink is in other networks now: other nodes are reached anew");
        self.planner.set_reach(reach.clone());
        self.links.reach = reach;
        for peer in self.desired.peers.values().cloned().collect::<Vec<_>>() {
            // What fails makes the tables stale: all is put again with the next change.
            match self.carry(&Change::PutPeer(peer)) {
                Ok((_, refused)) => self.remember_refused(&refused),
                Err(error) => {
                    tracing::error!(error = %chain(&error), "routes to another node are those of before");
                }
            }
        }
        if let Err(error) = self.put_peers().await {
            self.routes_owed = true;
            tracing::error!(error = %chain(&error), "the node's own routes to others are those of before");
        }
    }

    /// How many other nodes are reached in which way.
    pub(super) fn routing(&self) -> Routing {
        let mut routing = Routing { mode: self.config.routing_mode.text(), ..Routing::default() };
        for peer in self.desired.peers.values() {
            let ways: Vec<_> = peer
                .pod_cidrs
                .iter()
                .map(|range| self.links.reach.way(peer, range).map(|(carriage, _)| carriage))
                .collect();
            for (way, nodes) in [
                (Some(Carriage::Direct), &mut routing.native_nodes),
                (Some(Carriage::TunnelV4), &mut routing.tunnel_v4_nodes),
                (Some(Carriage::TunnelV6), &mut routing.tunnel_v6_nodes),
                (None, &mut routing.unreached_nodes),
            ] {
                *nodes += usize::from(ways.contains(&way));
            }
        }
        routing
    }

    async fn keep_peers(&self) -> Result<(), LinkError> {
        links::keep_peers(&self.netlink, &self.config, &self.links, self.desired.peers.values()).await
    }
}
