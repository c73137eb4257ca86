//! Columns of RoleBindings and ClusterRoleBindings.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, NAME, Printer, age_of, at, list, name, printer, text, wide};

pub(crate) static BINDING: Printer = printer(
    &[
        NAME,
        text("Role", "The role that is given."),
        AGE,
        wide("Users", "Users that it is given to."),
        wide("Groups", "Groups that it is given to."),
        wide("ServiceAccounts", "ServiceAccounts that it is given to."),
    ],
    binding,
);

fn binding(binding: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", at(binding, "/roleRef/kind"), at(binding, "/roleRef/name"));
    let subjects = |kind: &str| -> Value {
        let named = list(binding, "/subjects").iter().filter(|s| at(s, "/kind") == kind);
        let names = named.map(|s| match kind {
            "ServiceAccount" => format!("{}/{}", at(s, "/namespace"), at(s, "/name")),
            _ => at(s, "/name").to_owned(),
        });
        names.collect::<Vec<_>>().join(", ").into()
    };
    vec![
        name(binding),
        role.into(),
        age_of(binding, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
