//! A rule: verbs on resources or on paths, in the words and with the meaning of RBAC's `PolicyRule`.

use serde::{Deserialize, Serialize};

use super::Attributes;

/// Everything of its kind, in any list of a rule.
pub(crate) const ALL: &str = "*";

/// What may be done: with resources, or with paths that are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    /// `""` is the core group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    /// Plurals; `pods/log` is a part of it, `*/scale` that of every resource.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    /// Names of objects; none: all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    /// Paths, also with a `*` at the end.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) paths: Vec<String>,
}

impl Rule {
    /// A rule about paths.
    pub(crate) fn of_paths(verb: &str, paths: &[&str]) -> Self {
        Self { verbs: vec![verb.to_owned()], paths: owned(paths), ..Self::default() }
    }

    /// A rule about every object of some resources of a group.
    pub(crate) fn of_resources(verb: &str, group: &str, resources: &[&str]) -> Self {
        Self {
            verbs: vec![verb.to_owned()],
            api_groups: vec![group.to_owned()],
            resources: owned(resources),
            ..Self::default()
        }
    }

    /// Whether it allows this.
    pub(crate) fn allows(&self, attributes: &Attributes<'_>) -> bool {
        match attributes {
            Attributes::Path { verb, path } => {
                any(&self.verbs, verb)
                    && self.paths.iter().any(|allowed| match allowed.strip_suffix('*') {
                        Some(start) => path.starts_with(start),
                        None => path == allowed,
                    })
            }
            Attributes::Resource { verb, group, resource, subresource, name, .. } => {
                any(&self.verbs, verb)
                    && any(&self.api_groups, group)
                    && self.resources.iter().any(|allowed| is_resource(allowed, resource, subresource))
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == name))
            }
        }
    }

    /// Why nobody could mean it; none if it is well formed.
    pub(crate) fn flaw(&self, in_namespaces: bool) -> Option<&'static str> {
        let about_resources = !self.api_groups.is_empty() || !self.resources.is_empty();
        if self.verbs.is_empty() {
            Some("verbs: there must be one")
        } else if !self.paths.is_empty() && about_resources {
            Some("a rule is about resources or about nonResourceURLs, not about both")
        } else if !self.paths.is_empty() && in_namespaces {
            Some("nonResourceURLs lie in no namespace")
        } else if self.paths.is_empty() && (self.api_groups.is_empty() || self.resources.is_empty()) {
            Some("apiGroups and resources (or nonResourceURLs): there must be one of each")
        } else {
            None
        }
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn any(allowed: &[String], asked: &str) -> bool {
    allowed.iter().any(|a| a == ALL || a == asked)
}

fn is_resource(allowed: &str, resource: &str, subresource: &str) -> bool {
    if allowed == ALL {
        return true;
    }
    match allowed.split_once('/') {
        None => subresource.is_empty() && allowed == resource,
        Some((of, part)) => part == subresource && (of == ALL || of == resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(verb: &'static str, what: &'static str, name: &'static str) -> Attributes<'static> {
        let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
        Attributes::Resource { verb, group: "apps", resource, subresource, namespace: "d", name }
    }

    #[test]
    fn resources_and_their_parts() {
        let rule = Rule::of_resources("get", "apps", &["deployments", "replicasets/status", "*/scale"]);
        assert!(rule.allows(&asks("get", "deployments", "a")));
        assert!(rule.allows(&asks("get", "replicasets/status", "a")));
        assert!(rule.allows(&asks("get", "statefulsets/scale", "a")));
        for (verb, what) in [
            ("update", "deployments"),
            ("get", "deployments/status"),
            ("get", "replicasets"),
            ("get", "statefulsets"),
        ] {
            assert!(!rule.allows(&asks(verb, what, "a")), "{verb} {what}");
        }
        assert!(!Rule::of_resources("get", "batch", &["*"]).allows(&asks("get", "deployments", "a")));
        assert!(Rule::of_resources("*", "*", &["*"]).allows(&asks("escalate", "deployments/status", "")));
        assert!(!rule.allows(&Attributes::Path { verb: "get", path: "deployments" }));
    }

    #[test]
    fn names_narrow_and_a_list_has_none() {
        let mut rule = Rule::of_resources("*", "apps", &["deployments"]);
        rule.resource_names = vec!["web".into()];
        assert!(rule.allows(&asks("delete", "deployments", "web")));
        assert!(!rule.allows(&asks("delete", "deployments", "db")));
        assert!(!rule.allows(&asks("list", "deployments", "")));
    }

    #[test]
    fn paths_whole_or_by_their_start() {
        let rule = Rule::of_paths("get", &["/metrics", "/apis/*"]);
        let path = |verb, path| Attributes::Path { verb, path };
        assert!(rule.allows(&path("get", "/metrics")));
        assert!(rule.allows(&path("get", "/apis/apps/v1")));
        assert!(!rule.allows(&path("get", "/metrics/more")));
        assert!(!rule.allows(&path("get", "/apis")));
        assert!(!rule.allows(&path("create", "/metrics")));
        assert!(Rule::of_paths("get", &["*"]).allows(&path("get", "/anything")));
    }

    #[test]
    fn flaws() {
        let of = Rule::of_resources;
        assert_eq!(of("get", "apps", &["deployments"]).flaw(true), None);
        assert_eq!(Rule::of_paths("get", &["/metrics"]).flaw(false), None);
        assert!(Rule::of_paths("get", &["/metrics"]).flaw(true).is_some());
        assert!(Rule::default().flaw(false).is_some());
        assert!(of("get", "apps", &[]).flaw(false).is_some());
        assert!(Rule { paths: vec!["/metrics".into()], ..of("get", "apps", &["*"]) }.flaw(false).is_some());
        assert!(Rule { verbs: Vec::new(), ..of("get", "apps", &["*"]) }.flaw(false).is_some());
    }
}
