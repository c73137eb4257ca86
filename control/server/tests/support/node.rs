//! A node's end of the link, played by `weft-link`'s own client: it joins, connects and says that it is ready.

use serde_json::json;
use weft_link::message::{Heartbeat, Hello, StatusFrame, status_frame};
use weft_link::session::{self, AgentSession, NodeIdentity, key_and_csr};

use crate::server::Server;

pub(crate) async fn join(server: &Server, node: &str) -> NodeIdentity {
    let key = key_and_csr(node).unwrap();
    let answer =
        session::join(server.link, &server.token("1h").parse().unwrap(), node, &key.csr_pem).await.unwrap();
    NodeIdentity::from_pem(&answer.certificate_pem, &key.key_pem, &answer.ca_pem).unwrap()
}

pub(crate) async fn connect(server: &Server, identity: &NodeIdentity, node: &str) -> AgentSession {
    let node_json = json!({ "metadata": { "labels": { "a": "b" } }, "status": {
        "capacity": { "cpu": "4", "memory": "8Gi", "pods": "110" },
        "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" },
        "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] } });
    let hello = Hello { node: node.into(), node_json: node_json.to_string().into(), ..Hello::default() };
    session::connect(server.link, identity, hello).await.unwrap()
}

pub(crate) async fn report(session: &mut AgentSession, frame: status_frame::Frame) {
    session.status.send(&StatusFrame { frame: Some(frame) }).await.unwrap();
}

pub(crate) async fn ready(session: &mut AgentSession) {
    let status = json!({ "capacity": { "cpu": "4", "memory": "8Gi", "pods": "110" },
        "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" },
        "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }],
        "conditions": [{ "type": "Ready", "status": "True", "reason": "AgentReady" }] });
    report(session, status_frame::Frame::Node(status.to_string().into())).await;
    report(session, status_frame::Frame::Heartbeat(Heartbeat {})).await;
}
