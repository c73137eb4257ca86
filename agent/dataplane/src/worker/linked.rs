//! Pods that are linked, and their host ports among the rows, which come and go with them.

use weft_dataplane_abi::config::OUTWARD_HERE;
use weft_dataplane_abi::hook::Hook;

use super::Worker;
use crate::attach;
use crate::desired::Change;
use crate::host_ports;
use crate::plan::Holder;
use crate::pods::{self, PodError, PodLink, PodNetwork};
use crate::tables::TableError;

impl Worker {
    pub(super) async fn add_pod(&mut self, pod: &PodNetwork) -> Result<PodLink, PodError> {
        let link = pods::link(&self.netlink, &self.config, pod, self.links.mtu.pods_bytes).await?;
        // Remembered before anything is attached: whatever happens next, a restart knows what to clean up.
        self.files.write(&link)?;
        let writes = self.planner.put(Holder::Pod(pod.uid.clone()), link.rows())?;
        self.write(&writes)?;
        self.attach_pod(&link)?;
        self.pods.insert(pod.uid.clone(), link.clone());
        self.put_host_ports(&link)?;
        Ok(link)
    }

    pub(super) async fn remove_pod(&mut self, uid: &str) -> Result<(), PodError> {
        let device = pods::device_name(&self.config.device_prefix, uid);
        self.remove_host_ports(uid)?;
        let writes = self.planner.remove(&Holder::Pod(uid.to_owned()));
        self.write(&writes)?;
        pods::unlink(&self.netlink, &device, uid).await?;
        attach::forget_device(&self.pins.links(), &[Hook::FromPod, Hook::ToPod], &device)?;
        self.files.remove(uid)?;
        self.pods.remove(uid);
        Ok(())
    }

    /// Writes the rows of a Pod's host ports. One that is another's already is refused, said, and tried again when that
    /// one has gone.
    pub(super) fn put_host_ports(&mut self, pod: &PodLink) -> Result<(), TableError> {
        for service in host_ports::services(pod, &self.config) {
            let (writes, refused) = self.planner.change(&Change::PutService(service.into()));
            self.write(&writes)?;
            self.remember_refused(&refused);
        }
        self.heed_outward_here()
    }

    /// Removes them.
    pub(super) fn remove_host_ports(&mut self, uid: &str) -> Result<(), TableError> {
        let Some(pod) = self.pods.get(uid) else { return Ok(()) };
        for service in host_ports::services(pod, &self.config) {
            let writes = self.planner.change(&Change::RemoveService(service.name)).0;
            self.write(&writes)?;
        }
        self.heed_outward_here()
    }

    /// Tells the programs whether the outside knows anything at the node's own address.
    pub(super) fn heed_outward_here(&mut self) -> Result<(), TableError> {
        let flag = if self.planner.outward_here() { OUTWARD_HERE } else { 0 };
        match &mut self.row {
            Some(row) if row.flags & OUTWARD_HERE != flag => {
                row.flags = row.flags & !OUTWARD_HERE | flag;
                self.tables.set_config(*row)
            }
            _ => Ok(()),
        }
    }
}
