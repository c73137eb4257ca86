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

use crate::cache::Cache;
use crate::clock;

/// The namespace the Secrets are in.
pub(crate) const NAMESPACE: &str = "kube-system";
/// The type of the Secrets.
const TYPE: &str = "bootstrap.kubernetes.io/token";
const ID_CHARS: usize = 6;
const SECRET_CHARS: usize = 16;

/// Why a machine may not join. The text goes to the machine's operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the join token is malformed; make one with `weft-control token create`")]
    Malformed,
    #[error("the join token is not known here; make one with `weft-control token create`")]
    Unknown,
    #[error("the join token has expired; make a new one with `weft-control token create`")]
    Expired,
}

/// A new token's two parts.
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Parts {
    /// Random ones.
    pub(crate) fn random() -> Self {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let text = |count: usize| {
            let mut out = String::with_capacity(count);
            while out.len() < count {
                // 252 is the largest multiple of 36 in a byte: every letter is as likely as any other.
                let bytes = *uuid::Uuid::new_v4().as_bytes();
                // Bytes 6 and 8 of a version 4 UUID are not all random.
                for b in
                    bytes.iter().enumerate().filter(|(i, b)| *i != 6 && *i != 8 && **b < 252).map(|(_, b)| *b)
                {
                    if out.len() < count {
                        out.push(char::from(LETTERS[usize::from(b % 36)]));
                    }
                }
            }
            out
        };
        Self { id: text(ID_CHARS), secret: text(SECRET_CHARS) }
    }

    /// The Secret that makes the token known.
    pub(crate) fn secret_object(&self, expires: Timestamp) -> Value {
        let data = |text: &str| STANDARD.encode(text);
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": format!("bootstrap-token-{}", self.id), "namespace": NAMESPACE },
            "type": TYPE,
            "data": {
                "token-id": data(&self.id),
                "token-secret": data(&self.secret),
                "expiration": data(&clock::seconds(expires)),
                "usage-bootstrap-authentication": data("true"),
                "usage-bootstrap-signing": data("true"),
                "auth-extra-groups": data("system:bootstrappers"),
            },
        })
    }

    /// The token as it is handed to a machine.
    pub(crate) fn token(&self, ca_hash: &str) -> String {
        format!("weft.{}.{}.{ca_hash}", self.id, self.secret)
    }
}

/// Whether a machine with this token may join.
///
/// # Errors
/// It may not.
pub(crate) fn check(token: &str, cache: &Cache, now: Timestamp) -> Result<(), Refused> {
    let mut parts = token.trim().split('.');
    let (Some("weft"), Some(id), Some(secret), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Malformed);
    };
    let key = ObjectKey::namespaced(NAMESPACE, format!("bootstrap-token-{id}"));
    let stored = cache.get(&kind::SECRET, &key).ok_or(Refused::Unknown)?;
    let stored: Secret = stored.object.view().map_err(|_| Refused::Unknown)?;
    let field = |name: &str| {
        stored.data.get(name).and_then(|v| STANDARD.decode(v).ok()).and_then(|v| String::from_utf8(v).ok())
    };
    let allowed = field("usage-bootstrap-authentication").is_some_and(|v| v == "true");
    // Compared by their hashes, so that the time it takes says nothing about where they differ.
    let known = field("token-secret").is_some_and(|s| Sha256::digest(&s) == Sha256::digest(secret));
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
    fn parts_have_their_lengths_and_letters() {
        let parts = Parts::random();
        assert_eq!((parts.id.len(), parts.secret.len()), (ID_CHARS, SECRET_CHARS));
        assert!(
            parts.token("abc").bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
        );
        assert_ne!(Parts::random().secret, parts.secret);
    }
}
