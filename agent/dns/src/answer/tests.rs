//! Names of the Kubernetes DNS specification, and the right kind of "no".

use hickory_proto::op::Query;

use super::*;
use crate::records::DnsPort;

fn endpoint(address: &str, hostname: &str, ready: bool) -> DnsEndpoint {
    DnsEndpoint {
        address: address.parse().unwrap(),
        hostname: hostname.into(),
        pod: String::new(),
        ready,
        ports: vec![("http".into(), 8080)],
    }
}

fn records() -> Records {
    let mut records = Records::new("cluster.local");
    let ports = [
        DnsPort { name: "http".into(), protocol: Protocol::Tcp, port: 80 },
        DnsPort { name: "dns".into(), protocol: Protocol::Udp, port: 53 },
    ]
    .into();
    let base = DnsService { namespace: "default".into(), ports, ..DnsService::default() };
    records.put(DnsService {
        name: "web".into(),
        cluster_ips: [[10, 96, 0, 7].into()].into(),
        endpoints: [endpoint("10.244.0.9", "", true)].into(),
        ..base.clone()
    });
    records.put(DnsService {
        name: "dual".into(),
        cluster_ips: ["10.96.0.8", "fd00:96::8"].map(|ip| ip.parse().unwrap()).into(),
        ..base.clone()
    });
    records.put(DnsService {
        name: "db".into(),
        headless: true,
        endpoints: [
            endpoint("10.244.0.1", "db-0", true),
            endpoint("10.244.0.2", "", true),
            endpoint("10.244.0.3", "db-2", false),
        ]
        .into(),
        ..base.clone()
    });
    let external = |name: &str, target: &str| DnsService {
        name: name.into(),
        external_name: Some(target.into()),
        ports: Box::default(),
        ..base.clone()
    };
    records.put(external("out", "example.org"));
    records.put(external("alias", "web.default.svc.cluster.local"));
    records.put(external("loop", "loop.default.svc.cluster.local."));
    records
}

fn ask(name: &str, type_: RecordType) -> Answer {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_utf8(name).unwrap(), type_));
    answer(&query, &records(), 0)
}

fn reply(name: &str, type_: RecordType) -> Message {
    match ask(name, type_) {
        Answer::Reply(reply) => *reply,
        other => panic!("{name}: {other:?}"),
    }
}

fn data(name: &str, type_: RecordType) -> Vec<String> {
    reply(name, type_).answers.iter().map(|record| record.data.to_string()).collect()
}

/// The name is there, but not with this type.
fn is_no_data(name: &str, type_: RecordType) {
    let reply = reply(name, type_);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{name}");
    assert!(reply.answers.is_empty() && reply.authorities.len() == 1, "{name}");
}

/// There is no such name.
fn is_no_name(name: &str) {
    let reply = reply(name, RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{name}");
    assert_eq!(reply.authorities[0].record_type(), RecordType::SOA, "{name}");
}

#[test]
fn services_have_their_cluster_addresses() {
    assert_eq!(data("web.default.svc.cluster.local.", RecordType::A), ["10.96.0.7"]);
    assert_eq!(data("WEB.Default.svc.CLUSTER.local.", RecordType::A), ["10.96.0.7"]);
    assert_eq!(data("dual.default.svc.cluster.local.", RecordType::AAAA), ["fd00:96::8"]);
    let reply = reply("web.default.svc.cluster.local.", RecordType::A);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
    assert_eq!(reply.answers[0].ttl, TTL_SECONDS);
}

#[test]
fn a_no_is_of_the_right_kind() {
    is_no_data("web.default.svc.cluster.local.", RecordType::AAAA);
    is_no_data("web.default.svc.cluster.local.", RecordType::MX);
    is_no_data("default.svc.cluster.local.", RecordType::A);
    is_no_data("svc.cluster.local.", RecordType::A);
    is_no_data("cluster.local.", RecordType::A);
    is_no_data("_tcp.web.default.svc.cluster.local.", RecordType::A);
    is_no_data("_http._tcp.web.default.svc.cluster.local.", RecordType::A);
    for name in [
        "none.default.svc.cluster.local.",
        "web.other.svc.cluster.local.",
        "other.svc.cluster.local.",
        "x.cluster.local.",
        "web.default.svc.cluster.local.default.svc.cluster.local.",
        "host.web.default.svc.cluster.local.",
        "_sctp.web.default.svc.cluster.local.",
        "_none._tcp.web.default.svc.cluster.local.",
        "web.default.pod.cluster.local.",
    ] {
        is_no_name(name);
    }
}

#[test]
fn headless_services_are_their_ready_endpoints() {
    assert_eq!(data("db.default.svc.cluster.local.", RecordType::A), ["10.244.0.1", "10.244.0.2"]);
    assert_eq!(data("db-0.db.default.svc.cluster.local.", RecordType::A), ["10.244.0.1"]);
    assert_eq!(data("10-244-0-2.db.default.svc.cluster.local.", RecordType::A), ["10.244.0.2"]);
    is_no_name("db-2.db.default.svc.cluster.local.");
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_utf8("db.default.svc.cluster.local.").unwrap(), RecordType::A));
    let Answer::Reply(turned) = answer(&query, &records(), 1) else { panic!() };
    assert_eq!(turned.answers[0].data.to_string(), "10.244.0.2");
}

#[test]
fn srv_records_name_targets_that_resolve() {
    let web = reply("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!(web.answers[0].data.to_string(), "0 100 80 web.default.svc.cluster.local.");
    assert_eq!(web.additionals[0].data.to_string(), "10.96.0.7");
    let targets = data("_http._tcp.db.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!(
        targets,
        [
            "0 100 8080 db-0.db.default.svc.cluster.local.",
            "0 100 8080 10-244-0-2.db.default.svc.cluster.local."
        ]
    );
    assert_eq!(data("web.default.svc.cluster.local.", RecordType::SRV).len(), 2);
}

#[test]
fn external_names_are_aliases_inside_and_out() {
    let Answer::Chase(reply, target) = ask("out.default.svc.cluster.local.", RecordType::A) else { panic!() };
    assert_eq!((reply.answers.len(), target.to_string().as_str()), (1, "example.org."));
    assert_eq!(
        data("alias.default.svc.cluster.local.", RecordType::A),
        ["web.default.svc.cluster.local.", "10.96.0.7"]
    );
    assert_eq!(data("out.default.svc.cluster.local.", RecordType::CNAME), ["example.org."]);
    assert_eq!(reply_code("loop.default.svc.cluster.local."), ResponseCode::ServFail);
}

fn reply_code(name: &str) -> ResponseCode {
    reply(name, RecordType::A).metadata.response_code
}

#[test]
fn pods_have_names_made_from_their_addresses() {
    assert_eq!(data("10-244-0-5.default.pod.cluster.local.", RecordType::A), ["10.244.0.5"]);
    assert_eq!(data("fd00-244--5.default.pod.cluster.local.", RecordType::AAAA), ["fd00:244::5"]);
}

#[test]
fn addresses_lead_back_to_names() {
    assert_eq!(data("7.0.96.10.in-addr.arpa.", RecordType::PTR), ["web.default.svc.cluster.local."]);
    assert_eq!(data("1.0.244.10.in-addr.arpa.", RecordType::PTR), ["db-0.db.default.svc.cluster.local."]);
    let v6 = "8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.";
    assert_eq!(data(v6, RecordType::PTR), ["dual.default.svc.cluster.local."]);
    assert_eq!(ask("1.2.3.4.in-addr.arpa.", RecordType::PTR), Answer::Forward);
}

#[test]
fn other_names_are_somebody_elses() {
    for name in ["example.org.", "local.", "cluster.local.example.org.", "notcluster.local.", "."] {
        assert_eq!(ask(name, RecordType::A), Answer::Forward, "{name}");
    }
}

#[test]
fn malformed_queries_are_refused() {
    let Answer::Reply(reply) = answer(&Message::query(), &records(), 0) else { panic!() };
    assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
    let mut update = Message::new(7, MessageType::Query, OpCode::Update);
    update.add_query(Query::query(Name::from_utf8("cluster.local.").unwrap(), RecordType::SOA));
    let Answer::Reply(reply) = answer(&update, &records(), 0) else { panic!() };
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (7, ResponseCode::NotImp));
}

#[test]
fn a_long_answer_is_cut_to_the_size_and_says_so() {
    let mut records = records();
    let endpoints = (0..200u8).map(|i| endpoint(&format!("10.244.1.{i}"), "", true)).collect();
    records.put(DnsService {
        namespace: "default".into(),
        name: "many".into(),
        headless: true,
        endpoints,
        ..DnsService::default()
    });
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_utf8("many.default.svc.cluster.local.").unwrap(), RecordType::A));
    let Answer::Reply(full) = answer(&query, &records, 0) else { panic!() };
    for (max, edns) in [(512, None), (1232, Some(4096)), (900, Some(900))] {
        let mut query = query.clone();
        if let Some(payload) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            query.set_edns(edns);
        }
        assert_eq!(udp_bytes_max(&query), max);
        let bytes = encode((*full).clone(), max).unwrap();
        assert!(bytes.len() <= max && bytes.len() > max / 2, "{} of {max}", bytes.len());
        let cut = Message::from_vec(&bytes).unwrap();
        assert!(cut.metadata.truncation && !cut.answers.is_empty());
    }
    let whole = Message::from_vec(&encode(*full, 65535).unwrap()).unwrap();
    assert!(!whole.metadata.truncation && whole.answers.len() == 200);
}

#[test]
fn both_families_are_answered_forward_and_reverse() {
    let mut records = records();
    records.put(DnsService {
        namespace: "default".into(),
        name: "both".into(),
        headless: true,
        ports: [DnsPort { name: "http".into(), protocol: Protocol::Tcp, port: 80 }].into(),
        endpoints: [
            endpoint("10.244.0.5", "both-0", true),
            endpoint("fd00:244::5", "both-0", true),
            endpoint("fd00:244::6", "", true),
        ]
        .into(),
        ..DnsService::default()
    });
    let ask = |name: &str, type_: RecordType| {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_utf8(name).unwrap(), type_));
        match answer(&query, &records, 0) {
            Answer::Reply(reply) => *reply,
            other => panic!("{name}: {other:?}"),
        }
    };
    let data = |name: &str, type_: RecordType| -> Vec<String> {
        ask(name, type_).answers.iter().map(|record| record.data.to_string()).collect()
    };
    assert_eq!(data("dual.default.svc.cluster.local.", RecordType::A), ["10.96.0.8"]);
    assert_eq!(data("dual.default.svc.cluster.local.", RecordType::AAAA), ["fd00:96::8"]);
    let srv = ask("_http._tcp.dual.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!((srv.answers.len(), srv.additionals.len()), (1, 2), "one target, both its addresses");

    assert_eq!(data("both.default.svc.cluster.local.", RecordType::A), ["10.244.0.5"]);
    assert_eq!(data("both.default.svc.cluster.local.", RecordType::AAAA), ["fd00:244::5", "fd00:244::6"]);
    assert_eq!(data("both-0.both.default.svc.cluster.local.", RecordType::AAAA), ["fd00:244::5"]);
    assert_eq!(data("both-0.both.default.svc.cluster.local.", RecordType::A), ["10.244.0.5"]);
    // A host that has no address of the family is there all the same.
    let none = ask("fd00-244--6.both.default.svc.cluster.local.", RecordType::A);
    assert_eq!(none.metadata.response_code, ResponseCode::NoError);
    assert!(none.answers.is_empty() && none.authorities[0].record_type() == RecordType::SOA);
    let srv = ask("_http._tcp.both.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!((srv.answers.len(), srv.additionals.len()), (2, 3), "{srv:?}");
    assert_eq!(data("fd00-244--9.default.pod.cluster.local.", RecordType::AAAA), ["fd00:244::9"]);

    let reverse = |text: &str| Name::from(text.parse::<IpAddr>().unwrap()).to_utf8();
    assert!(reverse("fd00:96::8").contains("ip6.arpa"));
    assert_eq!(data(&reverse("fd00:96::8"), RecordType::PTR), ["dual.default.svc.cluster.local."]);
    assert_eq!(data(&reverse("fd00:244::5"), RecordType::PTR), ["both-0.both.default.svc.cluster.local."]);
    let mut nobodys = Message::query();
    nobodys.add_query(Query::query(Name::from_utf8(reverse("fd00::99")).unwrap(), RecordType::PTR));
    assert_eq!(answer(&nobodys, &records, 0), Answer::Forward);
}
