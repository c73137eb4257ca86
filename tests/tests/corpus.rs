//! What `cargo xtask fuzz` runs for long, run once on every input that is checked in, and on large ones: by the ordinary
//! compiler, in every run of the tests. One that takes forever is ended by the runner.

use std::path::Path;

use weft_fuzz::{INPUT_BYTES_MAX, TARGETS, Target, large};

/// The longest of them, which the ordinary compiler's code has to do with: an input of twice its length takes twice as long, or the
/// runner ends it.
const LARGE_BYTES: usize = INPUT_BYTES_MAX / 16;

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target")
}

/// On a stack as small as the server's own threads have.
fn run(name: &str) {
    let target = target(name);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut inputs: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| file.expect("a file").path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("readable")))
        .collect();
    assert!(inputs.len() >= 5, "{} inputs in {}", inputs.len(), folder.display());
    inputs.extend(large::inputs(name, LARGE_BYTES));
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for (input, bytes) in inputs {
            assert!(bytes.len() <= INPUT_BYTES_MAX + 64, "{input} is {} bytes", bytes.len());
            let began = std::time::Instant::now();
            (target.run)(&bytes);
            println!("{input}: {} bytes, {} ms", bytes.len(), began.elapsed().as_millis());
        }
    });
    thread.expect("a thread").join().expect("no input ends it");
}

#[test]
fn bodies_in_json() {
    run("json");
}

#[test]
fn bodies_in_protobuf() {
    run("protobuf");
}

#[test]
fn patches() {
    run("patch");
}

#[test]
fn apply_configurations() {
    run("apply");
}

#[test]
fn selectors() {
    run("selector");
}

#[test]
fn expressions() {
    run("expressions");
}

#[test]
fn frames_of_spdy() {
    run("spdy");
}

#[test]
fn frames_of_websockets() {
    run("websocket");
}

#[test]
fn every_target_is_run_here_and_built_by_cargo_fuzz() {
    let source = include_str!("corpus.rs");
    let manifest = include_str!("../fuzz/Cargo.toml");
    for target in TARGETS {
        assert!(source.contains(&format!("run(\"{}\");", target.name)), "{}", target.name);
        assert!(manifest.contains(&format!("path = \"targets/{}.rs\"", target.name)), "{}", target.name);
    }
}
