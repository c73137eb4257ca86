//! Paths: what a URL names.

use http::Method;
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind, Subresource};
use weft_api::review::{self, Review};
use weft_api::status::Status;

use super::query::{self, Query};

/// What a path is about.
#[derive(Debug, PartialEq)]
pub(crate) enum Route {
    /// Objects of a served kind.
    Resource(ResourceRoute),
    /// A question.
    Review(ReviewRoute),
    /// Discovery, health, version, metrics, or nothing.
    Other,
}

/// A question that is answered and not stored.
#[derive(Debug, PartialEq)]
pub(crate) struct ReviewRoute {
    pub(crate) review: &'static Review,
    /// Empty for questions that are asked in no namespace.
    pub(crate) namespace: String,
}

/// Objects of a kind: all, those of a namespace, one, or a part of one.
#[derive(Debug, PartialEq)]
pub(crate) struct ResourceRoute {
    /// The kind that the objects are stored as.
    pub(crate) kind: &'static Kind,
    /// The kind that the path names: the same, or a dialect of it.
    pub(crate) served: &'static Kind,
    /// Empty parts: not named.
    pub(crate) key: ObjectKey,
    pub(crate) subresource: Option<Subresource>,
    /// What follows `proxy`, as it stood in the URL.
    pub(crate) rest: String,
}

impl ResourceRoute {
    /// What the method does here.
    pub(crate) fn verb(&self, method: &Method, query: &Query) -> Option<&'static str> {
        let named = !self.key.name.is_empty();
        let streams = matches!(
            self.subresource,
            Some(Subresource::Exec | Subresource::Attach | Subresource::PortForward)
        );
        if streams && (*method == Method::GET || *method == Method::POST) {
            return Some("create");
        }
        let in_namespace = !self.kind.namespaced || !self.key.namespace.is_empty();
        match *method {
            Method::GET if query.flag("watch") && self.subresource.is_none() => Some("watch"),
            Method::GET | Method::HEAD if named => Some("get"),
            Method::GET => Some("list"),
            Method::POST if named && self.subresource.is_some() => Some("create"),
            Method::POST if !named && in_namespace => Some("create"),
            Method::PUT if named => Some("update"),
            Method::PATCH if named => Some("patch"),
            Method::DELETE if named => Some("delete"),
            Method::DELETE if in_namespace => Some("deletecollection"),
            _ => None,
        }
    }
}

/// Reads a path.
///
/// # Errors
/// 404 for a kind or subresource that is not served.
pub(crate) fn parse(path: &str) -> Result<Route, Status> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Ok(Route::Other),
    };
    if matches!(rest, [] | [""]) {
        return Ok(Route::Other);
    }
    // `namespaces/NAME/status` is a part of the Namespace, `namespaces/NAME/pods` a resource in it.
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..]
            if !(group.is_empty() && matches!(*plural, "status" | "finalize" | "")) =>
        {
            (query::decode(namespace, false), [&[*plural], rest].concat())
        }
        other => (String::new(), other.to_vec()),
    };
    let plural = rest.first().copied().unwrap_or("");
    if let Some(review) = review::by_resource(group, version, plural) {
        if rest.len() > 1 || review.namespaced == namespace.is_empty() {
            return Err(Status::path_not_found());
        }
        return Ok(Route::Review(ReviewRoute { review, namespace }));
    }
    let served = kind::by_resource(group, version, plural).ok_or_else(Status::path_not_found)?;
    let kind = served.stored();
    if !kind.namespaced && !namespace.is_empty() {
        return Err(Status::path_not_found());
    }
    let name = rest.get(1).map(|n| query::decode(n, false)).unwrap_or_default();
    let subresource = match rest.get(2) {
        None | Some(&"") => None,
        Some(text) => {
            let found = Subresource::parse(text).filter(|s| served.serves(*s));
            Some(found.ok_or_else(Status::path_not_found)?)
        }
    };
    if rest.len() > 3 && subresource != Some(Subresource::Proxy) {
        return Err(Status::path_not_found());
    }
    if kind.namespaced && namespace.is_empty() && !name.is_empty() {
        return Err(Status::path_not_found());
    }
    let rest = rest.get(3..).map(|r| r.join("/")).unwrap_or_default();
    Ok(Route::Resource(ResourceRoute {
        kind,
        served,
        key: ObjectKey::namespaced(namespace, name),
        subresource,
        rest,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> ResourceRoute {
        match parse(path) {
            Ok(Route::Resource(route)) => route,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn objects_and_their_parts() {
        assert_eq!(resource("/api/v1/pods").key, ObjectKey::cluster(""));
        let pod = resource("/api/v1/namespaces/default/pods/web/log");
        assert_eq!((pod.kind, pod.subresource), (&kind::POD, Some(Subresource::Log)));
        assert_eq!(pod.key, ObjectKey::namespaced("default", "web"));
        assert_eq!(resource("/api/v1/namespaces/default").kind, &kind::NAMESPACE);
        let finalize = resource("/api/v1/namespaces/default/finalize");
        assert_eq!((finalize.kind, finalize.subresource), (&kind::NAMESPACE, Some(Subresource::Finalize)));
        let proxy = resource("/api/v1/nodes/n1/proxy/agent/v1/trace");
        assert_eq!(proxy.rest, "agent/v1/trace");
        assert_eq!(resource("/apis/apps/v1/namespaces/d/deployments/web/scale").key.name, "web");
        let event = resource("/apis/events.k8s.io/v1/namespaces/d/events/e");
        assert_eq!((event.kind, event.served), (&kind::EVENT, &kind::EVENTS_EVENT));
        let event = resource("/api/v1/namespaces/d/events/e");
        assert_eq!((event.kind, event.served), (&kind::EVENT, &kind::EVENT));
    }

    #[test]
    fn questions() {
        let asked = |path: &str| match parse(path) {
            Ok(Route::Review(route)) => route,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(asked("/apis/authentication.k8s.io/v1/tokenreviews").review, &review::TOKEN);
        let local = asked("/apis/authorization.k8s.io/v1/namespaces/d/localsubjectaccessreviews");
        assert_eq!((local.review, local.namespace.as_str()), (&review::LOCAL_SUBJECT_ACCESS, "d"));
    }

    #[test]
    fn what_is_not_served() {
        for path in [
            "/apis/authorization.k8s.io/v1/localsubjectaccessreviews",
            "/apis/authorization.k8s.io/v1/namespaces/d/subjectaccessreviews",
            "/apis/authentication.k8s.io/v1/tokenreviews/a",
            "/apis/authentication.k8s.io/v2/tokenreviews",
            "/api/v1/widgets",
            "/apis/nothing.io/v1/things",
            "/api/v1/namespaces/d/nodes",
            "/api/v1/namespaces/d/pods/web/nothing",
            "/api/v1/namespaces/d/configmaps/a/log",
            "/api/v1/pods/web",
        ] {
            assert_eq!(parse(path).unwrap_err().code, 404, "{path}");
        }
        for path in ["/", "/api", "/api/v1", "/apis/apps/v1", "/openapi/v3", "/version"] {
            assert_eq!(parse(path).unwrap(), Route::Other, "{path}");
        }
    }

    #[test]
    fn verbs() {
        let none = Query::default();
        let verb = |path: &str, method: Method| resource(path).verb(&method, &none);
        assert_eq!(verb("/api/v1/pods", Method::GET), Some("list"));
        assert_eq!(verb("/api/v1/pods", Method::POST), None, "a Pod is made in a namespace");
        assert_eq!(verb("/api/v1/namespaces/d/pods", Method::DELETE), Some("deletecollection"));
        assert_eq!(verb("/api/v1/namespaces/d/pods/p/exec", Method::GET), Some("create"));
        assert_eq!(verb("/api/v1/namespaces/d/pods/p/binding", Method::POST), Some("create"));
        let route = resource("/api/v1/pods");
        assert_eq!(route.verb(&Method::GET, &Query::parse("watch=1")), Some("watch"));
    }
}
