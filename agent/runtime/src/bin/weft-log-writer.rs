//! The logger process as a program of its own, for tests and for agents that do not re-execute themselves.

use std::process::ExitCode;

fn main() -> ExitCode {
    weft_runtime::log_writer_main(std::env::args_os().skip(2))
}
