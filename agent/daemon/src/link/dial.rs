//! TCP connections that the control plane asks for, carried on a stream of the link: to an address as the node sees it, and to a
//! port inside a Pod. Who may ask for which was decided there.

use std::time::Duration;

use tokio::net::TcpStream;
use weft_link::message::PodPort;
use weft_link::session::OpenAttempt;
use weft_runtime::{Runtime, SessionError};

use crate::api::answer::chain;

/// How long a connection may take to be made.
const DIAL_MAX: Duration = Duration::from_secs(10);

/// `IP:PORT`.
pub(crate) async fn address(attempt: OpenAttempt, address: &str) {
    match tokio::time::timeout(DIAL_MAX, TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => carry(attempt, tcp).await,
        Ok(Err(error)) => attempt.refuse(&format!("{address}: {error}")).await,
        Err(_) => attempt.refuse(&format!("{address}: no answer within {} s", DIAL_MAX.as_secs())).await,
    }
}

/// A port of a Pod, at the loopback address of its own network namespace.
pub(crate) async fn pod_port(runtime: &Runtime, attempt: OpenAttempt, to: &PodPort) {
    let Some(port) = u16::try_from(to.port).ok().filter(|port| *port != 0) else {
        return attempt.refuse(&format!("{} is no port", to.port)).await;
    };
    // It sets itself a limit of time.
    match runtime.dial(&to.namespace, &to.pod, port).await {
        Ok(tcp) => carry(attempt, tcp).await,
        Err(SessionError::Io(error)) => {
            let why =
                format!("failed to connect to localhost:{port} inside the pod's network namespace: {error}");
            attempt.refuse(&why).await;
        }
        Err(error) => attempt.refuse(&chain(&error)).await,
    }
}

/// Carries bytes both ways until both have ended, one is broken, or the control plane has let go of the stream: a Pod that
/// neither sends nor closes would otherwise hold the connection for ever.
async fn carry(attempt: OpenAttempt, mut tcp: TcpStream) {
    let _ = tcp.set_nodelay(true);
    let Ok(mut stream) = attempt.accept().await else { return };
    let closed = stream.closed();
    tokio::select! {
        carried = tokio::io::copy_bidirectional(&mut stream, &mut tcp) => if let Err(error) = carried {
            tracing::debug!(%error, "a dialled connection broke");
        },
        () = closed => {}
    }
}
