//! Both ends over loopback UDP with real certificates.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::join::{Token, ca_sha256};
use crate::message::{
    Agent, Heartbeat, Hello, JoinResponse, Peer, PodPort, Request, Resource, Response, StatusFrame, Welcome,
    open::To, request, resource, status_frame,
};
use crate::position::StoreIdentity;
use crate::receiver::Receiver;
use crate::sender::{Item, Part, Sender, Start};

const STORE: StoreIdentity = StoreIdentity { id: [9; 16], epoch: 1 };

/// A cluster's CA.
struct Authority {
    pem: String,
    der: Vec<u8>,
    key_pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "weft-ca");
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), key_pem: key.serialize_pem() }
    }

    fn issuer(&self) -> rcgen::Issuer<'static, rcgen::KeyPair> {
        let key = rcgen::KeyPair::from_pem(&self.key_pem).unwrap();
        rcgen::Issuer::from_ca_cert_pem(&self.pem, key).unwrap()
    }

    fn server(&self) -> ServerIdentity {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        ServerIdentity::from_pem(&certificate.pem(), &key.serialize_pem(), &self.pem).unwrap()
    }

    /// Signs a node's request as it is.
    fn sign(&self, csr_pem: &str) -> String {
        let request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        request.signed_by(&self.issuer()).unwrap().pem()
    }

    fn node(&self, name: &str) -> NodeIdentity {
        let made = key_and_csr(name).unwrap();
        NodeIdentity::from_pem(&self.sign(&made.csr_pem), &made.key_pem, &self.pem).unwrap()
    }

    fn token(&self) -> Token {
        Token { id: [1, 2, 3], secret: [7; 16], ca_sha256: ca_sha256(&self.der) }
    }

    fn listen(&self) -> (Listener, SocketAddr) {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), &self.server()).unwrap();
        let address = listener.local_address().unwrap();
        (listener, address)
    }
}

fn hello(node: &str) -> Hello {
    Hello { node: node.into(), agent_version: "test".into(), ..Hello::default() }
}

async fn link_attempt(listener: &Listener) -> LinkAttempt {
    match listener.accept().await.unwrap() {
        Accepted::Link(attempt) => attempt,
        Accepted::Join(_) => panic!("a join came"),
    }
}

/// A session, both ends.
async fn session() -> (Listener, ServerSession, AgentSession) {
    let authority = Authority::new();
    let (listener, address) = authority.listen();
    let identity = authority.node("node-1");
    let (server, agent) = tokio::join!(
        async {
            let attempt = link_attempt(&listener).await;
            assert_eq!((attempt.node(), attempt.hello().agent_version.as_str()), ("node-1", "test"));
            let welcome = Welcome { position: Some(STORE.at(4)), ..Welcome::default() };
            attempt.welcome(welcome).await.unwrap()
        },
        async { connect(address, &identity, hello("node-1")).await.unwrap() }
    );
    (listener, server, agent)
}

#[tokio::test]
async fn a_machine_joins_with_a_token() {
    let authority = Authority::new();
    let (listener, address) = authority.listen();
    let made = key_and_csr("node-7").unwrap();
    let answer = async {
        let Some(Accepted::Join(attempt)) = listener.accept().await else { panic!() };
        assert_eq!(attempt.request().token.parse::<Token>().unwrap(), authority.token());
        let certificate_pem = authority.sign(&attempt.request().csr_pem);
        let response =
            JoinResponse { certificate_pem, ca_pem: authority.pem.clone(), ..JoinResponse::default() };
        attempt.answer(&response).await.unwrap();
    };
    let token = authority.token();
    let (response, ()) = tokio::join!(join(address, &token, "node-7", &made.csr_pem), answer);
    let response = response.unwrap();
    let identity =
        NodeIdentity::from_pem(&response.certificate_pem, &made.key_pem, &response.ca_pem).unwrap();
    assert_eq!(tls::certified_node(&identity.chain[0]).as_deref(), Some("node-7"));
    let (attempt, _agent) = tokio::join!(
        async { link_attempt(&listener).await.welcome(Welcome::default()).await.unwrap() },
        connect(address, &identity, hello("node-7"))
    );
    assert_eq!(attempt.node, "node-7");
}

#[tokio::test]
async fn a_refused_join_says_why() {
    let authority = Authority::new();
    let (listener, address) = authority.listen();
    let made = key_and_csr("node-7").unwrap();
    let answer = async {
        let Some(Accepted::Join(attempt)) = listener.accept().await else { panic!() };
        let response = JoinResponse { refused: "the token has expired".into(), ..JoinResponse::default() };
        attempt.answer(&response).await.unwrap();
    };
    let token = authority.token();
    let (response, ()) = tokio::join!(join(address, &token, "node-7", &made.csr_pem), answer);
    let error = response.unwrap_err();
    assert!(matches!(&error, JoinError::Refused { reason } if reason == "the token has expired"), "{error}");
}

#[tokio::test]
async fn a_join_trusts_only_the_tokens_ca() {
    let (_listener, address) = Authority::new().listen();
    let elsewhere = Authority::new().token();
    let error = join(address, &elsewhere, "node-1", "csr").await.unwrap_err();
    assert!(matches!(error, JoinError::ForeignCa { .. }), "{error}");
    let error = join(address, &elsewhere, "my node", "csr").await.unwrap_err();
    assert!(matches!(error, JoinError::Name(_)), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_in_time() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = silent.local_addr().unwrap();
    let authority = Authority::new();
    let begun = Instant::now();
    let identity = authority.node("node-1");
    let token = authority.token();
    let (joined, connected) =
        tokio::join!(join(address, &token, "node-1", "csr"), connect(address, &identity, hello("node-1")));
    assert!(matches!(joined, Err(JoinError::Dial(DialError::NoAnswer { .. }))), "{joined:?}");
    assert!(matches!(connected, Err(ConnectError::Dial(DialError::NoAnswer { .. }))), "{connected:?}");
    assert!(connected.unwrap_err().to_string().contains("no control plane answers at 127.0.0.1"));
    assert!(begun.elapsed() < Duration::from_millis(HANDSHAKE_TIMEOUT_MS + 3000));
}

#[tokio::test]
async fn foreign_certificates_are_refused_on_both_sides() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (_listener, address) = ours.listen();
    let error = connect(address, &theirs.node("node-1"), hello("node-1")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Dial(DialError::Untrusted { .. })), "the control plane's: {error}");

    let stranger = theirs.node("node-1");
    let stranger = NodeIdentity { ca: ours.node("node-1").ca, ..stranger };
    let error = connect(address, &stranger, hello("node-1")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Dial(DialError::Untrusted { .. })), "the node's: {error}");
}

#[tokio::test]
async fn a_certificate_that_is_no_nodes_is_refused() {
    let authority = Authority::new();
    let (_listener, address) = authority.listen();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:node-1");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
    let certificate = params.signed_by(&key, &authority.issuer()).unwrap();
    let identity = NodeIdentity::from_pem(&certificate.pem(), &key.serialize_pem(), &authority.pem).unwrap();
    let error = connect(address, &identity, hello("node-1")).await.unwrap_err();
    assert!(error.to_string().contains("not a node's"), "{error}");
}

#[tokio::test]
async fn another_name_or_version_is_refused_with_the_reason() {
    let authority = Authority::new();
    let (listener, address) = authority.listen();
    let identity = authority.node("node-1");
    let (refused, connected) = tokio::join!(
        async { link_attempt(&listener).await.welcome(Welcome::default()).await },
        connect(address, &identity, hello("node-2"))
    );
    assert!(matches!(refused, Err(WelcomeError::Hello(_))));
    let error = connected.unwrap_err();
    assert!(matches!(&error, ConnectError::Refused { reason } if reason.contains("node-2")), "{error}");
}

#[tokio::test]
async fn state_goes_down_and_status_up() {
    let (_listener, mut server, mut agent) = session().await;
    let mut receiver = Receiver::new(None, []);
    receiver.welcome(&agent.welcome).unwrap();
    let peer = |n: u32| {
        let body = resource::Body::Peer(Peer { node: "x".repeat(10_000), ..Peer::default() });
        Item::new(Resource { name: format!("peer/{n}"), body: Some(body) }).unwrap()
    };
    let mut sender = Sender::new(STORE, 4, (0..1000).map(peer));
    let Start::Full(frames) = sender.start(None, 4, &Part::default()) else { panic!() };
    let writing = async {
        server.state.send_encoded(frames).await.unwrap();
        let gone = sender.own().change(5, [], ["peer/3"]);
        server.state.send_encoded(sender.commit(5, &[], gone)).await.unwrap();
    };
    let reading = async {
        let mut changes = Vec::new();
        while changes.len() < 2 {
            let frame = agent.state.next().await.unwrap().unwrap();
            changes.extend(receiver.frame(frame).unwrap());
        }
        changes
    };
    let ((), changes) = tokio::join!(writing, reading);
    assert_eq!((changes[0].puts.len(), changes[1].removes.as_slice()), (1000, &["peer/3".to_owned()][..]));

    let beat = StatusFrame { frame: Some(status_frame::Frame::Heartbeat(Heartbeat {})) };
    agent.status.send(&beat).await.unwrap();
    assert_eq!(server.status.next().await.unwrap(), Some(beat));
}

#[tokio::test]
async fn requests_are_answered_in_any_order() {
    let (_listener, mut server, agent) = session().await;
    let ask = |text: &str| agent.requester.request(request::Body::Renew(text.into()));
    let answering = async {
        let mut asked: Vec<Request> = Vec::new();
        for _ in 0..3 {
            asked.push(server.requests.next().await.unwrap().unwrap());
        }
        for request in asked.into_iter().rev() {
            let Some(request::Body::Renew(text)) = request.body else { panic!() };
            let refused = if text == "bad" { "no".to_owned() } else { String::new() };
            let response = Response { id: request.id, refused, text, ..Response::default() };
            server.responses.answer(&response).await.unwrap();
        }
    };
    let (one, two, bad, ()) = tokio::join!(ask("one"), ask("two"), ask("bad"), answering);
    assert_eq!((one.unwrap().text.as_str(), two.unwrap().text.as_str()), ("one", "two"));
    assert!(matches!(bad, Err(RequestError::Refused { reason }) if reason == "no"));
    let (waiting, ()) = tokio::join!(ask("late"), async {
        server.requests.next().await.unwrap();
        server.link.close("maintenance");
    });
    assert!(matches!(waiting, Err(RequestError::Ended | RequestError::Stream(_))), "{waiting:?}");
    assert!(agent.link.closed().await.contains("maintenance"));
}

#[tokio::test]
async fn the_control_plane_opens_byte_streams() {
    let (_listener, server, mut agent) = session().await;
    let node = tokio::spawn(async move {
        while let Some(attempt) = agent.opens.next().await {
            match attempt.to.clone() {
                Some(To::Agent(_)) => {
                    let mut stream = attempt.accept().await.unwrap();
                    let (mut read, mut write) = tokio::io::split(&mut stream);
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                    write.shutdown().await.unwrap();
                }
                _ => attempt.refuse("nothing listens there").await,
            }
        }
    });
    let error = server.opener.open(To::Dial("10.0.0.1:1".into())).await.unwrap_err();
    assert!(matches!(&error, OpenError::Refused { reason } if reason == "nothing listens there"), "{error}");
    let mut stream = server.opener.open(To::Agent(Agent {})).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let mut echoed = Vec::new();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let (_, _) = tokio::join!(
        async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        },
        async { read.read_to_end(&mut echoed).await.unwrap() }
    );
    assert!(echoed == sent, "all bytes come back, and the end of the stream");
    drop(stream);
    drop(server);
    tokio::time::timeout(Duration::from_secs(5), node).await.expect("the drop ends the session").unwrap();
}

#[tokio::test]
async fn a_dead_peer_is_noticed() {
    let authority = Authority::new();
    let (listener, address) = authority.listen();
    let identity = authority.node("node-1");
    // The node's machine: its runtime, with all its packets, stops without a word.
    let machine = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let agent = machine.spawn(async move { connect(address, &identity, hello("node-1")).await.unwrap() });
    let mut server = link_attempt(&listener).await.welcome(Welcome::default()).await.unwrap();
    std::mem::forget(agent.await.unwrap());
    machine.shutdown_background();
    let begun = Instant::now();
    let ended = server.status.next().await;
    assert!(ended.is_err(), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_millis(IDLE_TIMEOUT_MS + 3000));
}

#[tokio::test]
async fn a_closed_listener_ends_everything() {
    let (listener, mut server, agent) = session().await;
    listener.close("upgrade").await;
    assert!(listener.accept().await.is_none());
    assert!(server.requests.next().await.is_err());
    assert!(agent.link.closed().await.contains("upgrade"));
}

#[tokio::test]
async fn a_control_plane_that_starts_again_is_noticed_at_once() {
    let authority = Authority::new();
    let (server_identity, node_identity) = (authority.server(), authority.node("node-1"));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, first_socket) = (socket.local_addr().unwrap(), socket.try_clone().unwrap());
    let first = ServerIdentity {
        chain: server_identity.chain.clone(),
        key: server_identity.key.clone_key(),
        ca: server_identity.ca.clone(),
    };
    // A control plane that dies with its runtime, without a word.
    let machine = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let served = machine.spawn(async move {
        let listener = Listener::on_socket(first_socket, &first).unwrap();
        let session = link_attempt(&listener).await.welcome(Welcome::default()).await.unwrap();
        std::mem::forget((listener, session));
        std::future::pending::<()>().await;
    });
    let agent = connect(address, &node_identity, hello("node-1")).await.unwrap();
    drop(served);
    machine.shutdown_background();

    let begun = Instant::now();
    let listener = Listener::on_socket(socket, &server_identity).unwrap();
    let why = tokio::time::timeout(Duration::from_secs(60), agent.link.closed()).await.unwrap();
    assert!(why.contains("started again"), "{why}");
    assert!(begun.elapsed() < Duration::from_millis(KEEP_ALIVE_MS + 2000), "long before the idle timeout");
    drop(listener);
}

/// A stream whose other side is silent would otherwise be held for ever: reading says only that no more comes.
#[tokio::test]
async fn who_holds_a_stream_hears_when_it_is_let_go() {
    let (_listener, server, mut agent) = session().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let node = tokio::spawn(async move {
        while let Some(attempt) = agent.opens.next().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut stream = attempt.accept().await.unwrap();
                let closed = stream.closed();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                tell.send("no more comes").unwrap();
                closed.await;
                tell.send("nothing is taken").unwrap();
            });
        }
    });
    let to = To::PodPort(PodPort { namespace: "d".into(), pod: "p".into(), port: 80 });
    let mut stream = server.opener.open(to).await.unwrap();
    stream.write_all(b"all there is").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(told.recv().await, Some("no more comes"));
    let waited = tokio::time::timeout(Duration::from_millis(200), told.recv()).await;
    assert!(waited.is_err(), "the other way is open still: {waited:?}");
    drop(stream);
    assert_eq!(told.recv().await, Some("nothing is taken"));
    node.abort();
}
