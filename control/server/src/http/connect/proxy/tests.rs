//! What goes on of a request and of an answer, and what does not.

use super::*;

const PREFIX: &str = "/api/v1/namespaces/d/pods/p/proxy";

fn client(headers: &[(&'static str, &'static str)]) -> Parts {
    let mut request = Request::new(());
    *request.uri_mut() = "/api/v1/namespaces/d/pods/p/proxy/a%2Fb?x=1".parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    request.into_parts().0
}

#[test]
fn a_pod_hears_nothing_of_the_clients_rights() {
    let head = client(&[
        ("authorization", "Bearer secret"),
        ("proxy-authorization", "Basic secret"),
        ("impersonate-user", "admin"),
        ("impersonate-extra-scopes", "all"),
        ("x-remote-user", "admin"),
        ("x-forwarded-for", "10.0.0.1"),
        ("connection", "keep-alive, x-per-hop"),
        ("x-per-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("content-length", "3"),
        ("host", "api:6443"),
        ("cookie", "the-pods=own"),
        ("accept", "text/html"),
    ]);
    let told = to_pod(&head, "a%2Fb", PREFIX, false).unwrap();
    assert_eq!(told.uri, "/a%2Fb?x=1", "as it stood in the URL");
    let mut names: Vec<_> = told.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "cookie", "host", "x-forwarded-uri"]);
    assert_eq!(told.headers[HOST], "api:6443");
    assert_eq!(told.headers[FORWARDED_URI], "/api/v1/namespaces/d/pods/p/proxy/a%2Fb");
}

#[test]
fn an_upgrade_is_asked_for_where_the_client_does() {
    let head =
        client(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")]);
    let told = to_pod(&head, "", PREFIX, true).unwrap().headers;
    assert_eq!(
        (&told[CONNECTION], &told[UPGRADE]),
        (&"Upgrade".parse().unwrap(), &"websocket".parse().unwrap())
    );
    assert_eq!(told["sec-websocket-version"], "13");
    let told = to_pod(&head, "", PREFIX, false).unwrap().headers;
    assert!(!told.contains_key(UPGRADE) && !told.contains_key(CONNECTION));
}

#[test]
fn redirects_lead_back_through_the_proxy() {
    let own = ["api:6443".to_owned(), "10.1.2.3:8080".to_owned()];
    for (location, wanted) in [
        ("/login?next=%2F#top", "/api/v1/namespaces/d/pods/p/proxy/login?next=%2F#top"),
        ("http://10.1.2.3:8080/login", "/api/v1/namespaces/d/pods/p/proxy/login"),
        ("//api:6443/login", "/api/v1/namespaces/d/pods/p/proxy/login"),
        // It knew where it is, by X-Forwarded-Uri.
        ("/api/v1/namespaces/d/pods/p/proxy/login", "/api/v1/namespaces/d/pods/p/proxy/login"),
        (
            "/api/v1/namespaces/d/pods/p/proxyman",
            "/api/v1/namespaces/d/pods/p/proxy/api/v1/namespaces/d/pods/p/proxyman",
        ),
        ("login", "login"),
        ("../login", "../login"),
        ("?page=2", "?page=2"),
        ("https://elsewhere/login", "https://elsewhere/login"),
        ("http://10.1.2.3/login", "http://10.1.2.3/login"),
    ] {
        assert_eq!(rewritten(location, PREFIX, &own), wanted, "{location}");
    }
}

#[test]
fn an_answer_keeps_its_length_and_loses_what_was_its_connections() {
    let mut pod = Response::new(answer::full("four"));
    for (name, value) in
        [("content-length", "4"), ("keep-alive", "5"), ("connection", "close"), ("set-cookie", "a")]
    {
        pod.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let told = to_client(pod, PREFIX, &[]);
    let mut names: Vec<_> = told.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "set-cookie"]);
}

/// A Pod's own certificate, for a name of its own, that nobody has signed.
#[tokio::test]
async fn a_pods_certificate_is_taken_as_it_is() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let made = rcgen::generate_simple_self_signed(["anything.local".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (ours, theirs) = tokio::io::duplex(4096);
    let pod = tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let mut stream = acceptor.accept(theirs).await.unwrap();
        assert!(stream.get_ref().1.peer_certificates().is_none(), "and the server shows none");
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let name = ServerName::try_from("10.1.2.3").unwrap();
    let connector = TlsConnector::from(Arc::new(unverified().unwrap()));
    let mut stream = connector.connect(name, ours).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello");
    pod.await.unwrap();
}
