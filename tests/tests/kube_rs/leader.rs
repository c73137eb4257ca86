//! Leader election as client-go has it: one Lease, written with the version that was read, and taken from a leader whose last
//! renewal was seen to be too long ago.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::controller;

pub(crate) const LEASE: &str = "copier";
/// How long a leader may be silent before it is replaced.
const LEASE_SECONDS: i32 = 5;
/// A leader that could not renew for so long stops, before another one may begin.
const RENEW_MAX: Duration = Duration::from_millis(3500);
const RETRY: Duration = Duration::from_millis(200);

static LEADERS: AtomicUsize = AtomicUsize::new(0);
/// The most that led at once.
pub(crate) static LEADERS_MOST: AtomicUsize = AtomicUsize::new(0);

/// One copy of the controller.
pub(crate) struct Candidate {
    client: Client,
    leases: Api<Lease>,
    identity: String,
    hangs: AtomicBool,
}

impl Candidate {
    pub(crate) fn new(client: &Client, identity: &str) -> Self {
        let leases = Api::namespaced(client.clone(), "default");
        Self { client: client.clone(), leases, identity: identity.to_owned(), hangs: AtomicBool::new(false) }
    }

    /// Whether it is kept from the Lease from now on.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    /// Waits for the Lease, leads as long as it has it, and again.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.acquire().await;
            let kept = Arc::clone(&self);
            LEADERS_MOST.fetch_max(LEADERS.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let kept = tokio::spawn(async move { kept.keep().await });
            let lost = async move { kept.await.expect("no panic") };
            controller::run(&self.client, &self.identity, lost).await;
            LEADERS.fetch_sub(1, Ordering::SeqCst);
        }
    }

    async fn acquire(&self) {
        let mut seen: (Option<Lease>, Instant) = (None, Instant::now());
        loop {
            let found = self.leases.get_opt(LEASE).await;
            if let Ok(found) = found
                && !self.hangs.load(Ordering::SeqCst)
            {
                if found != seen.0 {
                    seen = (found.clone(), Instant::now());
                }
                let silent = seen.1.elapsed() > Duration::from_secs(LEASE_SECONDS.unsigned_abs().into());
                if (found.is_none() || silent || self.holds(found.as_ref())) && self.write(found).await {
                    return;
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews the Lease; returns once it is lost.
    async fn keep(&self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_MAX {
            tokio::time::sleep(RETRY).await;
            if self.hangs.load(Ordering::SeqCst) {
                continue;
            }
            let asked = Instant::now();
            let Ok(found) = self.leases.get_opt(LEASE).await else { continue };
            if !self.holds(found.as_ref()) {
                return;
            }
            if self.write(found).await {
                renewed = asked;
            }
        }
    }

    fn holds(&self, lease: Option<&Lease>) -> bool {
        let spec = lease.and_then(|lease| lease.spec.as_ref());
        spec.and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.identity)
    }

    /// Whether the Lease is now this candidate's: nobody else has written what was found.
    async fn write(&self, found: Option<Lease>) -> bool {
        let now = Some(MicroTime(Timestamp::now()));
        let was = found.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let mut spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: now.clone(),
            ..was.clone()
        };
        if was.holder_identity.as_ref() != Some(&self.identity) {
            spec.acquire_time = now;
            spec.lease_transitions = Some(was.lease_transitions.map_or(0, |count| count + 1));
        }
        let params = PostParams::default();
        match found {
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.leases.replace(LEASE, &params, &lease).await.is_ok()
            }
            None => {
                let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
                self.leases.create(&params, &Lease { metadata, spec: Some(spec) }).await.is_ok()
            }
        }
    }
}
