//! What needs more than one crate: clusters in network namespaces, kubectl, faults.
