//! What the guest begins with: a static busybox, the modules that Weft wants of a kernel, and a few lines that give it this
//! machine's root directory under a layer of memory. `powercut` begins its guests with it, too.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::fetch::Kernel;
use crate::image;

/// How the guest comes to its root directory.
const ROOT_MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/// What of a kernel Weft and its tests use that distributions build as modules; a guest loads no others.
const MODULES: [&str; 9] =
    ["bridge", "cls_bpf", "inet_diag", "sch_ingress", "tcp_diag", "tun", "udp_diag", "veth", "vxlan"];
/// Modules that are not to be missed by a kernel that has them: for tests that say themselves what they want.
const MODULES_IF_THERE: [&str; 1] = ["wireguard"];
const INIT: &str = include_str!("init.sh");

/// Writes the archive and gives its path. `more` are modules beside those that every guest has.
pub(crate) fn write(dir: &Path, kernel: &Kernel, script: &Path, more: &[&str]) -> Result<PathBuf> {
    let listed = kernel.modules.join("modules.dep");
    let listed =
        fs::read_to_string(&listed).with_context(|| format!("{} cannot be read", listed.display()))?;
    let mut archive = Archive { out: GzEncoder::new(Vec::new(), Compression::fast()), entries: 0 };
    for name in ["bin", "dev", "lib", "lib/modules", "lower", "proc", "root", "sys", "upper"] {
        archive.directory(name)?;
    }
    let busybox = image::static_busybox().context("there is no static busybox")?;
    archive.file("bin/busybox", 0o755, &fs::read(busybox)?)?;
    let (mut loaded, mut seen) = (Vec::new(), BTreeSet::new());
    let needed = ROOT_MODULES.iter().chain(&MODULES).chain(more).map(|name| (*name, true));
    for (name, must) in needed.chain(MODULES_IF_THERE.iter().map(|name| (*name, false))) {
        let Some(paths) = with_dependencies(&listed, name) else {
            // What a kernel has built in stands in another list, and is there.
            if must && !is_built_in(&kernel.modules, name) {
                anyhow::bail!("Linux {} has no module {name}", kernel.release);
            }
            continue;
        };
        for path in paths {
            if seen.insert(path) {
                let file = format!("lib/modules/{}.ko", loaded.len());
                archive.file(&file, 0o644, &fs::read(kernel.modules.join(path))?)?;
                loaded.push(file);
            }
        }
    }
    archive.file("modules", 0o644, loaded.join("\n").as_bytes())?;
    archive.file("init", 0o755, INIT.replace("@SCRIPT@", &script.display().to_string()).as_bytes())?;
    let path = dir.join("initramfs.gz");
    fs::write(&path, archive.finish()?).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

/// Paths of a module and all it needs, in the order in which they are to be loaded.
fn with_dependencies<'a>(listed: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let file = format!("/{name}.ko");
    let (path, needs) =
        listed.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| path.ends_with(&file))?;
    let mut paths = Vec::new();
    for need in needs.split_whitespace() {
        // Each line has the direct needs, or all of them: it depends on who wrote it.
        let needed = Path::new(need).file_stem()?.to_str()?;
        for path in with_dependencies(listed, needed)? {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths.push(path);
    Some(paths)
}

fn is_built_in(modules: &Path, name: &str) -> bool {
    let file = format!("/{name}.ko");
    fs::read_to_string(modules.join("modules.builtin"))
        .is_ok_and(|text| text.lines().any(|line| line.ends_with(&file)))
}

/// A cpio archive of the kind `newc` (the kernel's `buffer-format.rst`): headers of hexadecimal words, everything aligned to four bytes.
struct Archive<W: Write> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, 0o040_755, &[])
    }

    fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(name, 0o100_000 | mode, bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let name_length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // inode, mode, owner, group, links, time, length, four device numbers, length of the name, sum
        let words = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
        let mut head = String::from("070701");
        for word in words {
            head.push_str(&format!("{word:08x}"));
        }
        head.push_str(name);
        head.push('\0');
        self.aligned(head.as_bytes())?;
        self.aligned(bytes)
    }

    fn aligned(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])
    }
}

impl Archive<GzEncoder<Vec<u8>>> {
    fn finish(mut self) -> io::Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        let listed = "kernel/net/9p/9pnet.ko:\n\
                      kernel/net/9p/9pnet_virtio.ko: kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio.ko\n\
                      kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko\n\
                      kernel/drivers/virtio/virtio_ring.ko:\n";
        let names: Vec<&str> = with_dependencies(listed, "9pnet_virtio")
            .unwrap()
            .iter()
            .map(|path| path.rsplit_once('/').unwrap().1)
            .collect();
        assert_eq!(names, ["9pnet.ko", "virtio_ring.ko", "virtio.ko", "9pnet_virtio.ko"]);
        assert_eq!(with_dependencies(listed, "vxlan"), None);
    }

    #[test]
    fn entries_are_aligned_and_begin_with_the_magic() {
        let mut archive = Archive { out: Vec::new(), entries: 0 };
        archive.file("abc", 0o644, b"hello").unwrap();
        let first = archive.out.len();
        assert_eq!((first % 4, &archive.out[..6]), (0, b"070701".as_slice()));
        assert_eq!(&archive.out[54..62], b"00000005", "length of the file");
        assert_eq!(&archive.out[110..114], b"abc\0");
        assert_eq!(&archive.out[116..121], b"hello");
        archive.directory("d").unwrap();
        assert_eq!(&archive.out[first..first + 6], b"070701");
    }
}
