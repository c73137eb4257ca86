//! The guest's disk in trouble, under a server that goes on: read-only, and full.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, Client, Error};

use super::guest::Guest;
use super::ledger::{Ledger, put};

/// How long it may take until a server notices.
const NOTICE_MAX: Duration = Duration::from_secs(300);
/// Refusals that are looked at.
const REFUSALS_MIN: usize = 5;
/// Writes that use up what a file has room for, at most, and how long they are.
const BIG_WRITES_MAX: u32 = 200;
const BIG_BYTES: usize = 300 << 10;

/// Status and text of `/readyz`.
async fn readyz(client: &Client) -> (u16, String) {
    let request = http_request("/readyz");
    match client.request_text(request).await {
        Ok(text) => (200, text),
        Err(Error::Api(status)) => (status.code, status.message.clone()),
        Err(error) => panic!("/readyz: {error}"),
    }
}

fn http_request(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).expect("a request")
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + NOTICE_MAX;
    while !holds().await {
        assert!(Instant::now() < end, "not within {NOTICE_MAX:?}: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Writers go on and are refused, `/readyz` names the check and why, reads are answered.
async fn suffers(api: &Api<ConfigMap>, ledger: &Ledger, why: &str) {
    let client = api.clone().into_client();
    until("a red /readyz", async || readyz(&client).await.0 == 500).await;
    let (_, said) = readyz(&client).await;
    assert!(said.contains("[-]store failed: ") && said.contains(why), "{said}");
    assert!(said.contains("[+]watch-cache ok"), "{said}");
    // Those that were under way when it began.
    let _before = ledger.refusals();
    let (acknowledged, mut seen) = (ledger.acknowledged(), 0);
    until("writes that are refused", async || {
        for refusal in ledger.refusals() {
            let Error::Api(status) = refusal else { panic!("a write was answered {refusal:?}") };
            // Of those that were under way it may not be known; what was never made is not removed.
            let uncertain = status.code == 500 && status.message.contains("failed while it wrote");
            assert!(uncertain || [503, 404].contains(&status.code), "{status:?}");
            seen += usize::from(status.code == 503);
        }
        api.list(&ListParams::default()).await.expect("reads go on");
        api.get("hot-0").await.expect("reads go on");
        seen >= REFUSALS_MIN
    })
    .await;
    println!("{why}: {seen} writes refused, {} acknowledged", ledger.acknowledged() - acknowledged);
}

/// Writers are answered again, `/readyz` is green, and the server is still the same process.
async fn recovers(api: &Api<ConfigMap>, ledger: &Ledger, guest: &mut Guest, process: &str) {
    let client = api.clone().into_client();
    until("a green /readyz", async || readyz(&client).await == (200, "ok".to_owned())).await;
    let before = ledger.acknowledged();
    until("writes that are acknowledged", async || ledger.acknowledged() > before + 8).await;
    assert_eq!(guest.run("pidof weft-control"), process);
    let _while_it_lasted = ledger.refusals();
}

/// The kernel lets the file system be only read, under the feet of who has files of it open (`u` of sysrq, which is what an
/// operator or a failing machine does), until it is mounted anew.
pub(crate) async fn read_only(api: &Api<ConfigMap>, guest: &mut Guest, ledger: &Ledger) {
    let process = guest.run("pidof weft-control");
    guest.run("echo u > /proc/sysrq-trigger");
    guest.run("until grep -q ' /run/data ext4 ro' /proc/mounts; do sleep 0.1; done");
    suffers(api, ledger, "Read-only file system").await;
    guest.run("mount -o remount,rw /run/data");
    recovers(api, ledger, guest, &process).await;
}

/// As [`read_only`], and nothing better comes of it: a sync of a file system that may only be read says that all is well, and what
/// is acknowledged between the one and the other would be lost.
pub(crate) async fn read_only_to_the_end(api: &Api<ConfigMap>, guest: &mut Guest) {
    guest.run("echo u > /proc/sysrq-trigger");
    let client = api.clone().into_client();
    until("a red /readyz", async || readyz(&client).await.0 == 500).await;
}

/// Somebody fills the disk, and removes what filled it.
pub(crate) async fn full(api: &Api<ConfigMap>, guest: &mut Guest, ledger: &Ledger) {
    let process = guest.run("pidof weft-control");
    let (status, said) = guest.try_run("cat /dev/zero > /run/data/filler");
    assert!(status != 0 && said.contains("No space left"), "{said}");
    // What the store's file has room for is still taken: it is used up.
    let _before = ledger.refusals();
    for n in 0..BIG_WRITES_MAX {
        put(api, ledger, &format!("big-{n}"), &format!("{n}/{}", "y".repeat(BIG_BYTES))).await;
        if !ledger.refusals().is_empty() {
            break;
        }
    }
    suffers(api, ledger, "No space left").await;
    guest.run("rm /run/data/filler");
    recovers(api, ledger, guest, &process).await;
}
