//! What was measured of one packet at one program, as `cargo xtask bench packet` reads it.

use serde_json::{Value, json};

/// No value yet of a packet at a program, until the end of a station.
pub(crate) fn none(hook: &str, name: &str, until: &str) -> Value {
    json!({ "hook": hook, "name": name, "until": until, "ns": [], "own_ns": [] })
}

/// Notes a pass's nanoseconds, and those of one that calls nothing. The first round warms.
pub(crate) fn note(samples: &mut Value, round: usize, [ns, own_ns]: [f64; 2]) {
    if round > 0 {
        push(samples, "ns", ns);
        push(samples, "own_ns", own_ns);
    }
}

fn push(samples: &mut Value, list: &str, value: f64) {
    if let Some(values) = samples[list].as_array_mut() {
        values.push(value.into());
    }
}
