//! The same traffic by IPv6, beside IPv4: machines, Pods and Services have addresses of both.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use weft_dataplane::Announced;
use weft_dataplane::desired::{Endpoint, Protocol, Service, ServiceName, ServicePort, ServiceType};
use weft_dataplane::dry::Way;

use crate::bed::{Bed, CLIENT, CLIENT_6, six};
use crate::dry;
use crate::object;
use crate::process::PORT;
use crate::traffic::names;

const WEB: &str = "[fd00:96::10]:80";
const WEB_4: &str = "10.96.0.10:80";
const NODE_PORT: u16 = 30_080;
/// An address that is routed to the machines.
const GIVEN: &str = "2001:db8:50::7";

/// A dual-stack Service before these Pods, and tells everybody.
pub(crate) fn service(bed: &mut Bed, name: &str, host: u8, node_port: u16, pods: &[(usize, IpAddr)]) {
    let endpoints: Vec<Endpoint> = pods
        .iter()
        .flat_map(|(machine, ip)| [*ip, six(*ip)].map(|ip| (*machine, ip)))
        .map(|(machine, ip)| Endpoint::ready(ip, PORT, &bed.machines[machine].name))
        .collect();
    let port = |protocol: Protocol| ServicePort {
        name: format!("{protocol}").to_lowercase(),
        protocol,
        port: 80,
        node_port,
        endpoints: endpoints.clone(),
    };
    let address = |text: String| text.parse().expect("an address");
    let service = Service {
        name: ServiceName::new("default", name),
        kind: if node_port == 0 { ServiceType::ClusterIp } else { ServiceType::LoadBalancer },
        cluster_ips: vec![address(format!("10.96.0.{host}")), address(format!("fd00:96::{host}"))],
        external_ips: if name != "web" { Vec::new() } else { vec![address(GIVEN.to_owned())] },
        ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
        ..Service::default()
    };
    bed.desired.services.insert(service.name.clone(), Arc::new(service));
    bed.tell();
}

/// Two machines, two Pods on the first and one on the other, and the Service `web` before two of them.
fn furnished() -> Option<(Bed, Vec<IpAddr>)> {
    let mut bed = Bed::new(2, &object::path()?, |_| {});
    let pods = vec![bed.pod(0, "a1"), bed.pod(0, "a2"), bed.pod(1, "b1")];
    service(&mut bed, "web", 10, NODE_PORT, &[(0, pods[0]), (1, pods[2])]);
    Some((bed, pods))
}

fn both() -> BTreeSet<&'static str> {
    BTreeSet::from(["a1", "b1"])
}

#[test]
fn pods_reach_pods_here_and_there_at_once_with_their_own_addresses() {
    let Some((mut bed, pods)) = furnished() else { return };
    // The first thing it does: its address is one to speak with from the beginning.
    let new = bed.pod(0, "a3");
    for (to, name) in [(pods[1], "a2"), (pods[2], "b1")] {
        for protocol in ["tcp", "udp"] {
            let to = format!("[{}]:{PORT}", six(to));
            let answers = bed.pods.get_mut("a3").expect("a Pod").reach(protocol, &to, 3);
            assert_eq!(names(&answers), BTreeSet::from([name]), "{protocol}");
            let own = format!("[{}]:", six(new));
            assert!(answers.iter().all(|(_, peer)| peer.starts_with(&own)), "{answers:?}");
        }
    }
    let fetched =
        bed.pods.get_mut("a1").expect("a Pod").ask(&format!("fetch [{}]:{PORT} 5000000", six(pods[2])));
    assert_eq!(fetched, "identical");
}

#[test]
fn a_service_of_both_families_reaches_every_backend_on_both_paths() {
    let Some((mut bed, _)) = furnished() else { return };
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        let counter = if socket_lb { "balanced_socket" } else { "balanced_packet" };
        for to in [WEB, WEB_4, "[::ffff:10.96.0.10]:80"] {
            let before = bed.counter(0, counter);
            for protocol in ["tcp", "udp"] {
                for pod in ["a2", "a1"] {
                    // The second is a backend itself, and gets itself, too.
                    let answers = bed.pods.get_mut(pod).expect("a Pod").reach(protocol, to, 40);
                    assert_eq!(names(&answers), both(), "{protocol} {to} from {pod}, socket_lb {socket_lb}");
                }
            }
            let balanced = bed.counter(0, counter) - before;
            assert!(balanced >= 150, "{counter} {to}: {balanced}");
        }
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        assert_eq!(pod.ask(&format!("hold {WEB}")), "held");
        assert_eq!(pod.ask("peer"), WEB, "the process sees the address it asked for");
        let node_ports: Vec<String> =
            bed.machines.iter().map(|machine| format!("[{}]:{NODE_PORT}", machine.ip_6)).collect();
        for to in &node_ports {
            let answers = bed.pods.get_mut("a2").expect("a Pod").reach("tcp", to, 40);
            assert_eq!(names(&answers), both(), "{to}, socket_lb {socket_lb}");
        }
    }
}

#[test]
fn processes_of_a_machine_reach_services_and_pods() {
    let Some((bed, pods)) = furnished() else { return };
    let mut process = bed.process(0, "node", false);
    let sources = [(pods[0], bed.machines[0].ip_6.to_string()), (pods[2], "fd00:244:0:1::1".to_owned())];
    for (to, source) in sources {
        for protocol in ["tcp", "udp"] {
            let answers = process.reach(protocol, &format!("[{}]:{PORT}", six(to)), 3);
            let own = format!("[{source}]:");
            assert!(answers.iter().all(|(_, peer)| peer.starts_with(&own)), "{answers:?}");
        }
    }
    for to in
        [WEB.to_owned(), format!("[{}]:{NODE_PORT}", bed.machines[0].ip_6), format!("[::1]:{NODE_PORT}")]
    {
        for protocol in ["tcp", "udp"] {
            assert_eq!(names(&process.reach(protocol, &to, 40)), both(), "{protocol} {to}");
        }
    }
    drop(process);
    let mut stranger = bed.process(0, "stranger", true);
    for protocol in ["tcp", "udp"] {
        assert_eq!(names(&stranger.reach(protocol, WEB, 40)), both(), "{protocol} without a socket hook");
    }
}

#[test]
fn the_outside_reaches_node_ports_and_given_addresses_and_is_reached() {
    let Some((mut bed, _)) = furnished() else { return };
    let mut client = bed.client();
    bed.route_from_client(GIVEN, 0);
    let given = format!("[{GIVEN}]:80");
    for to in [
        given,
        format!("[{}]:{NODE_PORT}", bed.machines[0].ip_6),
        format!("[{}]:{NODE_PORT}", bed.machines[1].ip_6),
    ] {
        for protocol in ["tcp", "udp"] {
            assert_eq!(names(&client.reach(protocol, &to, 40)), both(), "{protocol} {to}");
        }
    }
    let to = format!("{}:{NODE_PORT}", bed.machines[0].ip);
    assert_eq!(names(&client.reach("tcp", &to, 40)), both(), "IPv4 beside it");
    for (client, machine) in [
        (format!("[{CLIENT_6}]:{PORT}"), format!("[{}]:", bed.machines[0].ip_6)),
        (format!("{CLIENT}:{PORT}"), format!("{}:", bed.machines[0].ip)),
    ] {
        for protocol in ["tcp", "udp"] {
            let answers = bed.pods.get_mut("a1").expect("a Pod").reach(protocol, &client, 5);
            assert_eq!(names(&answers), BTreeSet::from(["client"]));
            assert!(answers.iter().all(|(_, peer)| peer.starts_with(&machine)), "{answers:?}");
        }
    }
}

#[test]
fn a_given_address_is_found_by_neighbours_and_moves() {
    let Some((mut bed, _)) = furnished() else { return };
    let address: IpAddr = "2001:db8:77::50:7".parse().expect("an address");
    let web = ServiceName::new("default", "web");
    let service = bed.desired.services.get_mut(&web);
    Arc::make_mut(service.expect("a Service")).external_ips = vec![address];
    bed.tell();
    let mut client = bed.client();
    let to = format!("[{address}]:80");
    assert!(client.ask(&format!("tcp {to} 1")).starts_with("failed"), "nobody has the address");
    let mut before = None;
    for machine in [0, 1] {
        let announcer = bed.announcer(machine);
        announcer.set(Announced { addresses: [address].into(), confirmed: true });
        let known = bed.counter(machine, "balanced_node_port");
        // The neighbour asks, or is told that the address has moved: its next connection goes there.
        let came = (0..100).any(|_| {
            client.ask(&format!("tcp {to} 1"));
            bed.counter(machine, "balanced_node_port") > known
        });
        assert!(came, "machine {machine}");
        assert_eq!(names(&client.reach("udp", &to, 40)), both());
        before = Some(announcer);
    }
    drop(before);
}

#[test]
fn nobody_is_told_where_to_go_by_a_pod_and_the_node_still_hears_its_router() {
    let Some((mut bed, _)) = furnished() else { return };
    let devices = bed.devices(0);
    let pod =
        devices.iter().find(|name| name.starts_with("weft") && !name.ends_with("vxlan")).expect("a device");
    assert_eq!(bed.setting(0, &format!("ipv6/conf/{pod}/accept_ra")), "0");
    assert_eq!(bed.setting(0, "ipv6/conf/all/forwarding"), "1");
    assert_eq!(bed.setting(0, "ipv6/conf/eth0/accept_ra"), "2", "though it forwards");
    let answers = bed.pods.get_mut("a1").expect("a Pod").reach("tcp", &format!("[::1]:{PORT}"), 1);
    assert_eq!(names(&answers), BTreeSet::from(["a1"]));
}

#[test]
fn a_service_without_backends_refuses_at_once() {
    let Some((mut bed, _)) = furnished() else { return };
    service(&mut bed, "empty", 20, 30_081, &[]);
    let empty = "[fd00:96::20]:80";
    let refused = |answer: &str| assert!(answer.starts_with("failed: ConnectionRefused"), "{answer}");
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        refused(&pod.ask(&format!("tcp {empty} 1")));
        if socket_lb {
            refused(&pod.ask(&format!("connect {empty}")));
        } else {
            assert_eq!(pod.ask(&format!("connect {empty}")), "connected");
            refused(&pod.ask("say"));
        }
    }
    let node_port = format!("[{}]:30081", bed.machines[0].ip_6);
    for (mut process, to) in [(bed.client(), node_port), (bed.process(1, "stranger", true), empty.to_owned())]
    {
        refused(&process.ask(&format!("tcp {to} 1")));
        assert_eq!(process.ask(&format!("connect {to}")), "connected");
        refused(&process.ask("say"));
    }
}

#[test]
fn datagrams_larger_than_the_mtu_arrive_on_every_path() {
    let Some((mut bed, pods)) = furnished() else { return };
    service(&mut bed, "here", 50, 30_100, &[(0, pods[0])]);
    service(&mut bed, "there", 51, 30_101, &[(1, pods[2])]);
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        for to in
            [format!("[{}]:8080", six(pods[2])), "[fd00:96::50]:80".to_owned(), "[fd00:96::51]:80".to_owned()]
        {
            assert_eq!(pod.ask(&format!("large {to} 4000")), "4000 bytes", "{to}, socket_lb {socket_lb}");
        }
    }
    let mut client = bed.client();
    for port in [30_100, 30_101] {
        let to = format!("[{}]:{port}", bed.machines[0].ip_6);
        assert_eq!(client.ask(&format!("large {to} 4000")), "4000 bytes", "{to} from outside");
    }
}

#[test]
fn who_serves_hears_of_a_smaller_mtu_on_the_way_to_a_client() {
    let Some((mut bed, pods)) = furnished() else { return };
    service(&mut bed, "here", 50, 30_100, &[(0, pods[0])]);
    service(&mut bed, "there", 51, 30_101, &[(1, pods[2])]);
    let mut far = bed.client_behind(1_300);
    let machine = &bed.machines[0];
    for ip in [machine.ip, machine.ip_6] {
        for port in [30_100, 30_101] {
            let before = bed.counter(0, "errors_translated");
            let to = std::net::SocketAddr::new(ip, port);
            // The router asks for neighbours only once its own addresses are known to be nobody else's.
            assert!((0..10).any(|_| !far.ask(&format!("tcp {to} 1")).starts_with("failed")), "{to}");
            assert_eq!(far.ask(&format!("fetch {to} 2000000")), "identical", "{to}");
            assert!(bed.counter(0, "errors_translated") > before, "{to}: nobody was told");
        }
    }
}

#[test]
fn a_restart_of_the_agent_breaks_no_connection() {
    let Some((mut bed, _)) = furnished() else { return };
    let node_port = format!("[{}]:{NODE_PORT}", bed.machines[0].ip_6);
    let mut client = bed.client();
    assert_eq!(client.ask(&format!("hold {node_port}")), "held");
    let outside = client.ask("again");
    let pod = bed.pods.get_mut("a2").expect("a Pod");
    assert_eq!(pod.ask(&format!("hold {WEB}")), "held");
    let inside = pod.ask("again");
    bed.kill(0);
    bed.start(0);
    for told in [false, true] {
        if told {
            bed.tell_one(0);
        }
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        assert_eq!((pod.ask("again"), client.ask("again")), (inside.clone(), outside.clone()), "told {told}");
        assert_eq!(names(&pod.reach("tcp", WEB, 40)), both());
    }
}

#[test]
fn a_dry_run_walks_ipv6_and_sockets_are_asked() {
    let Some((mut bed, pods)) = furnished() else { return };
    service(&mut bed, "empty", 20, 0, &[]);
    service(&mut bed, "there", 21, 0, &[(1, pods[2])]);
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let no_backend = "service has no ready backend";
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let asked = dry::ask(&mut bed, protocol, dry::to(address("fd00:96::20"), 80));
        assert_eq!((asked.peer, asked.reason.as_deref()), (None, Some(no_backend)));
        let asked = dry::ask(&mut bed, protocol, dry::to(address("fd00:96::21"), 80));
        assert_eq!((asked.peer, asked.mtu_bytes), (Some(dry::to(six(pods[2]), PORT)), 1_450));

        let mut walk = |to| dry::walk(&mut bed, protocol, to);
        let answer = walk(dry::to(address("fd00:96::20"), 80));
        assert_eq!(dry::dropped(&answer), ("from_pod", "balance", no_backend));
        assert_eq!((answer.passages[0].end, answer.from), ("refused", six(pods[1])));
        let answer = walk(dry::to(address("fd00:96::99"), 80));
        assert_eq!(dry::dropped(&answer).1, "route");
        let answer = walk(dry::to(address("fd00:96::21"), 80));
        assert_eq!(answer.passages[0].to_destination, dry::to(six(pods[2]), PORT));
        assert_eq!(answer.passages[0].way, Way::Tunnel(IpAddr::from([172, 31, 77, 12])));
        assert_eq!((answer.passages[1].hook, answer.passages[1].end), ("to_overlay", "next"));
        let answer = walk(dry::to(address(CLIENT_6), 443));
        assert_eq!((answer.passages[0].way, answer.passages[1].hook), (Way::Outside, "to_uplink"));
        assert_eq!(answer.passages[0].to_source.ip(), bed.machines[0].ip_6);
    }
}
