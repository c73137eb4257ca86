//! A directory of small files that changes all at once: `..data` points to the current set, and is swapped.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

/// Content and mode by relative path.
pub(crate) type Files = BTreeMap<PathBuf, (Vec<u8>, u32)>;

const CURRENT: &str = "..data";

/// A path below a directory; `None` if it could leave it or is hidden among the writer's own names.
pub(crate) fn relative(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) if !name.as_encoded_bytes().starts_with(b"..") => clean.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

/// Makes `dir` hold exactly `files`; does nothing if it does already. `group` may read them too.
pub(crate) fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let old = fs::read_link(dir.join(CURRENT)).ok().map(|t| dir.join(t));
    if old.as_deref().is_some_and(|old| same(old, files)) {
        return Ok(());
    }
    let number = (0_u64..).find(|n| !dir.join(format!("..{n}")).exists()).unwrap_or(0);
    let name = format!("..{number}");
    let fresh = dir.join(&name);
    for (path, (content, mode)) in files {
        let path = fresh.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        let mode = if group.is_some() { mode | 0o440 } else { *mode };
        chown(&path, None, group)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o777))?;
    }
    fs::create_dir_all(&fresh)?;
    let half = dir.join("..data_tmp");
    let _ = fs::remove_file(&half);
    symlink(&name, &half)?;
    fs::rename(&half, dir.join(CURRENT))?;
    link_names(dir, files)?;
    if let Some(old) = old {
        fs::remove_dir_all(old)?;
    }
    Ok(())
}

/// One link per first part of a path, and none for what is gone.
fn link_names(dir: &Path, files: &Files) -> io::Result<()> {
    let first = |p: &PathBuf| p.components().next().map(|c| PathBuf::from(c.as_os_str()));
    let wanted: std::collections::BTreeSet<PathBuf> = files.keys().filter_map(first).collect();
    for name in &wanted {
        match symlink(Path::new(CURRENT).join(name), dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = PathBuf::from(entry?.file_name());
        if !name.as_os_str().as_encoded_bytes().starts_with(b"..") && !wanted.contains(&name) {
            fs::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}

fn same(old: &Path, files: &Files) -> bool {
    fn count(dir: &Path) -> usize {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
    }
    let equal = |(path, (content, _)): (&PathBuf, &(Vec<u8>, u32))| {
        fs::read(old.join(path)).is_ok_and(|found| found == *content)
    };
    count(old) == files.len() && files.iter().all(equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        pairs.iter().map(|(p, c)| (PathBuf::from(p), (c.as_bytes().to_vec(), 0o600))).collect()
    }

    #[test]
    fn files_change_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("d/b")).unwrap(), "2");
        let mode = fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = fs::read_link(dir.path().join(CURRENT)).unwrap();
        write(dir.path(), &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(dir.path().join(CURRENT)).unwrap(), before);
        write(dir.path(), &files(&[("a", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(!dir.path().join("d").exists());
        assert!(!dir.path().join(before).exists());
    }

    #[test]
    fn paths_stay_below() {
        assert_eq!(relative("a/./b"), Some("a/b".into()));
        assert!(relative("../a").is_none() && relative("/a").is_none() && relative("a/../../b").is_none());
        assert!(relative("").is_none() && relative("..data").is_none());
    }
}
