//! Which node a Pod goes to, or why none. State in, decision out: no clock, no sockets, and the random number that
//! breaks ties is an argument.

pub mod affinity;
pub mod explain;
pub mod filter;
pub mod queue;
pub mod score;
pub mod snapshot;

use weft_api::view::Pod;

use explain::Unfit;
use snapshot::Snapshot;

/// The node a Pod is to run on.
///
/// Among the nodes that pass every filter the one with the best score wins; `random` chooses among equals.
///
/// # Errors
/// No node passes; the answer says how many were refused for which reason.
pub fn place<'a>(pod: &Pod, snapshot: &Snapshot<'a>, random: u64) -> Result<&'a str, Unfit> {
    let mut fitting = Vec::new();
    let mut unfit = Unfit::new(snapshot.nodes.len());
    let spread = filter::spread::Domains::count(pod, snapshot);
    for node in &snapshot.nodes {
        let reasons = filter::reasons(pod, node, &spread);
        if reasons.is_empty() {
            fitting.push(node);
        } else {
            unfit.add(reasons);
        }
    }
    let scores = score::all(pod, &fitting, snapshot);
    let Some(best) = scores.iter().copied().max() else { return Err(unfit) };
    let equals: Vec<_> = fitting.iter().zip(&scores).filter(|(_, score)| **score == best).collect();
    let chosen = usize::try_from(random % equals.len().max(1) as u64).unwrap_or(0);
    equals.get(chosen).map(|(node, _)| node.node.metadata.name.as_str()).ok_or(unfit)
}

#[cfg(test)]
mod tests;
