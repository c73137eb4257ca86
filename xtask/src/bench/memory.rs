//! Memory of a process, as the kernel counts it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// A process's memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) all: u64,
    /// What is its own and no file's.
    pub(crate) anonymous: u64,
}

/// Of a running process.
pub(crate) fn of(pid: i32) -> Result<Memory> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    read(&fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?)
}

fn read(status: &str) -> Result<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.map(|kilobytes| kilobytes << 10).with_context(|| format!("no {name} in a process's status"))
    };
    Ok(Memory { all: field("VmRSS:")?, anonymous: field("RssAnon:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_proc() {
        let status = "Name:\tweft-agent\nVmRSS:\t   39124 kB\nRssAnon:\t   20000 kB\nRssFile:\t   19124 kB\n";
        let memory = read(status).unwrap();
        assert_eq!(memory, Memory { all: 39_124 << 10, anonymous: 20_000 << 10 });
        assert!(read("").is_err());
    }
}
