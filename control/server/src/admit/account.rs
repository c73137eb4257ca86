//! Every Pod runs as a ServiceAccount and finds its token, the cluster's CA and its namespace under a well-known path.

use std::time::Duration;

use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::status::Status;
use weft_api::view::ServiceAccount;

use crate::objects::Objects;
use crate::objects::metadata::generate_name;

/// Where the token is mounted; fixed by every client library.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Seconds; a little more than an hour, as Kubernetes has it, so that renewals do not fall together.
const TOKEN_LIFE_SECONDS: u64 = 3607;
/// A namespace that was just made has its `default` ServiceAccount a moment later: a Pod waits for it with `patience`.
///
/// # Errors
/// 403 when the ServiceAccount is not there.
pub(super) async fn admit(objects: &Objects, pod: &mut Value, patience: Duration) -> Result<(), Status> {
    let spec = &mut pod["spec"];
    let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(ToOwned::to_owned);
    let name = text(&spec["serviceAccountName"])
        .or_else(|| text(&spec["serviceAccount"]))
        .unwrap_or_else(|| "default".to_owned());
    spec["serviceAccountName"] = name.clone().into();
    spec["serviceAccount"] = name.clone().into();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
    let account = find(objects, &namespace, &name, patience).await.ok_or_else(|| {
        let pod_name = pod["metadata"]["name"].as_str().unwrap_or("");
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        );
        Status::forbidden(&kind::POD, pod_name, &why)
    })?;
    let spec = &mut pod["spec"];
    let wanted = spec["automountServiceAccountToken"]
        .as_bool()
        .or(account.automount_service_account_token)
        .unwrap_or(true);
    if wanted {
        mount(spec);
    }
    Ok(())
}

async fn find(objects: &Objects, namespace: &str, name: &str, patience: Duration) -> Option<ServiceAccount> {
    let key = ObjectKey::namespaced(namespace, name);
    let get = || objects.cache.get(&kind::SERVICE_ACCOUNT, &key);
    if name == "default" && get().is_none() {
        let mut changed = objects.cache.changed(&kind::SERVICE_ACCOUNT);
        let wait = async {
            while get().is_none() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(patience, wait).await;
    }
    get()?.object.view().ok()
}

/// Adds the volume, and a mount to each container that has nothing at the path.
fn mount(spec: &mut Value) {
    let volume = generate_name("kube-api-access-", uuid::Uuid::new_v4().as_bytes());
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec[list].as_array_mut() else { continue };
        for container in containers {
            let mounts = &mut container["volumeMounts"];
            let taken = mounts
                .as_array()
                .is_some_and(|m| m.iter().any(|m| m["mountPath"].as_str() == Some(MOUNT_PATH)));
            if taken || !container.is_object() {
                continue;
            }
            let mount = json!({ "name": volume, "mountPath": MOUNT_PATH, "readOnly": true });
            match container["volumeMounts"].as_array_mut() {
                Some(mounts) => mounts.push(mount),
                None => container["volumeMounts"] = json!([mount]),
            }
            mounted = true;
        }
    }
    // Index access makes `null` of a list that is not there.
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, v| !v.is_null());
    }
    if !mounted {
        return;
    }
    let volume = json!({
        "name": volume,
        "projected": {
            "defaultMode": 420,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": TOKEN_LIFE_SECONDS, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [{ "path": "namespace",
                    "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
            ],
        },
    });
    match spec["volumes"].as_array_mut() {
        Some(volumes) => volumes.push(volume),
        None => spec["volumes"] = json!([volume]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_without_its_own_gets_the_mount() {
        let mut spec = json!({ "containers": [{ "name": "a" },
            { "name": "b", "volumeMounts": [{ "name": "mine", "mountPath": MOUNT_PATH }] }] });
        mount(&mut spec);
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], MOUNT_PATH);
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(spec["volumes"][0]["name"], spec["containers"][0]["volumeMounts"][0]["name"]);
        assert!(spec.get("initContainers").is_none());
    }
}
