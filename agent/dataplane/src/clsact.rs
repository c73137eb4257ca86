//! Packet programs on kernels without tcx: classifiers on a device's clsact qdisc, which one request to the kernel replaces.
//! They have no pins: a classifier stays until it or its device is deleted.

use aya::programs::links::Link as _;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use crate::attach::Attached;
use crate::netlink::{Device, Netlink, NetlinkError};

/// Priority of our classifiers: those of other owners below it come before, above it after.
const PRIORITY: u16 = 7;
/// Handle of our classifiers: by it the next agent finds them.
const HANDLE: u32 = 0x7766;

/// Puts a program on a device: in one step in the place of the one that is there, else as a new one.
pub(crate) fn attach(
    program: &mut SchedClassifier,
    device: &str,
    direction: TcAttachType,
) -> Result<Attached, ProgramError> {
    let (id, done) = match program.attach_to_link(ours(device, direction)?) {
        Ok(id) => (id, Attached::Replaced),
        // There is none, or there is no qdisc yet. Whatever else it was is said by the second attempt.
        Err(_) => {
            // The qdisc may be another owner's; if it could not be made, attaching says so.
            let _exists = qdisc_add_clsact(device);
            let handle = TcHandle::from(HANDLE);
            let options = TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, handle, classid: None });
            (program.attach_with_options(device, direction, options)?, Attached::Made)
        }
    };
    // The classifier stays when the agent goes: aya would remove it with the link.
    std::mem::forget(program.take_link(id)?);
    Ok(done)
}

/// Takes our program off a device; false when there was none.
pub(crate) fn detach(device: &str, direction: TcAttachType) -> bool {
    ours(device, direction).is_ok_and(|link| link.detach().is_ok())
}

/// Takes our programs off a device, and with the last classifier the qdisc, which is of no use without one. Where there was
/// none of ours, nothing is touched.
pub(crate) async fn remove(netlink: &Netlink, device: &Device) -> Result<(), NetlinkError> {
    let directions = [TcAttachType::Ingress, TcAttachType::Egress];
    let found = directions.map(|direction| detach(&device.name, direction));
    if found.contains(&true) && !netlink.has_classifiers(device).await? {
        netlink.delete_clsact(device).await?;
    }
    Ok(())
}

/// The place of our program, whether there is one or not.
fn ours(device: &str, direction: TcAttachType) -> Result<SchedClassifierLink, ProgramError> {
    SchedClassifierLink::attached(device, direction, PRIORITY, TcHandle::from(HANDLE), None)
        .map_err(|error| ProgramError::from(TcError::IoError(error)))
}
