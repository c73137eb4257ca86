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
#[path = "../../tests/packet/driver.rs"]
#[allow(dead_code, reason = "the tests use more of the place")]
mod driver;
#[path = "../../tests/packet/frame.rs"]
#[allow(dead_code, reason = "the tests use more of the frames")]
mod frame;
#[path = "../../tests/packet/frame6.rs"]
#[allow(dead_code, reason = "the tests use more of the frames")]
mod frame6;
mod frames;
#[path = "../dataplane/kernel.rs"]
#[allow(dead_code, reason = "only the Services' addresses are used here")]
mod kernel;
mod load;
mod object;
#[path = "../dataplane/process.rs"]
#[allow(dead_code, reason = "streams are not used here")]
mod process;
mod samples;
mod step;
#[path = "../../tests/cluster/sweep.rs"]
mod sweep;
#[path = "../dataplane/weft.rs"]
mod weft;

use cases::{Case, Until};
use frames::Frames;
use serde_json::{Value, json};
use step::Step;
use weft_dataplane_abi::hook::XDP_UPLINK;

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
    let none = |case: &Case| samples::none(case.hook.text(), case.name, case.until.text());
    let mut results: Vec<Value> = cases.iter().map(none).collect();
    let mut by_driver =
        frames::Case::ALL.map(|case| samples::none(XDP_UPLINK, case.text(), Until::End.text()));
    let (mut roomy, mut full, mut frames) = (Step::new(), Step::new(), Frames::new());
    for case in cases.iter().filter(|case| case.full) {
        full.fill(case);
    }
    for round in 0..=rounds {
        eprintln!("bench: round {round} of {rounds}");
        for (case, result) in cases.iter().zip(&mut results) {
            let step = if case.full { &mut full } else { &mut roomy };
            samples::note(result, round, step.measure(case));
        }
        for (case, result) in frames::Case::ALL.into_iter().zip(&mut by_driver) {
            samples::note(result, round, frames.measure(case));
        }
    }
    let stats_ns = roomy.stats_ns();
    drop((roomy, full, frames));
    results.extend(by_driver);
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
