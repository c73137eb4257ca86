//! What an operator types: agentctl.

fn main() {}
