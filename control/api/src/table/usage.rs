//! Columns of NodeMetrics and PodMetrics, those of metrics-server.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, NAME, Printer, at, list, name, printer, text};
use crate::quantity::Quantity;

const COLUMNS: &[Column] = &[
    NAME,
    text("cpu", "Cores that were used on average."),
    text("memory", "Memory in use that is not soon given back, bytes."),
    text("Window", "How long was measured."),
];

pub(crate) static NODE_METRICS: Printer = printer(COLUMNS, node);
pub(crate) static POD_METRICS: Printer = printer(COLUMNS, pod);

fn node(node: &Value, _: Timestamp) -> Vec<Value> {
    cells(node, std::slice::from_ref(node))
}

/// A Pod's containers together.
fn pod(pod: &Value, _: Timestamp) -> Vec<Value> {
    cells(pod, list(pod, "/containers"))
}

fn cells(object: &Value, users: &[Value]) -> Vec<Value> {
    let sum = |pointer: &str| {
        let amounts = users.iter().filter_map(|user| Quantity::parse(at(user, pointer)).ok());
        let sum = amounts.reduce(|sum, amount| sum.checked_add(amount).unwrap_or(sum));
        sum.unwrap_or(Quantity::zero()).to_string()
    };
    vec![name(object), sum("/usage/cpu").into(), sum("/usage/memory").into(), at(object, "/window").into()]
}
