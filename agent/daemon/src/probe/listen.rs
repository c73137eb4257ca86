//! Whether a process of this machine's own network listens on a port: what becomes of a packet that goes up into the node's stack.

use std::io::{self, BufRead, BufReader};

use weft_dataplane::desired::Protocol;

/// A socket that waits for connections, as `/proc/net/tcp` has it (`TCP_LISTEN`).
const LISTEN: &str = "0A";
/// A datagram socket without a peer (`TCP_CLOSE`).
const UNCONNECTED: &str = "07";

/// Asks the kernel's list of sockets, a line at a time.
pub(super) fn on_this_machine(protocol: Protocol, port: u16) -> io::Result<bool> {
    let (names, state) = match protocol {
        Protocol::Udp => (["udp", "udp6"], UNCONNECTED),
        _ => (["tcp", "tcp6"], LISTEN),
    };
    for name in names {
        let file = match std::fs::File::open(format!("/proc/self/net/{name}")) {
            Ok(file) => file,
            // No IPv6 here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).lines() {
            if is_open(&line?, port, state) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a line is of a socket in this state on this port: `sl local_address rem_address st …`.
fn is_open(line: &str, port: u16, state: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let local = words.next().and_then(|address| address.rsplit_once(':'));
    let there = local.is_some_and(|(_, number)| u16::from_str_radix(number, 16) == Ok(port));
    there && words.nth(1) == Some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let tcp =
            "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100 0";
        assert!(is_open(tcp, 8080, LISTEN));
        assert!(!is_open(tcp, 8081, LISTEN));
        assert!(!is_open(&tcp.replace(" 0A ", " 01 "), 8080, LISTEN));
        assert!(!is_open("  sl  local_address rem_address   st tx_queue", 8080, LISTEN));
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        assert!(on_this_machine(Protocol::Tcp, port).expect("readable"));
        drop(listener);
        assert!(!on_this_machine(Protocol::Tcp, port).expect("readable"));
    }
}
