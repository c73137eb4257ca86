//! The object against the table of maps, and every program against this kernel's verifier.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/object.rs"]
mod object;

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::{Map, MapData};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps::{MAPS, MapKind};

#[test]
fn every_program_passes_the_verifier() {
    let Some(object) = object::path() else { return };
    let ebpf = bench::load_timed(&object, |step, time| println!("{step:>18} {:>6} µs", time.as_micros()));
    for hook in Hook::ALL {
        let program = ebpf.program(hook.text()).unwrap_or_else(|| panic!("no program {hook}"));
        let info = program.info().expect("what the kernel knows of the program");
        println!(
            "{hook:>18} {:>6} instructions verified, {:>6} bytes jitted",
            info.verified_instruction_count().unwrap_or(0),
            info.size_jitted(),
        );
    }
}

/// The bench's tables are smaller. The verifier knows the sizes of arrays, and the kernel those of the rest.
#[test]
fn so_it_does_with_the_capacities_of_a_node() {
    let Some(object) = object::path() else { return };
    let with_defaults = |loader: &mut aya::EbpfLoader<'_>| {
        for spec in MAPS {
            loader.map_max_entries(spec.name, spec.capacity);
        }
    };
    let ebpf = bench::load_with(&object, with_defaults, |_, _| ());
    for spec in MAPS {
        let data = data(ebpf.map(spec.name).unwrap_or_else(|| panic!("no map {}", spec.name)));
        let info = data.info().expect("what the kernel knows of the map");
        assert_eq!(info.max_entries(), spec.capacity, "{}", spec.name);
    }
}

#[test]
fn the_object_has_the_maps_of_the_table_in_their_shape() {
    let Some(object) = object::path() else { return };
    let ebpf = bench::load(&object);
    for spec in MAPS {
        let map = ebpf.map(spec.name).unwrap_or_else(|| panic!("no map {}", spec.name));
        let data = match (spec.kind, map) {
            (MapKind::Hash, Map::HashMap(data))
            | (MapKind::Array, Map::Array(data))
            | (MapKind::PerCpuArray, Map::PerCpuArray(data))
            | (MapKind::LruHash, Map::LruHashMap(data))
            | (MapKind::LpmTrie, Map::LpmTrie(data))
            | (MapKind::RingBuf, Map::RingBuf(data)) => data,
            _ => panic!("{} is of another kind than {:?}", spec.name, spec.kind),
        };
        let info = data.info().expect("what the kernel knows of the map");
        assert_eq!((info.key_size(), info.value_size()), (spec.key_bytes, spec.value_bytes), "{}", spec.name);
    }
}

/// Map memory as the kernel accounts for it, with the capacities a node has by default.
#[test]
fn default_capacities_take_little_memory() {
    let Some(object) = object::path() else { return };
    let mut loader = aya::EbpfLoader::new();
    for spec in MAPS {
        loader.map_max_entries(spec.name, spec.capacity);
    }
    let object = std::fs::read(object).expect("the object");
    let ebpf = loader.load(&object).expect("the object loads");
    let mut all = 0;
    for spec in MAPS {
        let data = data(ebpf.map(spec.name).unwrap_or_else(|| panic!("no map {}", spec.name)));
        let promised =
            data.info().is_ok_and(|info| info.map_flags() & NO_PREALLOC != 0) && !accounts_by_use();
        // There are no rows yet.
        let bytes = if promised { 0 } else { memory_bytes(data.fd().as_fd().as_raw_fd()) };
        println!("{:>14} {:>6} KiB", spec.name, bytes >> 10);
        all += bytes;
    }
    println!("{:>14} {:>6} KiB", "all", all >> 10);
    assert!(all < 48 << 20, "{all} bytes");
}

/// A map of any of the kinds that there are here.
fn data(map: &Map) -> &MapData {
    match map {
        Map::HashMap(data)
        | Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::RingBuf(data) => data,
        other => panic!("{other:?} is of another kind"),
    }
}

/// `BPF_F_NO_PREALLOC`: rows get memory when they come.
const NO_PREALLOC: u32 = 1;

/// Whether the kernel says what a map uses (since 6.4), not what it would use if it were full.
fn accounts_by_use() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(4))
}

fn memory_bytes(fd: std::os::fd::RawFd) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("what the kernel says");
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:")).expect("a line");
    line.trim().parse().expect("bytes")
}
