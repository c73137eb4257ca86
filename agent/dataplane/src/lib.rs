//! Desired Services, Pods and policies to map rows; loading, attaching, pinning.
