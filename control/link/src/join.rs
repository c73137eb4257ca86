//! What a machine needs to become a node: a join token and a name. It knows no sockets and makes nothing random.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Longest node name: it is also the value of a label (Kubernetes: at most 63 characters).
pub const NODE_NAME_CHARS_MAX: usize = 63;

/// The group every node's certificate carries.
pub const NODES_GROUP: &str = "system:nodes";
/// What the common name of a node's certificate begins with.
pub const NODE_USER_PREFIX: &str = "system:node:";

/// A join token: `weft.<id, 6 hex>.<secret, 32 hex>.<sha256 of the CA certificate's DER, 64 hex>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Names the token, is no secret.
    pub id: [u8; 3],
    /// Proves it.
    pub secret: [u8; 16],
    /// The CA to expect, before anything is trusted.
    pub ca_sha256: [u8; 32],
}

/// Why a text is no join token. The text itself is never repeated: it may hold the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not four parts, or another beginning.
    #[error("a join token looks like weft.<6 hex>.<32 hex>.<64 hex>; `weft-control token create` prints one")]
    Shape,
    /// A part has another length or other characters.
    #[error("the join token's {part} must be {digits} lower-case hex digits: was it copied whole?")]
    Part {
        /// Which one.
        part: &'static str,
        /// Its length.
        digits: usize,
    },
}

fn hex<const N: usize>(text: &str, part: &'static str) -> Result<[u8; N], TokenError> {
    let wrong = TokenError::Part { part, digits: 2 * N };
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return Err(wrong);
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(wrong) };
        *byte = high << 4 | low;
    }
    Ok(out)
}

/// Lower-case hex.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        use fmt::Write;
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hash of a CA certificate (DER) as a token carries it.
#[must_use]
pub fn ca_sha256(ca_der: &[u8]) -> [u8; 32] {
    Sha256::digest(ca_der).into()
}

impl Token {
    /// The token's public name, 6 hex digits.
    #[must_use]
    pub fn id_text(&self) -> String {
        to_hex(&self.id)
    }

    /// The hash of the secret, for a control plane that keeps no secrets.
    #[must_use]
    pub fn secret_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// The whole token. Only for showing it to who asked for it, and for sending it.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("weft.{}.{}.{}", to_hex(&self.id), to_hex(&self.secret), to_hex(&self.ca_sha256))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let ["weft", id, secret, ca] = parts[..] else { return Err(TokenError::Shape) };
        Ok(Self { id: hex(id, "id")?, secret: hex(secret, "secret")?, ca_sha256: hex(ca, "hash of the CA")? })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret never reaches a log line.
        f.debug_struct("Token").field("id", &self.id_text()).finish_non_exhaustive()
    }
}

/// Why a name is no node name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the node name {name:?} is not a DNS-1123 subdomain: lower-case letters, digits, '-' and '.', each part beginning \
     and ending with a letter or digit, at most {NODE_NAME_CHARS_MAX} characters"
)]
pub struct NodeNameError {
    /// What was given.
    pub name: String,
}

/// Whether a name may be a node's (RFC 1123 subdomain, short enough for a label).
pub fn check_node_name(name: &str) -> Result<(), NodeNameError> {
    let part_holds = |part: &str| {
        let (first, last) = (part.bytes().next(), part.bytes().last());
        let alphanumeric = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        alphanumeric(first)
            && alphanumeric(last)
            && part.bytes().all(|c| c == b'-' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if name.len() <= NODE_NAME_CHARS_MAX && name.split('.').all(part_holds) {
        Ok(())
    } else {
        Err(NodeNameError { name: name.chars().take(256).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_printed() {
        let token = Token { id: [0xab, 1, 2], secret: [0x5f; 16], ca_sha256: ca_sha256(b"ca") };
        let text = token.to_text();
        assert_eq!(text.len(), 4 + 1 + 6 + 1 + 32 + 1 + 64);
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("5f5f"), "the secret stays out of logs");
    }

    #[test]
    fn broken_tokens_say_what_is_wrong() {
        let token = Token { id: [1; 3], secret: [2; 16], ca_sha256: [3; 32] }.to_text();
        assert_eq!("".parse::<Token>(), Err(TokenError::Shape));
        assert_eq!("kube.a.b.c".parse::<Token>(), Err(TokenError::Shape));
        assert_eq!(format!("{token}.x").parse::<Token>(), Err(TokenError::Shape));
        let cut = token[..token.len() - 1].parse::<Token>();
        assert_eq!(cut, Err(TokenError::Part { part: "hash of the CA", digits: 64 }));
        let upper = token.replacen("020202", "0A0202", 1).parse::<Token>();
        assert_eq!(upper, Err(TokenError::Part { part: "secret", digits: 32 }));
        assert!(!cut.unwrap_err().to_string().contains("0202"));
    }

    #[test]
    fn node_names_are_dns_names() {
        for good in ["node-1", "a", "1", "node.example.com", &"x".repeat(63)] {
            assert_eq!(check_node_name(good), Ok(()));
        }
        for bad in ["", "my node", "Node", "-a", "a-", "a..b", ".a", "a.", "a_b", "ä", "a/b", &"x".repeat(64)]
        {
            let error = check_node_name(bad).unwrap_err();
            assert!(error.to_string().contains("DNS-1123"), "{bad}");
        }
    }
}
