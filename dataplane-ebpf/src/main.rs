//! The eBPF programs of the dataplane.
#![no_std]
#![no_main]
