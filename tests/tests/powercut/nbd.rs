//! The guest's disk: the test disk of the store's own power cuts behind a Unix socket that speaks NBD (the protocol's
//! `proto.md`; simple replies, no options but the export's). What the guest has not flushed is in the disk's memory, and goes
//! with its power.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use weft_store::disk::Disk;
use weft_store::testdisk::TestDisk;

const MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// Fixed newstyle negotiation, and no zeroes behind an export's facts.
const HANDSHAKE_FLAGS: u16 = 3;
/// There are flags, and flushes are meant.
const EXPORT_FLAGS: u16 = 5;
const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const ACK: u32 = 1;
const INFO: u32 = 3;
const UNSUPPORTED: u32 = 0x8000_0001;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
/// Longest request, bytes.
const REQUEST_BYTES_MAX: u32 = 32 << 20;

/// Serves a disk to one client after the other, until the test ends.
pub(crate) fn serve(disk: TestDisk, path: &Path) -> io::Result<PathBuf> {
    let listener = UnixListener::bind(path)?;
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // It ends with its client, who is killed.
            let _ended = talk(&disk, client);
        }
    });
    Ok(path.to_owned())
}

fn u16_of(stream: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn u32_of(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn u64_of(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn bytes_of(stream: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    if length > REQUEST_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn talk(disk: &TestDisk, mut client: UnixStream) -> io::Result<()> {
    let mut hello = Vec::new();
    hello.extend(MAGIC.to_be_bytes());
    hello.extend(OPTION.to_be_bytes());
    hello.extend(HANDSHAKE_FLAGS.to_be_bytes());
    client.write_all(&hello)?;
    let _flags = u32_of(&mut client)?;
    loop {
        if u64_of(&mut client)? != OPTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (option, length) = (u32_of(&mut client)?, u32_of(&mut client)?);
        let _data = bytes_of(&mut client, length)?;
        match option {
            OPTION_EXPORT_NAME => {
                let mut facts = disk.len_bytes()?.to_be_bytes().to_vec();
                facts.extend(EXPORT_FLAGS.to_be_bytes());
                client.write_all(&facts)?;
                return transmit(disk, &mut client);
            }
            OPTION_INFO | OPTION_GO => {
                let mut facts = vec![0, 0];
                facts.extend(disk.len_bytes()?.to_be_bytes());
                facts.extend(EXPORT_FLAGS.to_be_bytes());
                answer(&mut client, option, INFO, &facts)?;
                answer(&mut client, option, ACK, &[])?;
                if option == OPTION_GO {
                    return transmit(disk, &mut client);
                }
            }
            OPTION_ABORT => return answer(&mut client, option, ACK, &[]),
            _ => answer(&mut client, option, UNSUPPORTED, &[])?,
        }
    }
}

fn answer(client: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut reply = OPTION_REPLY.to_be_bytes().to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend((data.len() as u32).to_be_bytes());
    reply.extend(data);
    client.write_all(&reply)
}

fn transmit(disk: &TestDisk, client: &mut UnixStream) -> io::Result<()> {
    loop {
        if u32_of(client)? != REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (_flags, kind, cookie) = (u16_of(client)?, u16_of(client)?, u64_of(client)?);
        let (offset, length) = (u64_of(client)?, u32_of(client)?);
        let mut data = Vec::new();
        let done = match kind {
            READ if length <= REQUEST_BYTES_MAX => {
                data = vec![0; length as usize];
                disk.read(offset, &mut data).map_err(|_| EIO)
            }
            WRITE => {
                let written = bytes_of(client, length)?;
                disk.write(offset, &written).map_err(|_| EIO)
            }
            FLUSH => disk.sync().map_err(|_| EIO),
            DISCONNECT => return Ok(()),
            _ => Err(EINVAL),
        };
        let mut reply = REPLY.to_be_bytes().to_vec();
        reply.extend(done.err().unwrap_or(0).to_be_bytes());
        reply.extend(cookie.to_be_bytes());
        if done.is_ok() {
            reply.extend(data);
        }
        client.write_all(&reply)?;
    }
}
