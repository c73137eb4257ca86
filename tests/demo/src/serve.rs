//! The server: HTTP over TCP, a thread a connection, and UDP echo. Every connection has a time limit.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::digest::byte_at;
use crate::http::{read_headers, read_line};
use crate::options::Serve;

const CONNECTIONS_MAX: usize = 1024;
const IDLE: Duration = Duration::from_secs(60);
const BODY_BYTES_MAX: u64 = 1 << 20;
const STREAM_BYTES_MAX: u64 = 1 << 32;
/// Room for datagrams that wait, bytes with all that the kernel keeps beside each.
const WAITING_BYTES: usize = 4 << 20;
const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// Serves until the process is stopped.
pub(crate) fn run(options: &Serve) -> Result<(), String> {
    let hostname = hostname();
    let tcp = TcpListener::bind(any(options.http_port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", options.http_port)))
        .map_err(|error| format!("TCP port {}: {error}", options.http_port))?;
    let udp = UdpSocket::bind(any(options.udp_port))
        .or_else(|_| UdpSocket::bind(("0.0.0.0", options.udp_port)))
        .map_err(|error| format!("UDP port {}: {error}", options.udp_port))?;
    make_room(&udp);
    println!("{hostname}: HTTP on {}, UDP echo on {}", options.http_port, options.udp_port);
    let name = hostname.clone();
    thread::spawn(move || echo_datagrams(&udp, &name));
    accept(&tcp, &hostname)
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

fn accept(listener: &TcpListener, hostname: &str) -> Result<(), String> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("accept: {error}");
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (open, hostname) = (Arc::clone(&open), hostname.to_owned());
        thread::spawn(move || {
            // A client that went away is its own business.
            let _ = answer(stream, &hostname);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Answers the requests of one connection, one after the other.
fn answer(stream: TcpStream, hostname: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let (peer, local) = (plain(stream.peer_addr()?), plain(stream.local_addr()?));
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = read_line(&mut reader)?;
        let headers = read_headers(&mut reader)?;
        let header = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.as_str())
        };
        let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
        let length = header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0u64);
        let close = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if header("upgrade").is_some_and(|value| value == "echo") {
            write!(out, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")?;
            return echo_bytes(&mut reader, &mut out);
        }
        if length > BODY_BYTES_MAX {
            return head(&mut out, "413 Content Too Large", 0);
        }
        let mut body = Vec::new();
        reader.by_ref().take(length).read_to_end(&mut body)?;
        respond(&mut out, &path, &body, hostname, peer, local)?;
        if close {
            return Ok(());
        }
    }
}

fn respond(
    out: &mut TcpStream,
    path: &str,
    body: &[u8],
    hostname: &str,
    peer: SocketAddr,
    local: SocketAddr,
) -> io::Result<()> {
    if let Some(length) = path.strip_prefix("/bytes/") {
        return match length.parse::<u64>() {
            Ok(length) if length <= STREAM_BYTES_MAX => stream_bytes(out, length),
            _ => whole(out, "400 Bad Request", b"how many bytes?\n"),
        };
    }
    match path {
        "/" => {
            let text = format!(
                "{{\"hostname\":\"{hostname}\",\"pod\":\"{}\",\"client\":\"{}\",\"port\":{}}}\n",
                local.ip(),
                peer.ip(),
                peer.port()
            );
            whole(out, "200 OK", text.as_bytes())
        }
        "/hostname" => whole(out, "200 OK", format!("{hostname}\n").as_bytes()),
        "/healthz" => whole(out, "200 OK", b"ok\n"),
        "/echo" => whole(out, "200 OK", body),
        _ => whole(out, "404 Not Found", b"there is /, /hostname, /healthz, /echo and /bytes/N\n"),
    }
}

fn head(out: &mut TcpStream, status: &str, length: u64) -> io::Result<()> {
    write!(out, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n")
}

/// Head and body in one write, so that a small answer is one packet.
fn whole(out: &mut TcpStream, status: &str, body: &[u8]) -> io::Result<()> {
    let mut message = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    message.extend_from_slice(body);
    out.write_all(&message)
}

fn stream_bytes(out: &mut TcpStream, length: u64) -> io::Result<()> {
    head(out, "200 OK", length)?;
    let (mut at, mut piece) = (0, Vec::with_capacity(64 << 10));
    while at < length {
        let end = length.min(at + (64 << 10));
        piece.clear();
        piece.extend((at..end).map(byte_at));
        out.write_all(&piece)?;
        at = end;
    }
    Ok(())
}

/// Sends back whatever comes, until the other side stops.
fn echo_bytes(reader: &mut impl Read, out: &mut TcpStream) -> io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        let length = reader.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        out.write_all(&piece[..length])?;
    }
}

/// Has the socket hold what comes while this process has no CPU: a datagram without room is lost, and whoever looks for lost
/// packets would look for this one in the network. As much as the system lets anybody have.
fn make_room(socket: &UdpSocket) {
    if let Err(error) = setsockopt(socket, sockopt::RcvBuf, &WAITING_BYTES) {
        eprintln!("the UDP socket's room stays as it is: {error}");
    }
}

fn echo_datagrams(socket: &UdpSocket, hostname: &str) {
    let mut payload = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut payload) else { continue };
        let mut answer = format!("{hostname}: ").into_bytes();
        answer.extend_from_slice(&payload[..length]);
        if let Err(error) = socket.send_to(&answer, peer) {
            eprintln!("UDP answer to {peer}: {error}");
        }
    }
}

/// An IPv4 peer of a dual-stack socket, written as IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn hostname() -> String {
    let name =
        fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::http::{self, Url};

    #[test]
    fn datagrams_wait_for_a_server_that_has_no_cpu() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        make_room(&server);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        // An ordinary socket has room for less than 300.
        (0..500).for_each(|_| assert_eq!(client.send(b"ping").unwrap(), 4));
        server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let waited = std::iter::from_fn(|| server.recv(&mut [0; 8]).ok()).count();
        assert_eq!(waited, 500);
    }

    fn serve() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || accept(&listener, "here"));
        port
    }

    fn get(port: u16, path: &str) -> (u16, Vec<u8>) {
        let url = Url::parse(&format!("http://127.0.0.1:{port}{path}")).unwrap();
        let mut body = Vec::new();
        let status = http::get(&url, Duration::from_secs(5), |piece| body.extend_from_slice(piece)).unwrap();
        (status, body)
    }

    #[test]
    fn says_who_answers() {
        let port = serve();
        let (status, body) = get(port, "/");
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 200);
        assert!(
            body.contains("\"hostname\":\"here\"") && body.contains("\"client\":\"127.0.0.1\""),
            "{body}"
        );
        assert_eq!(get(port, "/hostname"), (200, b"here\n".to_vec()));
        assert_eq!(get(port, "/nothing").0, 404);
        assert_eq!(get(port, "/bytes/many").0, 400);
    }

    #[test]
    fn streams_the_same_bytes_every_time() {
        let port = serve();
        let (_, first) = get(port, "/bytes/200000");
        let (_, second) = get(port, "/bytes/200000");
        assert_eq!(first.len(), 200_000);
        assert!(first == second);
        let mut sha = Sha256::new();
        (0..200_000).for_each(|place| sha.update(&[byte_at(place)]));
        let mut received = Sha256::new();
        received.update(&first);
        assert_eq!(received.finish(), sha.finish());
    }

    #[test]
    fn echoes_datagrams_with_its_name() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || echo_datagrams(&socket, "here"));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"ping", address).unwrap();
        let mut answer = [0; 64];
        let (length, _) = client.recv_from(&mut answer).unwrap();
        assert_eq!(&answer[..length], b"here: ping");
    }
}
