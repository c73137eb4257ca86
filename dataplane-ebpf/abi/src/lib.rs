#![no_std]
//! Keys and values of every eBPF map, drop reasons, stations, the flow event.
