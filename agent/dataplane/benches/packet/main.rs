//! What one packet costs in each program, by test run: every pass meets a packet made anew, often with another port, and the bench's
//! own cost, measured in the same round with the same loop, is told beside it. Then the same programs under real load, as
//! the kernel counts their time. Prints the samples as JSON; `cargo xtask bench packet` runs this and writes the report.

#[path = "../../tests/cluster/bed.rs"]
#[allow(dead_code, reason = "the tests use more of the bed")]
mod bed;
#[path = "../../tests/packet/bench.rs"]
#[allow(dead_code, reason = "the tests use more of the bench")]
mod bench;
mod cases;
#[path = "../../tests/packet/frame.rs"]
#[allow(dead_code, reason = "the tests use more of the frames")]
mod frame;
#[path = "../dataplane/kernel.rs"]
#[allow(dead_code, reason = "only the Services' addresses are used here")]
mod kernel;
mod load;
mod object;
#[path = "../../tests/cluster/offload.rs"]
#[allow(dead_code, reason = "the bed of the tests uses it")]
mod offload;
#[path = "../dataplane/process.rs"]
#[allow(dead_code, reason = "streams are not used here")]
mod process;
mod step;
#[path = "../../tests/cluster/sweep.rs"]
mod sweep;
#[path = "../dataplane/weft.rs"]
mod weft;

use serde_json::{Value, json};

use step::Step;

const ROUNDS: usize = 25;
/// Rounds under load, at most.
const LOAD_ROUNDS: usize = 9;

fn main() {
    if process::role() {
        return;
    }
    let rounds = match rounds() {
        Ok(rounds) => rounds,
        Err(error) => {
            eprintln!("bench: {error}");
            std::process::exit(64);
        }
    };
    let cases = cases::all();
    let mut results: Vec<Value> = cases
        .iter()
        .map(|case| json!({ "hook": case.hook.text(), "name": case.name, "until": case.until.text(), "ns": [], "own_ns": [] }))
        .collect();
    let (mut roomy, mut full) = (Step::new(), Step::new());
    for case in cases.iter().filter(|case| case.full) {
        full.fill(case);
    }
    for round in 0..=rounds {
        eprintln!("bench: round {round} of {rounds}");
        for (case, result) in cases.iter().zip(&mut results) {
            let step = if case.full { &mut full } else { &mut roomy };
            let [ns, own_ns] = step.measure(case);
            // The first round warms.
            if round > 0 {
                push(result, "ns", ns);
                push(result, "own_ns", own_ns);
            }
        }
    }
    let stats_ns = roomy.stats_ns();
    drop((roomy, full));
    let load = load::measure(&object::agents(), rounds.min(LOAD_ROUNDS));
    println!("{}", json!({ "rounds": rounds, "cases": results, "stats_ns": stats_ns, "load": load }));
}

/// `--rounds N`, and what cargo adds.
fn rounds() -> Result<usize, String> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    match (words.next().as_deref(), words.next()) {
        (None, _) => Ok(ROUNDS),
        (Some("--rounds"), Some(number)) => match number.parse() {
            Ok(rounds) if rounds > 0 => Ok(rounds),
            _ => Err(format!("{number:?} is no number of rounds")),
        },
        (Some(other), _) => Err(format!("no option {other:?}, or it wants a value")),
    }
}

fn push(result: &mut Value, list: &str, value: f64) {
    if let Some(values) = result[list].as_array_mut() {
        values.push(value.into());
    }
}
