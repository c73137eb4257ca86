//! What the agent knows of the cluster, shared by all its parts: the view, the cluster's settings, and a way to ask more.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use weft_link::message::{self, Cluster, Response, request};
use weft_runtime::{Answer, Dns, Inputs, Lookup, Refusal, Token, TokenRequest};

use crate::view::View;

/// Requests that wait for the link.
const REQUESTS_MAX: usize = 256;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A request on its way to the control plane.
pub(crate) struct Asked {
    pub(crate) body: request::Body,
    pub(crate) answer: oneshot::Sender<Response>,
}

/// Shared knowledge.
pub(crate) struct Knowledge {
    view: RwLock<View>,
    complete: AtomicBool,
    cluster: ArcSwap<Cluster>,
    resolv_conf: PathBuf,
    requests: mpsc::Sender<Asked>,
}

impl Knowledge {
    /// Nothing known yet. The receiver belongs to the link.
    pub(crate) fn new(resolv_conf: PathBuf) -> (Self, mpsc::Receiver<Asked>) {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let knowledge = Self {
            view: RwLock::default(),
            complete: AtomicBool::new(false),
            cluster: ArcSwap::default(),
            resolv_conf,
            requests,
        };
        (knowledge, receiver)
    }

    /// The view, to read; never across an await.
    pub(crate) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The view, to write; never across an await.
    pub(crate) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether a complete view of the control plane is held, as opposed to one from disk, which lacks Secrets.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// From now on the view is complete.
    pub(crate) fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// The cluster's settings.
    pub(crate) fn cluster(&self) -> arc_swap::Guard<std::sync::Arc<Cluster>> {
        self.cluster.load()
    }

    /// Keeps the cluster's settings.
    pub(crate) fn set_cluster(&self, cluster: Cluster) {
        self.cluster.store(std::sync::Arc::new(cluster));
    }

    /// Asks the control plane.
    ///
    /// # Errors
    /// The link is down or slow, or the control plane refuses.
    pub(crate) async fn ask(&self, body: request::Body) -> Result<Response, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .try_send(Asked { body, answer })
            .map_err(|_| Refusal("too many requests wait for the control plane".into()))?;
        match timeout(ANSWER_MAX, answered).await {
            Ok(Ok(response)) if response.refused.is_empty() => Ok(response),
            Ok(Ok(response)) => Err(Refusal(response.refused)),
            Ok(Err(_)) => Err(Refusal("the link to the control plane broke".into())),
            Err(_) => {
                Err(Refusal(format!("the control plane did not answer within {} s", ANSWER_MAX.as_secs())))
            }
        }
    }

    fn lookup(&self, kind: &str, namespace: &str, name: &str) -> Lookup {
        match self.view().object(kind, namespace, name) {
            Some(json) => Lookup::Found(json.clone()),
            None if self.is_complete() => Lookup::Missing,
            None => Lookup::NotYet,
        }
    }
}

impl Inputs for Knowledge {
    fn config_map(&self, namespace: &str, name: &str) -> Lookup {
        self.lookup("ConfigMap", namespace, name)
    }

    fn secret(&self, namespace: &str, name: &str) -> Lookup {
        self.lookup("Secret", namespace, name)
    }

    fn token<'a>(&'a self, request: TokenRequest<'a>) -> Answer<'a, Result<Token, Refusal>> {
        Box::pin(async move {
            let body = request::Body::Token(message::TokenRequest {
                namespace: request.pod.namespace.clone(),
                service_account: request.service_account.to_owned(),
                pod: request.pod.name.clone(),
                pod_uid: request.pod.uid.clone(),
                audience: request.audience.to_owned(),
                lifetime_seconds: request.lifetime_seconds,
            });
            let response = self.ask(body).await?;
            Ok(Token { text: response.text, expires_unix_seconds: response.expires_unix_seconds })
        })
    }

    fn service_env(&self, namespace: &str, service_links: bool) -> Option<Vec<(String, String)>> {
        service_env(&self.view(), namespace, service_links)
    }

    fn dns(&self) -> Dns {
        let cluster = self.cluster();
        Dns {
            nameservers: addresses(&cluster.dns_ips),
            domain: cluster.domain.clone(),
            host_resolv_conf: self.resolv_conf.clone(),
        }
    }

    fn ca_pem(&self) -> String {
        self.cluster().ca_pem.clone()
    }
}

/// The addresses of a list of texts; what is none is passed over.
pub(crate) fn addresses(texts: &[String]) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Service variables, as Kubernetes documents them ("Accessing the Service, Environment variables"): those of the
/// API's own Service always, those of the namespace's Services with `service_links`.
fn service_env(view: &View, namespace: &str, service_links: bool) -> Option<Vec<(String, String)>> {
    let kubernetes = view.service("default", "kubernetes")?;
    let mut env = Vec::new();
    one_service_env(&kubernetes, &mut env);
    if service_links {
        for service in view.services_of(namespace) {
            if service.namespace != "default" || service.name != "kubernetes" {
                one_service_env(&service, &mut env);
            }
        }
    }
    Some(env)
}

fn one_service_env(service: &message::Service, env: &mut Vec<(String, String)>) {
    let Some(ip) = service.cluster_ips.first().and_then(|bytes: &Bytes| crate::view::address_of(bytes))
    else {
        return;
    };
    let Some(first) = service.ports.first() else { return };
    let prefix = service.name.to_uppercase().replace('-', "_");
    let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    env.push((format!("{prefix}_SERVICE_HOST"), ip.to_string()));
    env.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
    for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
        let name = port.name.to_uppercase().replace('-', "_");
        env.push((format!("{prefix}_SERVICE_PORT_{name}"), port.port.to_string()));
    }
    let protocol = |number: u32| match number {
        17 => "udp",
        132 => "sctp",
        _ => "tcp",
    };
    let url = |port: &message::Port| format!("{}://{host}:{}", protocol(port.protocol), port.port);
    env.push((format!("{prefix}_PORT"), url(first)));
    for port in &service.ports {
        let base = format!("{prefix}_PORT_{}_{}", port.port, protocol(port.protocol).to_uppercase());
        env.push((base.clone(), url(port)));
        env.push((format!("{base}_PROTO"), protocol(port.protocol).to_owned()));
        env.push((format!("{base}_PORT"), port.port.to_string()));
        env.push((format!("{base}_ADDR"), ip.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_link::message::{Port, Resource, Service, resource::Body};

    fn put(view: &mut View, namespace: &str, name: &str, ip: [u8; 4]) {
        view.put(Resource {
            name: format!("service/{namespace}/{name}"),
            body: Some(Body::Service(Service {
                namespace: namespace.into(),
                name: name.into(),
                cluster_ips: vec![Bytes::copy_from_slice(&ip)],
                ports: vec![Port { name: "https".into(), protocol: 6, port: 443, node_port: 0 }],
                ..Default::default()
            })),
        });
    }

    #[test]
    fn a_container_waits_until_the_api_is_known() {
        assert_eq!(service_env(&View::default(), "default", true), None);
    }

    #[test]
    fn service_variables_are_those_kubernetes_documents() {
        let mut view = View::default();
        put(&mut view, "default", "kubernetes", [10, 96, 0, 1]);
        put(&mut view, "shop", "redis-primary", [10, 96, 0, 9]);
        let env = service_env(&view, "shop", true).unwrap();
        let get = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(get("KUBERNETES_SERVICE_HOST"), Some("10.96.0.1"));
        assert_eq!(get("KUBERNETES_SERVICE_PORT"), Some("443"));
        assert_eq!(get("REDIS_PRIMARY_SERVICE_PORT_HTTPS"), Some("443"));
        assert_eq!(get("REDIS_PRIMARY_PORT_443_TCP"), Some("tcp://10.96.0.9:443"));
        let env = service_env(&view, "shop", false).unwrap();
        assert!(env.iter().all(|(name, _)| name.starts_with("KUBERNETES_")));
    }
}
