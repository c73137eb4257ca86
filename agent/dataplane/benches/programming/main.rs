//! How long a change takes from the API into the kernels: writes Services and EndpointSlices to a cluster that runs, and looks
//! into its nodes' pinned tables from outside. `cargo xtask bench programming` starts the cluster and runs this, once for
//! each thing that is measured; each prints its samples as JSON.

mod api;
mod flags;
mod measure;
mod objects;
mod tables;

use flags::Flags;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let flags = Flags::of(&words[words.len().min(1)..]);
    let done = match words.first().map(String::as_str) {
        Some("fill") => measure::fill(&flags),
        Some("change") => measure::change(&flags),
        Some("wait") => measure::wait(&flags),
        // Run by hand without a cluster, there is nothing to measure.
        _ => Err("say fill, change or wait; `cargo xtask bench programming` does".into()),
    };
    if let Err(error) = done {
        eprintln!("bench: {error}");
        std::process::exit(1);
    }
}
