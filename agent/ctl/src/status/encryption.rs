//! What `agentctl status` says of the encryption between nodes.

use serde_json::Value;

use super::{Page, text};

/// Peers that are told of one by one; all are in the JSON.
const PEERS_SHOWN_MAX: usize = 16;

/// Whether nodes encrypt, by what, and how each peer is; packets that were dropped.
pub(super) fn rows(page: &mut Page, encryption: &Value) {
    let mode = match encryption["mode"].as_str() {
        None => return,
        Some("off") => return page.row("encryption", "off"),
        Some("kernel") => "the kernel",
        Some(mode) => mode,
    };
    if let Some(problem) = encryption["problem"].as_str() {
        page.row("encryption", format!("WireGuard in {mode}, BROKEN, other nodes get nothing: {problem}"));
        return;
    }
    let status = &encryption["status"];
    let keys = match status["generations"].as_array().and_then(|all| all.first()) {
        Some(newest) => format!("keys of generation {newest}"),
        None => "NO KEYS yet, other nodes get nothing".to_owned(),
    };
    page.row("encryption", format!("WireGuard in {mode}, {keys}"));
    let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    for peer in peers.iter().take(PEERS_SHOWN_MAX) {
        page.row("", format!("{} at {}: {}", text(&peer["name"]), text(&peer["address"]), session(peer)));
    }
    if peers.len() > PEERS_SHOWN_MAX {
        page.row("", format!("and {} more (-o json)", peers.len() - PEERS_SHOWN_MAX));
    }
    let drops = status["drops"].as_object().into_iter().flatten();
    let drops: Vec<String> = drops
        .filter(|(_, count)| count.as_u64().is_some_and(|count| count > 0))
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    if !drops.is_empty() {
        page.row("", format!("dropped: {}", drops.join(", ")));
    }
}

fn session(peer: &Value) -> String {
    match (peer["generation"].as_u64(), peer["handshake_age_seconds"].as_u64()) {
        (Some(generation), Some(age)) => format!("generation {generation}, handshake {age} s ago"),
        _ => "no session (one begins with the first packet)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(encryption: &Value) -> String {
        let mut page = Page::default();
        rows(&mut page, encryption);
        page.lines.join("\n")
    }

    #[test]
    fn it_says_who_encrypts_and_how_peers_are() {
        assert_eq!(said(&Value::Null), "", "an older agent");
        assert!(said(&json!({ "mode": "off" })).ends_with(" off"));
        let peer = |name: &str, generation: Value, age: Value| {
            json!({ "name": name, "address": "192.0.2.2", "generation": generation,
                "handshake_age_seconds": age })
        };
        let status = json!({ "generations": [4, 3],
            "peers": [peer("node-2", json!(4), json!(12)), peer("node-3", Value::Null, Value::Null)],
            "drops": { "no key of the peer": 7, "not deciphered": 0 } });
        let said_ = said(&json!({ "mode": "user space", "status": status }));
        assert!(said_.contains("WireGuard in user space, keys of generation 4"), "{said_}");
        assert!(said_.contains("node-2 at 192.0.2.2: generation 4, handshake 12 s ago"), "{said_}");
        assert!(said_.contains("node-3 at 192.0.2.2: no session"), "{said_}");
        assert!(said_.contains("dropped: 7 no key of the peer") && !said_.contains("deciphered"), "{said_}");
        let none = json!({ "mode": "user space", "status": { "generations": [], "peers": [] } });
        assert!(said(&none).contains("NO KEYS"));
        assert!(said(&json!({ "mode": "user space", "problem": "gone" })).contains("BROKEN"));
        let status = json!({ "generations": [4, 3], "peers": [] });
        assert!(
            said(&json!({ "mode": "kernel", "status": status })).contains("WireGuard in the kernel, keys")
        );
    }
}
