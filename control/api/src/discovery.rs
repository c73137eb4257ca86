//! Discovery documents: which groups, versions, resources and verbs are served, made from the kinds table.

use serde_json::{Map, Value, json};

use crate::kind::{Kind, Subresource, served};
use crate::review::{REVIEWS, Review};

/// The two roots of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/api`: the core group.
    Core,
    /// `/apis`: every other group.
    Groups,
}

/// Versions of the aggregated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregatedVersion {
    /// `apidiscovery.k8s.io/v2`.
    V2,
    /// `apidiscovery.k8s.io/v2beta1`, for clients of 1.26 to 1.29.
    V2Beta1,
}

impl AggregatedVersion {
    /// The version's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }

    /// The media type of the answer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        }
    }

    /// The first aggregated form that an `Accept` header asks for, if it does.
    pub fn from_accept(accept: &str) -> Option<Self> {
        accept.split(',').find_map(|range| {
            let parts: Vec<&str> = range.split(';').map(str::trim).collect();
            if !parts.contains(&"as=APIGroupDiscoveryList") || !parts.contains(&"g=apidiscovery.k8s.io") {
                return None;
            }
            [Self::V2, Self::V2Beta1]
                .into_iter()
                .find(|v| parts.contains(&format!("v={}", v.as_str()).as_str()))
        })
    }
}

/// What may be done with a subresource, and the group, version and kind it speaks.
pub(crate) fn subresource(
    kind: &Kind,
    subresource: Subresource,
) -> (&'static [&'static str], (String, String, String)) {
    let own = || (kind.group.to_owned(), kind.version.to_owned(), kind.kind.to_owned());
    let core = |name: &str| (String::new(), "v1".to_owned(), name.to_owned());
    let of = |group: &str, name: &str| (group.to_owned(), "v1".to_owned(), name.to_owned());
    match subresource {
        Subresource::Status | Subresource::Approval => (&["get", "patch", "update"], own()),
        Subresource::Scale => (&["get", "patch", "update"], of("autoscaling", "Scale")),
        Subresource::Binding => (&["create"], core("Binding")),
        Subresource::Log => (&["get"], own()),
        Subresource::Exec => (&["create", "get"], core("PodExecOptions")),
        Subresource::Attach => (&["create", "get"], core("PodAttachOptions")),
        Subresource::PortForward => (&["create", "get"], core("PodPortForwardOptions")),
        Subresource::Proxy => {
            let name = format!("{}ProxyOptions", kind.kind);
            (&["create", "delete", "get", "patch", "update"], core(&name))
        }
        Subresource::Token => (&["create"], of("authentication.k8s.io", "TokenRequest")),
        Subresource::Finalize => (&["update"], own()),
        Subresource::Eviction => (&["create"], of("policy", "Eviction")),
        Subresource::EphemeralContainers | Subresource::Resize => (&["get", "patch", "update"], own()),
    }
}

/// Every served group and version, in the order of the kinds table, then those of reviews.
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut out = Vec::new();
    let reviews = REVIEWS.iter().map(|r| (r.group, r.version));
    for served in served().map(|k| (k.group, k.version)).chain(reviews) {
        if !out.contains(&served) {
            out.push(served);
        }
    }
    out
}

/// The aggregated document of one root.
pub fn aggregated(root: Root, version: AggregatedVersion) -> Value {
    let mut items: Vec<Value> = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for (group, _) in group_versions() {
        if group.is_empty() != (root == Root::Core) || done.contains(&group) {
            continue;
        }
        done.push(group);
        let versions: Vec<Value> = group_versions()
            .into_iter()
            .filter(|(g, _)| *g == group)
            .map(|(group, version)| {
                let reviews = reviews_of(group, version).map(aggregated_review);
                let resources: Vec<Value> =
                    kinds_of(group, version).map(aggregated_resource).chain(reviews).collect();
                json!({"version": version, "resources": resources, "freshness": "Current"})
            })
            .collect();
        let mut metadata = Map::new();
        if !group.is_empty() {
            metadata.insert("name".into(), group.into());
        }
        metadata.insert("creationTimestamp".into(), Value::Null);
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{}", version.as_str()),
        "metadata": {},
        "items": items,
    })
}

fn kinds_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Kind> + 'a {
    served().filter(move |k| k.group == group && k.version == version)
}

fn reviews_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Review> + 'a {
    REVIEWS.iter().copied().filter(move |r| r.group == group && r.version == version)
}

fn aggregated_review(review: &'static Review) -> Value {
    json!({
        "resource": review.plural,
        "responseKind": {"group": review.group, "version": review.version, "kind": review.kind},
        "scope": if review.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": review.singular,
        "verbs": ["create"],
    })
}

fn aggregated_resource(kind: &'static Kind) -> Value {
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|s| {
            let (verbs, (group, version, name)) = subresource(kind, *s);
            json!({
                "subresource": s.as_str(),
                "responseKind": {"group": group, "version": version, "kind": name},
                "verbs": verbs,
            })
        })
        .collect();
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

/// The legacy document of `/api`; `server_address` is `host:port` as clients reach it.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// The legacy document of `/apis`.
pub fn group_list() -> Value {
    let mut groups: Vec<&str> = Vec::new();
    for (group, _) in group_versions() {
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    let groups: Vec<Value> = groups.into_iter().map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// The legacy document of `/apis/<group>`, if the group is served.
pub fn group(group: &str) -> Option<Value> {
    if group.is_empty() || !group_versions().iter().any(|(served, _)| *served == group) {
        return None;
    }
    let mut document = group_entry(group);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

fn group_entry(group: &str) -> Value {
    let versions: Vec<Value> = group_versions()
        .into_iter()
        .filter(|(g, _)| *g == group)
        .map(|(group, version)| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    let preferred = versions.first().cloned();
    json!({"name": group, "versions": versions, "preferredVersion": preferred})
}

/// The legacy document of `/api/v1` or `/apis/<group>/<version>`, if it is served.
pub fn resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in kinds_of(group, version) {
        let mut resource = json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": kind.verbs,
        });
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            resource["categories"] = json!(kind.categories);
        }
        resources.push(resource);
        for s in kind.subresources {
            let (verbs, (group, version, name)) = subresource(kind, *s);
            let mut resource = json!({
                "name": format!("{}/{}", kind.plural, s.as_str()),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": name,
                "verbs": verbs,
            });
            if group != kind.group {
                resource["group"] = group.into();
                resource["version"] = version.into();
            }
            resources.push(resource);
        }
    }
    resources.extend(reviews_of(group, version).map(|review| {
        json!({
            "name": review.plural,
            "singularName": review.singular,
            "namespaced": review.namespaced,
            "kind": review.kind,
            "verbs": ["create"],
        })
    }));
    if resources.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregated_names_every_kind_once() {
        let core = aggregated(Root::Core, AggregatedVersion::V2);
        let groups = aggregated(Root::Groups, AggregatedVersion::V2Beta1);
        assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2");
        assert_eq!(groups["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        let count = |document: &Value| -> usize {
            let items = document["items"].as_array().unwrap();
            let versions = items.iter().flat_map(|g| g["versions"].as_array().unwrap());
            versions.map(|v| v["resources"].as_array().unwrap().len()).sum()
        };
        assert_eq!(count(&core) + count(&groups), served().count() + REVIEWS.len());
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        assert!(core["items"][0]["metadata"].get("name").is_none());
        assert_eq!(groups["items"][0]["metadata"]["name"], "apps");
        let deployments = &groups["items"][0]["versions"][0]["resources"][0];
        assert_eq!(deployments["shortNames"], json!(["deploy"]));
        assert_eq!(deployments["subresources"][1]["responseKind"]["kind"], "Scale");
    }

    #[test]
    fn legacy_documents() {
        assert_eq!(api_versions("h:1")["versions"], json!(["v1"]));
        assert_eq!(group_list()["groups"][0]["preferredVersion"]["groupVersion"], "apps/v1");
        assert_eq!(group("apps").unwrap()["kind"], "APIGroup");
        let scaling = group("autoscaling").unwrap();
        let versions: Vec<&str> =
            scaling["versions"].as_array().unwrap().iter().filter_map(|v| v["version"].as_str()).collect();
        assert_eq!((versions, &scaling["preferredVersion"]["version"]), (vec!["v2", "v1"], &json!("v2")));
        assert_eq!(group("authorization.k8s.io").unwrap()["preferredVersion"]["version"], "v1");
        let reviews = resource_list("authentication.k8s.io", "v1").unwrap();
        assert_eq!(reviews["resources"][1]["name"], "tokenreviews");
        assert!(group("nope").is_none() && group("").is_none() && resource_list("apps", "v2").is_none());
        let core = resource_list("", "v1").unwrap();
        assert_eq!(core["groupVersion"], "v1");
        let names: Vec<&str> =
            core["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
        assert!(
            names.contains(&"pods")
                && names.contains(&"pods/exec")
                && names.contains(&"serviceaccounts/token")
        );
    }

    #[test]
    fn accept() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(AggregatedVersion::from_accept(kubectl), Some(AggregatedVersion::V2));
        let older =
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(AggregatedVersion::from_accept(older), Some(AggregatedVersion::V2Beta1));
        assert_eq!(AggregatedVersion::from_accept("application/json, */*"), None);
    }
}
