//! The clients: they ask many times, count distinct answers, and measure what a broken connection looks like.

use std::collections::BTreeMap;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::digest::Sha256;
use crate::http::{self, Url, read_headers, read_line, split_port};
use crate::options::{Fetch, Get, Hold, Resolve, Udp};
use crate::resolve as names;

const BODY_BYTES_MAX: usize = 1 << 20;

/// Asks as often as wanted; an answer that is no success, or none at all, makes the whole a failure.
pub(crate) fn get(options: &Get) -> Result<(), String> {
    let url = Url::parse(&options.url)?;
    let mut tally = Tally::default();
    for _ in 0..options.count {
        let mut body = Vec::new();
        let done = http::get(&url, options.timeout, |piece| {
            body.extend_from_slice(&piece[..piece.len().min(BODY_BYTES_MAX.saturating_sub(body.len()))]);
        });
        match done {
            Ok(status @ 200..=299) => {
                let _ = status;
                tally.answer(options.summary, &body);
            }
            Ok(status) => tally.failure(format!("status {status}")),
            Err(error) => tally.failure(error.to_string()),
        }
    }
    tally.report(options.summary)
}

/// Sends datagrams one after the other, each from the same socket.
pub(crate) fn udp(options: &Udp) -> Result<(), String> {
    let (host, port) = host_and_port(&options.target)?;
    let address = names::lookup(&host, options.timeout).map_err(|error| error.to_string())?;
    let any: SocketAddr = match address.is_ipv4() {
        true => ([0, 0, 0, 0], options.source_port).into(),
        false => ([0u16; 8], options.source_port).into(),
    };
    let mut tally = Tally::default();
    for _ in 0..options.count {
        // A socket each, as clients of a Service have; a fixed source port keeps one flow.
        match exchange(any, SocketAddr::new(address, port), options) {
            Ok(answer) => tally.answer(options.summary, &answer),
            Err(error) => tally.failure(error.to_string()),
        }
    }
    tally.report(options.summary)
}

fn exchange(from: SocketAddr, to: SocketAddr, options: &Udp) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(from)?;
    socket.set_read_timeout(Some(options.timeout))?;
    socket.connect(to)?;
    socket.send(options.payload.as_bytes())?;
    let mut answer = vec![0; 64 << 10];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// Answers by how often they came.
#[derive(Default)]
struct Tally {
    answers: BTreeMap<String, u32>,
    failures: BTreeMap<String, u32>,
}

impl Tally {
    fn answer(&mut self, summary: bool, body: &[u8]) {
        let text = String::from_utf8_lossy(body).trim_end().to_owned();
        if !summary {
            println!("{text}");
        }
        *self.answers.entry(key_of(&text)).or_default() += 1;
    }

    fn failure(&mut self, why: String) {
        *self.failures.entry(why).or_default() += 1;
    }

    fn report(&self, summary: bool) -> Result<(), String> {
        if summary {
            for (answer, count) in &self.answers {
                println!("{count:6}  {answer}");
            }
            println!(
                "{} answers from {} places, {} failures",
                self.answers.values().sum::<u32>(),
                self.answers.len(),
                self.failures.values().sum::<u32>()
            );
        }
        if self.failures.is_empty() {
            return Ok(());
        }
        let failures: Vec<String> =
            self.failures.iter().map(|(why, count)| format!("{count} x {why}")).collect();
        Err(format!("failed: {}", failures.join(", ")))
    }
}

/// What tells answers apart: who answered, without what differs between requests (`client` and `port` in the JSON of `/`).
fn key_of(text: &str) -> String {
    match text.split_once("\"hostname\":\"").and_then(|(_, rest)| rest.split_once('"')) {
        Some((hostname, _)) => hostname.to_owned(),
        None => text.to_owned(),
    }
}

/// Keeps one connection open and sends a byte each interval; every byte must come back in time.
pub(crate) fn hold(options: &Hold) -> Result<(), String> {
    let (host, port) = host_and_port(&options.target)?;
    let stream = http::connect(&host, port, options.gap.max(Duration::from_secs(2)))
        .map_err(|error| format!("connect: {error}"))?;
    let mut out = stream.try_clone().map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(stream);
    write!(out, "GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .map_err(|error| error.to_string())?;
    let status = read_line(&mut reader).map_err(|error| error.to_string())?;
    read_headers(&mut reader).map_err(|error| error.to_string())?;
    if !status.contains(" 101 ") {
        return Err(format!("no echo there: {status}"));
    }
    reader.get_ref().set_read_timeout(Some(options.gap)).map_err(|error| error.to_string())?;
    let (began, mut sent, mut worst, mut gaps) = (Instant::now(), 0u64, Duration::ZERO, 0u32);
    while began.elapsed() < options.length {
        let asked = Instant::now();
        let byte = [b'a' + u8::try_from(sent % 26).unwrap_or(0)];
        out.write_all(&byte).map_err(|error| broken(began, sent, &error))?;
        gaps += read_back(&mut reader, byte[0], options).map_err(|error| broken(began, sent, &error))?;
        worst = worst.max(asked.elapsed());
        sent += 1;
        std::thread::sleep(options.interval.saturating_sub(asked.elapsed()));
    }
    println!(
        "{sent} bytes in {} ms, slowest {} ms, {gaps} gaps over {} ms, 0 resets",
        began.elapsed().as_millis(),
        worst.as_millis(),
        options.gap.as_millis()
    );
    if gaps == 0 { Ok(()) } else { Err(format!("{gaps} gaps")) }
}

/// Reads one byte; each time the gap passes without it counts, until the whole length has passed.
fn read_back(reader: &mut impl Read, wanted: u8, options: &Hold) -> std::io::Result<u32> {
    let (began, mut gaps) = (Instant::now(), 0);
    loop {
        let mut byte = [0];
        match reader.read_exact(&mut byte) {
            Ok(()) if byte[0] == wanted => return Ok(gaps),
            Ok(()) => return Err(std::io::Error::new(ErrorKind::InvalidData, "another byte came back")),
            Err(error) if is_timeout(&error) && began.elapsed() < options.length => gaps += 1,
            Err(error) => return Err(error),
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn broken(began: Instant, sent: u64, error: &std::io::Error) -> String {
    format!("the connection broke after {sent} bytes and {} ms: {error}", began.elapsed().as_millis())
}

/// Downloads, and prints digest and length.
pub(crate) fn sha256(options: &Fetch) -> Result<(), String> {
    let url = Url::parse(&options.target)?;
    let mut sha = Sha256::new();
    let status =
        http::get(&url, options.timeout, |piece| sha.update(piece)).map_err(|error| error.to_string())?;
    if status != 200 {
        return Err(format!("status {status}"));
    }
    let length = sha.length_bytes();
    println!("{}  {length}", sha.finish());
    Ok(())
}

/// Prints the address of a name, or all of one family.
pub(crate) fn resolve(options: &Resolve) -> Result<(), String> {
    let (name, timeout) = (&options.target, options.timeout);
    let found = match options.family {
        Some(family) => names::lookup_all(name, family, timeout),
        None => names::lookup(name, timeout).map(|address| vec![address]),
    };
    found.map_err(|error| error.to_string())?.iter().for_each(|address| println!("{address}"));
    Ok(())
}

fn host_and_port(target: &str) -> Result<(String, u16), String> {
    let (host, port) = split_port(target).ok_or_else(|| format!("{target:?} is not HOST:PORT"))?;
    Ok((host.to_owned(), port.parse().map_err(|_| format!("{port:?} is no port"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_who_gave_them() {
        assert_eq!(key_of(r#"{"hostname":"web-1","client":"10.0.0.1","port":4242}"#), "web-1");
        assert_eq!(key_of("web-1: ping"), "web-1: ping");
        let mut tally = Tally::default();
        tally.answer(true, br#"{"hostname":"web-1","port":1}"#);
        tally.answer(true, br#"{"hostname":"web-1","port":2}"#);
        assert_eq!(tally.answers, BTreeMap::from([("web-1".to_owned(), 2)]));
        assert!(tally.report(true).is_ok());
        tally.failure("refused".into());
        assert_eq!(tally.report(true).unwrap_err(), "failed: 1 x refused");
    }

    #[test]
    fn targets_are_taken_apart() {
        assert_eq!(host_and_port("web:80").unwrap(), ("web".to_owned(), 80));
        assert_eq!(host_and_port("[fd00::1]:80").unwrap(), ("fd00::1".to_owned(), 80));
        assert!(host_and_port("web").is_err() && host_and_port("web:x").is_err());
    }
}
