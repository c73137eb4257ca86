//! What a runtime keeps on disk about a Pod, so that the next one finds it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::node::Place;
use crate::pod::{Ended, Observed};
use crate::runtime::DesiredPod;

/// Format of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    boot_id: String,
    shim: String,
    observed: Observed,
    pod: Box<RawValue>,
}

/// A Pod as an earlier run left it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) desired: Arc<DesiredPod>,
    pub(crate) observed: Observed,
    /// Address of the shim's socket; empty if none was started in this boot.
    pub(crate) shim: String,
    /// Whether the machine was booted since.
    pub(crate) rebooted: bool,
}

/// Reads a record.
pub(crate) fn read(path: &Path, boot_id: &str) -> io::Result<Record> {
    let bad = |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
    let found: OnDisk = serde_json::from_slice(&fs::read(path)?).map_err(|e| bad(&e))?;
    if found.version != VERSION {
        return Err(bad(&format!("record version {} is not {VERSION}", found.version)));
    }
    let raw = Bytes::from(found.pod.get().to_owned());
    let desired = DesiredPod::read(raw).map_err(|e| bad(&e))?;
    let rebooted = found.boot_id != boot_id;
    let shim = if rebooted { String::new() } else { found.shim };
    Ok(Record { desired: Arc::new(desired), observed: found.observed, shim, rebooted })
}

/// Writes a record. After a power cut no container is left to be found, so nothing waits for the disk.
pub(crate) fn write(
    path: &Path,
    boot_id: &str,
    desired: &DesiredPod,
    observed: &Observed,
    shim: &str,
) -> io::Result<()> {
    let text = String::from_utf8(desired.raw.to_vec()).map_err(io::Error::other)?;
    let record = OnDisk {
        version: VERSION,
        boot_id: boot_id.to_owned(),
        shim: shim.to_owned(),
        observed: observed.clone(),
        pod: RawValue::from_string(text)?,
    };
    let half = path.with_extension("half");
    let mut file = fs::File::create(&half)?;
    file.write_all(&serde_json::to_vec(&record)?)?;
    drop(file);
    fs::rename(half, path)
}

/// Notes how a run ended, before the shim is told to forget it: the agent may be killed between that and the record.
pub(crate) fn write_end(place: &Place, ended: &Ended) -> io::Result<()> {
    let path = place.end(&ended.id);
    let half = path.with_extension("half");
    fs::write(&half, serde_json::to_vec(ended)?)?;
    fs::rename(half, path)
}

/// How a run ended whose end is in no record.
pub(crate) fn read_end(place: &Place, id: &str) -> Option<Ended> {
    serde_json::from_slice(&fs::read(place.end(id)).ok()?).ok()
}

/// The record says it now.
pub(crate) fn forget_end(place: &Place, id: &str) {
    // A run that never began has none.
    let _ = fs::remove_file(place.end(id));
}
