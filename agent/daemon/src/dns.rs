//! Cluster DNS of this node: sockets on the DNS Service's addresses, which the dataplane has put on one of its devices.

use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, RwLock};

use anyhow::Context;
use weft_dns::records::Records;
use weft_dns::server::{self, Sockets};

use crate::addresses::kernel_has_v6;
use crate::agent::Agent;
use crate::api::answer::chain;
use crate::knowledge::addresses;

/// DNS's port, RFC 1035.
const PORT: u16 = 53;

/// Binds the sockets, and serves in the background. Answers the table that is served from.
///
/// # Errors
/// The port is taken on an address.
pub(crate) fn start(agent: &Agent) -> anyhow::Result<Arc<RwLock<Records>>> {
    let cluster = agent.knowledge.cluster();
    let mut sockets = Sockets::default();
    for ip in addresses(&cluster.dns_ips).into_iter().filter(|ip| ip.is_ipv4() || kernel_has_v6()) {
        sockets
            .udp
            .push(UdpSocket::bind((ip, PORT)).with_context(|| format!("DNS cannot listen on {ip} (udp)"))?);
        sockets
            .tcp
            .push(TcpListener::bind((ip, PORT)).with_context(|| format!("DNS cannot listen on {ip} (tcp)"))?);
    }
    let records = Arc::new(RwLock::new(Records::new(&cluster.domain)));
    let config =
        server::Config { resolv_conf: agent.config.resolv_conf.clone(), ..server::Config::default() };
    let served = records.clone();
    tokio::spawn(async move {
        if let Err(error) = server::run(sockets, served, config).await {
            tracing::error!(error = chain(&error), "cluster DNS has ended");
        }
    });
    Ok(records)
}
