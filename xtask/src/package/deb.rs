//! The form of a .deb (deb(5)): an `ar` archive of `debian-binary`, `control.tar.gz` and `data.tar.gz`.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType};

use crate::image::append;

const MAINTAINER: &str = "The Weft authors <weft@localhost>";

/// One file of a package.
pub(crate) struct Entry {
    path: String,
    mode: u32,
    content: Vec<u8>,
    is_configuration: bool,
}

impl Entry {
    /// A file that an upgrade replaces; `path` without a leading slash.
    pub(crate) fn file(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode, content: content.into(), is_configuration: false }
    }

    /// A file that an upgrade leaves as the operator made it.
    pub(crate) fn configuration(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self { is_configuration: true, ..Self::file(path, mode, content) }
    }
}

/// A package.
pub(crate) struct Deb {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: &'static str,
    pub(crate) depends: String,
    pub(crate) summary: String,
    pub(crate) entries: Vec<Entry>,
    /// Maintainer scripts by name.
    pub(crate) scripts: Vec<(&'static str, String)>,
    /// How hard to try to make it small.
    pub(crate) compression: Compression,
}

impl Deb {
    /// `weft-agent_0.1.0_amd64.deb`.
    pub(crate) fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version, self.architecture)
    }

    /// The package's bytes.
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        let mut ar = b"!<arch>\n".to_vec();
        member(&mut ar, "debian-binary", b"2.0\n")?;
        member(&mut ar, "control.tar.gz", &self.control_archive()?)?;
        member(&mut ar, "data.tar.gz", &self.data_archive()?)?;
        Ok(ar)
    }

    fn control_file(&self) -> String {
        let kib: usize = self.entries.iter().map(|entry| entry.content.len().div_ceil(1024)).sum();
        format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: {MAINTAINER}\nInstalled-Size: {kib}\n\
             Depends: {}\nSection: admin\nPriority: optional\nDescription: {}\n \
             Weft runs containers on a cluster of Linux machines and connects them with eBPF.\n",
            self.name, self.version, self.architecture, self.depends, self.summary
        )
    }

    fn control_archive(&self) -> Result<Vec<u8>> {
        let mut tar = archive(self.compression);
        append(&mut tar, "control", EntryType::Regular, 0o644, self.control_file().as_bytes())?;
        let conffiles: String = self
            .entries
            .iter()
            .filter(|entry| entry.is_configuration)
            .map(|entry| format!("/{}\n", entry.path))
            .collect();
        append(&mut tar, "conffiles", EntryType::Regular, 0o644, conffiles.as_bytes())?;
        for (name, text) in &self.scripts {
            append(&mut tar, name, EntryType::Regular, 0o755, text.as_bytes())?;
        }
        Ok(tar.into_inner()?.finish()?)
    }

    /// The files, each directory before what is in it.
    fn data_archive(&self) -> Result<Vec<u8>> {
        let mut tar = archive(self.compression);
        let mut made = BTreeSet::new();
        for entry in &self.entries {
            for (at, _) in entry.path.match_indices('/') {
                let dir = format!("{}/", &entry.path[..at]);
                if made.insert(dir.clone()) {
                    append(&mut tar, &dir, EntryType::Directory, 0o755, &[])?;
                }
            }
            append(&mut tar, &entry.path, EntryType::Regular, entry.mode, &entry.content)?;
        }
        Ok(tar.into_inner()?.finish()?)
    }
}

fn archive(compression: Compression) -> Builder<GzEncoder<Vec<u8>>> {
    Builder::new(GzEncoder::new(Vec::new(), compression))
}

/// Adds a member: a header of 60 bytes in decimal text, the content, a newline if its length is odd.
fn member(ar: &mut Vec<u8>, name: &str, content: &[u8]) -> Result<()> {
    writeln!(ar, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, "100644", content.len())?;
    ar.extend_from_slice(content);
    if content.len() % 2 == 1 {
        ar.push(b'\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn sample() -> Deb {
        Deb {
            name: "weft-sample".into(),
            version: "0.1.0".into(),
            architecture: "amd64",
            depends: "libc6".into(),
            summary: "a sample".into(),
            entries: vec![
                Entry::file("usr/bin/sample", 0o755, "#!/bin/sh\n"),
                Entry::configuration("etc/weft/sample.env", 0o600, "A=1\n"),
            ],
            scripts: vec![("postinst", "#!/bin/sh\nexit 0\n".into())],
            compression: Compression::default(),
        }
    }

    #[test]
    fn members_are_aligned() {
        let bytes = sample().write().unwrap();
        assert!(
            bytes.starts_with(b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n")
        );
        assert_eq!(&bytes[72..86], b"control.tar.gz");
    }

    #[test]
    fn dpkg_reads_it() {
        let Ok(probe) = Command::new("dpkg-deb").arg("--version").output() else { return };
        assert!(probe.status.success());
        let path = std::env::temp_dir().join(format!("weft-sample-{}.deb", std::process::id()));
        std::fs::write(&path, sample().write().unwrap()).unwrap();
        let ask = |flag: &str| {
            let output = Command::new("dpkg-deb").arg(flag).arg(&path).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(ask("--info").contains("Package: weft-sample"));
        let listing = ask("--contents");
        assert!(listing.contains("-rwxr-xr-x") && listing.contains("usr/bin/sample"), "{listing}");
        assert!(listing.contains("-rw-------") && listing.contains("etc/weft/sample.env"), "{listing}");
        std::fs::remove_file(&path).unwrap();
    }
}
