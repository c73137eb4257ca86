//! Layers good and bad.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::*;

fn header(kind: EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1000);
    header
}

/// Writes the name without the checks that the tar crate makes.
fn raw_name(header: &mut tar::Header, name: &str) {
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
}

fn layer(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let mut header = header(*kind, if link { 0 } else { content.len() as u64 }, 0o640);
        if link {
            header.set_link_name(content).unwrap();
        }
        raw_name(&mut header, name);
        builder.append(&header, if link { &b""[..] } else { content.as_bytes() }).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn files_keep_owner_mode_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let tar = layer(&[("a/f", EntryType::Regular, "text"), ("a/l", EntryType::Link, "a/f")]);
    let (digest, bytes) = unpack(&tar[..], dir.path(), 1 << 20).unwrap();
    assert_eq!(digest, format!("sha256:{}", hex(&Sha256::digest(&tar))));
    assert_eq!(bytes, tar.len() as u64);
    let meta = fs::metadata(dir.path().join("a/l")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777, meta.mtime()), (7, 8, 0o640, 1000));
    assert_eq!(meta.nlink(), 2);
}

#[test]
fn whiteouts_become_what_overlayfs_knows() {
    let dir = tempfile::tempdir().unwrap();
    let tar = layer(&[("d/.wh.gone", EntryType::Regular, ""), ("e/.wh..wh..opq", EntryType::Regular, "")]);
    unpack(&tar[..], dir.path(), 1 << 20).unwrap();
    let gone = fs::symlink_metadata(dir.path().join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device());
    assert_eq!(gone.rdev(), 0);
    assert!(dir.path().join("e").is_dir());
    assert!(!dir.path().join("e/.wh..wh..opq").exists());
}

#[test]
fn gzip_and_zstd_are_the_same_layer() {
    let tar = layer(&[("f", EntryType::Regular, "text")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, &tar).unwrap();
    let zipped = [gzip.finish().unwrap(), zstd::encode_all(&tar[..], 1).unwrap()];
    for packed in zipped {
        let dir = tempfile::tempdir().unwrap();
        let (digest, _) = unpack(&packed[..], dir.path(), 1 << 20).unwrap();
        assert_eq!(digest, format!("sha256:{}", hex(&Sha256::digest(&tar))));
    }
}

#[test]
fn what_leaves_the_directory_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let climbing = layer(&[("../evil", EntryType::Regular, "x")]);
    assert!(matches!(unpack(&climbing[..], dir.path(), 1 << 20), Err(UnpackError::Escape { .. })));
    let target = outside.path().to_str().unwrap();
    let through = layer(&[("way", EntryType::Symlink, target), ("way/evil", EntryType::Regular, "x")]);
    assert!(matches!(unpack(&through[..], dir.path(), 1 << 20), Err(UnpackError::Escape { .. })));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let linked = layer(&[("l", EntryType::Link, "../../etc/passwd")]);
    assert!(matches!(unpack(&linked[..], dir.path(), 1 << 20), Err(UnpackError::Escape { .. })));
}

#[test]
fn a_whiteout_hides_a_name_and_nothing_above_it() {
    for bad in [".wh...", ".wh..", ".wh.", "d/.wh..."] {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(dir.path().join("beside"), "x").unwrap();
        let tar = layer(&[("keep", EntryType::Regular, "x"), (bad, EntryType::Regular, "")]);
        assert!(matches!(unpack(&tar[..], &tree, 1 << 20), Err(UnpackError::Escape { .. })), "{bad}");
        assert!(dir.path().join("beside").exists() && tree.join("keep").exists(), "{bad}");
    }
    let dir = tempfile::tempdir().unwrap();
    unpack(&layer(&[(".wh..wh.plnk", EntryType::Regular, "")])[..], dir.path(), 1 << 20).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_bomb_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let big = layer(&[("f", EntryType::Regular, &"x".repeat(100_000))]);
    assert!(matches!(unpack(&big[..], dir.path(), 50_000), Err(UnpackError::TooLarge { bytes_max: 50_000 })));
}
