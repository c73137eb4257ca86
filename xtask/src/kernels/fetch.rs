//! What `kernels` needs from the distribution: qemu installed, the kernel only unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{output, run as run_command};
use crate::image;
use crate::setup::install_packages;
use crate::workspace::which;

/// What every kernel of the series is called in the archive; the number of its ABI stands between.
const PACKAGE: (&str, &str) = ("linux-image-6.1.0-", "-amd64");

/// An unpacked kernel.
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) release: String,
    /// What qemu boots.
    pub(crate) image: PathBuf,
    /// Directory with the modules, and which needs which in `modules.dep`.
    pub(crate) modules: PathBuf,
}

/// Installs the programs that are missing.
pub(crate) fn tools() -> Result<()> {
    let mut missing = Vec::new();
    if which("qemu-system-x86_64").is_none() {
        missing.push("qemu-system-x86");
    }
    if image::static_busybox().is_none() {
        missing.push("busybox-static");
    }
    if which("dpkg-deb").is_none() || which("apt-get").is_none() {
        bail!("the kernel is Debian's: this machine has no apt-get and dpkg-deb to get it with");
    }
    if missing.is_empty() { Ok(()) } else { install_packages(&missing) }
}

/// The newest kernel of the series that apt offers, or that is here already, unpacked.
pub(crate) fn kernel(dir: &Path) -> Result<Kernel> {
    let names = output(Command::new("apt-cache").args(["pkgnames", PACKAGE.0]))?;
    let Some(abi) = newest(&names) else {
        return unpacked(dir)
            .context("apt offers no Linux 6.1 (that of Debian 12), and none is unpacked here");
    };
    let release = format!("6.1.0-{abi}-amd64");
    let root = dir.join(&release);
    if !root.join("complete").exists() {
        let package = format!("{}{abi}{}", PACKAGE.0, PACKAGE.1);
        println!("kernels: apt-get download {package}");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("{} cannot be removed", root.display()))?;
        }
        fs::create_dir_all(&root).with_context(|| format!("{} cannot be made", root.display()))?;
        // The packages lie where they are unpacked; apt's own user may not write there, which it says and does without.
        let mut apt = Command::new("apt-get");
        run_command(apt.args(["--quiet=2", "download", &package]).current_dir(&root))?;
        let archive = fs::read_dir(&root)?.flatten().map(|entry| entry.path());
        let archive = archive.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
        let archive = archive.last().with_context(|| format!("apt-get brought no {package}"))?;
        run_command(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&root))?;
        fs::remove_file(&archive).with_context(|| format!("{} cannot be removed", archive.display()))?;
        let busybox = image::static_busybox().context("there is no static busybox")?;
        run_command(Command::new(busybox).args(["depmod", "-b"]).arg(&root).arg(&release))?;
        fs::write(root.join("complete"), "")?;
    }
    Ok(at(&root, release))
}

/// The highest ABI number among the packages' names.
fn newest(names: &str) -> Option<u32> {
    let abi = |name: &str| name.trim().strip_prefix(PACKAGE.0)?.strip_suffix(PACKAGE.1)?.parse().ok();
    names.lines().filter_map(abi).max()
}

fn unpacked(dir: &Path) -> Option<Kernel> {
    let here = fs::read_dir(dir).ok()?.flatten().filter(|entry| entry.path().join("complete").exists());
    let name = here.map(|entry| entry.file_name().to_string_lossy().into_owned()).max()?;
    Some(at(&dir.join(&name), name))
}

fn at(root: &Path, release: String) -> Kernel {
    Kernel {
        image: root.join(format!("boot/vmlinuz-{release}")),
        modules: root.join("lib/modules").join(&release),
        release,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_taken_and_no_variant_of_it() {
        let names = "linux-image-6.1.0-9-amd64\nlinux-image-6.1.0-56-amd64\nlinux-image-6.1.0-57-cloud-amd64\n\
                     linux-image-6.1.0-58-amd64-unsigned\n";
        assert_eq!(newest(names), Some(56));
        assert_eq!(newest(""), None);
    }
}
