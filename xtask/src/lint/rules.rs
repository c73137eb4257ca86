//! House rules on files: the workspace's lints are opted into, a file's first line says what lives there, licences stand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lint::imports::Package;

/// Longest `main.rs` of a daemon, lines.
const MAIN_LINES_MAX: usize = 100;
/// A file longer than this is two rooms in one, lines.
const FILE_LINES_MAX: usize = 600;
const FORBIDDEN_NAMES: [&str; 7] =
    ["mod.rs", "utils.rs", "common.rs", "helpers.rs", "manager.rs", "misc.rs", "types.rs"];

/// Every broken rule, one line each.
pub(crate) fn check(root: &Path, packages: &[Package]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for package in packages {
        let manifest = fs::read_to_string(&package.manifest)
            .with_context(|| format!("{} cannot be read", package.manifest.display()))?;
        if !opts_into_lints(&manifest) {
            wrong.push(format!("{}/Cargo.toml: [lints] workspace = true is missing", package.dir));
        }
        for file in sources(&root.join(&package.dir)) {
            let text =
                fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            wrong.extend(check_file(&file, &text).into_iter().map(|what| format!("{shown}: {what}")));
        }
    }
    for file in [
        "LICENSE",
        "dataplane-ebpf/LICENSE-MIT",
        "dataplane-ebpf/LICENSE-GPL-2.0",
        "README.md",
        "CHANGELOG.md",
    ] {
        if !root.join(file).is_file() {
            wrong.push(format!("{file} is missing"));
        }
    }
    wrong.sort();
    wrong.dedup();
    Ok(wrong)
}

fn check_file(path: &Path, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !text.starts_with("//! ") {
        wrong.push("the first line does not say what lives here (//! …)".to_owned());
    }
    if FORBIDDEN_NAMES.contains(&name) {
        wrong.push("a file is named for the noun it owns".to_owned());
    }
    let lines = text.lines().count();
    if name == "main.rs" && lines > MAIN_LINES_MAX && !path.ends_with("dataplane-ebpf/src/main.rs") {
        wrong.push(format!("main.rs has {lines} lines, more than {MAIN_LINES_MAX}"));
    }
    if lines > FILE_LINES_MAX {
        wrong.push(format!("{lines} lines, more than {FILE_LINES_MAX}: two rooms in one?"));
    }
    wrong
}

/// Whether a manifest has the table `[lints]` with `workspace = true`.
fn opts_into_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true")
}

/// Rust files of a package; a package below it has its own turn.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(dir, true, &mut files);
    files
}

fn collect(dir: &Path, is_package: bool, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "target"
                && !name.starts_with('.')
                && (!is_package || !path.join("Cargo.toml").exists())
            {
                collect(&path, true, files);
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_must_be_opted_into() {
        assert!(opts_into_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!opts_into_lints("[package]\nname = \"a\"\nworkspace = true\n"));
        assert!(!opts_into_lints("[lints]\n[dependencies]\nworkspace = true\n"));
    }

    #[test]
    fn files_say_what_lives_there() {
        let good = "//! One thing.\nfn f() {}\n";
        assert!(check_file(Path::new("a/src/thing.rs"), good).is_empty());
        assert_eq!(check_file(Path::new("a/src/thing.rs"), "fn f() {}\n").len(), 1);
        assert_eq!(check_file(Path::new("a/src/utils.rs"), good).len(), 1);
        let long = format!("//! Long.\n{}", "\n".repeat(FILE_LINES_MAX));
        assert_eq!(check_file(Path::new("a/src/thing.rs"), &long).len(), 1);
        assert_eq!(check_file(Path::new("a/src/main.rs"), &long).len(), 2);
    }
}
