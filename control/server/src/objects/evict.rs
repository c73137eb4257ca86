//! Evicting a Pod: a delete that asks the Pod's disruption budget first.

use serde_json::{Map, Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Subresource};
use weft_api::selector::Selector;
use weft_api::status::Status;
use weft_api::view::LabelSelector;

use super::delete::DeleteOptions;
use super::update::Target;
use super::{Objects, Preconditions, TRIES_MAX, WriteOptions, into_map};
use crate::cache::Cached;
use crate::clock;

/// Pods that were evicted and that the budget's controller has not yet seen go, at most.
const DISRUPTED_MAX: usize = 2_000;
/// When to ask again, seconds.
const RETRY_SECONDS: u32 = 10;

impl Objects {
    /// Deletes a Pod if its budget has a disruption left, or has nothing to say of it: a Pod that has ended, that does not run yet
    /// or goes already, or one that is not healthy and whose budget lets those go.
    ///
    /// # Errors
    /// 404; 409 for preconditions; 429 while the budget has none left, with the budget's name; 500 for a Pod with two budgets.
    pub(crate) async fn evict(&self, key: &ObjectKey, options: &DeleteOptions) -> Result<(), Status> {
        for _ in 0..TRIES_MAX {
            let cached = self.get(&kind::POD, key)?;
            options.preconditions.check(&cached)?;
            let pod: Value = cached.object.view().map_err(Status::internal)?;
            let budget = if is_disruption(&pod) { self.budget_of(&cached)? } else { None };
            let meta = &cached.object.meta;
            let mut deletes = options.clone();
            deletes.preconditions.uid = Some(meta.uid.clone());
            match budget {
                Some((name, budget)) if !lets_go_unhealthy(&budget, &pod) => {
                    self.spend(&name, &key.name, options.dry_run).await?;
                }
                // It was let go for what it was.
                _ => deletes.preconditions.resource_version = Some(meta.resource_version.clone()),
            }
            match self.delete(&kind::POD, key, &deletes).await {
                Err(status) if status.code == 409 && options.preconditions.resource_version.is_none() => {}
                other => return other.map(drop),
            }
        }
        Err(Status::conflict(&kind::POD, &key.name))
    }

    /// The budget that a Pod falls under.
    fn budget_of(&self, pod: &Cached) -> Result<Option<(ObjectKey, Value)>, Status> {
        let meta = &pod.object.meta;
        let (budgets, _) = self.cache.list(&kind::POD_DISRUPTION_BUDGET, Some(&meta.namespace));
        let mut found = None;
        for cached in budgets {
            let budget: Value = cached.object.view().map_err(Status::internal)?;
            let selector = &budget["spec"]["selector"];
            // None selects nothing, an empty one everything.
            let Ok(selector) = serde_json::from_value::<LabelSelector>(selector.clone()) else { continue };
            if !Selector::from_label_selector(&selector).is_ok_and(|s| s.matches(&meta.labels)) {
                continue;
            }
            if found.is_some() {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
            found = Some((cached.object.key(), budget));
        }
        Ok(found)
    }

    /// Takes one disruption from a budget.
    async fn spend(&self, budget: &ObjectKey, pod: &str, dry_run: bool) -> Result<(), Status> {
        let target = Target {
            kind: &kind::POD_DISRUPTION_BUDGET,
            key: budget,
            subresource: Some(Subresource::Status),
            preconditions: Preconditions::default(),
        };
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        let now = clock::seconds(clock::now());
        let spent = self.update(&target, &options, |current| spent(current, pod, &now)).await;
        spent.map(drop)
    }
}

/// Whether it takes anything from anybody that this Pod goes.
fn is_disruption(pod: &Value) -> bool {
    !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
        && !pod["metadata"]["deletionTimestamp"].is_string()
}

/// Whether a Pod is not ready, and its budget lets such go.
fn lets_go_unhealthy(budget: &Value, pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let is_ready = conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let count = |key: &str| budget["status"][key].as_i64().unwrap_or(0);
    let is_healthy = count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
    !is_ready && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || is_healthy)
}

/// The budget with one disruption less.
fn spent(current: &Map<String, Value>, pod: &str, now: &str) -> Result<Map<String, Value>, Status> {
    let mut budget = Value::Object(current.clone());
    let name = budget["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let count = |key: &str| budget["status"][key].as_i64().unwrap_or(0);
    let refused = |message: &str, why: String| {
        Err(Status::too_many_requests(message, RETRY_SECONDS).caused("DisruptionBudget", why))
    };
    if count("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return refused("Cannot evict pod as it would violate the pod's disruption budget.", why);
    }
    let forbidden = |why: &str| Err(Status::forbidden(&kind::POD_DISRUPTION_BUDGET, &name, why));
    let allowed = count("disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if budget["status"]["disruptedPods"].as_object().is_some_and(|pods| pods.len() > DISRUPTED_MAX) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy")
        );
        return refused("Cannot evict pod as it would violate the pod's disruption budget.", why);
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    if allowed == 1 {
        let generation = budget["metadata"]["generation"].clone();
        let exhausted = json!({ "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
            "message": "", "lastTransitionTime": now, "observedGeneration": generation });
        match budget["status"]["conditions"].as_array_mut() {
            Some(conditions) => {
                conditions.retain(|c| c["type"] != "DisruptionAllowed");
                conditions.push(exhausted);
            }
            None => budget["status"]["conditions"] = json!([exhausted]),
        }
    }
    budget["status"]["disruptedPods"][pod] = now.into();
    into_map(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2027-01-15T08:00:00Z";

    fn budget(status: &Value) -> Map<String, Value> {
        let budget = json!({ "metadata": { "name": "b", "generation": 2 }, "spec": {}, "status": status });
        budget.as_object().unwrap().clone()
    }

    #[test]
    fn a_budget_is_spent_once_for_each_pod() {
        let two = budget(&json!({ "observedGeneration": 2, "disruptionsAllowed": 2 }));
        let one = spent(&two, "p", NOW).unwrap();
        assert_eq!(one["status"]["disruptionsAllowed"], 1);
        assert_eq!(one["status"]["disruptedPods"]["p"], NOW);
        assert!(one["status"].get("conditions").is_none());
        let none = spent(&one, "q", NOW).unwrap();
        assert_eq!(none["status"]["conditions"][0]["reason"], "InsufficientPods");
        let refused = spent(&none, "r", NOW).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_seconds()), (429, Some(RETRY_SECONDS)));
        assert_eq!(refused.details.unwrap().causes[0].reason, "DisruptionBudget");
    }

    #[test]
    fn a_budget_that_nobody_has_looked_at_lets_nothing_go() {
        let old = budget(&json!({ "observedGeneration": 1, "disruptionsAllowed": 2 }));
        assert_eq!(spent(&old, "p", NOW).unwrap_err().code, 429);
        let negative = budget(&json!({ "observedGeneration": 2, "disruptionsAllowed": -1 }));
        assert_eq!(spent(&negative, "p", NOW).unwrap_err().code, 403);
        let pods: Map<String, Value> = (0..=DISRUPTED_MAX).map(|n| (n.to_string(), NOW.into())).collect();
        let full =
            budget(&json!({ "observedGeneration": 2, "disruptionsAllowed": 1, "disruptedPods": pods }));
        assert_eq!(spent(&full, "p", NOW).unwrap_err().code, 403);
    }

    #[test]
    fn who_is_not_ready_goes_by_the_budgets_policy() {
        let unready = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "False" }] } });
        let ready = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
        let of = |policy: &str, healthy: i64| {
            json!({ "spec": { "unhealthyPodEvictionPolicy": policy },
                "status": { "currentHealthy": healthy, "desiredHealthy": 2 } })
        };
        assert!(lets_go_unhealthy(&of("AlwaysAllow", 0), &unready));
        assert!(lets_go_unhealthy(&of("IfHealthyBudget", 2), &unready));
        assert!(!lets_go_unhealthy(&of("IfHealthyBudget", 1), &unready));
        assert!(!lets_go_unhealthy(&of("AlwaysAllow", 2), &ready));
        assert!(is_disruption(&ready));
        assert!(!is_disruption(&json!({ "status": { "phase": "Pending" } })));
        assert!(!is_disruption(
            &json!({ "metadata": { "deletionTimestamp": NOW }, "status": { "phase": "Running" } })
        ));
    }
}
