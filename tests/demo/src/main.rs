//! The demo workload that up applies and the tests drive.

fn main() {}
