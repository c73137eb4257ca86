//! ServiceAccount tokens: JWTs (RFC 7519, ES256) bound to a ServiceAccount and, where it is wanted, to a Pod, Secret or node.
//!
//! A token is good while its signature and times are, and while what it is bound to is still the same object.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::Pod;
use weft_link::join::to_hex;

use super::User;
use crate::cache::Cache;
use crate::pki::Pki;

/// Shortest life of a token, seconds.
pub(crate) const LIFE_SECONDS_MIN: u64 = 600;
/// Longest life of a token, seconds.
pub(crate) const LIFE_SECONDS_MAX: u64 = 1 << 32;
/// Clocks may differ by this, seconds.
const LEEWAY_SECONDS: u64 = 10;

/// Makes and checks tokens.
pub(crate) struct Accounts {
    encoding: EncodingKey,
    decoding: DecodingKey,
    key_id: String,
    /// Who signs, and the audience that is the API server.
    pub(crate) issuer: String,
}

/// An object as a token names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    name: String,
    /// Empty of a node in tokens of before it was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uid: String,
}

impl Reference {
    pub(crate) fn new(name: &str, uid: &str) -> Self {
        Self { name: name.to_owned(), uid: uid.to_owned() }
    }
}

/// What a token is bound to, beside its account: it ends with it.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    /// And where that runs, which is told.
    Pod {
        pod: Reference,
        node: Option<Reference>,
    },
    Secret(Reference),
    Node(Reference),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Binding {
    namespace: String,
    serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: Vec<String>,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    binding: Binding,
}

/// Who a token is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) namespace: String,
    pub(crate) account: String,
    pub(crate) account_uid: String,
    /// Empty: the API server.
    pub(crate) audiences: Vec<String>,
    pub(crate) life_seconds: u64,
    pub(crate) bound: Option<Bound>,
}

/// A token and its end.
pub(crate) struct Token {
    pub(crate) text: String,
    /// Seconds since 1970-01-01 UTC.
    pub(crate) expires_unix_seconds: u64,
}

impl Accounts {
    pub(crate) fn new(pki: &Pki, domain: &str) -> Self {
        Self {
            encoding: EncodingKey::from_ec_der(&pki.account_key_der),
            decoding: DecodingKey::from_ec_der(&pki.account_public),
            key_id: to_hex(&Sha256::digest(&pki.account_public)[..16]),
            issuer: format!("https://kubernetes.default.svc.{domain}"),
        }
    }

    /// Signs a token.
    ///
    /// # Errors
    /// The key cannot sign.
    pub(crate) fn issue(
        &self,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Token, jsonwebtoken::errors::Error> {
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        let life = wanted.life_seconds.clamp(LIFE_SECONDS_MIN, LIFE_SECONDS_MAX);
        let audiences = wanted.audiences.iter().filter(|a| !a.is_empty()).cloned().collect::<Vec<_>>();
        let (pod, secret, node) = match wanted.bound.clone() {
            None => (None, None, None),
            Some(Bound::Pod { pod, node }) => (Some(pod), None, node),
            Some(Bound::Secret(secret)) => (None, Some(secret), None),
            Some(Bound::Node(node)) => (None, None, Some(node)),
        };
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: if audiences.is_empty() { vec![self.issuer.clone()] } else { audiences },
            sub: format!("system:serviceaccount:{}:{}", wanted.namespace, wanted.account),
            iat: now,
            nbf: now,
            exp: now + life,
            jti: uuid::Uuid::new_v4().to_string(),
            binding: Binding {
                namespace: wanted.namespace.clone(),
                serviceaccount: Reference { name: wanted.account.clone(), uid: wanted.account_uid.clone() },
                pod,
                secret,
                node,
            },
        };
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let text = jsonwebtoken::encode(&header, &claims, &self.encoding)?;
        Ok(Token { text, expires_unix_seconds: claims.exp })
    }

    /// Who brought this token; none if it is not good, or no longer.
    pub(crate) fn check(&self, token: &str, cache: &Cache) -> Option<User> {
        self.check_for(token, &[], cache).map(|(user, _)| user)
    }

    /// Whose this token is, and which of the audiences it is for; none if it is for none of them, not good, or no longer.
    /// No audience means the API server.
    pub(crate) fn check_for(
        &self,
        token: &str,
        audiences: &[String],
        cache: &Cache,
    ) -> Option<(User, Vec<String>)> {
        let own = [self.issuer.clone()];
        let audiences = if audiences.is_empty() { &own } else { audiences };
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(audiences);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).ok()?.claims;
        let binding = &claims.binding;
        let key = ObjectKey::namespaced(&binding.namespace, &binding.serviceaccount.name);
        let account = cache.get(&kind::SERVICE_ACCOUNT, &key)?;
        if account.object.meta.uid != binding.serviceaccount.uid {
            return None;
        }
        let mut extra =
            vec![("authentication.kubernetes.io/credential-id".to_owned(), format!("JTI={}", claims.jti))];
        if let Some(pod) = &binding.pod {
            let found = cache.get(&kind::POD, &ObjectKey::namespaced(&binding.namespace, &pod.name))?;
            let ended = found.object.view::<Pod>().is_ok_and(|p| p.status.is_finished());
            if found.object.meta.uid != pod.uid || ended {
                return None;
            }
            extra.push(("authentication.kubernetes.io/pod-name".into(), pod.name.clone()));
            extra.push(("authentication.kubernetes.io/pod-uid".into(), pod.uid.clone()));
        }
        if let Some(secret) = &binding.secret {
            let found = cache.get(&kind::SECRET, &ObjectKey::namespaced(&binding.namespace, &secret.name))?;
            if found.object.meta.uid != secret.uid {
                return None;
            }
        }
        if let Some(node) = &binding.node {
            // Of a Pod's token it is only said.
            let found = cache.get(&kind::NODE, &ObjectKey::cluster(&node.name));
            if binding.pod.is_none() && found.is_none_or(|found| found.object.meta.uid != node.uid) {
                return None;
            }
            extra.push(("authentication.kubernetes.io/node-name".into(), node.name.clone()));
            if !node.uid.is_empty() {
                extra.push(("authentication.kubernetes.io/node-uid".into(), node.uid.clone()));
            }
        }
        let user = User {
            name: claims.sub,
            uid: binding.serviceaccount.uid.clone(),
            groups: groups(&binding.namespace),
            extra,
        };
        let meant = audiences.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        Some((user, meant))
    }
}

/// The groups of a namespace's ServiceAccounts.
pub(crate) fn groups(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".into(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".into(),
    ]
}

/// Namespace and name of the ServiceAccount that a user is, if it is one.
pub(crate) fn of_name(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}
