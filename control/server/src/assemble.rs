//! Puts the parts together: keys, store, cache, loops, sessions, listeners; runs them, and stops them in order.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::status::Status;
use weft_controllers::settings::Settings;
use weft_store::backup::UNFINISHED;
use weft_store::disk::FileDisk;
use weft_store::store::Beginning;
use weft_store::{Embedded, Etcd, Revision, Store, embedded, etcd};

use crate::authn::account::Accounts;
use crate::authz::Authorizer;
use crate::cache::Cache;
use crate::config::{Config, StoreConfig, TlsFiles};
use crate::http::listen::Connections;
use crate::http::metrics::Metrics;
use crate::http::upgrade::Places;
use crate::http::watch::Feeds;
use crate::http::{Api, listen};
use crate::loops::{self, Snapshot};
use crate::nodes::Nodes;
use crate::objects::{Objects, laid};
use crate::pki::{Pki, Terms};
use crate::renew::{self, Showing};
use crate::store_id::StoreId;
use crate::{clock, nodes, pki};

/// The file of the embedded store, in the data directory.
pub(crate) const STORE: &str = "store.redb";
/// How often it is looked whether the system's priority classes are there.
const CLASSES_AGAIN: Duration = Duration::from_secs(30);
/// Namespaces that are always there.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Runs the server until it is told to stop.
///
/// # Errors
/// It cannot start, or its store fails.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    pki::make_dir(&config.data_dir).context("the data directory cannot be made")?;
    let env = |name| std::env::var(name).ok();
    let inherited = listen::inherited(env("LISTEN_PID").as_deref(), env("LISTEN_FDS").as_deref())
        .context("the listeners that were handed over (LISTEN_FDS) cannot be used")?;
    let config = Arc::new(config);
    let mut listeners = Vec::new();
    for address in &config.listen {
        listeners.push(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("the API cannot listen on {address}"))?,
        );
    }
    // First of all that is in the directory: its lock keeps a second server out of the rest.
    let (store, _lock) = open_store(&config, None).await?;
    let belongs = StoreId::read(&config.pki_dir())?;
    if !Pki::is_in(&config.pki_dir()) {
        check_is_nobodys(&config, store.as_ref()).await?;
    }
    laid::check(store.as_ref()).await.context("the store is not served")?;
    let pki = Arc::new(open_pki(&config)?);
    belongs.keep(store.identity().id)?;
    let (tls, shown) = listen::acceptor(&pki)?;
    let cache =
        Cache::fill(store.clone(), config.watch_events_max).await.context("the store cannot be read")?;
    let (stop, stopping) = watch::channel(false);
    let (leave, leaving) = watch::channel(false);
    let mut follow = tokio::spawn({
        let cache = cache.clone();
        async move { cache.follow().await }
    });
    let newest = store.revisions().into_inner().1;
    anyhow::ensure!(
        cache.wait_for(newest.0, Duration::from_secs(60)).await,
        "the watch cache cannot catch up with the store"
    );
    let bound = listeners[0].local_addr().context("the API's address is not known")?;
    let settings = Arc::new(settings(&config, &pki, bound.port()));
    if settings.api_addresses.is_empty() {
        tracing::warn!("Pods cannot reach the API: say by --advertise at which address they would");
    }
    let objects = Arc::new(Objects::new(store.clone(), cache, settings.clone()));
    first_objects(&objects).await?;

    let snapshot = Snapshot::new();
    let news = snapshot.news();
    let accounts = Arc::new(Accounts::new(&pki, &config.domain));
    let nodes = Nodes::new(objects.clone(), snapshot.clone(), accounts.clone(), pki.clone(), config.clone());
    let mut link = nodes::listen(&nodes, news, &stopping)
        .with_context(|| format!("the link cannot listen on {}", config.link))?;
    let mut loops = tokio::spawn(loops::run(objects.clone(), snapshot, settings, stopping.clone()));
    let metrics = Metrics::new(&objects, &nodes);
    let api = Arc::new(Api {
        objects: objects.clone(),
        accounts,
        authorizer: Authorizer::new(config.roles.clone()),
        nodes,
        metrics,
        feeds: Feeds::new(),
        places: Semaphore::new(config.requests_max),
        switched: Places::default(),
        stopping: stopping.clone(),
        leaving,
    });
    let connections = Connections::new(config.connections_max);
    let mut serving = Vec::new();
    for listener in listeners.into_iter().chain(inherited) {
        let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
        tracing::info!(address, "serving the API");
        serving.push(tokio::spawn(listen::serve(listener, tls.clone(), api.clone(), connections.clone())));
    }
    // Only now: who waits for the file finds a server behind it.
    let url = config
        .kubeconfig_server
        .clone()
        .unwrap_or_else(|| format!("https://{}", reachable(bound, &config.advertise)));
    let kubeconfig = config.data_dir.join("admin.kubeconfig");
    pki.write_kubeconfig(&kubeconfig, &url)?;
    let showing = Showing { api: shown, link: link.certificate(), kubeconfig: (kubeconfig, url) };
    let mut upkeep = JoinSet::new();
    upkeep.spawn(keep_classes(objects.clone()));
    upkeep.spawn(compact(store, config.history));
    upkeep.spawn(renew::keep(pki, showing));
    tracing::info!(link = %link.address, data = %config.data_dir.display(), "weft-control is ready");

    let result = tokio::select! {
        signal = async {
            let signal = terminated().await;
            // Who sends requests here learns by /readyz that others should have them.
            leave.send_replace(true);
            tokio::time::sleep(config.shutdown_delay).await;
            signal
        } => signal,
        ended = &mut follow => match ended {
            Ok(Err(error)) => Err(anyhow::Error::new(error).context("the store failed")),
            _ => Err(anyhow::anyhow!("the watch cache ended")),
        },
        () = objects.broken() => Err(anyhow::anyhow!("the store cannot be written any more")),
        // A part that ends by itself has failed: whoever started us starts all of it anew.
        _ = &mut loops => Err(anyhow::anyhow!("the control loops ended")),
        _ = link.tasks.join_next() => Err(anyhow::anyhow!("the link's tasks ended")),
        _ = upkeep.join_next() => Err(anyhow::anyhow!("the upkeep of store and certificates ended")),
    };
    tracing::info!("stopping");
    stop.send_replace(true);
    upkeep.abort_all();
    let _ = tokio::time::timeout(Duration::from_secs(6), async {
        for task in serving {
            let _ = task.await;
        }
        if !loops.is_finished() {
            let _ = loops.await;
        }
        while link.tasks.join_next().await.is_some() {}
        // Every connection has given its permit back once it is drained.
        let all = u32::try_from(config.connections_max).unwrap_or(u32::MAX);
        let _ = connections.all.acquire_many(all).await;
    })
    .await;
    follow.abort();
    result
}

/// The store, and what keeps a second server out of the data directory. With `begins` it must be new.
///
/// # Errors
/// It cannot be opened, is another than the data directory's, or a restore into it was not finished.
pub(crate) async fn open_store(
    config: &Config,
    begins: Option<Beginning>,
) -> anyhow::Result<(Arc<dyn Store>, Option<FileDisk>)> {
    let dir = &config.data_dir;
    let belongs = StoreId::read(&config.pki_dir())?;
    let begun = begins.map(|begins| begins.identity.id);
    let is_other = |found: [u8; 16]| belongs.id.is_some_and(|id| id != found);
    anyhow::ensure!(!begun.is_some_and(is_other), "{}: the backup is of another store", belongs.advice());
    let (store, lock): (Arc<dyn Store>, _) = match &config.store {
        StoreConfig::Embedded => {
            let (path, options) =
                (dir.join(STORE), embedded::Options { begins, ..embedded::Options::default() });
            let is_lost = belongs.id.is_some() && begins.is_none() && !path.exists();
            anyhow::ensure!(!is_lost, "{}: {} is not there", belongs.advice(), path.display());
            let store = Embedded::open_with(&path, &options)
                .with_context(|| format!("the store in {} cannot be opened", dir.display()))?;
            anyhow::ensure!(
                !is_other(store.identity().id),
                "{}: {} is another",
                belongs.advice(),
                path.display()
            );
            (Arc::new(store), None)
        }
        StoreConfig::Etcd { address, tls } => {
            let lock = FileDisk::open(&dir.join("lock"))
                .with_context(|| format!("the data directory {} cannot be used", dir.display()))?;
            let tls = tls.as_ref().map(TlsFiles::read).transpose().context("the certificates for etcd")?;
            let options = etcd::Options { address: address.clone(), tls, begins, expects: belongs.id };
            let store = match Etcd::open(&options).await {
                Err(error @ (etcd::OpenError::Absent | etcd::OpenError::Another)) => {
                    Err(error).context(belongs.advice())
                }
                opened => opened.context("the store in etcd cannot be opened"),
            };
            (Arc::new(store?), Some(lock))
        }
    };
    let mark = store.get(Bytes::from_static(UNFINISHED), None).await.context("the store cannot be read")?;
    anyhow::ensure!(
        mark.is_none(),
        "a restore into this store was not finished: remove the store, and restore once more"
    );
    Ok((store, lock))
}

/// Refuses an etcd with objects to a data directory without keys: with a CA of its own it would serve a cluster of which no node
/// and no client trusts it. A store that lies beside its keys has only lost them.
async fn check_is_nobodys(config: &Config, store: &dyn Store) -> anyhow::Result<()> {
    let StoreConfig::Etcd { address, .. } = &config.store else { return Ok(()) };
    anyhow::ensure!(
        laid::is_empty(store).await.context("the store cannot be read")?,
        "etcd holds a cluster under the name {}, and {} has no CA (ca.key): bring that cluster's keys there or, \
         if they are lost, a CA's key of your own; or begin another cluster under another name (--store etcd://ADDRESS/NAME)",
        address.name,
        config.pki_dir().display()
    );
    Ok(())
}

fn open_pki(config: &Config) -> anyhow::Result<Pki> {
    let mut names: Vec<String> =
        ["weft-control", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .map(ToOwned::to_owned)
            .to_vec();
    names.push(format!("kubernetes.default.svc.{}", config.domain));
    let mut addresses: Vec<IpAddr> = vec![IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
    addresses.extend(config.api_service_ips());
    addresses.extend(&config.advertise);
    addresses.extend(config.listen.iter().map(SocketAddr::ip).filter(|a| !a.is_unspecified()));
    addresses.sort();
    addresses.dedup();
    if let Some(url) = &config.kubeconfig_server {
        let host = host_of(url);
        match host.parse::<IpAddr>() {
            Ok(address) if !addresses.contains(&address) => addresses.push(address),
            Err(_) if crate::config::is_dns_name(host) && !names.iter().any(|n| n == host) => {
                names.push(host.to_owned());
            }
            _ => {}
        }
    }
    let dir = config.pki_dir();
    let terms = Terms { names, addresses, life: config.certificate_life };
    Pki::open(&dir, terms, clock::now()).context("keys and certificates cannot be set up")
}

/// The host of a URL, an IPv6 address without its brackets.
fn host_of(url: &str) -> &str {
    let rest = url.trim_start_matches("https://");
    match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => rest.split(['/', ':']).next().unwrap_or(""),
    }
}

fn settings(config: &Config, pki: &Pki, port: u16) -> Settings {
    Settings {
        service_cidrs: config.service_cidrs.clone(),
        pod_cidrs: config.pod_cidrs.clone(),
        node_prefix_v4_bits: config.node_cidr_mask,
        node_prefix_v6_bits: config.node_cidr_mask_v6,
        node_ports: config.node_ports.clone(),
        load_balancer_pool: config.load_balancer_pool.clone(),
        api_addresses: config
            .advertise
            .iter()
            .filter(|a| !a.is_loopback())
            .map(|a| SocketAddr::new(*a, port))
            .collect(),
        ca_pem: pki.ca_pem.clone(),
        domain: config.domain.clone(),
        leading_since: Some(clock::now()),
        encryption: config.encryption,
        key_life_seconds: config.key_life_seconds,
        ..Settings::default()
    }
}

/// What a user reads of a class of the system's own.
fn description_of_class(name: &str) -> &'static str {
    match name {
        "system-node-critical" => {
            "For Pods that the node they run on cannot do without: they are not to be moved."
        }
        _ => "For Pods that the cluster cannot do without: they may be moved to another node if they must.",
    }
}

async fn first_objects(objects: &Objects) -> anyhow::Result<()> {
    for name in NAMESPACES {
        objects
            .ensure(&kind::NAMESPACE, &ObjectKey::cluster(*name), json!({ "metadata": {} }))
            .await
            .with_context(|| format!("the namespace {name} cannot be made"))?;
    }
    Ok(())
}

/// Makes the system's priority classes where they are missing, again and again: a store that is full when the server starts
/// is no reason not to.
async fn keep_classes(objects: Arc<Objects>) {
    loop {
        if let Err(error) = make_classes(&objects).await {
            tracing::warn!(
                error = error.message,
                "the system's priority classes cannot be made and are tried again"
            );
        }
        tokio::time::sleep(CLASSES_AGAIN).await;
    }
}

async fn make_classes(objects: &Objects) -> Result<(), Status> {
    for (name, value) in weft_api::validate::system_classes() {
        let object = json!({ "value": value, "description": description_of_class(name) });
        objects.ensure(&kind::PRIORITY_CLASS, &ObjectKey::cluster(name), object).await?;
    }
    Ok(())
}

/// The address under which the listener is reached: by everybody if one is advertised, else by this machine.
fn reachable(bound: SocketAddr, advertise: &[IpAddr]) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let loopback: IpAddr =
        if bound.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(advertise.first().copied().unwrap_or(loopback), bound.port())
}

/// Forgets what is older than `history`, which nobody reaches back to.
async fn compact(store: Arc<dyn Store>, history: Duration) {
    let mut before = store.revisions().into_inner().1;
    loop {
        tokio::time::sleep(history).await;
        if before > Revision(0)
            && let Err(error) = store.compact(before).await
        {
            tracing::warn!(%error, "the store's history could not be compacted");
        }
        before = store.revisions().into_inner().1;
    }
}

async fn terminated() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls_are_read_in_both_families() {
        for (url, host) in [
            ("https://192.0.2.1:6443", "192.0.2.1"),
            ("https://[fd00::1]:6443", "fd00::1"),
            ("https://api.example.org/", "api.example.org"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }

    #[test]
    fn the_admins_kubeconfig_works_from_elsewhere_if_an_address_is_advertised() {
        let any: SocketAddr = "0.0.0.0:6443".parse().unwrap();
        assert_eq!(reachable(any, &["192.0.2.10".parse().unwrap()]).to_string(), "192.0.2.10:6443");
        assert_eq!(reachable(any, &[]).to_string(), "127.0.0.1:6443");
        let one: SocketAddr = "10.0.0.1:6443".parse().unwrap();
        assert_eq!(reachable(one, &["192.0.2.10".parse().unwrap()]), one);
    }
}
