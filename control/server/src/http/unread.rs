//! Answers that nobody reads. What is made for a client, and what that is made of, stays in memory until the client takes it,
//! and that it answers HTTP/2's pings says only that it is there: a connection on which an answer stands still is closed.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::answer::Body;

/// How long a client may take for a piece of an answer.
const READ_TIME_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether one stands still.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// What is handed over at once, bytes. A shorter answer is not followed: it has been handed over when it begins.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// The client is not waited for: there is nothing for it now.
const NOTHING: u64 = u64::MAX;

/// The answers of one connection that are being sent.
pub(crate) struct Answers {
    began: Instant,
    /// When the last piece of each was handed over, ms since the connection began.
    handed: Mutex<Vec<Weak<AtomicU64>>>,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), handed: Mutex::default() }
    }

    /// An answer's body that is looked at from now on.
    pub(super) fn follow(&self, body: Body) -> Body {
        if body.size_hint().exact().is_some_and(|bytes| bytes <= PIECE_BYTES_MAX as u64) {
            return body;
        }
        // Until it is first asked for it stands still, too.
        let handed = Arc::new(AtomicU64::new(millis_since(self.began)));
        self.lock().push(Arc::downgrade(&handed));
        Followed { body, rest: Bytes::new(), began: self.began, handed }.boxed_unsync()
    }

    /// Waits until one of them stands still for too long.
    pub(super) async fn stand_still(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = millis_since(self.began);
            let mut late = false;
            self.lock().retain(|handed| {
                let Some(handed) = handed.upgrade() else { return false };
                let handed = handed.load(Ordering::Relaxed);
                late |= handed != NOTHING && u128::from(now - handed.min(now)) >= READ_TIME_MAX.as_millis();
                true
            });
            if late {
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(NOTHING - 1)
}

/// A body, piece by piece.
struct Followed {
    body: Body,
    /// Of a piece that was longer than one is handed over.
    rest: Bytes,
    began: Instant,
    handed: Arc<AtomicU64>,
}

impl hyper::body::Body for Followed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => {
                    self.handed.store(NOTHING, Ordering::Relaxed);
                    return other;
                }
            }
        }
        self.handed.store(millis_since(self.began), Ordering::Relaxed);
        let bytes = self.rest.len().min(PIECE_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use http_body_util::{Empty, StreamBody};
    use hyper::client::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
    use tokio::io::DuplexStream;

    use super::super::answer;
    use super::*;

    const PIECE: &[u8] = &[b'x'; 1_000];

    /// A server with one answer for everybody, which pings, and whether an answer stood still at last.
    async fn serve(stream: DuplexStream, body: impl Fn() -> Body + Send + 'static) -> bool {
        let answers = Arc::new(Answers::new());
        let (body, followed) = (Mutex::new(body), answers.clone());
        let service = service_fn(move |_| {
            let body = followed.follow(body.lock().unwrap()());
            async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
        });
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
        tokio::select! {
            _ = builder.serve_connection(TokioIo::new(stream), service) => false,
            () = answers.stand_still() => true,
        }
    }

    /// Asks for it as a client that lets so many bytes come unasked.
    async fn ask(
        window: u32,
        body: impl Fn() -> Body + Send + 'static,
    ) -> (Response<hyper::body::Incoming>, tokio::task::JoinHandle<bool>) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let server = tokio::spawn(serve(far, body));
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(near))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://server/").body(Empty::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        // The connection is there as long as somebody may ask.
        tokio::spawn(async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        });
        (answer, server)
    }

    /// Goes on without an end, a piece every `every`, and holds something all the time.
    fn endless(every: Duration, held: Arc<()>) -> Body {
        answer::streamed(futures_util::stream::unfold(held, move |held| async move {
            tokio::time::sleep(every).await;
            Some((Ok(Bytes::from_static(PIECE)), held))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_its_connection() {
        let soon = READ_TIME_MAX + 2 * LOOK_EVERY;
        let often = |held| endless(Duration::from_millis(1), held);
        let whole = |_| answer::full(vec![b'x'; 1 << 20]);
        for (what, window, body) in [
            ("of many pieces", 10_000, often as fn(Arc<()>) -> Body),
            ("that was never begun", 0, often),
            ("that is there as a whole", 10_000, whole),
        ] {
            let held = Arc::new(());
            let holds = Arc::downgrade(&held);
            let (mut answer, server) = ask(window, move || body(held.clone())).await;
            let began = Instant::now();
            assert!(server.await.unwrap(), "{what}");
            assert!(
                began.elapsed() >= READ_TIME_MAX && began.elapsed() < soon,
                "{what}: {:?}",
                began.elapsed()
            );
            // What was on its way, and then no end of it.
            loop {
                match answer.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => break,
                    None => panic!("{what}: it looks whole"),
                }
            }
            assert_eq!(holds.strong_count(), 0, "{what}: what it held is free");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_has_all_the_time_there_is() {
        // Nothing is there to be read for a long time, and then it is.
        let (mut answer, server) = ask(10_000, || endless(10 * READ_TIME_MAX, Arc::default())).await;
        for _ in 0..3 {
            assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), PIECE);
        }
        assert!(!server.is_finished());
        // A client that is slow, and an answer that is there as a whole.
        let (mut answer, server) = ask(20_000, || answer::full(vec![b'x'; 300_000])).await;
        assert_eq!(answer.body().size_hint().exact(), Some(300_000));
        let mut read = 0;
        while let Some(frame) = answer.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
            tokio::time::sleep(READ_TIME_MAX / 30).await;
        }
        assert!(read == 300_000 && !server.is_finished(), "{read}");
    }

    #[test]
    fn what_is_short_is_left_alone() {
        let answers = Answers::new();
        answers.follow(answer::full("short"));
        answers.follow(StreamBody::new(futures_util::stream::empty()).boxed_unsync());
        assert_eq!(answers.lock().len(), 1);
    }
}
