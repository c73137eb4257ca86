//! Join tokens: `weft.<id>.<secret>.<hash of the CA>`, kept as Secrets of type `bootstrap.kubernetes.io/token`.
//!
//! The form of the Secrets is Kubernetes' own (bootstrap tokens, kubeadm); the hash is for the node, which checks by it
//! that it speaks with the right control plane.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::Secret;
use weft_link::join::{Token, TokenError, to_hex};

use crate::cache::Cache;
use crate::clock;

/// The namespace the Secrets are in.
pub(crate) const NAMESPACE: &str = "kube-system";
/// The type of the Secrets.
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// Why a machine may not join. The text goes to the machine's operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the join token is malformed: {0}")]
    Malformed(TokenError),
    #[error("the join token is not known here; make one with `weft-control token create`")]
    Unknown,
    #[error("the join token has expired; make a new one with `weft-control token create`")]
    Expired,
}

/// A random token for the cluster whose CA certificate has this hash.
pub(crate) fn random(ca_sha256: [u8; 32]) -> Token {
    let id = *uuid::Uuid::new_v4().as_bytes();
    // A version 4 UUID has 122 random bits; of two, all 128 bits of the secret are random.
    let (a, b) = (*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes());
    let mut secret = [0; 16];
    secret[..6].copy_from_slice(&a[..6]);
    secret[6..12].copy_from_slice(&b[..6]);
    secret[12..].copy_from_slice(&a[12..]);
    Token { id: [id[0], id[1], id[2]], secret, ca_sha256 }
}

/// The Secret that makes a token known.
pub(crate) fn secret_object(token: &Token, expires: Timestamp) -> Value {
    let data = |text: &str| STANDARD.encode(text);
    let id = token.id_text();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("bootstrap-token-{id}"), "namespace": NAMESPACE },
        "type": TYPE,
        "data": {
            "token-id": data(&id),
            "token-secret": data(&to_hex(&token.secret)),
            "expiration": data(&clock::seconds(expires)),
            "usage-bootstrap-authentication": data("true"),
            "usage-bootstrap-signing": data("true"),
            "auth-extra-groups": data("system:bootstrappers"),
        },
    })
}

/// Whether a machine with this token may join.
///
/// # Errors
/// It may not.
pub(crate) fn check(token: &str, cache: &Cache, now: Timestamp) -> Result<(), Refused> {
    let token: Token = token.parse().map_err(Refused::Malformed)?;
    let key = ObjectKey::namespaced(NAMESPACE, format!("bootstrap-token-{}", token.id_text()));
    let stored = cache.get(&kind::SECRET, &key).ok_or(Refused::Unknown)?;
    let stored: Secret = stored.object.view().map_err(|_| Refused::Unknown)?;
    let field = |name: &str| {
        stored.data.get(name).and_then(|v| STANDARD.decode(v).ok()).and_then(|v| String::from_utf8(v).ok())
    };
    let allowed = field("usage-bootstrap-authentication").is_some_and(|v| v == "true");
    // Compared by their hashes, so that the time it takes says nothing about where they differ.
    let known =
        field("token-secret").is_some_and(|s| Sha256::digest(&s) == Sha256::digest(to_hex(&token.secret)));
    if stored.type_ != TYPE || !allowed || !known {
        return Err(Refused::Unknown);
    }
    match field("expiration").map(|t| t.parse::<Timestamp>()) {
        None => Ok(()),
        Some(Ok(end)) if end > now => Ok(()),
        Some(_) => Err(Refused::Expired),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_token_comes_back_from_its_text() {
        let token = random([7; 32]);
        let again: Token = token.to_text().parse().unwrap();
        assert_eq!(again.to_text(), token.to_text());
        assert_ne!(random([7; 32]).secret, token.secret);
        let secret = secret_object(&token, Timestamp::UNIX_EPOCH);
        assert_eq!(secret["data"]["token-id"], STANDARD.encode(token.id_text()));
    }
}
