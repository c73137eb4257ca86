//! Who may do what: a plain table, to be replaced by RBAC.
//!
//! Masters may do everything, a node what concerns that node, anyone known may look around (discovery, version, reviews of
//! oneself), anyone at all may ask whether the server lives.

use weft_api::kind::{self, Kind};
use weft_api::status::Status;

use crate::authn::User;

/// What a request is about.
#[derive(Clone, Debug)]
pub(crate) enum Attributes<'a> {
    /// Objects.
    Resource {
        verb: &'static str,
        kind: &'static Kind,
        /// Empty: none.
        subresource: &'a str,
        /// Empty: the whole cluster.
        namespace: &'a str,
        /// Empty: all of them.
        name: &'a str,
    },
    /// A virtual resource, such as a review of oneself.
    Review,
    /// Anything else.
    Path { verb: &'static str, path: &'a str },
}

/// Paths open to everyone.
const OPEN_PATHS: &[&str] = &["/livez", "/readyz", "/healthz", "/version"];

/// # Errors
/// 403 in Kubernetes' words.
pub(crate) fn authorize(user: &User, attributes: &Attributes<'_>) -> Result<(), Status> {
    if allows(user, attributes) { Ok(()) } else { Err(refusal(user, attributes)) }
}

/// Whether `user` may.
pub(crate) fn allows(user: &User, attributes: &Attributes<'_>) -> bool {
    if user.is_in("system:masters") {
        return true;
    }
    let known = user.is_in("system:authenticated");
    match attributes {
        Attributes::Review => known,
        Attributes::Path { verb, path } => {
            let open = OPEN_PATHS
                .iter()
                .any(|p| path == p || path.strip_prefix(p).is_some_and(|r| r.starts_with('/')));
            let discovery = ["/api", "/apis", "/openapi"]
                .iter()
                .any(|p| path == p || path.strip_prefix(p).is_some_and(|r| r.starts_with('/')));
            *verb == "get" && (open || (known && discovery))
        }
        Attributes::Resource { verb, kind, subresource, namespace, name } => {
            user.node().is_some_and(|node| node_may(node, verb, kind, subresource, namespace, name))
        }
    }
}

/// What a node may do over HTTP: read itself, its Lease, and what is public in the cluster. Everything else goes over the link.
fn node_may(node: &str, verb: &str, kind: &Kind, subresource: &str, namespace: &str, name: &str) -> bool {
    let reads = matches!(verb, "get" | "list" | "watch") && subresource.is_empty();
    if *kind == kind::NODE {
        return verb == "get" && subresource.is_empty() && name == node;
    }
    if *kind == kind::LEASE {
        return namespace == "kube-node-lease" && name == node && verb == "get";
    }
    reads && (*kind == kind::SERVICE || *kind == kind::ENDPOINT_SLICE)
}

fn refusal(user: &User, attributes: &Attributes<'_>) -> Status {
    let who = &user.name;
    match attributes {
        Attributes::Review => {
            Status::forbidden_request(format!("forbidden: User \"{who}\" cannot create reviews"))
        }
        Attributes::Path { verb, path } => {
            Status::forbidden_request(format!("forbidden: User \"{who}\" cannot {verb} path \"{path}\""))
        }
        Attributes::Resource { verb, kind, subresource, namespace, name } => {
            let resource = if subresource.is_empty() {
                kind.plural.to_owned()
            } else {
                format!("{}/{subresource}", kind.plural)
            };
            let place = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace \"{namespace}\"")
            };
            let why = format!(
                "User \"{who}\" cannot {verb} resource \"{resource}\" in API group \"{}\" {place}",
                kind.group
            );
            Status::forbidden(kind, name, &why)
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

    fn get(kind: &'static Kind, name: &'static str) -> Attributes<'static> {
        Attributes::Resource { verb: "get", kind, subresource: "", namespace: "", name }
    }

    #[test]
    fn everyone_may_ask_for_life_and_nothing_else() {
        let path = |path| Attributes::Path { verb: "get", path };
        let nobody = User::anonymous();
        assert!(allows(&nobody, &path("/readyz")));
        assert!(allows(&nobody, &path("/livez/ping")));
        assert!(!allows(&nobody, &path("/readyzzz")));
        assert!(!allows(&nobody, &path("/api")));
        assert!(!allows(&nobody, &path("/metrics")));
        assert!(!allows(&nobody, &Attributes::Review));
        assert!(!allows(&nobody, &get(&kind::POD, "p")));
        let refused = authorize(&nobody, &get(&kind::POD, "p")).unwrap_err();
        assert_eq!(
            refused.message,
            "pods \"p\" is forbidden: User \"system:anonymous\" cannot get resource \"pods\" in API group \"\" at the \
             cluster scope"
        );
    }

    #[test]
    fn a_node_sees_itself_and_no_secret() {
        let node = user("system:node:node-1", &["system:nodes", "system:authenticated"]);
        assert!(allows(&node, &get(&kind::NODE, "node-1")));
        assert!(!allows(&node, &get(&kind::NODE, "node-2")));
        assert!(!allows(&node, &get(&kind::SECRET, "s")));
        let delete = Attributes::Resource {
            verb: "delete",
            kind: &kind::NODE,
            subresource: "",
            namespace: "",
            name: "node-1",
        };
        assert!(!allows(&node, &delete));
    }

    #[test]
    fn a_service_account_looks_around_only() {
        let account = user(
            "system:serviceaccount:default:default",
            &["system:serviceaccounts", "system:authenticated"],
        );
        assert!(allows(&account, &Attributes::Path { verb: "get", path: "/apis/apps/v1" }));
        assert!(allows(&account, &Attributes::Review));
        assert!(!allows(&account, &get(&kind::POD, "p")));
    }
}
