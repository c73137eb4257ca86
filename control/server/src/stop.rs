//! The word that the server is to stop, as every task hears it.

use tokio::sync::watch;

/// Waits until the server is to stop; it is, too, when nobody is left who could say so.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
