//! What is fuzzed of the API, as plain functions: each takes any bytes and must end without a panic, in a time that grows no faster
//! than they do. cargo-fuzz runs them for long (`cargo xtask fuzz`), and an ordinary test on the inputs that are checked in and
//! on those of [`large`].

pub mod apply;
pub mod expressions;
pub mod json;
pub mod large;
mod object;
pub mod patch;
pub mod protobuf;
pub mod selector;
pub mod spdy;
pub mod websocket;

/// One function and what it is called, there and as a folder of inputs.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the folder below `corpus`.
    pub name: &'static str,
    /// Runs it once.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "json", run: json::run },
    Target { name: "protobuf", run: protobuf::run },
    Target { name: "patch", run: patch::run },
    Target { name: "apply", run: apply::run },
    Target { name: "selector", run: selector::run },
    Target { name: "expressions", run: expressions::run },
    Target { name: "spdy", run: spdy::run },
    Target { name: "websocket", run: websocket::run },
];

/// Longest input: as long as a request's body may be, bytes.
pub const INPUT_BYTES_MAX: usize = 3 << 20;
