//! Who is asking: by client certificate, by ServiceAccount token, or nobody known.
//!
//! What they may do is not decided here but in `authz`.

pub(crate) mod account;
pub(crate) mod bootstrap;
pub(crate) mod impersonate;

use x509_parser::prelude::{FromDer, X509Certificate};

/// Who a request is made by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    /// What else is known, as reviews show it.
    pub(crate) extra: Vec<(String, String)>,
}

impl User {
    /// Who brought nothing.
    pub(crate) fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Self::default()
        }
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node whose certificate this is.
    pub(crate) fn node(&self) -> Option<&str> {
        if self.is_in("system:nodes") { self.name.strip_prefix("system:node:") } else { None }
    }
}

/// The subject of a client certificate that TLS has verified: the common name is the user, organizations are groups.
pub(crate) fn by_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> = certificate
        .subject()
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(ToOwned::to_owned)
        .collect();
    groups.push("system:authenticated".into());
    Some(User { name, groups, ..User::default() })
}
