//! Roles: rules for some subjects, everywhere or in some namespaces; those that are built in, and those of a file.

use serde::Deserialize;

use super::rule::{ALL, Rule};
use crate::authn::{User, account};

/// Who belongs to the cluster's owners.
const MASTERS: &str = "system:masters";
/// Everybody who is known.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Paths that tell how the server is, open to everyone.
const OPEN_PATHS: &[&str] =
    &["/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*", "/version", "/version/"];
/// Paths that tell what is served, open to everyone known.
const DISCOVERY_PATHS: &[&str] = &["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];

/// What some subjects may do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Role {
    pub(crate) subjects: Vec<Subject>,
    /// Where; none: in the whole cluster.
    #[serde(default)]
    pub(crate) namespaces: Vec<String>,
    pub(crate) rules: Vec<Rule>,
}

/// Who: as in a binding of RBAC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub(crate) enum Subject {
    /// A client certificate's common name.
    User { name: String },
    /// A client certificate's organization, or a group that the server itself gives.
    Group { name: String },
    /// Who brings a ServiceAccount's token.
    ServiceAccount { namespace: String, name: String },
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self {
            Self::User { name } => user.name == *name,
            Self::Group { name } => user.is_in(name),
            Self::ServiceAccount { namespace, name } => {
                account::of_name(&user.name) == Some((namespace, name))
            }
        }
    }

    fn is_named(&self) -> bool {
        match self {
            Self::User { name } | Self::Group { name } => !name.is_empty(),
            Self::ServiceAccount { namespace, name } => !namespace.is_empty() && !name.is_empty(),
        }
    }
}

impl Role {
    fn of_groups(groups: &[&str], rules: Vec<Rule>) -> Self {
        let subjects = groups.iter().map(|name| Subject::Group { name: (*name).to_owned() }).collect();
        Self { subjects, namespaces: Vec::new(), rules }
    }

    /// Whether it is for this user, and there. A namespace of `""` is the whole cluster.
    pub(crate) fn applies(&self, user: &User, namespace: &str) -> bool {
        (self.namespaces.is_empty() || self.namespaces.iter().any(|n| n == namespace))
            && self.subjects.iter().any(|subject| subject.is(user))
    }
}

/// What holds without any setting: owners may do everything, everyone known may look around and ask about itself, anyone at all may
/// ask how the server is.
pub(crate) fn built_in() -> Vec<Role> {
    vec![
        Role::of_groups(&[MASTERS], vec![Rule::of_resources(ALL, ALL, &[ALL]), Rule::of_paths(ALL, &[ALL])]),
        Role::of_groups(
            &[AUTHENTICATED],
            vec![
                Rule::of_paths("get", DISCOVERY_PATHS),
                Rule::of_resources("create", "authentication.k8s.io", &["selfsubjectreviews"]),
                Rule::of_resources(
                    "create",
                    "authorization.k8s.io",
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                ),
            ],
        ),
        Role::of_groups(&[AUTHENTICATED, UNAUTHENTICATED], vec![Rule::of_paths("get", OPEN_PATHS)]),
    ]
}

/// Reads the roles of a file: a list in YAML or JSON.
///
/// # Errors
/// What is wrong, and where.
pub(crate) fn parse(text: &str) -> Result<Vec<Role>, String> {
    let roles: Vec<Role> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    for (at, role) in roles.iter().enumerate() {
        if role.subjects.is_empty() {
            return Err(format!("[{at}].subjects: there must be one"));
        }
        if let Some(nameless) = role.subjects.iter().position(|subject| !subject.is_named()) {
            return Err(format!("[{at}].subjects[{nameless}]: a name must not be empty"));
        }
        if role.namespaces.iter().any(String::is_empty) {
            return Err(format!("[{at}].namespaces: a name must not be empty"));
        }
        if role.rules.is_empty() {
            return Err(format!("[{at}].rules: there must be one"));
        }
        let flaw = |rule: &Rule| rule.flaw(!role.namespaces.is_empty());
        if let Some((rule, flaw)) = role.rules.iter().enumerate().find_map(|(n, rule)| Some((n, flaw(rule)?)))
        {
            return Err(format!("[{at}].rules[{rule}]: {flaw}"));
        }
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
- subjects:
    - { kind: ServiceAccount, namespace: default, name: controller }
    - { kind: Group, name: operators }
  namespaces: [default, staging]
  rules:
    - { apiGroups: [apps], resources: [deployments, deployments/scale], verbs: [get, list, watch] }
- subjects: [{ kind: User, name: prometheus }]
  rules: [{ nonResourceURLs: [/metrics], verbs: [get] }]
";

    #[test]
    fn a_file_of_roles() {
        let roles = parse(FILE).unwrap();
        let account = |namespace: &str| User {
            name: format!("system:serviceaccount:{namespace}:controller"),
            ..User::default()
        };
        let operator = User { groups: vec!["operators".into()], ..User::default() };
        assert!(roles[0].applies(&account("default"), "staging"));
        assert!(roles[0].applies(&operator, "default"));
        assert!(!roles[0].applies(&account("other"), "default"));
        assert!(!roles[0].applies(&operator, "kube-system") && !roles[0].applies(&operator, ""));
        assert!(roles[1].applies(&User { name: "prometheus".into(), ..User::default() }, ""));
        assert_eq!(parse("[]").unwrap(), []);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let user = "subjects: [{ kind: User, name: ci }]";
        for (file, place) in [
            ("- { subjects: [], rules: [] }", "[0].subjects"),
            ("- { subjects: [{ kind: User, name: '' }], rules: [] }", "[0].subjects[0]"),
            (
                "- { subjects: [{ kind: ServiceAccount, name: a, namespace: '' }], rules: [] }",
                "[0].subjects[0]",
            ),
            ("- { subjects: [{ kind: ServiceAccount, name: a }], rules: [] }", "namespace"),
            ("- { subjects: [{ kind: Robot, name: a }], rules: [] }", "Robot"),
            (&format!("- {{ {user}, rules: [] }}"), "[0].rules"),
            (&format!("- {{ {user}, namespaces: [''], rules: [] }}"), "[0].namespaces"),
            (
                &format!("- {{ {user}, rules: [{{ verbs: [get], apiGroups: [''], resources: [] }}] }}"),
                "rules[0]",
            ),
            (&format!("- {{ {user}, rules: [{{ verbs: [get], resource: [pods] }}] }}"), "resource"),
            (&format!("- {{ {user}, rule: [] }}"), "rule"),
        ] {
            let why = parse(file).unwrap_err();
            assert!(why.contains(place), "{file}: {why}");
        }
    }
}
