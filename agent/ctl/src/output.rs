//! Standard output. Whoever reads it may leave at any time; then the rest is not wanted, and that is no failure.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints one line.
///
/// # Errors
/// Nobody reads any more ([`is_closed`] tells), or the disk behind it is full.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Whether an error says that nobody reads standard output any more.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
