//! The node's own resolvers, as its resolv.conf names them (resolv.conf(5)).

use std::net::{IpAddr, SocketAddr};

/// resolv.conf(5): more than three are not asked.
const NAMESERVERS_MAX: usize = 3;

/// The `nameserver` lines of a resolv.conf, port 53. `own` are addresses this server itself listens on: they are left
/// out, or a query would go round for ever.
pub fn nameservers(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            if words.next()? != "nameserver" {
                return None;
            }
            // A scope (`fe80::1%eth0`) needs the device's index, which stands in no file.
            words.next()?.parse::<IpAddr>().ok()
        })
        .filter(|address| !own.contains(address))
        .take(NAMESERVERS_MAX)
        .map(|address| SocketAddr::new(address, 53))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines_are_read_and_own_addresses_left_out() {
        let text = "# a comment\nsearch example.org\nnameserver 10.0.0.1\n nameserver  ::1 \nnameserver 10.96.0.10\n\
            nameserver bad\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        let own = ["10.96.0.10".parse().unwrap()];
        let found: Vec<String> = nameservers(text, &own).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[::1]:53", "10.0.0.2:53"]);
        assert!(nameservers("", &[]).is_empty());
    }
}
