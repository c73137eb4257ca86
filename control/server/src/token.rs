//! `weft-control token create`: talks to the running server as its admin, by the kubeconfig in the data directory.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;

use crate::admin::{self, Admin};
use crate::authn::bootstrap;
use crate::clock;
use crate::config::{self, TokenCreate};

/// What is to be done.
pub(crate) struct Plan {
    kubeconfig: PathBuf,
    ttl: Duration,
}

/// What is wrong with the settings of `token create`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("--ttl {0:?}: is not a time like 90s, 15m or 24h, or longer than a year")]
    Ttl(String),
}

/// Checks the settings.
///
/// # Errors
/// One of them cannot be used.
pub(crate) fn plan(create: &TokenCreate) -> Result<Plan, PlanError> {
    const TTL_MAX: Duration = Duration::from_secs(366 * 86_400);
    let ttl = config::duration(&create.ttl)
        .filter(|t| !t.is_zero() && *t <= TTL_MAX)
        .ok_or_else(|| PlanError::Ttl(create.ttl.clone()))?;
    let kubeconfig = create.kubeconfig.clone().unwrap_or_else(|| create.data_dir.join("admin.kubeconfig"));
    Ok(Plan { kubeconfig, ttl })
}

/// Makes a token known to the server; answers the token.
///
/// # Errors
/// The kubeconfig is not there, or the server does not answer or refuses.
pub(crate) async fn create(plan: Plan) -> anyhow::Result<String> {
    let admin = Admin::read(&plan.kubeconfig)?;
    let token = bootstrap::random(weft_link::join::ca_sha256(&admin.ca));
    let secret = bootstrap::secret_object(&token, clock::now() + plan.ttl);
    let request = Request::post("/api/v1/namespaces/kube-system/secrets")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(secret.to_string())))?;
    let answer = admin.ask(request).await?;
    anyhow::ensure!(answer.status() == StatusCode::CREATED, admin::refusal(answer).await);
    Ok(token.to_text())
}
