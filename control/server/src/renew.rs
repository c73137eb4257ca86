//! Keeps the certificates young while the server runs: whoever connects later is shown the new ones.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock;
use crate::http::listen::{Shown, TlsError};
use crate::pki::{Pki, PkiError};

/// Where certificates are shown.
pub(crate) struct Showing<L> {
    pub(crate) api: Arc<Shown>,
    /// Shows the link's.
    pub(crate) link: L,
    /// The admin's kubeconfig and the server URL in it.
    pub(crate) kubeconfig: (PathBuf, String),
}

/// Why a new certificate is not shown.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("certificates cannot be renewed")]
    Pki(#[from] PkiError),
    #[error("the API cannot show its new certificate")]
    Api(#[source] TlsError),
    #[error("the link cannot show its new certificate")]
    Link(#[source] weft_link::session::TlsError),
    #[error("certificates cannot be renewed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Looks after the certificates for ever. A failure is told and tried again.
pub(crate) async fn keep<L>(pki: Arc<Pki>, showing: Showing<L>)
where
    L: Fn(&Pki) -> Result<(), weft_link::session::TlsError> + Send,
{
    loop {
        tokio::time::sleep(pki.renew_every()).await;
        match renew(&pki, &showing).await {
            Ok(false) => {}
            Ok(true) => tracing::info!("certificates were renewed"),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "the certificates near their end");
            }
        }
    }
}

async fn renew<L>(pki: &Arc<Pki>, showing: &Showing<L>) -> Result<bool, RenewError>
where
    L: Fn(&Pki) -> Result<(), weft_link::session::TlsError>,
{
    let (renewing, (path, url)) = (pki.clone(), showing.kubeconfig.clone());
    let renewed = tokio::task::spawn_blocking(move || -> Result<bool, PkiError> {
        let renewed = renewing.renew(clock::now())?;
        if renewed {
            renewing.write_kubeconfig(&path, &url)?;
        }
        Ok(renewed)
    });
    let renewed = renewed.await??;
    if renewed {
        showing.api.set(&pki.server()).map_err(RenewError::Api)?;
        (showing.link)(pki).map_err(RenewError::Link)?;
    }
    Ok(renewed)
}
