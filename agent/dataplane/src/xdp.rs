//! The program at the uplink's driver (XDP): whether it is to be there, whether the driver can, and why it is not. The stack's
//! programs do everything without it, so that a driver that cannot is no failure.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::Ebpf;
use aya::programs::Xdp as Program;
use serde::Serialize;
use weft_dataplane_abi::hook::XDP_UPLINK;

use crate::attach::{AttachError, program, replace, unpin};
use crate::config::{Config, Xdp};
use crate::netlink::Device;
use crate::sys::{self, LinkTarget};

/// Whether the uplink's driver carries packets by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct XdpStatus {
    /// Why it does not, in words for the operator; none when it does.
    pub why_not: Option<String>,
}

/// Puts the program there, in place of one from before, or takes one from before off.
pub(crate) fn settle(
    ebpf: &mut Ebpf,
    links: &Path,
    config: &Config,
    uplink: &Device,
) -> Result<XdpStatus, AttachError> {
    let name = format!("{XDP_UPLINK}-{}", uplink.name);
    // An uplink from before has none any more.
    for entry in fs::read_dir(links).into_iter().flatten().flatten() {
        let other = entry.file_name();
        if other.to_string_lossy().starts_with(XDP_UPLINK) && *other != *name {
            unpin(&entry.path())?;
        }
    }
    let path = links.join(name);
    let why_not = match unwanted(config, uplink) {
        Some(reason) => Some(reason),
        None => tried(ebpf, &path, uplink)?,
    };
    if why_not.is_some() {
        unpin(&path)?;
    }
    Ok(XdpStatus { why_not })
}

/// Why nobody need ask the driver.
fn unwanted(config: &Config, uplink: &Device) -> Option<String> {
    let name = &uplink.name;
    match config.xdp {
        Xdp::Off => Some("it is switched off".to_owned()),
        _ if config.encrypted || config.encryption_bytes > 0 => {
            Some("what goes to other nodes is encrypted, which the driver does not do".to_owned())
        }
        Xdp::Auto if uplink.veth => Some(format!(
            "{name} is a veth, whose other end takes what a driver sends only while it has an XDP program, too; `on` says that it has"
        )),
        Xdp::Auto | Xdp::On => None,
    }
}

/// Asks the driver; why it does not.
fn tried(ebpf: &mut Ebpf, path: &Path, uplink: &Device) -> Result<Option<String>, AttachError> {
    let program: &mut Program = program(ebpf, XDP_UPLINK)?;
    if program.fd().is_err()
        && let Err(error) = program.load()
    {
        tracing::warn!(%error, "the kernel refuses the program for the uplink's driver");
        return Ok(Some("the kernel refuses the program".to_owned()));
    }
    let Ok(fd) = program.fd() else { return Err(AttachError::NoProgram(XDP_UPLINK)) };
    if replace(path, LinkTarget::Device(uplink.index), fd.as_fd())? {
        return Ok(None);
    }
    let made = sys::link_to_driver(fd.as_fd(), uplink.index)
        .map_err(|error| refused(&error, uplink))
        .and_then(|link| {
            sys::pin(link.as_fd(), path).map_err(|error| format!("the link cannot be pinned: {error}"))
        });
    Ok(made.err())
}

/// What the driver's refusal means.
fn refused(error: &io::Error, uplink: &Device) -> String {
    let Device { name, mtu_bytes, .. } = uplink;
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => format!("the driver of {name} has no XDP"),
        Some(libc::EBUSY | libc::EEXIST) => format!("another program is at the driver of {name}"),
        _ => format!(
            "the driver of {name} refuses, with an MTU of {mtu_bytes} bytes and its present queues and offloads: {error}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink() -> Device {
        Device {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            mtu_bytes: 9_000,
            up: true,
            alias: String::new(),
            ethernet: true,
            vxlan_port: None,
            veth: false,
        }
    }

    #[test]
    fn a_refusal_says_what_the_operator_can_do() {
        let says = |errno: i32| refused(&io::Error::from_raw_os_error(errno), &uplink());
        assert_eq!(says(libc::EOPNOTSUPP), "the driver of eth0 has no XDP");
        assert_eq!(says(libc::EBUSY), "another program is at the driver of eth0");
        assert!(says(libc::ERANGE).contains("an MTU of 9000 bytes"));
    }
}
