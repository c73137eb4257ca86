//! ComponentStatuses: what Kubernetes' own servers were asked for by name, answered by this one's checks of itself.

use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::status::Status;

use super::super::Api;
use super::super::health::Check;

/// What Kubernetes tells whoever asks.
pub(super) const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// Names as in Kubernetes, and the check that stands for each. Scheduler and controllers are loops of this server that see what
/// its watch cache has.
const COMPONENTS: [(&str, Check); 3] =
    [("controller-manager", Check::WatchCache), ("etcd-0", Check::Store), ("scheduler", Check::WatchCache)];

/// All, in the order of their names.
pub(super) async fn all(api: &Api) -> Vec<Value> {
    let mut all = Vec::with_capacity(COMPONENTS.len());
    for (name, check) in COMPONENTS {
        all.push(status(api, name, check).await);
    }
    all
}

/// The one of that name.
pub(super) async fn one(api: &Api, key: &ObjectKey) -> Result<Value, Status> {
    let found = COMPONENTS.into_iter().find(|(name, _)| *name == key.name);
    let (name, check) = found.ok_or_else(|| Status::not_found(&kind::COMPONENT_STATUS, &key.name))?;
    Ok(status(api, name, check).await)
}

async fn status(api: &Api, name: &str, check: Check) -> Value {
    let leaving = *api.leaving.borrow();
    let condition = match check.trouble(&api.objects, leaving).await {
        None => json!({ "type": "Healthy", "status": "True", "message": "ok" }),
        Some(why) => json!({ "type": "Healthy", "status": "False", "error": why }),
    };
    json!({
        "apiVersion": "v1",
        "kind": kind::COMPONENT_STATUS.kind,
        "metadata": { "name": name },
        "conditions": [condition],
    })
}
