//! `weft-control backup` and `restore`: all that is stored, from a running server into a file, and from that into a new store.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use weft_store::backup;

use crate::admin::{self, Admin};
use crate::assemble;
use crate::config::{BackupArgs, Config, StoreConfig};
use crate::pki;

/// Writes a backup of the running server into a file, which is there as a whole or not at all.
///
/// # Errors
/// The file is there already or cannot be written, or the server does not answer, or refuses, or breaks off.
pub(crate) async fn take(args: &BackupArgs) -> anyhow::Result<()> {
    let file = &args.file;
    let shown = file.display();
    anyhow::ensure!(!file.exists(), "{shown} is there already");
    let admin = Admin::read(&args.kubeconfig())?;
    let request = Request::get(crate::http::backup::PATH).body(Full::new(Bytes::new()))?;
    let mut answer = admin.ask(request).await?;
    if answer.status() != StatusCode::OK {
        anyhow::bail!(admin::refusal(answer).await);
    }
    let partial = Partial::new(file)?;
    let mut out = &partial.file;
    while let Some(frame) = answer.body_mut().frame().await {
        let frame = frame.context("the control plane broke off; its log says why")?;
        if let Some(data) = frame.data_ref() {
            out.write_all(data).with_context(|| format!("{shown} cannot be written"))?;
        }
    }
    let read = File::open(&partial.path).with_context(|| format!("{shown} cannot be read again"))?;
    let (head, entries) = backup::verify(BufReader::new(read))?;
    partial.keep(file).with_context(|| format!("{shown} cannot be written"))?;
    println!("{shown}: {entries} entries as of revision {}", head.revision);
    Ok(())
}

/// A file that is being written. It goes with its owner, unless it is kept.
struct Partial {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Partial {
    fn new(whole: &Path) -> anyhow::Result<Self> {
        let mut path = whole.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        // For its owner alone: it holds every Secret.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { path, file, kept: false })
    }

    fn keep(mut self, whole: &Path) -> std::io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, whole)?;
        self.kept = true;
        let directory = whole.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Puts a backup into a new store.
///
/// # Errors
/// It is none, or damaged; there is a store already; the store cannot be written.
pub(crate) async fn restore(file: &Path, config: &Config) -> anyhow::Result<()> {
    let shown = file.display();
    let open = || File::open(file).map(BufReader::new).with_context(|| format!("{shown} cannot be read"));
    let (head, entries) = backup::verify(open()?).with_context(|| shown.to_string())?;
    pki::make_dir(&config.data_dir).context("the data directory cannot be made")?;
    let (store, _lock) = assemble::open_store(config, Some(head.beginning(SystemTime::now()))).await?;
    let restored = backup::restore(open()?, &*store).await;
    drop(store);
    if let Err(error) = restored {
        if config.store == StoreConfig::Embedded {
            let _ = fs::remove_file(config.data_dir.join(assemble::STORE));
        }
        return Err(error).context("the backup is not restored");
    }
    println!("{shown}: {entries} entries as of revision {} are restored", head.revision);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_there_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, partial) = (dir.path().join("all.backup"), dir.path().join("all.backup.partial"));
        // What a run that was killed has left.
        fs::write(&partial, "longer than what comes").unwrap();
        let broken_off = Partial::new(&whole).unwrap();
        (&broken_off.file).write_all(b"half").unwrap();
        drop(broken_off);
        assert!(!whole.exists() && !partial.exists());
        fs::write(&partial, "longer than what comes").unwrap();
        let written = Partial::new(&whole).unwrap();
        (&written.file).write_all(b"all").unwrap();
        written.keep(&whole).unwrap();
        assert!(!partial.exists());
        assert_eq!(fs::read(&whole).unwrap(), b"all");
    }

    #[test]
    fn nobody_else_reads_it_not_even_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let written = Partial::new(&dir.path().join("all.backup")).unwrap();
        assert_eq!(fs::metadata(&written.path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
