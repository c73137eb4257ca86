//! Who may do what: a table of roles, built in and from a file, in RBAC's words so that its objects can take its place.
//!
//! Nodes beside it: what one may do depends on its own name.

mod role;
mod rule;

use weft_api::status::Status;

use crate::authn::User;
pub(crate) use role::{AUTHENTICATED, Role, UNAUTHENTICATED, parse};
pub(crate) use rule::Rule;

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attributes<'a> {
    /// Objects, or a resource that is none, such as a review.
    Resource {
        verb: &'a str,
        /// Empty: the core group.
        group: &'a str,
        /// The plural, also of what is not served.
        resource: &'a str,
        /// Empty: none.
        subresource: &'a str,
        /// Empty: the whole cluster.
        namespace: &'a str,
        /// Empty: all of them.
        name: &'a str,
    },
    /// Anything else.
    Path { verb: &'a str, path: &'a str },
}

/// The table.
#[derive(Debug)]
pub(crate) struct Authorizer {
    roles: Vec<Role>,
}

impl Authorizer {
    /// What is built in, and these.
    pub(crate) fn new(further: Vec<Role>) -> Self {
        Self { roles: role::built_in().into_iter().chain(further).collect() }
    }

    /// # Errors
    /// 403 in Kubernetes' words.
    pub(crate) fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Result<(), Status> {
        if self.allows(user, attributes) { Ok(()) } else { Err(refusal(user, attributes)) }
    }

    /// Whether `user` may.
    pub(crate) fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        let namespace = match attributes {
            Attributes::Resource { namespace, .. } => namespace,
            Attributes::Path { .. } => "",
        };
        self.rules(user, namespace).any(|rule| rule.allows(attributes))
            || user.node().is_some_and(|node| node_may(node, attributes))
    }

    /// The rules that hold for `user` in a namespace, `""` for the whole cluster; not what it may as a node.
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> impl Iterator<Item = &Rule> {
        self.roles.iter().filter(move |role| role.applies(user, namespace)).flat_map(|role| &role.rules)
    }
}

/// What a node may do over HTTP: read itself, its Lease, and what is public in the cluster. Everything else goes over the link.
fn node_may(node: &str, attributes: &Attributes<'_>) -> bool {
    let Attributes::Resource { verb, group, resource, subresource: "", namespace, name } = *attributes else {
        return false;
    };
    match (group, resource) {
        ("", "nodes") => verb == "get" && name == node,
        ("coordination.k8s.io", "leases") => verb == "get" && namespace == "kube-node-lease" && name == node,
        ("", "services") | ("discovery.k8s.io", "endpointslices") => {
            matches!(verb, "get" | "list" | "watch")
        }
        _ => false,
    }
}

fn refusal(user: &User, attributes: &Attributes<'_>) -> Status {
    let who = &user.name;
    match *attributes {
        Attributes::Path { verb, path } => {
            Status::forbidden_request(format!("forbidden: User \"{who}\" cannot {verb} path \"{path}\""))
        }
        Attributes::Resource { verb, group, resource, subresource, namespace, name } => {
            let part = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
            let place = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace \"{namespace}\"")
            };
            let why = format!(
                "User \"{who}\" cannot {verb} resource \"{resource}{part}\" in API group \"{group}\" {place}"
            );
            Status::forbidden_resource(group, resource, name, &why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        User { name: name.into(), groups, ..User::default() }
    }

    fn asks(verb: &'static str, resource: &'static str, name: &'static str) -> Attributes<'static> {
        Attributes::Resource { verb, group: "", resource, subresource: "", namespace: "", name }
    }

    #[test]
    fn everyone_may_ask_for_life_and_nothing_else() {
        let table = Authorizer::new(Vec::new());
        let path = |path| Attributes::Path { verb: "get", path };
        let nobody = User::anonymous();
        let may = |path: &'static str| table.allows(&nobody, &Attributes::Path { verb: "get", path });
        assert!(may("/readyz") && may("/livez/ping") && may("/version"));
        assert!(!may("/readyzzz") && !may("/api") && !may("/metrics"));
        assert!(!table.allows(&nobody, &asks("create", "selfsubjectreviews", "")));
        let refused = table.authorize(&nobody, &asks("get", "pods", "p")).unwrap_err();
        assert_eq!(
            refused.message,
            "pods \"p\" is forbidden: User \"system:anonymous\" cannot get resource \"pods\" in API group \"\" at the \
             cluster scope"
        );
        let refused = table.authorize(&nobody, &path("/metrics")).unwrap_err();
        assert_eq!(refused.message, "forbidden: User \"system:anonymous\" cannot get path \"/metrics\"");
    }

    #[test]
    fn owners_may_everything() {
        let table = Authorizer::new(Vec::new());
        let owner = user("admin", &["system:masters", "system:authenticated"]);
        assert!(table.allows(&owner, &asks("impersonate", "nothing", "")));
        assert!(table.allows(&owner, &Attributes::Path { verb: "get", path: "/metrics" }));
    }

    #[test]
    fn a_node_sees_itself_and_no_secret() {
        let table = Authorizer::new(Vec::new());
        let node = user("system:node:node-1", &["system:nodes", "system:authenticated"]);
        assert!(table.allows(&node, &asks("get", "nodes", "node-1")));
        assert!(table.allows(&node, &asks("watch", "services", "")));
        for (verb, resource, name) in [
            ("get", "nodes", "node-2"),
            ("delete", "nodes", "node-1"),
            ("get", "secrets", "s"),
            ("update", "services", "s"),
        ] {
            assert!(!table.allows(&node, &asks(verb, resource, name)), "{verb} {resource} {name}");
        }
        let status = Attributes::Resource {
            verb: "get",
            group: "",
            resource: "nodes",
            subresource: "status",
            namespace: "",
            name: "node-1",
        };
        assert!(!table.allows(&node, &status));
    }

    #[test]
    fn a_service_account_looks_around_and_may_what_its_role_says() {
        let account = user(
            "system:serviceaccount:default:default",
            &["system:serviceaccounts", "system:authenticated"],
        );
        let in_default = Attributes::Resource {
            verb: "get",
            group: "",
            resource: "pods",
            subresource: "",
            namespace: "default",
            name: "p",
        };
        let table = Authorizer::new(Vec::new());
        assert!(table.allows(&account, &Attributes::Path { verb: "get", path: "/apis/apps/v1" }));
        assert!(!table.allows(&account, &in_default));
        let file = "[{ subjects: [{ kind: ServiceAccount, namespace: default, name: default }], namespaces: [default],
            rules: [{ apiGroups: [''], resources: [pods], verbs: [get] }] }]";
        let table = Authorizer::new(parse(file).unwrap());
        assert!(table.allows(&account, &in_default));
        assert!(!table.allows(&account, &asks("get", "pods", "p")), "not in the whole cluster");
        assert_eq!(table.rules(&account, "default").filter(|rule| rule.resources == ["pods"]).count(), 1);
        assert_eq!(table.rules(&account, "").filter(|rule| rule.resources == ["pods"]).count(), 0);
    }
}
