//! How much memory the desired state and the mirror of the kernel's rows take: bytes as the allocator counts them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weft_dataplane::Capacities;
use weft_dataplane::desired::{
    Change, Desired, Endpoint, Protocol, Service, ServiceName, ServicePort, ServiceType,
};
use weft_dataplane::plan::Planner;
use weft_dataplane::rows::Rows;

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

fn service(number: u32, nodes: &[Arc<str>; 3]) -> Service {
    let endpoint = |i: u32| {
        let ip = Ipv4Addr::from(0x0a80_0000 + number * ENDPOINTS + i);
        // A node's name is one allocation, as the agent has it.
        let node = nodes[i as usize % 3].clone();
        Endpoint { node, ..Endpoint::ready(IpAddr::V4(ip), 8080, "") }
    };
    Service {
        name: ServiceName::new("default", format!("service-{number}")),
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![IpAddr::V4(Ipv4Addr::from(0x0a60_0000 + number))],
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 0,
            endpoints: (0..ENDPOINTS).map(endpoint).collect(),
        }],
        ..Service::default()
    }
}

#[test]
fn the_mirror_of_100_000_backends_is_small() {
    let begin = live();
    let mut desired = Desired::default();
    let nodes = ["node-0", "node-1", "node-2"].map(Arc::from);
    for number in 0..SERVICES {
        desired.apply(Change::PutService(service(number, &nodes).into()));
    }
    let wanted = live() - begin;

    let before = live();
    PEAK.store(before, Ordering::Relaxed);
    let mut planner = Planner::adopt("node-1", Capacities::default(), Rows::default(), &HashMap::new());
    let all = Change::ReplaceAll(Box::new(desired));
    let mut writes = 0;
    for step in planner.steps(&all) {
        let (some, errors) = planner.step(step);
        assert!(errors.is_empty(), "{errors:?}");
        writes += some.len();
    }
    assert_eq!(writes, (SERVICES * (1 + 2 * ENDPOINTS)) as usize);
    let (mirror, peak) = (live() - before, PEAK.load(Ordering::Relaxed) - before);
    println!("desired {} kB, mirror {} kB, at most {} kB", wanted / 1000, mirror / 1000, peak / 1000);
    assert!(wanted < 8_500_000, "the desired state takes {wanted} bytes");
    assert!(mirror < 11_000_000, "the mirror takes {mirror} bytes");
    assert!(peak < 16_000_000, "while it grew it took {peak} bytes");
}
