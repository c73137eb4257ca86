//! Becoming a node: the identity of an earlier join, or a new one by a token.

use std::net::SocketAddr;

use weft_link::join::{Token, TokenError};
use weft_link::session::{self, JoinError, KeyError, key_and_csr};

use crate::config::Config;
use crate::identity::{Directory, Identity, IdentityError};

/// Why this machine is no node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BecomeError {
    #[error("this machine has not joined yet: give --token once; `weft-control token create` prints one")]
    NoToken,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Files(#[from] IdentityError),
    #[error("{control} has no address")]
    Resolve {
        control: String,
        #[source]
        source: std::io::Error,
    },
}

/// The identity kept in `directory`, or a new one.
///
/// # Errors
/// There is none and the join does not go through.
pub(crate) async fn ensure(config: &Config, directory: &Directory) -> Result<Identity, BecomeError> {
    if let Some(identity) = directory.load()? {
        return Ok(identity);
    }
    let token: Token = config.token.as_deref().ok_or(BecomeError::NoToken)?.parse()?;
    let address = resolve(&config.control).await?;
    let made = key_and_csr(&config.node_name)?;
    let response = session::join(address, &token, &config.node_name, &made.csr_pem).await?;
    let identity = Identity {
        key_pem: made.key_pem,
        certificate_pem: response.certificate_pem,
        ca_pem: response.ca_pem,
    };
    directory.save(&identity)?;
    tracing::info!(node = config.node_name, control = config.control, "joined the cluster");
    Ok(identity)
}

/// The first address of `HOST:PORT`.
///
/// # Errors
/// The name has none.
pub(crate) async fn resolve(control: &str) -> Result<SocketAddr, BecomeError> {
    let failed = |source| BecomeError::Resolve { control: control.to_owned(), source };
    let mut addresses = tokio::net::lookup_host(control).await.map_err(failed)?;
    addresses.next().ok_or_else(|| failed(std::io::Error::from(std::io::ErrorKind::NotFound)))
}
