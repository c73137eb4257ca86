//! Go's own description of its types, as every Go program carries it for reflection: struct fields with their tags.
//!
//! Kubernetes' JSON schemas say neither a field's protobuf number nor whether Go holds a value or a pointer; the
//! published clients do, in the tags of the types they are built of. Layouts are those of Go's `internal/abi`
//! (`Type`, `StructType`, `StructField`, `UncommonType`, `Name`) for 64-bit little-endian programs, Go 1.18 to 1.27.
//! It must not know what the tags mean.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Kinds of types that are told apart.
pub(super) const MAP: u8 = 21;
const POINTER: u8 = 22;
pub(super) const SLICE: u8 = 23;
pub(super) const STRUCT: u8 = 25;
/// The type has the data of a named type behind it.
const FLAG_UNCOMMON: u8 = 1;
/// The type's name stands behind a `*` that is not part of it.
const FLAG_EXTRA_STAR: u8 = 2;
const FLAG_NAMED: u8 = 4;
/// Where the parts of a type stand, bytes from its begin.
const FLAGS_AT: u64 = 20;
const KIND_AT: u64 = 23;
const NAME_AT: u64 = 40;
/// The type that a pointer points to; a struct's fields stand 8 bytes further.
const ELEMENT_AT: u64 = 48;
const FIELDS_AT: u64 = 56;
/// The package of a named struct type.
const PACKAGE_AT: u64 = 80;
const FIELD_BYTES: u64 = 24;
const FIELDS_MAX: u64 = 500;

/// One field of a Go struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoField {
    /// Everything between the backquotes.
    pub(super) tag: String,
    /// Whether the field is a pointer.
    pub(super) pointer: bool,
    /// The kind of its type, or of what it points to.
    pub(super) kind: u8,
    /// The full name of that type if it is a struct with a name.
    pub(super) struct_name: String,
    /// Whether the type has a name of its own.
    pub(super) named: bool,
}

/// Fields of struct types by full name, `k8s.io/api/core/v1.PodSpec`.
pub(super) type GoTypes = BTreeMap<String, Vec<GoField>>;

/// Reads the struct types of a Go program.
///
/// # Errors
/// The bytes are no 64-bit little-endian ELF file, or hold no types.
pub(super) fn read(elf: &[u8]) -> Result<GoTypes> {
    let image = Image::read(elf)?;
    let mut types = GoTypes::new();
    let end = image.types.address + image.types.bytes.len() as u64;
    for address in (image.types.address..end).step_by(8) {
        if let Some(name) = image.struct_name(address)
            && let Some(fields) = image.fields(address)
        {
            types.insert(name, fields);
        }
    }
    if types.is_empty() {
        bail!("the program carries no Go types");
    }
    Ok(types)
}

/// A part of the program as it stands in memory.
#[derive(Clone, Copy, Debug)]
struct Section<'a> {
    address: u64,
    bytes: &'a [u8],
}

struct Image<'a> {
    sections: Vec<Section<'a>>,
    /// The section of types; names are told as offsets into it.
    types: Section<'a>,
}

impl<'a> Image<'a> {
    /// Reads the section headers (System V ABI, chapter 4).
    fn read(elf: &'a [u8]) -> Result<Self> {
        if !elf.starts_with(b"\x7fELF\x02\x01") {
            bail!("the program is no 64-bit little-endian ELF file");
        }
        let cut = "the program's section headers are cut";
        let headers = number(elf, 40, 8).context(cut)?;
        let size = number(elf, 58, 2).context(cut)?;
        let count = number(elf, 60, 2).context(cut)?;
        let header = |at: u64| {
            let header = headers + at * size;
            Some((number(elf, header, 4)?, number(elf, header + 16, 8)?, part(elf, header)?))
        };
        let (_, _, names) = header(number(elf, 62, 2).context(cut)?).context(cut)?;
        let (mut sections, mut types) = (Vec::new(), None);
        for at in 0..count {
            // Sections without bytes in the file have none to read.
            let Some((name, address, bytes)) = header(at) else { continue };
            if address == 0 {
                continue;
            }
            let section = Section { address, bytes };
            sections.push(section);
            let name = names.get(usize::try_from(name)?..).unwrap_or_default();
            match name.split(|b| *b == 0).next().unwrap_or_default() {
                // Since Go 1.27 types have a section of their own.
                b".go.type" => types = Some(section),
                b".rodata" => types = types.or(Some(section)),
                _ => {}
            }
        }
        Ok(Self { sections, types: types.context("the program has no read-only data")? })
    }

    fn at(&self, address: u64, bytes: u64) -> Option<&'a [u8]> {
        let section = self
            .sections
            .iter()
            .find(|s| (s.address..s.address + s.bytes.len() as u64).contains(&address))?;
        let begin = usize::try_from(address - section.address).ok()?;
        section.bytes.get(begin..begin.checked_add(usize::try_from(bytes).ok()?)?)
    }

    fn number(&self, address: u64, bytes: u64) -> Option<u64> {
        number(self.at(address, bytes)?, 0, bytes)
    }

    fn byte(&self, address: u64) -> Option<u8> {
        self.at(address, 1).map(|b| b[0])
    }

    fn kind(&self, type_: u64) -> Option<u8> {
        self.byte(type_ + KIND_AT).map(|kind| kind & 0x1f)
    }

    /// A length of at most two bytes, seven bits each, and how many bytes it has.
    fn length(&self, address: u64) -> Option<(u64, u64)> {
        let first = u64::from(self.byte(address)?);
        if first < 0x80 {
            return Some((first, 1));
        }
        let second = u64::from(self.byte(address + 1)?);
        (second < 0x80).then_some(((second << 7) | (first & 0x7f), 2))
    }

    fn text(&self, address: u64) -> Option<(&'a str, u64)> {
        let (length, size) = self.length(address)?;
        let text = std::str::from_utf8(self.at(address + size, length)?).ok()?;
        Some((text, address + size + length))
    }

    /// A name and its tag.
    fn name(&self, address: u64) -> Option<(&'a str, &'a str)> {
        let has_tag = self.byte(address)? & 2 != 0;
        let (name, end) = self.text(address + 1)?;
        let tag = if has_tag { self.text(end)?.0 } else { "" };
        Some((name, tag))
    }

    /// The name that an offset into the types stands for.
    fn name_at(&self, address: u64) -> Option<&'a str> {
        let offset = self.number(address, 4)?;
        Some(self.name(self.types.address + offset)?.0)
    }

    /// The full name of a named struct type.
    fn struct_name(&self, type_: u64) -> Option<String> {
        let flags = self.byte(type_ + FLAGS_AT)?;
        let named = FLAG_NAMED | FLAG_UNCOMMON;
        if self.kind(type_)? != STRUCT || flags & named != named {
            return None;
        }
        let name = self.name_at(type_ + NAME_AT)?;
        let name = if flags & FLAG_EXTRA_STAR == 0 { name } else { name.strip_prefix('*')? };
        let (_, name) = name.split_once('.')?;
        Some(format!("{}.{name}", self.name_at(type_ + PACKAGE_AT)?))
    }

    fn fields(&self, type_: u64) -> Option<Vec<GoField>> {
        let first = self.number(type_ + FIELDS_AT, 8)?;
        let count = self.number(type_ + FIELDS_AT + 8, 8)?;
        if count > FIELDS_MAX || self.number(type_ + FIELDS_AT + 16, 8)? != count {
            return None;
        }
        (0..count).map(|at| self.field(first + at * FIELD_BYTES)).collect()
    }

    fn field(&self, address: u64) -> Option<GoField> {
        let (_, tag) = self.name(self.number(address, 8)?)?;
        let mut type_ = self.number(address + 8, 8)?;
        let pointer = self.kind(type_)? == POINTER;
        if pointer {
            type_ = self.number(type_ + ELEMENT_AT, 8)?;
        }
        Some(GoField {
            tag: tag.to_owned(),
            pointer,
            kind: self.kind(type_)?,
            struct_name: self.struct_name(type_).unwrap_or_default(),
            named: self.byte(type_ + FLAGS_AT)? & FLAG_NAMED != 0,
        })
    }
}

/// The bytes of a section in the file.
fn part(elf: &[u8], header: u64) -> Option<&[u8]> {
    const NO_BITS: u64 = 8;
    if number(elf, header + 4, 4)? == NO_BITS {
        return None;
    }
    let begin = usize::try_from(number(elf, header + 24, 8)?).ok()?;
    elf.get(begin..begin.checked_add(usize::try_from(number(elf, header + 32, 8)?).ok()?)?)
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], at: u64, size: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let part = bytes.get(at..at.checked_add(usize::try_from(size).ok()?)?)?;
    Some(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of one section of types, which stands at its address in the file too, and the names of sections.
    struct Program {
        bytes: Vec<u8>,
        next: usize,
    }

    const TYPES: usize = 0x1000;
    const NAMES: usize = 0x3000;

    impl Program {
        fn new(section: &[u8]) -> Self {
            let mut program = Self { bytes: vec![0; 0x4000], next: TYPES + 0x1000 };
            program.put(0, b"\x7fELF\x02\x01");
            let headers = 0x200;
            for (at, bytes, value) in [(40, 8, headers), (58, 2, 64), (60, 2, 3), (62, 2, 2)] {
                program.number(at, bytes, value);
            }
            for (index, name, address, size) in [(1, 1, TYPES, 0x2000), (2, 0, NAMES, 0x100)] {
                let header = headers + index * 64;
                for (at, bytes, value) in [
                    (0, 4, name),
                    (4, 4, 1),
                    (16, 8, if index == 1 { address } else { 0 }),
                    (24, 8, address),
                    (32, 8, size),
                ] {
                    program.number(header + at, bytes, value);
                }
            }
            program.put(NAMES + 1, section);
            program
        }

        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn number(&mut self, at: usize, bytes: usize, value: usize) {
            self.put(at, &value.to_le_bytes()[..bytes]);
        }

        /// Writes a name with its tag and says where it stands.
        fn name(&mut self, name: &str, tag: &str) -> usize {
            let at = self.next;
            let mut bytes = vec![if tag.is_empty() { 1 } else { 3 }];
            for text in [name, tag].into_iter().filter(|t| !t.is_empty()) {
                if text.len() >= 0x80 {
                    bytes.push((text.len() & 0x7f) as u8 | 0x80);
                    bytes.push((text.len() >> 7) as u8);
                } else {
                    bytes.push(text.len() as u8);
                }
                bytes.extend_from_slice(text.as_bytes());
            }
            self.put(at, &bytes);
            self.next += bytes.len().next_multiple_of(8);
            at
        }

        fn type_(&mut self, at: usize, kind: u8, name: &str) {
            let name = self.name(&format!("*v1.{name}"), "");
            self.put(at + FLAGS_AT as usize, &[FLAG_UNCOMMON | FLAG_EXTRA_STAR | FLAG_NAMED]);
            self.put(at + KIND_AT as usize, &[kind]);
            self.number(at + NAME_AT as usize, 4, name - TYPES);
        }

        fn fields(&mut self, type_: usize, fields: &[(&str, &str, usize)]) {
            let package = self.name("k8s.io/api/x/v1", "");
            self.number(type_ + PACKAGE_AT as usize, 4, package - TYPES);
            let fields: Vec<(usize, usize)> =
                fields.iter().map(|(name, tag, type_)| (self.name(name, tag), *type_)).collect();
            self.number(type_ + FIELDS_AT as usize, 8, self.next);
            self.number(type_ + FIELDS_AT as usize + 8, 8, fields.len());
            self.number(type_ + FIELDS_AT as usize + 16, 8, fields.len());
            for (name, type_) in fields {
                self.number(self.next, 8, name);
                self.number(self.next + 8, 8, type_);
                self.next += FIELD_BYTES as usize;
            }
        }
    }

    #[test]
    fn reads_fields_with_their_tags_and_pointers() {
        for section in [b".go.type".as_slice(), b".rodata"] {
            let (outer, inner, pointer, list) = (TYPES + 0x100, TYPES + 0x200, TYPES + 0x300, TYPES + 0x400);
            let mut program = Program::new(section);
            program.type_(outer, STRUCT, "Outer");
            program.type_(inner, STRUCT, "Inner");
            program.type_(list, SLICE | 0x20, "List");
            program.put(pointer + KIND_AT as usize, &[POINTER]);
            program.number(pointer + ELEMENT_AT as usize, 8, inner);
            let long = format!("json:\"{}\"", "x".repeat(300));
            program.fields(
                outer,
                &[("Value", "json:\"value\"", inner), ("Set", &long, pointer), ("List", "", list)],
            );
            program.fields(inner, &[]);
            let types = read(&program.bytes).unwrap();
            assert_eq!(types.keys().collect::<Vec<_>>(), ["k8s.io/api/x/v1.Inner", "k8s.io/api/x/v1.Outer"]);
            let fields = &types["k8s.io/api/x/v1.Outer"];
            let expected = |tag: &str, pointer, kind, struct_name: &str| GoField {
                tag: tag.to_owned(),
                pointer,
                kind,
                struct_name: struct_name.to_owned(),
                named: true,
            };
            assert_eq!(fields[0], expected("json:\"value\"", false, STRUCT, "k8s.io/api/x/v1.Inner"));
            assert_eq!(fields[1], expected(&long, true, STRUCT, "k8s.io/api/x/v1.Inner"));
            assert_eq!(fields[2], expected("", false, SLICE, ""));
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert!(read(b"").is_err());
        assert!(read(b"#!/bin/sh").is_err());
        let mut program = Program::new(b".text");
        assert!(read(&program.bytes).unwrap_err().to_string().contains("no read-only data"));
        program.put(NAMES + 1, b".rodata");
        assert!(read(&program.bytes).unwrap_err().to_string().contains("no Go types"));
        for cut in [10, 60, 0x210, 0x3000] {
            assert!(read(&program.bytes[..cut]).is_err());
        }
    }
}
