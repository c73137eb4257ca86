//! Flow events to explained flows: names instead of numbers, and the last of them kept for who asks later.
//!
//! Pure: events, names and limits are arguments. What a map row or a ring buffer looks like is `agent/dataplane`'s.

pub mod explain;
pub mod filter;
pub mod flow;
pub mod probe;
pub mod rows;
pub mod store;

pub use explain::{Names, explain};
pub use filter::{Filter, FilterError};
pub use flow::{Event, Flow, Party, Path, Service, Verdict};
pub use probe::{Outcome, Probe, Step};
pub use store::FlowStore;
