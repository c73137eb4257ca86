//! weft-agent: the node's agent.

fn main() {}
