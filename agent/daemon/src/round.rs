//! One round: a committed change of the view becomes rows of the kernel's tables, Pods of the runtime and records of DNS.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use bytes::Bytes;
use weft_api::view::Node;
use weft_dataplane::desired;
use weft_dns::records::Records;
use weft_link::message::{Resource, resource::Body};
use weft_link::receiver::Change;
use weft_runtime::DesiredPod;

use crate::agent::Agent;
use crate::cipher;
use crate::knowledge::addresses;
use crate::resolve;
use crate::translate::{self, Local, NodeNames};
use crate::view::View;

/// Carries changes to the agent's parts.
pub(crate) struct Round {
    agent: Arc<Agent>,
    records: Arc<RwLock<Records>>,
    names: NodeNames,
    /// The zone that the rows were made for.
    zone: Mutex<String>,
}

/// Which parts a change touches.
#[derive(Default)]
struct Touched {
    rows: Vec<desired::Change>,
    pods: bool,
    inputs: bool,
    /// Nodes or their keys.
    peers: bool,
    /// The node has come into another zone: other endpoints are near.
    zone: bool,
}

impl Round {
    /// The parts, and the zone that the rows are made for so far.
    pub(crate) fn new(
        agent: Arc<Agent>,
        records: Arc<RwLock<Records>>,
        names: NodeNames,
        zone: String,
    ) -> Self {
        Self { agent, records, names, zone: Mutex::new(zone) }
    }

    /// Carries the whole view, as it is held now.
    async fn whole(&self) {
        let desired = {
            let (view, here) = (self.agent.knowledge.view(), self.answered_here());
            let zone = own_zone(&view, &self.agent.config.node_name);
            self.zone().clone_from(&zone);
            translate::whole(view.resources(), &self.local(&here, &zone))
        };
        self.dataplane(vec![desired::Change::ReplaceAll(Box::new(desired))]).await;
        self.peers();
        self.beside_rows();
    }

    /// Carries the whole view to all parts but the kernel's tables.
    pub(crate) fn beside_rows(&self) {
        {
            let view = self.agent.knowledge.view();
            let mut records = self.records();
            records.clear();
            view.records().for_each(|record| records.put(record));
        }
        self.pods();
        self.agent.runtime.inputs_changed();
    }

    /// Takes a committed change into the view, and carries it.
    pub(crate) async fn change(&self, change: Change) {
        let position = change.position.clone();
        if change.full {
            take(&self.agent.knowledge, change);
            self.agent.knowledge.set_complete();
            self.whole().await;
        } else {
            let touched = self.delta(change);
            if touched.peers {
                self.peers();
            }
            if touched.zone {
                self.whole().await;
            } else {
                self.dataplane(touched.rows).await;
            }
            if touched.pods {
                self.pods();
            }
            if touched.inputs {
                self.agent.runtime.inputs_changed();
            }
        }
        self.agent.carried.notify_one();
        self.agent.outbox.applied(position);
    }

    fn delta(&self, change: Change) -> Touched {
        let (here, zone) = (self.answered_here(), self.zone().clone());
        let local = self.local(&here, &zone);
        let mut touched = Touched::default();
        let mut view = self.agent.knowledge.view_mut();
        for name in change.removes {
            let Some(resource) = view.remove(&name) else { continue };
            touched.rows.extend(translate::removed(&resource, &local));
            self.removed(&resource, &mut touched);
        }
        for encoded in change.puts {
            let resource = encoded.read();
            touched.rows.extend(translate::put(&resource, &local));
            match &resource.body {
                Some(Body::Service(service)) => {
                    self.records().put(resolve::record(service));
                    touched.inputs = true;
                }
                Some(Body::Object(object)) if object.kind == "Pod" => touched.pods = true,
                Some(Body::Object(object)) => {
                    touched.inputs = true;
                    touched.peers |= cipher::is_key(object);
                    touched.zone |= object.kind == "Node" && zone_of(&object.json) != zone;
                }
                Some(Body::Peer(_)) => touched.peers = true,
                _ => {}
            }
            view.put(resource);
        }
        touched
    }

    fn removed(&self, resource: &Resource, touched: &mut Touched) {
        match &resource.body {
            Some(Body::Service(service)) => self.records().remove(&service.namespace, &service.name),
            Some(Body::Object(object)) if object.kind == "Pod" => {
                touched.pods = true;
                if let Ok(pod) = DesiredPod::read(object.json.clone()) {
                    self.agent.outbox.forget(&pod.view.metadata.uid);
                }
            }
            Some(Body::Object(object)) => {
                touched.inputs = true;
                touched.peers |= cipher::is_key(object);
            }
            Some(Body::Peer(_)) => touched.peers = true,
            _ => {}
        }
    }

    /// Tells who encrypts for them.
    fn peers(&self) {
        if let Some(cipher) = &self.agent.cipher {
            cipher.changed.notify_one();
        }
    }

    async fn dataplane(&self, changes: Vec<desired::Change>) {
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.agent.dataplane.apply(changes).await {
            // What was refused stands in the dataplane's status; the rest is in place.
            tracing::error!(
                error = crate::api::answer::chain(&error),
                "the kernel's tables do not hold all of the view"
            );
        }
    }

    fn pods(&self) {
        let pods = {
            let view = self.agent.knowledge.view();
            view.objects("Pod")
                .filter_map(|object| match DesiredPod::read(object.json.clone()) {
                    Ok(pod) => Some(Arc::new(pod)),
                    Err(error) => {
                        tracing::error!(%error, namespace = object.namespace, pod = object.name, "passed over");
                        None
                    }
                })
                .collect()
        };
        self.agent.runtime.set_pods(pods, self.agent.knowledge.is_complete());
    }

    fn records(&self) -> RwLockWriteGuard<'_, Records> {
        self.records.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered_here(&self) -> Vec<std::net::IpAddr> {
        addresses(&self.agent.knowledge.cluster().dns_ips)
    }

    fn zone(&self) -> MutexGuard<'_, String> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn local<'a>(&'a self, answered_here: &'a [std::net::IpAddr], zone: &'a str) -> Local<'a> {
        Local {
            node: &self.agent.config.node_name,
            encrypted: self.agent.cipher.is_some(),
            zone,
            answered_here,
            names: &self.names,
        }
    }
}

/// The zone of this node, as the view has it; empty: unknown.
pub(crate) fn own_zone(view: &View, node: &str) -> String {
    view.object("Node", "", node).map(zone_of).unwrap_or_default()
}

/// The zone of a Node object; empty: unknown.
fn zone_of(json: &Bytes) -> String {
    serde_json::from_slice::<Node>(json).map(|node| node.zone().to_owned()).unwrap_or_default()
}

/// Takes a full list into the view, before anything is there to carry it to.
pub(crate) fn take(knowledge: &crate::knowledge::Knowledge, change: Change) {
    let mut view = knowledge.view_mut();
    if change.full {
        *view = crate::view::View::default();
    }
    for name in change.removes {
        view.remove(&name);
    }
    for resource in change.puts {
        view.put(resource.read());
    }
}
