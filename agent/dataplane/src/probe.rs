//! What this kernel can, found by asking it, and what is done instead where it cannot.

use std::fs;

use serde::Serialize;
use thiserror::Error;

use crate::config::PacketHooks;
use crate::sys;

/// The kernel is too old.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Linux {found} is too old: the dataplane needs 6.1, and 6.6 for everything")]
pub struct TooOld {
    /// What it is.
    pub found: String,
}

/// What this kernel can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Abilities {
    /// Its release, as uname says it.
    pub release: String,
    /// Packet programs hang on tcx links; otherwise they are classifiers of clsact qdiscs.
    pub tcx: bool,
    /// IPv6 is switched on.
    pub ipv6: bool,
    /// What is missing, in sentences for the operator.
    pub missing: Vec<String>,
}

/// Looks at the running kernel, and chooses how programs come to devices.
///
/// # Errors
/// It is older than 6.1.
pub(crate) fn probe(hooks: PacketHooks) -> Result<Abilities, TooOld> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default();
    if version(&release) < (6, 1) {
        return Err(TooOld { found: release });
    }
    let has_tcx = sys::has_tcx();
    let tcx = has_tcx && hooks == PacketHooks::Probe;
    let ipv6 = fs::exists("/proc/sys/net/ipv6").unwrap_or(false);
    let mut missing = Vec::new();
    if !tcx {
        let why = if has_tcx { "as it was told to" } else { "since this kernel has no tcx (6.6 has)" };
        missing.push(format!(
            "Linux {release}: packet programs are clsact classifiers, {why}: other tools that delete a device's clsact qdisc \
             or its filters take them away until the agent starts again"
        ));
    }
    if !ipv6 {
        missing.push("IPv6 is switched off in this kernel: only IPv4 is served".to_owned());
    }
    Ok(Abilities { release, tcx, ipv6, missing })
}

/// Major and minor number of a release; 0.0 for what is none.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.44-fc-v445"), (6, 18));
        assert_eq!(version("6.1.0"), (6, 1));
        assert_eq!(version("5.10-custom"), (5, 10));
        assert_eq!(version(""), (0, 0));
    }
}
