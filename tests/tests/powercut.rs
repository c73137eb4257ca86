//! The control plane on a machine whose power goes: a guest in an emulator that is killed again and again, with writers and
//! watchers outside of it; and then one whose disk is read-only, and full, for a while. `cargo xtask powercut` runs it: it wants
//! another kernel, and minutes. `WEFT_TEST_SEED` repeats its choices, `WEFT_TEST_ROUNDS` says how often power goes.

#[path = "powercut/guest.rs"]
mod guest;
#[path = "powercut/ledger.rs"]
mod ledger;
#[path = "powercut/nbd.rs"]
mod nbd;
#[path = "powercut/trouble.rs"]
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use weft_store::testdisk::Choices;

use guest::{Guest, Machine};
use ledger::{Ledger, Tale, WATCHERS, WRITERS};

/// Writes of one life that are acknowledged before power goes: at least, and at most so many more.
const WRITES_MIN: u64 = 20;
const WRITES_MORE: u64 = 150;
/// How long those may take: the machine is an emulated one.
const LIFE_MAX: Duration = Duration::from_secs(240);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The administrator's, as the guest has it: the CA in it must be the same after every cut.
async fn client(guest: &mut Guest) -> (Api<ConfigMap>, String) {
    let text = guest.run("cat /run/data/weft/admin.kubeconfig");
    let kubeconfig = Kubeconfig::from_yaml(&text).expect("a kubeconfig");
    let authority =
        kubeconfig.clusters[0].cluster.as_ref().and_then(|c| c.certificate_authority_data.clone());
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("settings");
    // A machine without power answers nobody.
    config.connect_timeout = Some(Duration::from_secs(20));
    config.read_timeout = Some(Duration::from_secs(60));
    // A refusal is what is waited for.
    config.default_retry = false;
    let client = Client::try_from(config).expect("a client");
    (Api::default_namespaced(client), authority.expect("a CA"))
}

/// One life: writers and watchers at work, until power goes.
async fn live(api: &Api<ConfigMap>, ledger: &Arc<Ledger>, tales: Vec<Tale>, seed: u64, writes: u64) -> Lives {
    let dark = Arc::new(AtomicBool::new(false));
    let mut watchers = tokio::task::JoinSet::new();
    for tale in tales {
        watchers.spawn(tale.follow(api.clone(), dark.clone()));
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(ledger::write(api.clone(), ledger.clone(), writer, seed, dark.clone()));
    }
    let wanted = ledger.acknowledged() + writes;
    let until = Instant::now() + LIFE_MAX;
    while ledger.acknowledged() < wanted {
        assert!(Instant::now() < until, "{} of {wanted} writes are acknowledged", ledger.acknowledged());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Lives { dark, watchers, writers }
}

/// What is at work.
struct Lives {
    dark: Arc<AtomicBool>,
    watchers: tokio::task::JoinSet<Tale>,
    writers: tokio::task::JoinSet<()>,
}

impl Lives {
    /// Everybody notices that nobody answers, or is told that it is over.
    async fn end(self) -> Vec<Tale> {
        self.dark.store(true, Ordering::Release);
        self.writers.join_all().await;
        self.watchers.join_all().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "wants another kernel and minutes: cargo xtask powercut"]
async fn a_machine_that_loses_power_loses_nothing_and_bears_a_disk_in_trouble() {
    let seed = number("WEFT_TEST_SEED", u64::from(std::process::id()));
    let rounds = number("WEFT_TEST_ROUNDS", 5);
    println!("WEFT_TEST_SEED={seed}");
    let mut choices = Choices::new(seed);
    let mut machine = Machine::new(seed);
    let ledger = Arc::new(Ledger::default());
    let mut tales: Vec<Tale> = (0..WATCHERS).map(|_| Tale::default()).collect();
    let mut trusted = None;
    for round in 0..rounds {
        let mut guest = machine.boot(seed.wrapping_add(round));
        let (api, authority) = client(&mut guest).await;
        assert_eq!(*trusted.get_or_insert(authority.clone()), authority, "a new CA after a cut");
        for tale in &mut tales {
            ledger::catch_up(&api, &ledger, tale).await;
        }
        println!("round {round}: nothing is lost of {} writes", ledger.acknowledged());
        let writes = WRITES_MIN + choices.below(WRITES_MORE);
        let lives = live(&api, &ledger, tales, seed.wrapping_add(round), writes).await;
        machine.cut(guest);
        tales = lives.end().await;
    }

    let mut guest = machine.boot(seed.wrapping_add(rounds));
    let (api, _) = client(&mut guest).await;
    for tale in &mut tales {
        ledger::catch_up(&api, &ledger, tale).await;
    }
    let lives = live(&api, &ledger, tales, seed.wrapping_add(rounds), WRITES_MIN).await;
    trouble::read_only(&api, &mut guest, &ledger).await;
    trouble::full(&api, &mut guest, &ledger).await;
    trouble::read_only_to_the_end(&api, &mut guest).await;
    // What was acknowledged after a trouble, and until the last one, is on the disk.
    machine.cut(guest);
    tales = lives.end().await;
    let mut guest = machine.boot(seed.wrapping_add(rounds + 1));
    let (api, _) = client(&mut guest).await;
    for tale in &mut tales {
        ledger::catch_up(&api, &ledger, tale).await;
    }
    println!("{} writes were acknowledged, none is lost", ledger.acknowledged());
}
