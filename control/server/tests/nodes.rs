//! A node's whole life with a real server, the agent's end played by `weft-link`'s own client: join, register, state,
//! reports, tokens, logs and exec.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::{Value, json};
use server::{BINARY, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use weft_link::message::state_frame::Frame;
use weft_link::message::{
    Heartbeat, Hello, PodStatus, PROTOCOL, PROTOCOL_OLDEST, StatusFrame, TokenRequest, open::To, request, status_frame,
};
use weft_link::session::{self, AgentSession, NodeIdentity};

fn token(server: &Server) -> String {
    let output = Command::new(BINARY).args(["token", "create", "--data-dir"]).arg(&server.dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
