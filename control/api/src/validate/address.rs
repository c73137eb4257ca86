//! Addresses and ranges of addresses, with the words of Kubernetes' `util/validation`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::status::{Errors, FieldError};

/// What is wrong with an address; one way to write it is right, so that it can be a name.
pub fn ip(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
        Ok(ip) if ip.to_string() != text => vec![format!("must be in canonical form (\"{ip}\")")],
        Ok(_) => Vec::new(),
    }
}

/// A range of addresses, also with bits beyond its length.
pub(super) fn cidr(text: &str, path: &str, errors: &mut Errors) -> Option<IpNet> {
    let range = text.parse().ok();
    if range.is_none() {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(path, text, why));
    }
    range
}

/// A range of addresses in the one way to write it.
pub(super) fn canonical_cidr(text: &str, path: &str, errors: &mut Errors) -> Option<IpNet> {
    let range = cidr(text, path, errors)?;
    if range.trunc() != range {
        let why = "must not have bits set beyond the prefix length";
        errors.push(FieldError::invalid(path, text, why));
    } else if range.to_string() != text {
        errors.push(FieldError::invalid(path, text, format!("must be in canonical form (\"{range}\")")));
    }
    Some(range)
}
