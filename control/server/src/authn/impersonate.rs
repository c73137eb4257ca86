//! Impersonation: a user that asks as another, where a rule allows it (`kubectl --as`).

use http::HeaderMap;
use weft_api::status::Status;

use super::{User, account};
use crate::authz::{AUTHENTICATED, Attributes, Authorizer, UNAUTHENTICATED};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// Group of what is known of a user beside its name and groups.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Who a request is made as: `user`, or whoever its headers name.
///
/// # Errors
/// 403 where no rule lets `user` be that user, in that group, or with that; 400 for headers that name no user or are no text.
pub(crate) fn asked(user: User, headers: &HeaderMap, authorizer: &Authorizer) -> Result<User, Status> {
    let mut wanted = User::default();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with("impersonate-")) {
        let value =
            value.to_str().map_err(|_| Status::bad_request(format!("the header {name} is not text")))?;
        match name.as_str() {
            USER => wanted.name = value.to_owned(),
            GROUP => wanted.groups.push(value.to_owned()),
            UID => wanted.uid = value.to_owned(),
            other => {
                let Some(key) = other.strip_prefix(EXTRA) else { continue };
                wanted.extra.push((crate::http::query::decode(key, false), value.to_owned()));
            }
        }
    }
    if wanted == User::default() {
        return Ok(user);
    }
    if wanted.name.is_empty() {
        return Err(Status::bad_request("a group, uid or extra is impersonated, and no user"));
    }
    let may = |group, resource, subresource: &str, namespace: &str, name: &str| {
        let attributes =
            Attributes::Resource { verb: "impersonate", group, resource, subresource, namespace, name };
        authorizer.authorize(&user, &attributes)
    };
    let account = account::of_name(&wanted.name);
    match account {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &wanted.name)?,
    }
    for group in &wanted.groups {
        may("", "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        may(AUTHENTICATION, "uids", "", "", &wanted.uid)?;
    }
    for (key, value) in &wanted.extra {
        may(AUTHENTICATION, "userextras", key, "", value)?;
    }
    if let Some((namespace, _)) = account.filter(|_| wanted.groups.is_empty()) {
        wanted.groups = account::groups(namespace);
    }
    let known = if wanted == (User { groups: wanted.groups.clone(), ..User::anonymous() }) {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    if !wanted.is_in(known) {
        wanted.groups.push(known.to_owned());
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::authz;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn owner() -> User {
        let groups = vec!["system:masters".into(), "system:authenticated".into()];
        User { name: "admin".into(), groups, ..User::default() }
    }

    #[test]
    fn an_owner_may_be_anyone() {
        let table = Authorizer::new(Vec::new());
        assert_eq!(asked(owner(), &HeaderMap::new(), &table).unwrap(), owner());
        let ci = headers(&[
            ("impersonate-user", "ci"),
            ("impersonate-group", "builders"),
            ("impersonate-group", "all"),
            ("impersonate-extra-scopes%2fa", "x"),
        ]);
        let user = asked(owner(), &ci, &table).unwrap();
        assert_eq!(user.name, "ci");
        assert_eq!(user.groups, ["builders", "all", "system:authenticated"]);
        assert_eq!(user.extra, [("scopes/a".to_owned(), "x".to_owned())]);
        let account = headers(&[("impersonate-user", "system:serviceaccount:d:a")]);
        assert_eq!(
            asked(owner(), &account, &table).unwrap().groups,
            ["system:serviceaccounts", "system:serviceaccounts:d", "system:authenticated"]
        );
        let nobody = headers(&[("impersonate-user", "system:anonymous")]);
        assert_eq!(asked(owner(), &nobody, &table).unwrap(), User::anonymous());
    }

    #[test]
    fn others_may_be_whom_a_rule_names() {
        let file = "[{ subjects: [{ kind: User, name: proxy }], rules: [
            { apiGroups: [''], resources: [users], resourceNames: [ci], verbs: [impersonate] }] }]";
        let table = Authorizer::new(authz::parse(file).unwrap());
        let proxy =
            User { name: "proxy".into(), groups: vec!["system:authenticated".into()], ..User::default() };
        let ask = |pairs: &[(&'static str, &'static str)]| asked(proxy.clone(), &headers(pairs), &table);
        assert_eq!(ask(&[("impersonate-user", "ci")]).unwrap().name, "ci");
        for refused in [
            &[("impersonate-user", "admin")][..],
            &[("impersonate-user", "ci"), ("impersonate-group", "system:masters")],
            &[("impersonate-user", "ci"), ("impersonate-uid", "1")],
            &[("impersonate-user", "ci"), ("impersonate-extra-a", "b")],
            &[("impersonate-user", "system:serviceaccount:d:ci")],
        ] {
            assert_eq!(ask(refused).unwrap_err().code, 403, "{refused:?}");
        }
        assert_eq!(ask(&[("impersonate-group", "system:masters")]).unwrap_err().code, 400);
    }
}
