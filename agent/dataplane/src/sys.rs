//! The bpf(2) commands aya has no words for: look at a pinned link, replace its program. Nothing else is unsafe about links.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
/// `BPF_TCX_INGRESS`, a way to attach.
const TCX_INGRESS: u32 = 46;
/// `BPF_XDP`, a way to attach, and `XDP_FLAGS_DRV_MODE`: by the driver or not at all.
const XDP: u32 = 37;
const XDP_BY_DRIVER: u32 = 1 << 2;
/// Index of the loopback device, the same in every network namespace.
const LOOPBACK_INDEX: u32 = 1;
/// Rows of a table asked for at once.
const BATCH_ROWS: u32 = 4_096;
/// Longest key of a table that is read as bytes: where a reader stands is told by a key, or by less.
const KEY_BYTES_MAX: usize = 64;
/// `BPF_LINK_TYPE_CGROUP`.
pub(crate) const LINK_CGROUP: u32 = 3;
/// `BPF_LINK_TYPE_TCX`.
pub(crate) const LINK_TCX: u32 = 11;
/// `BPF_LINK_TYPE_XDP`.
const LINK_XDP: u32 = 6;

/// Argument of `BPF_OBJ_GET` and `BPF_OBJ_PIN`.
#[repr(C)]
#[derive(Default)]
struct ObjectGet {
    path: u64,
    fd: u32,
    flags: u32,
    path_fd: i32,
    pad: u32,
}

/// Argument of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
struct InfoGet {
    fd: u32,
    length: u32,
    info: u64,
}

/// Argument of `BPF_MAP_LOOKUP_BATCH` and `BPF_MAP_UPDATE_BATCH`.
#[repr(C)]
#[derive(Default)]
struct BatchGet {
    after: u64,
    last: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// Argument of `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
#[derive(Default)]
struct RowPut {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Argument of `BPF_PROG_QUERY`, as far as it is used here.
#[repr(C)]
#[derive(Default)]
struct ProgramQuery {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    attach_flags_of_programs: u64,
    links: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Argument of `BPF_LINK_CREATE` for a program on a device.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program_fd: u32,
    device: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 4],
}

/// Argument of `BPF_LINK_UPDATE`.
#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link_fd: u32,
    new_program_fd: u32,
    flags: u32,
    old_program_fd: u32,
}

/// Head of `struct bpf_link_info`; the two words after the padding are the cgroup's id, or device index and attach type.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program_id: u32,
    pad: u32,
    first: u32,
    second: u32,
    rest: [u32; 10],
}

/// What a link holds on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkTarget {
    /// A cgroup, by id; 0 when it is gone.
    Cgroup(u64),
    /// A device, by index; 0 when it is gone.
    Device(u32),
    /// Something else.
    Other,
}

fn bpf<T>(command: libc::c_long, argument: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `argument` is a live, initialised C struct of the command's layout, and the size given is its own.
    let got = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(argument), size_of::<T>()) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got) }
}

/// Opens a pinned object.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut argument = ObjectGet { path: path.as_ptr() as u64, ..ObjectGet::default() };
    let fd = bpf(BPF_OBJ_GET, &mut argument)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to us and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a link holds on to.
pub(crate) fn link_target(link: BorrowedFd<'_>) -> io::Result<LinkTarget> {
    let mut info = RawLinkInfo::default();
    let mut argument = InfoGet {
        fd: link.as_raw_fd().cast_unsigned(),
        length: size_of::<RawLinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut argument)?;
    Ok(match info.kind {
        LINK_CGROUP => LinkTarget::Cgroup(u64::from(info.second) << 32 | u64::from(info.first)),
        LINK_TCX | LINK_XDP => LinkTarget::Device(info.first),
        _ => LinkTarget::Other,
    })
}

/// Whether the kernel has tcx: one that has not does not know the question of what hangs on a device that way.
pub(crate) fn has_tcx() -> bool {
    let mut argument =
        ProgramQuery { target: LOOPBACK_INDEX, attach_type: TCX_INGRESS, ..ProgramQuery::default() };
    !matches!(bpf(BPF_PROG_QUERY, &mut argument), Err(error) if error.raw_os_error() == Some(libc::EINVAL))
}

/// Has a device's driver run a program, as long as the link given back is held or pinned.
pub(crate) fn link_to_driver(program: BorrowedFd<'_>, device: u32) -> io::Result<OwnedFd> {
    let mut argument = LinkCreate {
        program_fd: program.as_raw_fd().cast_unsigned(),
        device,
        attach_type: XDP,
        flags: XDP_BY_DRIVER,
        ..LinkCreate::default()
    };
    let fd = i32::try_from(bpf(BPF_LINK_CREATE, &mut argument)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to us and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins an object.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut argument = ObjectGet {
        path: path.as_ptr() as u64,
        fd: object.as_raw_fd().cast_unsigned(),
        ..ObjectGet::default()
    };
    bpf(BPF_OBJ_PIN, &mut argument).map(|_| ())
}

/// Replaces a link's program in one step: no packet or call meets none or both.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut argument = LinkUpdate {
        link_fd: link.as_raw_fd().cast_unsigned(),
        new_program_fd: program.as_raw_fd().cast_unsigned(),
        ..LinkUpdate::default()
    };
    bpf(BPF_LINK_UPDATE, &mut argument).map(|_| ())
}

/// All rows of an array table of so many rows, in the order of their index: a system call for thousands of them.
pub(crate) fn array_rows<T: FromBytes + IntoBytes + FromZeros + Clone>(
    table: BorrowedFd<'_>,
    rows: u32,
) -> io::Result<Vec<T>> {
    let mut all: Vec<T> = vec![T::new_zeroed(); rows as usize];
    let mut keys = vec![0_u32; BATCH_ROWS as usize];
    let (mut read, mut last) = (0_u32, 0_u32);
    while read < rows {
        let after = last;
        let mut argument = BatchGet {
            after: if read == 0 { 0 } else { (&raw const after) as u64 },
            last: (&raw mut last) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: all[read as usize..].as_mut_ptr() as u64,
            count: BATCH_ROWS.min(rows - read),
            map_fd: table.as_raw_fd().cast_unsigned(),
            ..BatchGet::default()
        };
        match bpf(BPF_MAP_LOOKUP_BATCH, &mut argument) {
            // The last batch ends with "no more".
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && argument.count > 0 => {}
            other => drop(other?),
        }
        if argument.count == 0 {
            break;
        }
        read += argument.count;
    }
    Ok(all)
}

/// Gives every row of a table, hash, array or trie, as bytes: key, value. Rows that come or go meanwhile are given or not.
pub(crate) fn each_row(
    table: BorrowedFd<'_>,
    key_bytes: usize,
    value_bytes: usize,
    mut take: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    if key_bytes == 0 || key_bytes > KEY_BYTES_MAX || value_bytes == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut keys = vec![0_u8; BATCH_ROWS as usize * key_bytes];
    let mut values = vec![0_u8; BATCH_ROWS as usize * value_bytes];
    let (mut after, mut last) = ([0_u8; KEY_BYTES_MAX], [0_u8; KEY_BYTES_MAX]);
    let mut began = false;
    loop {
        let mut argument = BatchGet {
            after: if began { (&raw const after) as u64 } else { 0 },
            last: (&raw mut last) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: BATCH_ROWS,
            map_fd: table.as_raw_fd().cast_unsigned(),
            ..BatchGet::default()
        };
        let over = match bpf(BPF_MAP_LOOKUP_BATCH, &mut argument) {
            // The last batch ends with "no more".
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            other => other.map(|_| false)?,
        };
        let rows = keys.chunks_exact(key_bytes).zip(values.chunks_exact(value_bytes));
        for (key, value) in rows.take(argument.count as usize) {
            take(key, value)?;
        }
        if over || argument.count == 0 {
            return Ok(());
        }
        (after, began) = (last, true);
    }
}

/// Writes a row as bytes, which must be as long as the table has them.
pub(crate) fn put_row(table: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    let mut argument = RowPut {
        map_fd: table.as_raw_fd().cast_unsigned(),
        pad: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut argument).map(|_| ())
}

/// Writes rows by one system call; answers how many of them are in the table, from the first. Fewer than all: the kernel did
/// not take the next one, or takes no batches for such a table.
pub(crate) fn put_rows<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(
    table: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> usize {
    let count = keys.len().min(values.len());
    let mut argument = BatchGet {
        keys: keys.as_bytes().as_ptr() as u64,
        values: values.as_bytes().as_ptr() as u64,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        map_fd: table.as_raw_fd().cast_unsigned(),
        ..BatchGet::default()
    };
    match bpf(BPF_MAP_UPDATE_BATCH, &mut argument) {
        Ok(_) => count,
        // Where it knows the command, it says how far it came; where not, it leaves the count as it was.
        Err(_) if argument.count as usize >= count => 0,
        Err(_) => argument.count as usize,
    }
}

/// Removes a row, if there is one.
pub(crate) fn remove_row(table: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    let map_fd = table.as_raw_fd().cast_unsigned();
    let mut argument = RowPut { map_fd, pad: 0, key: key.as_ptr() as u64, value: 0, flags: 0 };
    match bpf(BPF_MAP_DELETE_ELEM, &mut argument) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map(|_| ()),
    }
}
