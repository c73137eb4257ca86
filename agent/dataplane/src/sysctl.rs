//! Kernel settings of the calling thread's network namespace.

use std::fs;
use std::io;

use thiserror::Error;

/// A setting could not be read or written.
#[derive(Debug, Error)]
#[error("cannot set {name} to {value:?}")]
pub struct SysctlError {
    /// Its name under `/proc/sys/net`.
    pub name: String,
    /// What it was to become.
    pub value: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

fn path(name: &str) -> String {
    // /proc/sys/net shows the namespace of the thread that opens it.
    format!("/proc/sys/net/{name}")
}

/// Writes a setting unless it has the value already.
pub(crate) fn set(name: &str, value: &str) -> Result<(), SysctlError> {
    let failed = |source| SysctlError { name: name.to_owned(), value: value.to_owned(), source };
    if fs::read_to_string(path(name)).map_err(failed)?.trim() == value {
        return Ok(());
    }
    fs::write(path(name), value).map_err(failed)
}

/// The same where the kernel has the setting.
pub(crate) fn set_if_there(name: &str, value: &str) -> Result<(), SysctlError> {
    match set(name, value) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lets the node forward IPv6. A machine that forwards hears no router (RFC 4861, section 6.2.3): one that has its routes from
/// one by `device` is told to go on listening.
pub(crate) fn forward_v6(device: &str) -> Result<(), SysctlError> {
    let listens = format!("ipv6/conf/{device}/accept_ra");
    if fs::read_to_string(path(&listens)).is_ok_and(|value| value.trim() == "1") {
        set(&listens, "2")?;
    }
    set("ipv6/conf/all/forwarding", "1")
}

/// Makes IPv6 work on a device whose addresses are given by us: no router is heard and no address made or doubted, not even
/// the link's.
pub(crate) fn given_v6(device: &str) -> Result<(), SysctlError> {
    for (setting, value) in
        [("accept_ra", "0"), ("autoconf", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")]
    {
        set(&format!("ipv6/conf/{device}/{setting}"), value)?;
    }
    Ok(())
}

/// Keeps the node's own sockets out of ports that Weft gives out: NodePorts and source ports of translated flows.
pub(crate) fn reserve_ports(ranges: &[(u16, u16)]) -> Result<(), SysctlError> {
    let name = "ipv4/ip_local_reserved_ports";
    let before = fs::read_to_string(path(name)).map_err(|source| SysctlError {
        name: name.to_owned(),
        value: String::new(),
        source,
    })?;
    let value = with_ranges(before.trim(), ranges);
    set(name, &value)
}

/// A list of reserved ports in the kernel's notation with more ranges in it.
fn with_ranges(before: &str, ranges: &[(u16, u16)]) -> String {
    let mut all: Vec<(u16, u16)> =
        before.split(',').filter_map(range).chain(ranges.iter().copied()).collect();
    all.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in all {
        match merged.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    let words: Vec<String> = merged
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    words.join(",")
}

fn range(word: &str) -> Option<(u16, u16)> {
    match word.trim().split_once('-') {
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
        None => word.trim().parse().ok().map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_with_those_there() {
        assert_eq!(with_ranges("", &[(30_000, 32_767)]), "30000-32767");
        assert_eq!(with_ranges("8080,30000-30100", &[(30_000, 32_767)]), "8080,30000-32767");
        assert_eq!(with_ranges("32768", &[(30_000, 32_767), (61_000, 65_535)]), "30000-32768,61000-65535");
    }
}
