//! Test programs: which file cargo built each to.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// The test program of that name as it was built last.
pub(crate) fn find(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let dir = workspace.bin_dir(false).join("deps");
    newest(&dir, name).with_context(|| format!("{} has no test program {name}", dir.display()))
}

/// The newest of the files that cargo names after a target: the name, a dash, a hash and nothing more.
fn newest(dir: &Path, name: &str) -> Option<PathBuf> {
    let built = fs::read_dir(dir).ok()?.flatten().filter_map(|entry| {
        let file = entry.file_name();
        let hash = file.to_str()?.strip_prefix(name)?.strip_prefix('-')?;
        let changed: SystemTime = entry.metadata().ok()?.modified().ok()?;
        hash.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| (changed, entry.path()))
    });
    built.max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_newest_build_of_a_program_is_taken() {
        let dir = std::env::temp_dir().join(format!("weft-xtask-programs-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (name, age_seconds) in
            [("walk-0a", 20), ("walk-0b", 10), ("walk-0c.d", 5), ("walk_more-0d", 5), ("walk-zz", 5)]
        {
            let file = fs::File::create(dir.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age_seconds)).unwrap();
        }
        assert_eq!(newest(&dir, "walk"), Some(dir.join("walk-0b")));
        assert_eq!(newest(&dir, "other"), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
