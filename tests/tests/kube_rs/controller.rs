//! The controller: keeps a ConfigMap beside every Deployment that asks for one, with its image and who copied it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};

pub(crate) const FINALIZER: &str = "weft.test/copied";
/// The ConfigMap that tells which Deployments were cleaned up after, and by whom.
pub(crate) const CLEANED: &str = "cleaned";

struct Context {
    configmaps: Api<ConfigMap>,
    deployments: Api<Deployment>,
    identity: String,
}

/// Runs until `lost` is true.
pub(crate) async fn run(
    client: &Client,
    identity: &str,
    lost: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let configmaps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    // Both ways to begin: a list and a watch from there, and a watch that has the list in it.
    let wanted = watcher::Config::default().labels("copied=yes").streaming_lists();
    let context = Context {
        configmaps: configmaps.clone(),
        deployments: deployments.clone(),
        identity: identity.to_owned(),
    };
    Controller::new(deployments, wanted)
        .owns(configmaps, watcher::Config::default())
        .graceful_shutdown_on(lost)
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(200)), Arc::new(context))
        .for_each(|done| async move {
            // While the server is away there are errors; the runtime goes on.
            if let Err(error) = done {
                eprintln!("controller: {error}: {:?}", std::error::Error::source(&error));
            }
        })
        .await;
}

async fn reconcile(
    deployment: Arc<Deployment>,
    context: Arc<Context>,
) -> Result<Action, finalizer::Error<kube::Error>> {
    finalizer(&context.deployments, FINALIZER, deployment, |event| async {
        match event {
            Event::Apply(deployment) => context.copy(&deployment).await,
            Event::Cleanup(deployment) => context.clean(&deployment).await,
        }
    })
    .await
}

impl Context {
    async fn copy(&self, deployment: &Deployment) -> Result<Action, kube::Error> {
        let template = deployment.spec.template.spec.as_ref();
        let image = template.and_then(|spec| spec.containers.first()?.image.clone()).unwrap_or_default();
        let owner = deployment.controller_owner_ref(&()).into_iter().collect();
        let data = [("image".to_owned(), image), ("by".to_owned(), self.identity.clone())];
        self.apply(&deployment.name_any(), owner, BTreeMap::from(data), "copier").await
    }

    async fn clean(&self, deployment: &Deployment) -> Result<Action, kube::Error> {
        let data = BTreeMap::from([(deployment.name_any(), self.identity.clone())]);
        self.apply(CLEANED, Vec::new(), data, "cleaner").await
    }

    async fn apply(
        &self,
        name: &str,
        owners: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>,
        data: BTreeMap<String, String>,
        manager: &str,
    ) -> Result<Action, kube::Error> {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: (!owners.is_empty()).then_some(owners),
            ..ObjectMeta::default()
        };
        let configmap = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        let params = PatchParams::apply(manager).force();
        self.configmaps.patch(name, &params, &Patch::Apply(&configmap)).await?;
        Ok(Action::await_change())
    }
}
