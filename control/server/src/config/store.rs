//! Where the state is kept: a file in the data directory, or an etcd.

use std::path::PathBuf;

use weft_store::etcd::address::{Address, Pem};

use super::{ConfigError, RawConfig, bad};

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreConfig {
    /// A file in the data directory, of this process alone.
    Embedded,
    /// An etcd.
    Etcd { address: Address, tls: Option<TlsFiles> },
}

/// The PEM files for etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    authorities: PathBuf,
    /// Certificate and key that are shown to it.
    identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// # Errors
    /// A file cannot be read; names it.
    pub(crate) fn read(&self) -> anyhow::Result<Pem> {
        use anyhow::Context as _;
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let identity = match &self.identity {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        Ok(Pem { authorities: read(&self.authorities)?, identity })
    }
}

/// Reads `--store` and what belongs to it.
pub(super) fn store(raw: &RawConfig) -> Result<StoreConfig, ConfigError> {
    let identity = match (&raw.store_cert, &raw.store_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (Some(certificate), None) => {
            return Err(bad("store-cert", certificate.display(), "wants --store-key with it"));
        }
        (None, Some(key)) => return Err(bad("store-key", key.display(), "wants --store-cert with it")),
    };
    let tls = match (&raw.store_ca, identity) {
        (Some(authorities), identity) => Some(TlsFiles { authorities: authorities.clone(), identity }),
        (None, None) => None,
        (None, Some((certificate, _))) => {
            return Err(bad("store-cert", certificate.display(), "wants --store-ca with it"));
        }
    };
    match raw.store.as_deref().unwrap_or("embedded") {
        "embedded" => match &raw.store_ca {
            Some(path) => Err(bad("store-ca", path.display(), "is for an etcd, and --store names none")),
            None => Ok(StoreConfig::Embedded),
        },
        text => {
            let address = text.parse().map_err(|error| bad("store", text, error))?;
            Ok(StoreConfig::Etcd { address, tls })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(store: Option<&str>, files: [Option<&str>; 3]) -> RawConfig {
        let [store_ca, store_cert, store_key] = files.map(|file| file.map(PathBuf::from));
        RawConfig { store: store.map(str::to_owned), store_ca, store_cert, store_key, ..RawConfig::default() }
    }

    #[test]
    fn stores_are_understood() {
        let of = |store, files| raw(store, files).validate().map(|config| config.store);
        assert_eq!(of(None, [None; 3]).unwrap(), StoreConfig::Embedded);
        assert_eq!(of(Some("embedded"), [None; 3]).unwrap(), StoreConfig::Embedded);
        let StoreConfig::Etcd { address, tls: None } = of(Some("etcd://a:1,b/blue"), [None; 3]).unwrap()
        else {
            panic!("an etcd without TLS")
        };
        assert_eq!((address.endpoints.len(), &address.name[..]), (2, "blue"));
        let with_tls = of(Some("etcd://a"), [Some("ca"), Some("crt"), Some("key")]).unwrap();
        assert!(matches!(with_tls, StoreConfig::Etcd { tls: Some(TlsFiles { identity: Some(_), .. }), .. }));
        for (wrong, store, files) in [
            ("store", "http://a", [None; 3]),
            ("store", "etcd://", [None; 3]),
            ("store-ca", "embedded", [Some("ca"), None, None]),
            ("store-cert", "etcd://a", [Some("ca"), Some("crt"), None]),
            ("store-key", "etcd://a", [Some("ca"), None, Some("key")]),
            ("store-cert", "etcd://a", [None, Some("crt"), Some("key")]),
        ] {
            match of(Some(store), files) {
                Err(ConfigError::Value { flag, .. }) => assert_eq!(flag, wrong),
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }
}
