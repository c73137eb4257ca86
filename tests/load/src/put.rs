//! `put`: etcd itself, asked for new keys over gRPC, one request at a time on each connection: what the server's creates on it are
//! held against.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::create::{joined, line};
use crate::histogram::Histogram;
use crate::meter::Meter;
use crate::options::Put;
use crate::random::Random;

/// Tags of a `PutRequest`'s fields: their number, and that a length follows (protobuf's wire format).
const KEY: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;

type Connection = SendRequest<Full<Bytes>>;

/// Distinct keys for as long as the time lasts.
pub(crate) async fn run(options: &Put, server_pid: Option<u32>) -> Result<Value> {
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(connect(&options.etcd).await?);
    }
    let (value, next) = (value(options.bytes), Arc::new(AtomicU64::new(0)));
    let meter = Meter::start(server_pid)?;
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let mut running = JoinSet::new();
    for mut connection in connections {
        let (value, next) = (value.clone(), next.clone());
        let (etcd, prefix) = (options.etcd.clone(), options.prefix.clone());
        running.spawn(async move {
            let mut times = Histogram::default();
            while Instant::now() < until {
                let key = format!("{prefix}{:010}", next.fetch_add(1, Ordering::Relaxed));
                let began = Instant::now();
                put(&mut connection, &etcd, framed(key.as_bytes(), &value)).await?;
                times.record(began.elapsed());
            }
            Ok(times)
        });
    }
    let times = joined(running).await?;
    Ok(line(&times, &meter.stop()?))
}

/// As little to be packed as an object's data.
fn value(bytes: usize) -> Bytes {
    let mut random = Random::new(bytes as u64);
    (0..bytes).map(|_| b'a' + random.below(26) as u8).collect()
}

async fn connect(etcd: &str) -> Result<Connection> {
    let tcp = TcpStream::connect(etcd).await.with_context(|| format!("{etcd} cannot be reached"))?;
    tcp.set_nodelay(true)?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn put(connection: &mut Connection, etcd: &str, question: Bytes) -> Result<()> {
    let request = Request::post(format!("http://{etcd}/etcdserverpb.KV/Put"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(question))?;
    connection.ready().await?;
    let answer = connection.send_request(request).await?;
    ensure!(answer.status() == StatusCode::OK, "etcd answers {}", answer.status());
    let head = answer.headers().clone();
    let whole = answer.into_body().collect().await?;
    // A refusal may have no body: its status stands where the answer begins.
    let told = whole.trailers().and_then(|trailers| trailers.get("grpc-status")).or(head.get("grpc-status"));
    ensure!(told.is_some_and(|status| status == "0"), "etcd refuses a put: {told:?}");
    Ok(())
}

/// A `PutRequest` as gRPC sends it.
fn framed(key: &[u8], value: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(key.len() + value.len() + 16);
    for (tag, bytes) in [(KEY, key), (VALUE, value)] {
        message.put_u8(tag);
        let mut length = bytes.len();
        while length >= 0x80 {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(bytes);
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_what_protobuf_says() {
        let frame = framed(b"key", &[b'v'; 300]);
        // 300 is 0b10_0101100.
        assert_eq!(&frame[..5], [0, 0, 0, 1, 52]);
        assert_eq!(&frame[5..13], [0x0a, 3, b'k', b'e', b'y', 0x12, 0xac, 0x02]);
        assert_eq!(frame.len(), 13 + 300);
        assert_eq!(value(300).len(), 300);
    }
}
