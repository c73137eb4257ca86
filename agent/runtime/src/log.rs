//! Containers' logs on disk.
use std::ffi::OsString;
use std::process::ExitCode;

/// The whole life of a logger process that a shim started: `args` is what follows [`crate::Logger::argument`].
/// Reads the container's output from file descriptors 3 and 4 until it ends. Call it first thing in `main`, before any runtime.
#[must_use]
pub fn log_writer_main(_args: impl Iterator<Item = OsString>) -> ExitCode {
    ExitCode::FAILURE
}
