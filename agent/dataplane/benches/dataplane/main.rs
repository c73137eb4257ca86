//! What a packet's way costs, through Weft and through what it replaces, in one run: every path is visited in every round, so
//! that what the machine does besides falls on all of them alike. Prints the samples as JSON; `cargo xtask bench dataplane`
//! runs this and writes the report.

#[path = "../../tests/cluster/bed.rs"]
#[allow(dead_code, reason = "the tests use more of the bed")]
mod bed;
mod cases;
mod kernel;
mod options;
mod process;
#[path = "../../tests/cluster/sweep.rs"]
mod sweep;
mod weft;

use std::time::Duration;

use serde_json::{Value, json};

use cases::Stage;
use options::Options;

/// Requests and connections run on one CPU with their server, since what is measured is the path and not the distance of two
/// CPUs; a stream has one for each end.
const MEASUREMENTS: [(&str, [usize; 2]); 3] = [("rr", [0, 0]), ("crr", [0, 0]), ("stream", [0, 1])];

fn main() {
    if process::role() {
        return;
    }
    let options = match Options::read() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("bench: {error}");
            std::process::exit(64);
        }
    };
    let mut stage = Stage::new(&options.object, &options.services);
    let mut results: Vec<Value> = stage
        .cases
        .iter()
        .map(|case| json!({ "path": case.name, "crosses": case.crosses, "services": case.services, "failures": [] }))
        .collect();
    // The first round warms caches, neighbours and CPUs, and does not count.
    for round in 0..=options.rounds {
        eprintln!("bench: round {round} of {}", options.rounds);
        for (number, result) in results.iter_mut().enumerate() {
            visit(&mut stage, number, options.time, (round > 0).then_some(result));
        }
    }
    println!(
        "{}",
        json!({ "rounds": options.rounds, "milliseconds": options.time.as_millis() as u64, "paths": results })
    );
}

fn visit(stage: &mut Stage, number: usize, time: Duration, mut result: Option<&mut Value>) {
    let case = stage.cases[number].clone();
    if let (cases::Ends::Weft(from, _), Some(on)) = (case.ends, case.socket_lb) {
        stage.weft.socket_lb(from, on);
    }
    let [client, server] = stage.processes(case.ends);
    for (what, [client_cpu, server_cpu]) in MEASUREMENTS {
        client.pin(client_cpu);
        server.pin(server_cpu);
        let before = client.cpu_ns() + server.cpu_ns();
        let to = if what == "stream" { case.streams } else { case.requests };
        let sample = client.measure(what, to, time);
        let cpu_ns = client.cpu_ns() + server.cpu_ns() - before;
        let Some(result) = result.as_deref_mut() else { continue };
        match sample {
            Ok(sample) => {
                let count = sample.count.max(1) as f64;
                push(result, what, count * 1e9 / sample.elapsed_ns as f64);
                push(result, &format!("{what}_cpu_ns"), cpu_ns as f64 / count);
            }
            Err(error) => push(result, "failures", error),
        }
    }
}

/// Appends to a list of the result.
fn push(result: &mut Value, list: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = result
        && let Value::Array(values) = fields.entry(list).or_insert_with(|| json!([]))
    {
        values.push(value.into());
    }
}
