//! A way to etcd that is slow and can be broken: a TCP proxy on loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

pub(super) struct Proxy {
    pub(super) port: u16,
    breaks: broadcast::Sender<()>,
    refuses: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Everything takes `delay` longer, each way.
    pub(super) async fn start(to: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (breaks, refuses) = (broadcast::channel(8).0, Arc::new(AtomicBool::new(false)));
        let (broken, refusing) = (breaks.clone(), refuses.clone());
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if refusing.load(Ordering::Relaxed) {
                    continue;
                }
                let mut broken = broken.subscribe();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        () = carry(near_in, far_out, delay) => {}
                        () = carry(far_in, near_out, delay) => {}
                        _ = broken.recv() => {}
                    }
                });
            }
        });
        Self { port, breaks, refuses, task }
    }

    /// Ends every connection.
    pub(super) fn break_all(&self) {
        let _ = self.breaks.send(());
    }

    /// Whether connections are taken no more.
    pub(super) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.break_all();
        self.task.abort();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(delay).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
