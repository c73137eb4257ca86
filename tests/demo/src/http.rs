//! As much of HTTP/1.1 as the demo speaks (RFC 9112): one request a connection, answers with a length.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::resolve;

/// Longest line of a head, bytes.
const LINE_BYTES_MAX: u64 = 8 << 10;
/// Most lines of a head.
const HEADERS_MAX: usize = 100;

/// A plain URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl Url {
    /// Reads `http://HOST[:PORT][/PATH]`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix("http://").ok_or_else(|| format!("{text:?} does not begin with http://"))?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = match split_port(authority) {
            Some((host, port)) => (host, port.parse().map_err(|_| format!("{port:?} is no port"))?),
            None => (authority.trim_start_matches('[').trim_end_matches(']'), 80),
        };
        if host.is_empty() {
            return Err(format!("{text:?} names no host"));
        }
        Ok(Self { host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// Host and port of `HOST:PORT` or `[V6]:PORT`; none without a port.
pub(crate) fn split_port(authority: &str) -> Option<(&str, &str)> {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => authority.rsplit_once(':'),
    }
}

/// Opens a connection to the first address of a name.
pub(crate) fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let address = resolve::lookup(host, timeout)?;
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks once; the body goes to `sink` piece by piece. Gives the status code.
pub(crate) fn get(url: &Url, timeout: Duration, mut sink: impl FnMut(&[u8])) -> io::Result<u16> {
    let mut stream = connect(&url.host, url.port, timeout)?;
    write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.path, url.host)?;
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let status = read_line(&mut reader)?;
    let status = status
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| invalid("no status line"))?;
    let mut length = None;
    for (name, value) in read_headers(&mut reader)? {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse::<u64>().map_err(|_| invalid("content-length is no number"))?);
        }
    }
    let mut left = length.unwrap_or(u64::MAX);
    while left > 0 {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        let taken = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        sink(&piece[..taken]);
        reader.consume(taken);
        left -= taken as u64;
    }
    match length {
        Some(_) if left > 0 => {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{left} bytes are missing")))
        }
        _ => Ok(status),
    }
}

/// Reads the headers up to the empty line.
pub(crate) fn read_headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(headers);
        }
        if headers.len() == HEADERS_MAX {
            return Err(invalid("too many headers"));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header without a colon"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
}

/// Reads a line without its end; the end of the stream is an error.
pub(crate) fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(LINE_BYTES_MAX).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within a line")),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        let url = Url::parse("http://web.default:8080/bytes/10").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("web.default", 8080, "/bytes/10"));
        let url = Url::parse("http://[fd00::1]:81").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("fd00::1", 81, "/"));
        assert_eq!(Url::parse("http://web").unwrap().port, 80);
        assert_eq!(Url::parse("http://[fd00::1]/").unwrap().host, "fd00::1");
        for bad in ["https://a/", "web", "http://", "http://a:b/"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        assert_eq!(read_line(&mut &b"a\r\nb\n"[..]).unwrap(), "a");
        assert!(read_line(&mut &b"no end"[..]).is_err());
        let long = vec![b'x'; 20_000];
        assert!(read_line(&mut &long[..]).is_err());
    }
}
