//! One line of a log on disk, and back.

use jiff::Timestamp;

/// A line as it is on disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// RFC 3339 with nanoseconds, UTC.
    pub(super) time: &'a str,
    /// Whether it came from stderr.
    pub(super) stderr: bool,
    /// Whether the text ends here with a line feed.
    pub(super) full: bool,
    /// The text, without line feed.
    pub(super) text: &'a [u8],
}

/// Adds a line to `out`.
pub(super) fn write(out: &mut Vec<u8>, now: Timestamp, stderr: bool, full: bool, text: &[u8]) {
    let stream = if stderr { "stderr" } else { "stdout" };
    let tag = if full { 'F' } else { 'P' };
    out.extend_from_slice(format!("{now:.9} {stream} {tag} ").as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Reads a line without its line feed; `None` if it is none.
pub(super) fn read(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = parts.next()? == b"stderr";
    let full = parts.next()? == b"F";
    Some(Line { time, stderr, full, text: parts.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back() {
        let mut out = Vec::new();
        write(&mut out, Timestamp::UNIX_EPOCH, true, false, b"two words");
        assert_eq!(out, b"1970-01-01T00:00:00.000000000Z stderr P two words\n");
        let back = read(&out[..out.len() - 1]).unwrap();
        assert_eq!((back.time, back.stderr, back.full), ("1970-01-01T00:00:00.000000000Z", true, false));
        assert_eq!(back.text, b"two words");
    }

    #[test]
    fn an_empty_line_is_a_line() {
        let mut out = Vec::new();
        write(&mut out, Timestamp::UNIX_EPOCH, false, true, b"");
        assert_eq!(read(&out[..out.len() - 1]).unwrap().text, b"");
        assert_eq!(read(b"torn"), None);
    }
}
