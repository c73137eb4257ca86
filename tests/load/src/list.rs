//! `list`: all objects of a namespace, in one answer or page by page.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use serde_json::{Value, json};

use crate::configmap::path;
use crate::connection::{Lane, Target};
use crate::meter::Meter;
use crate::options::List;

/// Once in each object.
const ITEM: &[u8] = br#""creationTimestamp":""#;
const CONTINUE: &[u8] = br#""continue":""#;

/// So often, one after the other.
pub(crate) async fn run(target: &Target, options: &List, server_pid: Option<u32>) -> Result<Value> {
    let mut lane = target.connect().await?;
    let mut times_ms = Vec::new();
    let mut seen = Seen::default();
    let meter = Meter::start(server_pid)?;
    for _ in 0..options.times {
        let began = Instant::now();
        seen = once(&mut lane, &path(&options.namespace), options.page).await?;
        times_ms.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(seen.items >= options.objects, "{} objects of {}", seen.items, options.objects);
    }
    let cost = meter.stop()?;
    Ok(json!({
        "ms": times_ms,
        "items": seen.items,
        "bytes": seen.bytes,
        "requests": seen.pages,
        "server_cpu_seconds": cost.server_cpu_seconds,
        "load_cpu_seconds": cost.load_cpu_seconds,
    }))
}

/// What a list had.
#[derive(Debug, Default)]
struct Seen {
    items: usize,
    bytes: usize,
    pages: usize,
}

async fn once(lane: &mut Lane, path: &str, page: u64) -> Result<Seen> {
    let mut seen = Seen::default();
    let limit = if page == 0 { String::new() } else { format!("?limit={page}") };
    let mut next = format!("{path}{limit}");
    loop {
        let body = lane.get(&next).await?;
        seen.items += memmem::find_iter(&body, ITEM).count();
        seen.bytes += body.len();
        seen.pages += 1;
        match token(&body)? {
            Some(token) => next = format!("{path}{limit}&continue={}", escaped(token)),
            None => return Ok(seen),
        }
    }
}

/// Where the next page begins.
fn token(body: &[u8]) -> Result<Option<&str>> {
    let Some(at) = memmem::find(body, CONTINUE) else { return Ok(None) };
    let rest = &body[at + CONTINUE.len()..];
    let end = memchr::memchr(b'"', rest).context("a continue token without an end")?;
    Ok(Some(std::str::from_utf8(&rest[..end])?).filter(|token| !token.is_empty()))
}

/// For a query, RFC 3986.
fn escaped(token: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    token
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_named_by_its_token() {
        assert_eq!(
            token(br#"{"metadata":{"continue":"a/b=","resourceVersion":"7"}}"#).unwrap(),
            Some("a/b=")
        );
        assert_eq!(token(br#"{"metadata":{"continue":"","resourceVersion":"7"}}"#).unwrap(), None);
        assert_eq!(token(br#"{"metadata":{"resourceVersion":"7"}}"#).unwrap(), None);
        assert!(token(br#"{"metadata":{"continue":"a"#).is_err());
        assert_eq!(escaped("a/b=-"), "a%2Fb%3D-");
    }
}
