//! Flow events to explained flows.
