//! Finds nodes that have died, seconds after they fell silent: their neighbours are asked.
//!
//! That nothing comes from a node says little: its agent may be starting anew, or the network between it and the control
//! plane be cut. Its kernel answers ARP for as long as the machine lives, so other nodes of its network are asked whether it
//! does. **Only a node that they could hear and do not is taken for dead**; of all others the Lease decides. What follows
//! from it (conditions, taints, endpoints, load balancer addresses) is the loops' affair.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::Node;
use weft_controllers::action::Action;
use weft_controllers::node_life::LOST_SINCE;

use super::Nodes;
use crate::stop::stopped;
use crate::{clock, perform};

/// How often the links are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A node that nothing came from for so long is asked for; above the link's keep-alive with room for a lost packet.
const SILENT_AFTER: Duration = Duration::from_millis(1_300);
/// A node that was not found dead is asked for again after so long.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A node that is silent for so long is the Lease's affair alone.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Neighbours that are asked for a node.
const WITNESSES_MAX: usize = 3;
/// Nodes that are asked for at once; the others wait for the next look.
const ASKED_MAX: usize = 64;
/// How long a neighbour's answer is waited for; asking takes it a third of a second.
const ANSWER_MAX: Duration = Duration::from_millis(800);
/// Longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// What the links tell of one node.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sign {
    /// Which session.
    session: u64,
    /// Datagrams that came by it so far.
    datagrams: u64,
}

#[derive(Debug)]
struct Heard {
    sign: Sign,
    at: Instant,
    asked_at: Option<Instant>,
    dead: bool,
}

/// When each node that was ever connected was heard last. Pure.
#[derive(Debug, Default)]
struct Hearing {
    nodes: BTreeMap<String, Heard>,
}

impl Hearing {
    /// Takes note of all links there are.
    fn note(&mut self, signs: Vec<(String, Sign)>, now: Instant) {
        for (node, sign) in signs {
            let heard =
                self.nodes.entry(node).or_insert(Heard { sign, at: now, asked_at: None, dead: false });
            if heard.sign != sign {
                *heard = Heard { sign, at: now, asked_at: None, dead: false };
            }
        }
        self.nodes.retain(|_, heard| now.duration_since(heard.at) < FORGET_AFTER);
    }

    /// The silent nodes that are to be asked for now, each with neighbours to ask.
    fn due(&mut self, now: Instant) -> Vec<(String, Vec<String>)> {
        let silent = |heard: &Heard| now.duration_since(heard.at) >= SILENT_AFTER;
        let waits = |heard: &Heard| heard.asked_at.is_some_and(|at| now.duration_since(at) < ASK_EVERY);
        let due = self.nodes.iter().filter(|(_, heard)| silent(heard) && !heard.dead && !waits(heard));
        let due: Vec<String> = due.map(|(node, _)| node.clone()).take(ASKED_MAX).collect();
        let mut questions = Vec::with_capacity(due.len());
        for node in due {
            // From the one after it on, so that not all ask the same.
            let after = self.nodes.range(node.clone()..).chain(self.nodes.range(..node.clone()));
            let witnesses = after.filter(|(name, heard)| **name != node && !silent(heard));
            let witnesses: Vec<String> =
                witnesses.map(|(name, _)| name.clone()).take(WITNESSES_MAX).collect();
            // While nobody is heard it is the control plane that is deaf.
            if witnesses.is_empty() {
                continue;
            }
            if let Some(heard) = self.nodes.get_mut(&node) {
                heard.asked_at = Some(now);
            }
            questions.push((node, witnesses));
        }
        questions
    }

    /// Neighbours could not hear a node; whether it is still silent, so that it counts.
    fn found_dead(&mut self, node: &str, now: Instant) -> bool {
        let Some(heard) = self.nodes.get_mut(node) else { return false };
        let dead = now.duration_since(heard.at) >= SILENT_AFTER && !heard.dead;
        heard.dead |= dead;
        dead
    }

    /// It could not be written down: it is asked for again.
    fn not_told(&mut self, node: &str) {
        if let Some(heard) = self.nodes.get_mut(node) {
            heard.dead = false;
        }
    }
}

/// What neighbours say together: one that hears it is enough, and one must have been able to.
fn verdict(answers: &[Option<bool>]) -> Option<bool> {
    match answers {
        answers if answers.contains(&Some(true)) => Some(true),
        answers if answers.contains(&Some(false)) => Some(false),
        _ => None,
    }
}

impl Nodes {
    /// Listens until the server stops.
    pub(super) async fn listen_for_silence(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut hearing = Hearing::default();
        let (found, mut dead) = mpsc::channel::<String>(ASKED_MAX);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped(&mut stopping) => return,
                _ = look.tick() => {
                    let now = Instant::now();
                    hearing.note(self.signs(), now);
                    for (node, witnesses) in hearing.due(now) {
                        let (nodes, found) = (self.clone(), found.clone());
                        tokio::spawn(async move {
                            let answers = nodes.ask(&node, witnesses).await;
                            tracing::debug!(node, ?answers, "a node is silent, its neighbours were asked");
                            if verdict(&answers) == Some(false) {
                                // The server stops when nobody listens.
                                let _gone = found.send(node).await;
                            }
                        });
                    }
                }
                Some(node) = dead.recv() => {
                    hearing.note(self.signs(), Instant::now());
                    if hearing.found_dead(&node, Instant::now()) && !self.tell_dead(&node).await {
                        hearing.not_told(&node);
                    }
                }
            }
        }
    }

    fn signs(&self) -> Vec<(String, Sign)> {
        let sessions = self.lock();
        let sign = |c: &super::Connected| Sign { session: c.id, datagrams: c.link.datagrams_received() };
        sessions.iter().map(|(node, connected)| (node.clone(), sign(connected))).collect()
    }

    /// Asks neighbours whether a node's machine answers; none from those that cannot tell.
    async fn ask(self: &Arc<Self>, node: &str, witnesses: Vec<String>) -> Vec<Option<bool>> {
        let Some(address) = self.address_of(node) else { return Vec::new() };
        let mut questions = JoinSet::new();
        for witness in witnesses {
            let nodes = self.clone();
            questions.spawn(async move {
                tokio::time::timeout(ANSWER_MAX, nodes.hears(&witness, address)).await.ok().flatten()
            });
        }
        questions.join_all().await
    }

    /// A node's first IPv4 address.
    fn address_of(&self, node: &str) -> Option<Ipv4Addr> {
        let world = self.snapshot.read();
        let node = world.get::<Node>(&ObjectKey::cluster(node))?;
        let own = node.status.addresses.iter().filter(|address| address.type_ == "InternalIP");
        own.filter_map(|address| address.address.parse().ok()).next()
    }

    async fn hears(&self, witness: &str, address: Ipv4Addr) -> Option<bool> {
        let path = format!("/agent/v1/neighbours/{address}");
        let body = self.ask_agent(witness, &path, ANSWER_BYTES_MAX).await.ok()?;
        let said: Value = serde_json::from_slice(&body).ok()?;
        said["answers"].as_bool()
    }

    /// Writes that a node is dead; false when it could not be written.
    async fn tell_dead(&self, name: &str) -> bool {
        let uid = {
            let world = self.snapshot.read();
            world.get::<Node>(&ObjectKey::cluster(name)).map(|node| node.metadata.uid.clone())
        };
        let Some(uid) = uid else { return true };
        tracing::warn!(
            node = name,
            "a node is taken for dead: nothing comes from it, and its neighbours do not hear it"
        );
        let since = clock::micros(clock::now());
        let patch = Action::Patch {
            kind: &kind::NODE,
            key: ObjectKey::cluster(name),
            uid,
            resource_version: None,
            subresource: None,
            patch: json!({ "metadata": { "annotations": { (LOST_SINCE): since } } }),
        };
        match perform::all(&self.objects, &self.snapshot, "silence", vec![(patch, false)]).await {
            perform::Outcome::Done => true,
            perform::Outcome::Again(status) | perform::Outcome::Refused(status) => {
                tracing::warn!(node = name, reason = status.message, "that a node is dead was not written");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(datagrams: [u64; 3]) -> Vec<(String, Sign)> {
        ["a", "b", "c"]
            .map(str::to_owned)
            .into_iter()
            .zip(datagrams.map(|d| Sign { session: 1, datagrams: d }))
            .collect()
    }

    #[test]
    fn neighbours_that_are_heard_are_asked_for_one_that_is_not() {
        let begin = Instant::now();
        let mut hearing = Hearing::default();
        hearing.note(signs([1, 1, 1]), begin);
        let now = begin + SILENT_AFTER;
        hearing.note(signs([2, 1, 2]), now);
        assert_eq!(hearing.due(now), [("b".to_owned(), vec!["c".to_owned(), "a".to_owned()])]);
        assert_eq!(hearing.due(now), [], "once");
        let now = now + ASK_EVERY;
        hearing.note(signs([3, 1, 3]), now);
        assert_eq!(hearing.due(now).len(), 1, "and again");
        assert!(hearing.found_dead("b", now) && !hearing.found_dead("b", now), "told once");
        assert!(hearing.due(now + ASK_EVERY).is_empty());
        hearing.not_told("b");
        hearing.note(signs([4, 1, 4]), now + ASK_EVERY);
        assert_eq!(hearing.due(now + ASK_EVERY).len(), 1, "unless it could not be told");
    }

    #[test]
    fn a_node_that_speaks_again_is_not_dead() {
        let begin = Instant::now();
        let mut hearing = Hearing::default();
        hearing.note(signs([1, 1, 1]), begin);
        let now = begin + SILENT_AFTER;
        hearing.note(signs([2, 1, 2]), now);
        assert_eq!(hearing.due(now).len(), 1);
        hearing.note(signs([2, 2, 2]), now);
        assert!(!hearing.found_dead("b", now), "a packet came while its neighbours were asked");
        let mut again = signs([3, 0, 3]);
        again[1].1.session = 2;
        let now = now + SILENT_AFTER;
        hearing.note(again, now);
        assert!(hearing.due(now).is_empty(), "another session is a word too");
    }

    #[test]
    fn while_nobody_is_heard_nobody_is_asked() {
        let begin = Instant::now();
        let mut hearing = Hearing::default();
        hearing.note(signs([1, 1, 1]), begin);
        assert!(hearing.due(begin + SILENT_AFTER).is_empty());
        hearing.note(Vec::new(), begin + FORGET_AFTER);
        assert!(hearing.nodes.is_empty());
    }

    #[test]
    fn only_who_could_have_heard_is_believed() {
        assert_eq!(verdict(&[None, Some(false)]), Some(false));
        assert_eq!(verdict(&[Some(false), Some(true)]), Some(true));
        assert_eq!((verdict(&[None, None]), verdict(&[])), (None, None));
    }
}
