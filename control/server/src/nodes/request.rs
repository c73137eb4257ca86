//! What agents ask: tokens for their own Pods, new certificates for themselves; and what machines ask that are no node yet.

use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::Pod;
use weft_link::message::{JoinRequest, JoinResponse, Request, Response, TokenRequest, request};

use super::Nodes;
use crate::authn::account::{Bound, Reference, Wanted};
use crate::authn::bootstrap;
use crate::clock;

/// Seconds a token lasts when the agent does not say.
const TOKEN_LIFE_SECONDS: u64 = 3_600;

/// Why an agent's request is refused. The text reaches the agent's log and the Pod's events.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the Pod {0} is not on this node")]
    OtherNode(ObjectKey),
    #[error("the Pod {0} runs as the ServiceAccount {1}")]
    OtherAccount(ObjectKey, String),
    #[error("the ServiceAccount {0} is not there")]
    NoAccount(ObjectKey),
    #[error("the control plane could not sign")]
    Sign,
    #[error("{0}")]
    Certificate(#[source] crate::pki::PkiError),
    #[error("the control plane does not know this request; upgrade it")]
    Unknown,
}

impl Nodes {
    /// Answers a request of a node's agent.
    pub(crate) fn answer(&self, node: &str, request: Request) -> Response {
        let id = request.id;
        let result = match request.body {
            Some(request::Body::Token(asked)) => self.token(node, &asked),
            Some(request::Body::Renew(csr_pem)) => self
                .pki
                .sign_node(&csr_pem, node, clock::now())
                .map(|text| Response { id, text, ..Response::default() })
                .map_err(Refused::Certificate),
            None => Err(Refused::Unknown),
        };
        match result {
            Ok(response) => Response { id, ..response },
            Err(error) => {
                tracing::warn!(node, %error, "a request of an agent was refused");
                Response { id, refused: error.to_string(), ..Response::default() }
            }
        }
    }

    fn token(&self, node: &str, asked: &TokenRequest) -> Result<Response, Refused> {
        let cache = &self.objects.cache;
        let pod_key = ObjectKey::namespaced(&asked.namespace, &asked.pod);
        let other = || Refused::OtherNode(pod_key.clone());
        let cached = cache.get(&kind::POD, &pod_key).ok_or_else(other)?;
        let pod: Pod = cached.object.view().map_err(|_| other())?;
        if cached.object.meta.uid != asked.pod_uid || pod.spec.node_name != node {
            return Err(other());
        }
        let account = if pod.spec.service_account_name.is_empty() {
            "default".to_owned()
        } else {
            pod.spec.service_account_name
        };
        if account != asked.service_account {
            return Err(Refused::OtherAccount(pod_key, account));
        }
        let account_key = ObjectKey::namespaced(&asked.namespace, &account);
        let found = cache.get(&kind::SERVICE_ACCOUNT, &account_key).ok_or(Refused::NoAccount(account_key))?;
        let wanted = Wanted {
            namespace: asked.namespace.clone(),
            account,
            account_uid: found.object.meta.uid.clone(),
            bound: Some(Bound::Pod {
                pod: Reference::new(&asked.pod, &asked.pod_uid),
                node: cache
                    .get(&kind::NODE, &ObjectKey::cluster(node))
                    .map(|found| Reference::new(node, &found.object.meta.uid)),
            }),
            audiences: vec![asked.audience.clone()],
            life_seconds: if asked.lifetime_seconds == 0 {
                TOKEN_LIFE_SECONDS
            } else {
                asked.lifetime_seconds
            },
        };
        let token = self.accounts.issue(&wanted, clock::now()).map_err(|_| Refused::Sign)?;
        Ok(Response {
            text: token.text,
            expires_unix_seconds: token.expires_unix_seconds,
            ..Response::default()
        })
    }

    /// Answers a machine that wants to become a node.
    pub(crate) fn join(&self, request: &JoinRequest) -> JoinResponse {
        let refuse = |why: String| {
            tracing::warn!(node = request.node, why, "a machine was not let in");
            JoinResponse { refused: why, ..JoinResponse::default() }
        };
        if let Err(error) = weft_link::join::check_node_name(&request.node) {
            return refuse(error.to_string());
        }
        if let Err(error) = bootstrap::check(&request.token, &self.objects.cache, clock::now()) {
            return refuse(error.to_string());
        }
        match self.pki.sign_node(&request.csr_pem, &request.node, clock::now()) {
            Ok(certificate_pem) => {
                tracing::info!(node = request.node, "a machine joins as a node");
                JoinResponse { refused: String::new(), certificate_pem, ca_pem: self.pki.ca_pem.clone() }
            }
            Err(error) => refuse(error.to_string()),
        }
    }
}
