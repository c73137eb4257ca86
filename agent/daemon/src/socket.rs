//! The Unix socket of agentctl: root's alone.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::api;

/// Connections at a time; one more waits.
const CONNECTIONS_MAX: usize = 64;

/// Binds the socket, mode 0600, in place of one that a dead agent left.
///
/// # Errors
/// Another agent answers there, or the path cannot be used.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers there"));
        }
        std::fs::remove_file(path)?;
    }
    // Nobody connects between bind and chmod who could not before: the directory is root's.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves connections for ever.
pub(crate) async fn serve(agent: Arc<Agent>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if is_root(&stream) => {
                let agent = agent.clone();
                tokio::spawn(async move {
                    api::serve(agent, stream).await;
                    drop(place);
                });
            }
            Ok(_) => {
                tracing::warn!("a process that is not root's came to the agent's socket and was sent away");
            }
            Err(error) => {
                tracing::warn!(%error, "the agent's socket cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_root(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0)
}
