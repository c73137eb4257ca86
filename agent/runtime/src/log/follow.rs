//! Reads a log from its files, through rotations, as clients want it: without the prefix, from a line or a time on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::{files, line};

/// How often a follower looks for more.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Which lines, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only the last so many.
    pub(crate) tail_lines: Option<u64>,
    /// Only at or after.
    pub(crate) since: Option<Timestamp>,
    /// With the time before each line.
    pub(crate) timestamps: bool,
    /// End after so many bytes.
    pub(crate) limit_bytes: Option<u64>,
}

/// One reader of one log.
pub(crate) struct LogFollower {
    newest: PathBuf,
    file: tokio::fs::File,
    inode: u64,
    rest: Vec<u8>,
    in_line: bool,
    filter: Filter,
    left: u64,
}

impl LogFollower {
    /// Opens the log at the first wanted line.
    ///
    /// # Errors
    /// There is no such log.
    pub(crate) async fn open(newest: PathBuf, filter: Filter) -> io::Result<Self> {
        let tail = filter.tail_lines;
        let (newest, found) = tokio::task::spawn_blocking(move || {
            let found = start(&newest, tail);
            (newest, found)
        })
        .await
        .map_err(io::Error::other)?;
        let file = found?;
        let inode = file.metadata()?.ino();
        let left = filter.limit_bytes.unwrap_or(u64::MAX);
        let file = tokio::fs::File::from_std(file);
        Ok(Self { newest, file, inode, rest: Vec::new(), in_line: false, filter, left })
    }

    /// Writes the text to `out` until the log's end; without a pause between if `ended` says that nothing more will come.
    pub(crate) async fn copy(
        mut self,
        out: &mut (impl AsyncWrite + Unpin),
        mut ended: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            // Asked before the read: what was written before the end is then surely seen.
            let last = *ended.borrow_and_update();
            let count = self.file.read(&mut chunk).await?;
            if count > 0 {
                self.rest.extend_from_slice(&chunk[..count]);
                let text = self.take_text();
                out.write_all(&text).await?;
                if self.left == 0 {
                    break;
                }
                continue;
            }
            if self.next_file().await? {
                continue;
            }
            if last {
                break;
            }
            out.flush().await?;
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                changed = ended.changed() => if changed.is_err() { break },
            }
        }
        out.flush().await
    }

    /// Turns the whole lines read so far into text.
    fn take_text(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut used = 0;
        while let Some(length) = self.rest[used..].iter().position(|b| *b == b'\n') {
            let Some(line) = line::read(&self.rest[used..used + length]) else {
                used += length + 1;
                continue;
            };
            let wanted = self
                .filter
                .since
                .is_none_or(|since| line.time.parse::<Timestamp>().is_ok_and(|time| time >= since));
            if wanted {
                if self.filter.timestamps && !self.in_line {
                    text.extend_from_slice(line.time.as_bytes());
                    text.push(b' ');
                }
                text.extend_from_slice(line.text);
                if line.full {
                    text.push(b'\n');
                }
                self.in_line = !line.full;
            }
            used += length + 1;
        }
        self.rest.drain(..used);
        text.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= text.len() as u64;
        text
    }

    /// Goes on to the file that was begun after this one, if there is one.
    async fn next_file(&mut self) -> io::Result<bool> {
        let all = files(&self.newest);
        let mut opened = Vec::new();
        for path in &all {
            match File::open(path) {
                Ok(file) => opened.push((file.metadata()?.ino(), file)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        let newer = match opened.iter().position(|(inode, _)| *inode == self.inode) {
            Some(0) => return Ok(false),
            Some(age) => opened.swap_remove(age - 1),
            // Fell behind by all kept files, or the log was removed: go on with the oldest there is.
            None => match opened.pop() {
                Some(oldest) => oldest,
                None => return Ok(false),
            },
        };
        self.inode = newer.0;
        self.file = tokio::fs::File::from_std(newer.1);
        self.rest.clear();
        Ok(true)
    }
}

/// The file and place of the first wanted line.
fn start(newest: &Path, tail_lines: Option<u64>) -> io::Result<File> {
    let mut kept: Vec<File> = Vec::new();
    for path in files(newest).iter().rev() {
        match File::open(path) {
            Ok(file) => kept.push(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    if kept.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let Some(tail) = tail_lines else { return Ok(kept.swap_remove(0)) };
    let tail = usize::try_from(tail).unwrap_or(usize::MAX);
    let mut starts: VecDeque<(usize, u64)> = VecDeque::new();
    let mut begins = true;
    for (index, file) in kept.iter().enumerate() {
        let mut reader = BufReader::new(file);
        let mut at = 0;
        let mut buffer = Vec::new();
        while reader.read_until(b'\n', &mut buffer)? > 0 {
            if begins {
                starts.push_back((index, at));
                if starts.len() > tail {
                    starts.pop_front();
                }
            }
            begins = line::read(buffer.trim_ascii_end()).is_none_or(|l| l.full);
            at += buffer.len() as u64;
            buffer.clear();
        }
    }
    let last = kept.len() - 1;
    let end = kept[last].metadata()?.len();
    let (index, offset) = starts.front().copied().unwrap_or((last, end));
    let mut file = kept.swap_remove(index);
    file.seek(SeekFrom::Start(offset))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, lines: &[(&[u8], bool)]) {
        let mut out = Vec::new();
        for (text, full) in lines {
            line::write(&mut out, Timestamp::UNIX_EPOCH, false, *full, text);
        }
        std::fs::write(path, out).unwrap();
    }

    async fn read(path: &Path, filter: Filter) -> String {
        let (_keep, ended) = watch::channel(true);
        let mut out = Vec::new();
        LogFollower::open(path.into(), filter).await.unwrap().copy(&mut out, ended).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn rotated_files_read_as_one_and_parts_join() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        write(&dir.path().join("0.log.2"), &[(b"one", true)]);
        write(&dir.path().join("0.log.1"), &[(b"tw", false)]);
        write(&path, &[(b"o", true), (b"three", true)]);
        assert_eq!(read(&path, Filter::default()).await, "one\ntwo\nthree\n");
        let tail = |n| Filter { tail_lines: Some(n), ..Filter::default() };
        assert_eq!(read(&path, tail(2)).await, "two\nthree\n");
        assert_eq!(read(&path, tail(0)).await, "");
        assert_eq!(read(&path, tail(9)).await, "one\ntwo\nthree\n");
        assert_eq!(read(&path, Filter { limit_bytes: Some(5), ..Filter::default() }).await, "one\nt");
        let since = Filter { since: Some("1970-01-02T00:00:00Z".parse().unwrap()), ..Filter::default() };
        assert_eq!(read(&path, since).await, "");
    }

    #[tokio::test]
    async fn a_follower_survives_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        write(&path, &[(b"before", true)]);
        let (end, ended) = watch::channel(false);
        let follower = LogFollower::open(path.clone(), Filter::default()).await.unwrap();
        let (mut reader, mut writer) = tokio::io::duplex(1024);
        let task = tokio::spawn(async move { follower.copy(&mut writer, ended).await });
        let mut seen = [0; 7];
        reader.read_exact(&mut seen).await.unwrap();
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        write(&path, &[(b"after", true)]);
        end.send(true).unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "after\n");
        task.await.unwrap().unwrap();
    }
}
