//! What one measurement is told on its command line: pairs of a flag and its value.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use crate::api::Credentials;

/// The flags by name.
pub(crate) struct Flags(BTreeMap<String, String>);

impl Flags {
    /// Pairs of words; one without a value is left out, and is missed by who wants it.
    pub(crate) fn of(words: &[String]) -> Self {
        let pairs = words.chunks(2);
        Self(pairs.filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))).collect())
    }

    fn text(&self, name: &str) -> Result<&str, Box<dyn Error>> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("{name} is missing").into())
    }

    pub(crate) fn number(&self, name: &str) -> Result<usize, Box<dyn Error>> {
        Ok(self.text(name)?.parse()?)
    }

    /// `--api` and `--credentials`.
    pub(crate) fn credentials(&self) -> Result<Credentials, Box<dyn Error>> {
        Credentials::read(self.text("--api")?, self.text("--credentials")?.as_ref())
    }

    /// `--tables`: the agents' directories of pins.
    pub(crate) fn directories(&self) -> Result<Vec<PathBuf>, Box<dyn Error>> {
        Ok(self.text("--tables")?.split(',').map(PathBuf::from).collect())
    }
}
