//! Header blocks: names and values, as they are compressed from block to block with one state for each direction
//! (2.6.10). It knows no frame.

use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::dictionary::{DICTIONARY, DICTIONARY_ID};

/// Names and values of a stream, as they were sent. Names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a name; the first one where there are several.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        value.split('\0').next()
    }

    /// Adds a name and its value.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }
}

/// Why a header block cannot be read. Everything after it is lost: the compression's state runs through all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No zlib, or not with the protocol's dictionary.
    #[error("a header block is not compressed as SPDY/3 does")]
    Compression,
    /// Longer than the limit.
    #[error("a header block is over {0} bytes")]
    TooLong(usize),
    /// It ends in the middle, or goes on behind its end.
    #[error("a header block has the wrong length")]
    Length,
    /// A name that is empty, doubled, not lower case, or not text.
    #[error("a header block has a name that is empty, doubled, in capitals, or no text")]
    Name,
    /// More than the limit.
    #[error("a header block has more than {0} names")]
    TooMany(usize),
}

/// Compresses header blocks.
pub(crate) struct Deflate(Compress);

impl Deflate {
    pub(crate) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        let set = compress.set_dictionary(DICTIONARY);
        debug_assert_eq!(set.ok(), Some(DICTIONARY_ID));
        Self(compress)
    }

    /// The block for a frame.
    pub(crate) fn block(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = Vec::new();
        put_length(&mut plain, headers.0.len());
        for text in headers.0.iter().flat_map(|(name, value)| [name, value]) {
            put_length(&mut plain, text.len());
            plain.put_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let before = self.0.total_in();
        loop {
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(plain.len());
            // Neither fails: there is room, and nothing was finished.
            let _ = self.0.compress_vec(&plain[taken..], &mut block, FlushCompress::Sync);
            if block.len() < block.capacity() {
                return block;
            }
            block.reserve(block.capacity());
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Inflates header blocks, none above the limit.
pub(crate) struct Inflate {
    zlib: Decompress,
    plain: Vec<u8>,
    plain_bytes_max: usize,
}

/// More names than anybody sends.
const NAMES_MAX: usize = 256;

impl Inflate {
    pub(crate) fn new(plain_bytes_max: usize) -> Self {
        Self { zlib: Decompress::new(true), plain: Vec::new(), plain_bytes_max }
    }

    /// Reads a frame's block.
    pub(crate) fn block(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        self.plain.clear();
        // One byte more than allowed tells a block that is too long from one that just fits.
        self.plain.reserve_exact(self.plain_bytes_max + 1);
        let begin = self.zlib.total_in();
        loop {
            let taken = usize::try_from(self.zlib.total_in() - begin).map_err(|_| HeaderError::Length)?;
            let rest = block.get(taken..).ok_or(HeaderError::Length)?;
            let held = self.plain.len();
            match self.zlib.decompress_vec(rest, &mut self.plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(HeaderError::Compression),
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) => match error.needs_dictionary() {
                    Some(DICTIONARY_ID) => {
                        self.zlib.set_dictionary(DICTIONARY).map_err(|_| HeaderError::Compression)?;
                        continue;
                    }
                    _ => return Err(HeaderError::Compression),
                },
            }
            if self.plain.len() > self.plain_bytes_max {
                return Err(HeaderError::TooLong(self.plain_bytes_max));
            }
            let now = usize::try_from(self.zlib.total_in() - begin).map_err(|_| HeaderError::Length)?;
            if now >= block.len() && self.plain.len() == held || now == taken && self.plain.len() == held {
                break;
            }
        }
        let read = parse(&self.plain);
        // What one long block took is not kept for the life of the connection.
        self.plain = Vec::new();
        read
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, HeaderError> {
    let count = length(&mut plain)?;
    if count > NAMES_MAX {
        return Err(HeaderError::TooMany(NAMES_MAX));
    }
    let mut headers = Headers(Vec::with_capacity(count));
    for _ in 0..count {
        let name = text(&mut plain)?;
        let lower = !name.bytes().any(|b| b.is_ascii_uppercase());
        if name.is_empty() || !lower || headers.0.iter().any(|(n, _)| *n == name) {
            return Err(HeaderError::Name);
        }
        let value = text(&mut plain)?;
        headers.0.push((name, value));
    }
    if plain.is_empty() { Ok(headers) } else { Err(HeaderError::Length) }
}

fn length(plain: &mut &[u8]) -> Result<usize, HeaderError> {
    plain.try_get_u32().map(|n| n as usize).map_err(|_| HeaderError::Length)
}

fn text(plain: &mut &[u8]) -> Result<String, HeaderError> {
    let length = length(plain)?;
    let (text, rest) = plain.split_at_checked(length).ok_or(HeaderError::Length)?;
    *plain = rest;
    String::from_utf8(text.to_vec()).map_err(|_| HeaderError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1024;

    #[test]
    fn the_dictionary_is_the_protocols() {
        let mut zlib = Decompress::new(true);
        let mut block = Deflate::new().block(&Headers::default());
        block.truncate(64);
        let needed = zlib.decompress(&block, &mut [0; 64], FlushDecompress::Sync).unwrap_err();
        assert_eq!(needed.needs_dictionary(), Some(DICTIONARY_ID));
        assert_eq!(zlib.set_dictionary(DICTIONARY).unwrap(), DICTIONARY_ID);
    }

    /// What libz makes of two blocks with the same dictionary, one after the other.
    #[test]
    fn blocks_of_another_library_are_read() {
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
        };
        let first = "78f9e3c6a7c202253a48f95b044eea16061606409ab308125f99a074cc68004e892545a989b9d0c286351514150000\
                     0000ffff";
        let mut inflate = Inflate::new(LIMIT);
        let wanted = Headers::default().with("port", "8080").with("requestID", "0");
        assert_eq!(inflate.block(&hex(first)).unwrap(), wanted.clone().with("streamType", "error"));
        let second = inflate.block(&hex("225333a8a44a04000000ffff")).unwrap();
        assert_eq!(second, wanted.with("streamType", "data"));
    }

    #[test]
    fn blocks_follow_each_other() {
        let (mut deflate, mut inflate) = (Deflate::new(), Inflate::new(LIMIT));
        let first =
            Headers::default().with("streamType", "error").with("port", "8080").with("requestID", "0");
        let second =
            Headers::default().with("streamType", "data").with("port", "8080").with("requestID", "0");
        let blocks = [deflate.block(&first), deflate.block(&second)];
        assert!(blocks[1].len() < blocks[0].len(), "the second leans on the first");
        assert_eq!(inflate.block(&blocks[0]).unwrap(), first);
        let read = inflate.block(&blocks[1]).unwrap();
        assert_eq!((read.get("streamtype"), read.get("requestID")), (Some("data"), Some("0")));
    }

    #[test]
    fn a_block_may_fill_the_limit_and_no_byte_more() {
        // Count, two lengths and the name.
        let around = 4 + 4 + 4 + 1;
        let of = |bytes: usize| Headers::default().with("n", &"v".repeat(bytes - around));
        assert_eq!(Inflate::new(LIMIT).block(&Deflate::new().block(&of(LIMIT))).unwrap(), of(LIMIT));
        let over = Inflate::new(LIMIT).block(&Deflate::new().block(&of(LIMIT + 1)));
        assert_eq!(over, Err(HeaderError::TooLong(LIMIT)));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = Deflate::new().block(&Headers::default().with("n", &"0".repeat(16 << 20)));
        assert!(bomb.len() < 256 << 10, "{}", bomb.len());
        let mut inflate = Inflate::new(LIMIT);
        assert_eq!(inflate.block(&bomb), Err(HeaderError::TooLong(LIMIT)));
        assert!(inflate.plain.capacity() <= 2 * LIMIT, "{}", inflate.plain.capacity());
    }

    #[test]
    fn names_are_lower_case_single_and_there() {
        for wrong in [vec![("A", "")], vec![("", "")], vec![("a", ""), ("a", "")]] {
            let headers = Headers(wrong.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect());
            let read = Inflate::new(LIMIT).block(&Deflate::new().block(&headers));
            assert_eq!(read, Err(HeaderError::Name), "{wrong:?}");
        }
        let names = |count: usize| (0..count).fold(Headers::default(), |h, i| h.with(&i.to_string(), ""));
        let read = |headers: &Headers| Inflate::new(1 << 16).block(&Deflate::new().block(headers));
        assert_eq!(read(&names(NAMES_MAX)), Ok(names(NAMES_MAX)));
        assert_eq!(read(&names(NAMES_MAX + 1)), Err(HeaderError::TooMany(NAMES_MAX)));
    }

    /// Its state goes on from block to block: one that ends it is of somebody who means something else.
    #[test]
    fn a_block_that_ends_the_compression_is_none() {
        let Deflate(mut compress) = Deflate::new();
        let mut block = Vec::with_capacity(64);
        compress.compress_vec(&[0; 4], &mut block, FlushCompress::Finish).unwrap();
        assert_eq!(Inflate::new(LIMIT).block(&block), Err(HeaderError::Compression));
    }

    #[test]
    fn lengths_must_fit() {
        for wrong in
            [&[][..], &[0, 0, 0], &[0, 0, 0, 1], &[0, 0, 0, 0, 0], &[0, 0, 0, 1, 255, 255, 255, 255, 97]]
        {
            assert_eq!(parse(wrong), Err(HeaderError::Length), "{wrong:?}");
        }
    }
}
