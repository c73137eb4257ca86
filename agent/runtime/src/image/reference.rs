//! Image names: `busybox` is `docker.io/library/busybox:latest`.

use std::net::IpAddr;

use oci_client::Reference;

/// Why a name names no image.
#[derive(Debug, thiserror::Error)]
#[error("image name {name:?} is invalid: {reason}")]
pub(crate) struct ReferenceError {
    name: String,
    reason: String,
}

/// Reads a name.
pub(super) fn parse(name: &str) -> Result<Reference, ReferenceError> {
    name.parse()
        .map_err(|e: oci_client::ParseError| ReferenceError { name: name.to_owned(), reason: e.to_string() })
}

/// The full name, with registry and tag or digest.
pub(crate) fn normalize(name: &str) -> Result<String, ReferenceError> {
    Ok(parse(name)?.whole())
}

/// Whether a registry is on this machine's loopback, where plain HTTP goes unseen.
pub(super) fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => registry.split(':').next().unwrap_or(""),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed() {
        assert_eq!(normalize("busybox").unwrap(), "docker.io/library/busybox:latest");
        assert_eq!(normalize("127.0.0.1:5000/a/b:1").unwrap(), "127.0.0.1:5000/a/b:1");
        assert!(normalize("UPPER CASE").unwrap_err().to_string().contains("UPPER CASE"));
    }

    #[test]
    fn loopback_is_recognised() {
        assert!(is_loopback("127.0.0.1:5000") && is_loopback("localhost") && is_loopback("[::1]:5000"));
        assert!(!is_loopback("docker.io") && !is_loopback("10.0.0.1:5000"));
    }
}
