//! Real sockets on loopback: UDP, TCP, forwarding, truncation, bounds.

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};

use super::*;
use crate::records::{DnsEndpoint, DnsService};

fn records() -> Arc<RwLock<Records>> {
    let mut records = Records::new("cluster.local");
    let endpoints = (0..200u8).map(|i| DnsEndpoint {
        address: [10, 244, 1, i].into(),
        hostname: String::new(),
        pod: String::new(),
        ready: true,
        ports: vec![],
    });
    let base = DnsService { namespace: "default".into(), ..DnsService::default() };
    records.put(DnsService {
        name: "web".into(),
        cluster_ips: [[10, 96, 0, 7].into()].into(),
        ..base.clone()
    });
    records.put(DnsService {
        name: "many".into(),
        headless: true,
        endpoints: endpoints.collect(),
        ..base.clone()
    });
    records.put(DnsService { name: "out".into(), external_name: Some("example.org".into()), ..base });
    Arc::new(RwLock::new(records))
}

struct Server {
    udp: SocketAddr,
    tcp: SocketAddr,
    records: Arc<RwLock<Records>>,
    _task: JoinSet<()>,
}

fn start(config: Config) -> Server {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (udp_address, tcp_address) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let records = records();
    let served = Arc::clone(&records);
    let mut task = JoinSet::new();
    task.spawn(async move {
        run(Sockets { udp: vec![udp], tcp: vec![tcp] }, served, config).await.unwrap();
    });
    Server { udp: udp_address, tcp: tcp_address, records, _task: task }
}

fn query(name: &str) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_utf8(name).unwrap(), RecordType::A));
    query
}

async fn over_udp(server: SocketAddr, query: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&query.to_vec().unwrap()).await.unwrap();
    let mut buffer = vec![0; 65535];
    let length = timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.unwrap().unwrap();
    let reply = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(reply.metadata.id, query.metadata.id);
    reply
}

async fn over_tcp(server: SocketAddr, queries: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let mut replies = Vec::new();
    for query in queries {
        let bytes = query.to_vec().unwrap();
        stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut reply).await.unwrap();
        replies.push(Message::from_vec(&reply).unwrap());
    }
    replies
}

/// A resolver that answers every question with one address, on UDP and TCP at the same port; first it lies a little.
async fn resolver() -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let respond = |bytes: &[u8]| {
        let query = Message::from_vec(bytes).unwrap();
        let mut reply = crate::answer::reply_to(&query);
        let name = query.queries[0].name().clone();
        reply.add_answer(Record::from_rdata(name, 60, RData::A(A([192, 0, 2, 1].into()))));
        reply
    };
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let reply = respond(&buffer[..length]);
            let mut forged = reply.clone();
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            forged.answers[0].data = RData::A(A([6, 6, 6, 6].into()));
            let mut other = reply.clone();
            other.queries[0].set_name(Name::from_utf8("evil.example.").unwrap());
            other.answers[0].data = RData::A(A([6, 6, 6, 6].into()));
            for message in [forged, other, reply] {
                udp.send_to(&message.to_vec().unwrap(), client).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut bytes = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut bytes).await.unwrap();
            let reply = respond(&bytes).to_vec().unwrap();
            stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    address
}

fn addresses(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn cluster_names_are_answered_on_both_transports_and_follow_the_table() {
    let server = start(Config::default());
    let asked = query("web.default.svc.cluster.local.");
    assert_eq!(addresses(&over_udp(server.udp, &asked).await), ["10.96.0.7"]);
    let replies = over_tcp(server.tcp, &[asked.clone(), query("none.default.svc.cluster.local.")]).await;
    assert_eq!(addresses(&replies[0]), ["10.96.0.7"]);
    assert_eq!(replies[1].metadata.response_code, ResponseCode::NXDomain);
    server.records.write().unwrap().remove("default", "web");
    assert_eq!(over_udp(server.udp, &asked).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_long_answer_is_cut_over_udp_and_whole_over_tcp() {
    let server = start(Config::default());
    let asked = query("many.default.svc.cluster.local.");
    let cut = over_udp(server.udp, &asked).await;
    assert!(cut.metadata.truncation && cut.answers.len() < 200);
    assert_eq!(over_tcp(server.tcp, &[asked]).await[0].answers.len(), 200);
}

#[tokio::test]
async fn other_names_are_forwarded_and_forged_answers_passed_over() {
    let resolvers = vec![resolver().await];
    let server = start(Config { resolvers, ..Config::default() });
    let asked = query("example.org.");
    assert_eq!(addresses(&over_udp(server.udp, &asked).await), ["192.0.2.1"]);
    assert_eq!(addresses(&over_tcp(server.tcp, &[asked]).await[0]), ["192.0.2.1"]);
}

#[tokio::test]
async fn an_external_name_is_followed_out_of_the_cluster() {
    let resolvers = vec![resolver().await];
    let server = start(Config { resolvers, ..Config::default() });
    let reply = over_udp(server.udp, &query("out.default.svc.cluster.local.")).await;
    assert_eq!(addresses(&reply), ["example.org.", "192.0.2.1"]);
}

#[tokio::test]
async fn a_dead_resolver_costs_its_time_and_the_next_is_asked() {
    // Bound, so that nothing else takes the port, and silent.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let resolvers = vec![silent.local_addr().unwrap(), resolver().await];
    let server = start(Config { resolvers, upstream_timeout_ms: 100, ..Config::default() });
    assert_eq!(addresses(&over_udp(server.udp, &query("example.org.")).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn without_an_answer_the_client_is_told_and_cluster_names_go_on() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let resolvers = vec![silent.local_addr().unwrap()];
    let server = start(Config { resolvers, upstream_timeout_ms: 300, in_flight_max: 2, ..Config::default() });
    let outside = (0..5).map(|i| {
        let address = server.udp;
        tokio::spawn(async move { over_udp(address, &query(&format!("host{i}.example.org."))).await })
    });
    let outside: Vec<_> = outside.collect();
    let inside = over_udp(server.udp, &query("web.default.svc.cluster.local.")).await;
    assert_eq!(addresses(&inside), ["10.96.0.7"]);
    for reply in outside {
        assert_eq!(reply.await.unwrap().metadata.response_code, ResponseCode::ServFail);
    }
}

#[tokio::test]
async fn resolv_conf_is_read_again_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = directory.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "search x\n").unwrap();
    let shared = |own: Vec<IpAddr>| Shared {
        records: records(),
        config: Config { resolv_conf: resolv_conf.clone(), resolv_conf_max_age_ms: 0, ..Config::default() },
        own,
        in_flight: Semaphore::new(1),
        turn: AtomicUsize::new(0),
        resolvers: Mutex::new(None),
    };
    let shared = shared(vec!["10.96.0.10".parse().unwrap()]);
    assert!(shared.resolvers().await.is_empty());
    std::fs::write(&resolv_conf, "nameserver 10.96.0.10\nnameserver 192.0.2.53\n").unwrap();
    assert_eq!(shared.resolvers().await, ["192.0.2.53:53".parse().unwrap()]);
}

#[tokio::test]
async fn rubbish_is_passed_over() {
    let server = start(Config { tcp_idle_ms: 200, ..Config::default() });
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for rubbish in [&b""[..], b"x", &[0xff; 11], &[0xff; 600]] {
        socket.send_to(rubbish, server.udp).await.unwrap();
    }
    let mut idle = TcpStream::connect(server.tcp).await.unwrap();
    assert_eq!(
        addresses(&over_udp(server.udp, &query("web.default.svc.cluster.local.")).await),
        ["10.96.0.7"]
    );
    let closed = timeout(Duration::from_secs(5), idle.read_u8()).await.expect("an idle connection is closed");
    assert!(closed.is_err());
}
