//! What is to be done for a container that its shim does not know (any more): the OCI runtime is told to kill and forget it.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::start::ShimSettings;

/// How long a cleanup may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Removes the socket of a shim that was killed; one behind which a shim listens stays.
pub(crate) fn remove_dead_socket(address: &str) {
    let path = address.trim_start_matches("unix://");
    let dead = UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    if dead && let Err(error) = fs::remove_file(path) {
        tracing::warn!(path, %error, "socket of a dead shim is not removed");
    }
}

/// Kills and removes container `id` without a shim. There may be nothing to remove; what fails is logged.
pub(crate) async fn delete(settings: &ShimSettings, id: &str, bundle: &Path) {
    if !bundle.is_dir() {
        return;
    }
    let mut command = Command::new(&settings.program);
    command
        .current_dir(bundle)
        .env("TTRPC_ADDRESS", &settings.events)
        .arg("-namespace")
        .arg(&settings.namespace)
        .arg("-address")
        .arg(&settings.events)
        .args(["-id", id, "-bundle"])
        .arg(bundle)
        .arg("delete")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.status()).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::debug!(container = id, %status, "shim cleanup found nothing to remove"),
        Ok(Err(error)) => tracing::warn!(container = id, %error, "shim cleanup did not run"),
        Err(_) => tracing::warn!(container = id, "shim cleanup did not end in time"),
    }
}
