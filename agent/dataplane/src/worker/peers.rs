//! The node's own routes to the Pods of other nodes, and what the ways there leave of a packet.

use super::Worker;
use crate::desired::{Change, Peer};
use crate::links::{self, LinkError};

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

    async fn keep_peers(&self) -> Result<(), LinkError> {
        links::keep_peers(&self.netlink, &self.config, &self.links, self.desired.peers.values()).await
    }
}
