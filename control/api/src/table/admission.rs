//! Columns of webhook configurations and admission policies.

use serde_json::Value;

use super::{AGE, NAME, Printer, age_of, at, list, name, number, printer, selector, text};

const UNSET: &str = "<unset>";

pub(crate) static WEBHOOKS: Printer =
    printer(&[NAME, number("Webhooks", "Number of webhooks."), AGE], |configuration, now| {
        let webhooks = list(configuration, "/webhooks").len();
        vec![name(configuration), webhooks.into(), age_of(configuration, now)]
    });

pub(crate) static POLICY: Printer = printer(
    &[
        NAME,
        number("Validations", "Number of validations."),
        text("ParamKind", "The kind of the objects with its parameters."),
        AGE,
    ],
    |policy, now| {
        let count = list(policy, "/spec/validations").len();
        vec![name(policy), count.into(), parameter_kind(policy).into(), age_of(policy, now)]
    },
);

pub(crate) static MUTATING_POLICY: Printer = printer(
    &[
        NAME,
        number("Mutations", "Number of mutations."),
        text("ParamKind", "The kind of the objects with its parameters."),
        AGE,
    ],
    |policy, now| {
        let count = list(policy, "/spec/mutations").len();
        vec![name(policy), count.into(), parameter_kind(policy).into(), age_of(policy, now)]
    },
);

fn parameter_kind(policy: &Value) -> String {
    let kind = policy.pointer("/spec/paramKind").filter(|k| !k.is_null());
    kind.map_or_else(|| UNSET.to_owned(), |k| format!("{}/{}", at(k, "/apiVersion"), at(k, "/kind")))
}

pub(crate) static BINDING: Printer = printer(
    &[
        NAME,
        text("PolicyName", "The policy that it puts to use."),
        text("ParamRef", "The object with the parameters."),
        AGE,
    ],
    |binding, now| {
        vec![
            name(binding),
            at(binding, "/spec/policyName").into(),
            parameter(binding.pointer("/spec/paramRef")).into(),
            age_of(binding, now),
        ]
    },
);

fn parameter(reference: Option<&Value>) -> String {
    let Some(reference) = reference.filter(|r| !r.is_null()) else { return UNSET.to_owned() };
    match (at(reference, "/namespace"), at(reference, "/name")) {
        (_, "") => selector(reference.get("selector")),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}
