//! A container's image: found here, or pulled by its policy and with the Pod's credentials.

use jiff::{SignedDuration, Timestamp};
use weft_api::view::pod::Container;

use super::{Happened, Worker};
use crate::image::{Credentials, Image, normalize};
use crate::node::Node;
use crate::outside::{Inputs, Lookup, PodRef};
use crate::pod::{ImageState, next_pause};
use crate::report::EventType;

impl Worker {
    pub(super) fn pull(&mut self, name: String) {
        let Some(container) = self.container(&name).cloned() else { return };
        let field = self.field_path(&name);
        let image = &mut self.observed.containers.entry(name.clone()).or_default().image;
        let after_s = match image {
            ImageState::Failed { pause_s, .. } => *pause_s,
            _ => 0,
        };
        *image = ImageState::Pulling { after_s };
        let secrets =
            self.desired.view.spec.image_pull_secrets.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
        let (node, pod, sender) = (self.node.clone(), self.pod.clone(), self.happened.clone());
        self.queue(async move {
            let result = obtain(&node, &pod, &field, &container, &secrets).await;
            let _ = sender.send(Happened::Pulled { container: name, result }).await;
        });
    }

    pub(super) fn note_pulled(&mut self, name: &str, result: Result<Image, String>) {
        let Some(spec) = self.container(name) else { return };
        let (field, image_name) = (self.field_path(name), spec.image.clone());
        let state = self.observed.containers.entry(name.to_owned()).or_default();
        match result {
            Ok(image) => {
                state.image = ImageState::Ready;
                state.image_id = image.digest.clone().unwrap_or_else(|| image.id.clone());
                state.waiting = None;
                self.images.insert(name.to_owned(), image);
            }
            Err(cause) => {
                let before_s = match state.image {
                    ImageState::Pulling { after_s } => after_s,
                    _ => 0,
                };
                let pause_s = next_pause(before_s);
                let again = Timestamp::now() + SignedDuration::from_secs(pause_s.into());
                state.image = ImageState::Failed { again, pause_s };
                let reason = match before_s {
                    _ if cause.contains("pull policy of Never") => "ErrImageNeverPull",
                    0 => "ErrImagePull",
                    _ => "ImagePullBackOff",
                };
                state.waiting = Some((reason.to_owned(), cause.clone()));
                self.event(
                    &field,
                    EventType::Warning,
                    "Failed",
                    format!("Failed to pull image \"{image_name}\": {cause}"),
                );
                self.event(&field, EventType::Warning, "Failed", format!("Error: {reason}"));
                let text = format!("Back-off pulling image \"{image_name}\": {cause}");
                self.event(&field, EventType::Normal, "BackOff", text);
            }
        }
    }
}

/// Finds or pulls a container's image by its policy.
async fn obtain(
    node: &Node,
    pod: &PodRef,
    field: &str,
    container: &Container,
    secrets: &[String],
) -> Result<Image, String> {
    let name = &container.image;
    let full = normalize(name).map_err(|e| e.to_string())?;
    let latest = full.ends_with(":latest") && !full.contains('@');
    let policy = match container.image_pull_policy.as_str() {
        "" if latest => "Always",
        "" => "IfNotPresent",
        given => given,
    };
    let here = node.store.find(&full);
    match (policy, here) {
        ("Never", Some(image)) | ("IfNotPresent", Some(image)) => {
            let text = format!("Container image \"{name}\" already present on machine");
            node.event(pod, field, EventType::Normal, "Pulled", text);
            return Ok(image);
        }
        ("Never", None) => {
            return Err(format!("Container image \"{name}\" is not present with pull policy of Never"));
        }
        _ => {}
    }
    node.event(pod, field, EventType::Normal, "Pulling", format!("Pulling image \"{name}\""));
    let began = std::time::Instant::now();
    let credentials = credentials(node.inputs.as_ref(), &pod.namespace, secrets);
    let image =
        node.puller.pull(name, &credentials, policy == "IfNotPresent").await.map_err(|e| e.to_string())?;
    let text = format!("Successfully pulled image \"{name}\" in {:.3}s", began.elapsed().as_secs_f64());
    node.event(pod, field, EventType::Normal, "Pulled", text);
    Ok(image)
}

/// Users and passwords out of `kubernetes.io/dockerconfigjson` Secrets.
fn credentials(inputs: &dyn Inputs, namespace: &str, secrets: &[String]) -> Credentials {
    let mut found = Credentials::default();
    for name in secrets {
        let Lookup::Found(json) = inputs.secret(namespace, name) else { continue };
        let Ok(secret) = serde_json::from_slice::<weft_api::view::Secret>(&json) else { continue };
        let Some(bytes) = secret.data.get(".dockerconfigjson").and_then(|d| crate::volume::decode_base64(d))
        else {
            continue;
        };
        let config: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        for (registry, entry) in config["auths"].as_object().into_iter().flatten() {
            let text = |key: &str| entry[key].as_str().map(str::to_owned);
            let joined = text("auth")
                .and_then(|a| crate::volume::decode_base64(&a))
                .and_then(|b| String::from_utf8(b).ok());
            let split =
                joined.as_ref().and_then(|j| j.split_once(':')).map(|(u, p)| (u.to_owned(), p.to_owned()));
            let pair = split.or_else(|| Some((text("username")?, text("password")?)));
            let host = registry.trim_start_matches("https://").trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or(host);
            if let Some(pair) = pair {
                found.by_registry.insert(host.to_owned(), pair);
            }
        }
    }
    found
}
