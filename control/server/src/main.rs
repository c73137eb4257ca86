//! weft-control: the control plane.

fn main() {}
