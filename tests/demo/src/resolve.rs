//! Names to addresses by asking the name server of `/etc/resolv.conf` (RFC 1035): a static program has no libc that would.
//!
//! Search domains and `ndots` are followed as resolv.conf(5) says; the answer to the first name that exists counts.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const PORT: u16 = 53;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const ANSWER_BYTES_MAX: usize = 4096;
const ATTEMPTS: u32 = 3;

/// What resolv.conf says.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    fn record(self) -> u16 {
        if self == Self::V4 { TYPE_A } else { TYPE_AAAA }
    }
}

/// The first address of a host: an address itself, a name in /etc/hosts, or what the name server says; of each name that is
/// tried IPv4 first.
pub(crate) fn lookup(host: &str, timeout: Duration) -> io::Result<IpAddr> {
    let found = find(host, &[Family::V4, Family::V6], timeout)?;
    found.first().copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Every address of a host in one family.
pub(crate) fn lookup_all(host: &str, family: Family, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    find(host, &[family], timeout)
}

/// The addresses of a host in the first of the families in which it has some.
fn find(host: &str, families: &[Family], timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let fits = |address: IpAddr| families.iter().any(|family| family.has(address));
    let own: Option<IpAddr> = host.parse().ok();
    let own = own.or_else(|| in_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default(), host, fits));
    if let Some(address) = own {
        return Ok(vec![address].into_iter().filter(|address| fits(*address)).collect());
    }
    let settings = parse_settings(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host}: resolv.conf names no server"));
    for name in candidates(host, &settings) {
        for (server, family) in settings.servers.iter().flat_map(|s| families.iter().map(move |f| (s, *f))) {
            match ask(*server, &name, family, timeout) {
                Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
                Ok(_) => {
                    last = io::Error::new(io::ErrorKind::NotFound, format!("{host}: there is no such name"));
                }
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("{host}: name server {server}: {error}"));
                }
            }
        }
    }
    Err(last)
}

fn in_hosts(text: &str, host: &str, fits: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok().filter(|address| fits(*address))?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    })
}

fn parse_settings(text: &str) -> Settings {
    let mut settings = Settings { servers: Vec::new(), search: Vec::new(), ndots: 1 };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                settings.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
            }
            Some("search") => settings.search = words.map(str::to_owned).collect(),
            Some("options") => {
                let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                settings.ndots = ndots.unwrap_or(settings.ndots);
            }
            _ => {}
        }
    }
    settings
}

/// Names to try in order: with fewer dots than `ndots` the search list comes first.
fn candidates(host: &str, settings: &Settings) -> Vec<String> {
    if let Some(absolute) = host.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let mut names: Vec<String> = settings.search.iter().map(|domain| format!("{host}.{domain}")).collect();
    let plain_first = host.matches('.').count() >= settings.ndots;
    names.insert(if plain_first { 0 } else { names.len() }, host.to_owned());
    names
}

fn ask(server: IpAddr, name: &str, family: Family, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let id = std::process::id().to_le_bytes();
    let question = question([id[0], id[1]], name, family)?;
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect((server, PORT))?;
    socket.set_read_timeout(Some(timeout / ATTEMPTS))?;
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..ATTEMPTS {
        socket.send(&question)?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        match socket.recv(&mut answer) {
            Ok(length) if answer[..2] == question[..2] => {
                return addresses(&answer[..length])
                    .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
            }
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A question for the addresses of a name, recursion desired.
fn question(id: [u8; 2], name: &str, family: Family) -> io::Result<Vec<u8>> {
    let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        let length = length
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name")))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&family.record().to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    Ok(message)
}

/// Addresses of an answer; none if the name does not exist.
fn addresses(message: &[u8]) -> Option<Vec<IpAddr>> {
    let count = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let mut at = 12;
    for _ in 0..count(4)? {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..count(6)? {
        at = after_name(message, at)?;
        let (kind, length) = (count(at)?, usize::from(count(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        let address: Option<IpAddr> = match kind {
            TYPE_A => <[u8; 4]>::try_from(data).ok().map(|v4| Ipv4Addr::from(v4).into()),
            TYPE_AAAA => <[u8; 16]>::try_from(data).ok().map(|v6| Ipv6Addr::from(v6).into()),
            _ => None,
        };
        found.extend(address);
        at += 10 + length;
    }
    Some(found)
}

/// Where a name ends: at its empty label, or after a pointer.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_search_and_ndots() {
        let settings = parse_settings(
            "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local\noptions ndots:5\n",
        );
        assert_eq!(settings.servers, [IpAddr::from([10, 96, 0, 10])]);
        assert_eq!(
            candidates("web", &settings),
            ["web.default.svc.cluster.local", "web.svc.cluster.local", "web"]
        );
        assert_eq!(candidates("web.", &settings), ["web"]);
        assert_eq!(candidates("a.b.c.d.e.f", &settings)[0], "a.b.c.d.e.f");
    }

    #[test]
    fn reads_answers_with_pointers() {
        let mut message = question([7, 7], "web.local", Family::V4).unwrap();
        message[7] = 3;
        message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 5, 0, 2, 0xc0, 12]);
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 7]);
        message.extend_from_slice(&[0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 5, 0, 16, 0xfd, 0, 0, 0x96]);
        message.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        let both: [IpAddr; 2] = ["10.96.0.7".parse().unwrap(), "fd00:96::7".parse().unwrap()];
        assert_eq!(addresses(&message), Some(both.into()));
        for cut in 0..message.len() {
            assert_eq!(addresses(&message[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn hosts_come_before_the_server() {
        let hosts = "# comment\n127.0.0.1 localhost loop # more\n10.0.0.9 web\n";
        assert_eq!(in_hosts(hosts, "WEB", |_| true), Some(IpAddr::from([10, 0, 0, 9])));
        assert_eq!(in_hosts(hosts, "web", |address| address.is_ipv6()), None);
        assert_eq!(in_hosts(hosts, "more", |_| true), None);
    }

    #[test]
    fn unfit_names_are_errors() {
        for name in ["", "a..b", &"x".repeat(64)] {
            assert!(question([0, 0], name, Family::V6).is_err(), "{name}");
        }
    }
}
