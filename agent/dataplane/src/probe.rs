//! What this kernel can, found by asking it, and what is done instead where it cannot.

use std::fs;

use serde::Serialize;
use thiserror::Error;

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
    /// tcx links; without them clsact classifiers are used, which are not replaced without a gap.
    pub tcx: bool,
    /// IPv6 is switched on.
    pub ipv6: bool,
    /// What is missing, in sentences for the operator.
    pub missing: Vec<String>,
}

/// Looks at the running kernel.
///
/// # Errors
/// It is older than 6.1.
pub(crate) fn probe() -> Result<Abilities, TooOld> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default();
    let version = version(&release);
    if version < (6, 1) {
        return Err(TooOld { found: release });
    }
    let tcx = version >= (6, 6);
    let ipv6 = fs::exists("/proc/sys/net/ipv6").unwrap_or(false);
    let mut missing = Vec::new();
    if !tcx {
        missing.push(format!(
            "Linux {release} has no tcx (6.6 has): clsact is used, and other owners' classifiers run after ours"
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
