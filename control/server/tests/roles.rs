//! Who may do what, over the API of a real server: roles of a file, reviews, impersonation.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::path::Path;

use base64::Engine as _;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use server::{Client, Server};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

const ROLES: &str = "
- subjects: [{ kind: ServiceAccount, namespace: default, name: robot }]
  namespaces: [default]
  rules:
    - { apiGroups: [''], resources: [configmaps], verbs: [get, list, create] }
    - { apiGroups: [''], resources: [secrets], resourceNames: [own], verbs: [get] }
    - { apiGroups: [''], resources: [pods, services, pods/portforward], verbs: [get] }
    - { apiGroups: [''], resources: [pods/portforward], resourceNames: [open], verbs: [create] }
- subjects: [{ kind: ServiceAccount, namespace: default, name: robot }]
  rules:
    - { nonResourceURLs: [/metrics], verbs: [get] }
    - { apiGroups: [''], resources: [users], resourceNames: [ci], verbs: [impersonate] }
    - { apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create] }
";

fn with_roles(dir: &Path) -> Server {
    let roles = dir.join("roles.yaml");
    std::fs::write(&roles, ROLES).unwrap();
    Server::start_with(dir, &["--roles", roles.to_str().unwrap()])
}

/// A ServiceAccount's client, and its token.
async fn robot(server: &Server, admin: &mut Client) -> (Client, String) {
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "robot" } });
    assert_eq!(admin.post(ACCOUNTS, account).await.0, 201);
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let (code, token) = admin.post(&format!("{ACCOUNTS}/robot/token"), request).await;
    assert_eq!(code, 201, "{token}");
    let token = token["status"]["token"].as_str().unwrap().to_owned();
    (server.client(None, Some(token.clone())).await, token)
}

#[tokio::test]
async fn a_service_account_may_what_its_roles_say_there_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_roles(dir.path());
    let mut admin = server.admin().await;
    let (mut robot, _) = robot(&server, &mut admin).await;
    let map = |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(robot.post(maps, map("a")).await.0, 201);
    assert_eq!(robot.get(maps).await.0, 200);
    assert_eq!(robot.get("/metrics").await.0, 200);
    // The rule names it; that it is not there may be told.
    assert_eq!(robot.get("/api/v1/namespaces/default/secrets/own").await.0, 404);
    for (method, path) in [
        (Method::DELETE, "/api/v1/namespaces/default/configmaps/a"),
        (Method::GET, "/api/v1/namespaces/kube-system/configmaps"),
        (Method::GET, "/api/v1/configmaps"),
        (Method::GET, "/api/v1/namespaces/default/secrets/other"),
        (Method::GET, "/api/v1/namespaces/default/secrets"),
        (Method::GET, "/api/v1/namespaces/default/configmaps?watch=1"),
    ] {
        let (code, refused) = robot.call(method.clone(), path, None).await;
        assert_eq!((code, refused["reason"].as_str()), (403, Some("Forbidden")), "{method} {path}");
    }
    let (_, refused) = robot.call(Method::DELETE, &format!("{maps}/a"), None).await;
    assert_eq!(
        refused["message"],
        "configmaps \"a\" is forbidden: User \"system:serviceaccount:default:robot\" cannot delete resource \
         \"configmaps\" in API group \"\" in the namespace \"default\""
    );
}

/// Whoever may see a Pod gets no further into it by that.
#[tokio::test]
async fn the_streams_of_a_pod_have_rights_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_roles(dir.path());
    let mut admin = server.admin().await;
    let (mut robot, _) = robot(&server, &mut admin).await;
    let pods = "/api/v1/namespaces/default/pods";
    for method in [Method::GET, Method::POST] {
        for path in ["p/exec?command=id", "p/attach", "p/portforward", "p/proxy/", "http:p:80/proxy/x"] {
            let (code, refused) = robot.call(method.clone(), &format!("{pods}/{path}"), None).await;
            assert_eq!(
                (code, refused["reason"].as_str()),
                (403, Some("Forbidden")),
                "{method} {path}: {refused}"
            );
        }
        let service = "/api/v1/namespaces/default/services/s:80/proxy/";
        assert_eq!(robot.call(method.clone(), service, None).await.0, 403, "{method}");
        // This one it may, and it is not there.
        assert_eq!(robot.call(method, &format!("{pods}/open/portforward"), None).await.0, 404);
    }
}

fn asks(kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec })
}

#[tokio::test]
async fn who_may_change_an_object_makes_none_by_an_apply() {
    const ROLES: &str = "[{ subjects: [{ kind: ServiceAccount, namespace: default, name: robot }],
        rules: [{ apiGroups: [''], resources: [configmaps], verbs: [patch] }] }]";
    let dir = tempfile::tempdir().unwrap();
    let roles = dir.path().join("roles.yaml");
    std::fs::write(&roles, ROLES).unwrap();
    let server = Server::start_with(dir.path(), &["--roles", roles.to_str().unwrap()]);
    let mut admin = server.admin().await;
    let (mut robot, _) = robot(&server, &mut admin).await;
    let path = "/api/v1/namespaces/default/configmaps/a?fieldManager=robot";
    let map =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "v" } });
    let apply = async |client: &mut Client| {
        let headers = [("content-type", "application/apply-patch+yaml")];
        client.open(Method::PATCH, path, &headers, map.to_string().into_bytes()).await.status().as_u16()
    };
    assert_eq!(apply(&mut robot).await, 403);
    assert_eq!(apply(&mut admin).await, 201);
    assert_eq!(apply(&mut robot).await, 200);
}

#[tokio::test]
async fn who_may_write_what_is_a_signers_acts_for_no_signer_by_that() {
    const GROUP: &str = "/apis/certificates.k8s.io/v1";
    const ROLES: &str = "[{ subjects: [{ kind: ServiceAccount, namespace: default, name: robot }], rules: [
        { apiGroups: [certificates.k8s.io], resources: [clustertrustbundles, certificatesigningrequests/approval,
            certificatesigningrequests/status, podcertificaterequests/status], verbs: [create, update, patch] },
        { apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: [a.example/own],
            verbs: [approve, attest] },
        { apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: [a.example/*], verbs: [sign] }] }]";
    let dir = tempfile::tempdir().unwrap();
    let roles = dir.path().join("roles.yaml");
    std::fs::write(&roles, ROLES).unwrap();
    let server = Server::start_with(dir.path(), &["--roles", roles.to_str().unwrap()]);
    let mut admin = server.admin().await;
    let (mut robot, _) = robot(&server, &mut admin).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let trusted = authority.self_signed(&key).unwrap().pem();
    let of = |kind: &str, name: &str, spec: Value| json!({ "apiVersion": "certificates.k8s.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let decided = |type_: &str| {
        json!({ "status": { "conditions": [{ "type": type_, "status": "True", "reason": "Test",
        "message": "m", "lastTransitionTime": "2027-01-15T08:00:00Z" }] } })
    };
    // What it may for each signer: approve and attest, sign.
    for (at, (signer, own, signs)) in
        [("a.example/own", true, true), ("a.example/other", false, true), ("b.example/own", false, false)]
            .into_iter()
            .enumerate()
    {
        let expected = |may: bool, good: u16| if may { good } else { 403 };
        let spec = json!({ "signerName": signer, "usages": ["client auth"], "request": base64(request.pem().unwrap().as_bytes()) });
        let csr = of("CertificateSigningRequest", &format!("r{at}"), spec);
        let csrs = format!("{GROUP}/certificatesigningrequests");
        assert_eq!(admin.post(&csrs, csr).await.0, 201);
        let path = format!("{csrs}/r{at}");
        let approval = Some(decided("Approved"));
        let (code, told) = robot.call(Method::PATCH, &format!("{path}/approval"), approval).await;
        assert_eq!(code, expected(own, 200), "{signer}: {told}");
        let (code, told) =
            robot.call(Method::PATCH, &format!("{path}/status"), Some(decided("Failed"))).await;
        // An approval that is there is not taken away; nobody may, and who may sign is told so.
        assert_eq!(code, if own { 422 } else { expected(signs, 200) }, "{signer}: {told}");
        let unchanged = json!({ "metadata": { "labels": { "seen": "yes" } } });
        assert_eq!(robot.call(Method::PATCH, &format!("{path}/status"), Some(unchanged)).await.0, 200);

        let spec = json!({ "signerName": signer, "podName": "p", "podUID": "1", "serviceAccountName": "default",
            "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": base64(request.der()) });
        let requests = format!("{GROUP}/namespaces/default/podcertificaterequests");
        let asked = of("PodCertificateRequest", &format!("r{at}"), spec);
        assert_eq!(admin.post(&requests, asked.clone()).await.0, 201);
        let (path, mut denied) = (format!("{requests}/r{at}/status"), asked);
        denied["status"] = decided("Denied")["status"].clone();
        // Whose it is said to be counts for nothing.
        denied["spec"]["signerName"] = "a.example/own".into();
        let (code, told) = robot.call(Method::PUT, &path, Some(denied)).await;
        assert_eq!(code, expected(signs, 200), "{signer}: {told}");

        let name = format!("{}:made", signer.replace('/', ":"));
        let bundle = of("ClusterTrustBundle", &name, json!({ "signerName": signer, "trustBundle": trusted }));
        let bundles = format!("{GROUP}/clustertrustbundles");
        let (code, told) = robot.post(&bundles, bundle.clone()).await;
        assert_eq!(code, expected(own, 201), "{signer}: {told}");
        let path = format!("{bundles}/{}:applied?fieldManager=robot", signer.replace('/', ":"));
        let mut applied = bundle.clone();
        applied["metadata"]["name"] = Value::Null;
        for good in [201, 200] {
            let headers = [("content-type", "application/apply-patch+yaml")];
            let body = applied.to_string().into_bytes();
            let code = robot.open(Method::PATCH, &path, &headers, body).await.status().as_u16();
            assert_eq!(code, expected(own, good), "{signer}");
        }
        if !own {
            assert_eq!(admin.post(&bundles, bundle.clone()).await.0, 201);
            let (code, told) = robot.call(Method::PUT, &format!("{bundles}/{name}"), Some(bundle)).await;
            assert_eq!((code, told["reason"].as_str()), (403, Some("Forbidden")), "{told}");
        }
    }
}

#[tokio::test]
async fn what_somebody_may_is_answered_as_it_is_decided() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_roles(dir.path());
    let mut admin = server.admin().await;
    let (mut robot, _) = robot(&server, &mut admin).await;
    let list = |namespace: &str| json!({ "verb": "list", "resource": "configmaps", "namespace": namespace });
    let own = format!("{REVIEWS}/selfsubjectaccessreviews");
    for (namespace, allowed) in [("default", true), ("kube-system", false), ("", false)] {
        let asked = asks("SelfSubjectAccessReview", &json!({ "resourceAttributes": list(namespace) }));
        let (code, answer) = robot.post(&own, asked).await;
        assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(allowed)), "{namespace}");
    }
    let path = json!({ "nonResourceAttributes": { "verb": "get", "path": "/metrics" } });
    let (_, answer) = robot.post(&own, asks("SelfSubjectAccessReview", &path)).await;
    assert_eq!(answer["status"]["allowed"], true);

    let rules = asks("SelfSubjectRulesReview", &json!({ "namespace": "default" }));
    let (_, answer) = robot.post(&format!("{REVIEWS}/selfsubjectrulesreviews"), rules).await;
    let maps = answer["status"]["resourceRules"].as_array().unwrap();
    assert!(maps.iter().any(|rule| rule["resources"] == json!(["configmaps"])), "{answer}");

    // Of others, who may ask that.
    let robots = "system:serviceaccount:default:robot";
    let of = |spec: &Value| asks("SubjectAccessReview", spec);
    let other = json!({ "user": robots, "resourceAttributes": list("default") });
    assert_eq!(robot.post(&format!("{REVIEWS}/subjectaccessreviews"), of(&other)).await.0, 403);
    let (code, answer) = admin.post(&format!("{REVIEWS}/subjectaccessreviews"), of(&other)).await;
    assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(true)), "{answer}");
    let (code, refused) = admin
        .post(
            &format!("{REVIEWS}/subjectaccessreviews"),
            of(&json!({ "resourceAttributes": list("default") })),
        )
        .await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("spec.user")));
    let (code, _) = admin.post(&format!("{REVIEWS}/subjectaccessreviews"), of(&json!({ "user": "a" }))).await;
    assert_eq!(code, 422);

    let local = asks("LocalSubjectAccessReview", &other);
    let at = |namespace: &str| format!("{REVIEWS}/namespaces/{namespace}/localsubjectaccessreviews");
    let (_, answer) = admin.post(&at("default"), local.clone()).await;
    assert_eq!(answer["status"]["allowed"], true, "{answer}");
    assert_eq!(admin.post(&at("kube-system"), local).await.0, 422, "another namespace than it asks about");
}

#[tokio::test]
async fn whose_a_token_is_and_for_whom() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_roles(dir.path());
    let mut admin = server.admin().await;
    let (mut robot, token) = robot(&server, &mut admin).await;
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let asked = |token: &str, audiences: &[&str]| {
        json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": { "token": token, "audiences": audiences } })
    };
    let (code, answer) = robot.post(path, asked(&token, &[])).await;
    assert_eq!((code, &answer["status"]["authenticated"]), (201, &json!(true)), "{answer}");
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:robot");
    assert!(!answer.to_string().contains(&token), "the token is not said again");
    for (token, audiences) in [(token.as_str(), &["vault"][..]), ("nonsense", &[])] {
        let (_, answer) = admin.post(path, asked(token, audiences)).await;
        assert_ne!(answer["status"]["authenticated"], true, "{answer}");
        assert!(answer["status"]["error"].is_string());
    }
    assert_eq!(admin.post(path, asked("", &[])).await.0, 400);
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "audiences": ["vault", "other"] } });
    let (_, issued) = admin.post(&format!("{ACCOUNTS}/robot/token"), request).await;
    let issued = issued["status"]["token"].as_str().unwrap();
    let (_, answer) = admin.post(path, asked(issued, &["vault", "nobody"])).await;
    assert_eq!(answer["status"]["audiences"], json!(["vault"]), "{answer}");
    // It is not for the API server.
    assert_eq!(server.client(None, Some(issued.to_owned())).await.get("/api").await.0, 401);
}

#[tokio::test]
async fn one_asks_as_another_where_a_rule_allows_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_roles(dir.path());
    let mut admin = server.admin().await;
    let (mut robot, _) = robot(&server, &mut admin).await;
    async fn who(client: &mut Client, headers: &[(&str, &str)]) -> (u16, Value) {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let headers = [headers, &[("content-type", "application/json")]].concat();
        let answer = client.open(Method::POST, path, &headers, body.to_string().into_bytes()).await;
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap())
    }
    let user = |answer: &Value| answer["status"]["userInfo"]["username"].as_str().unwrap_or("").to_owned();
    let (_, answer) = who(&mut admin, &[("impersonate-user", "ci"), ("impersonate-group", "builders")]).await;
    assert_eq!(user(&answer), "ci", "{answer}");
    assert_eq!(answer["status"]["userInfo"]["groups"], json!(["builders", "system:authenticated"]));
    let (_, answer) = who(&mut robot, &[("impersonate-user", "ci")]).await;
    assert_eq!(user(&answer), "ci", "{answer}");
    let masters = [("impersonate-user", "ci"), ("impersonate-group", "system:masters")];
    assert_eq!(who(&mut robot, &masters).await.0, 403);
    assert_eq!(who(&mut robot, &[("impersonate-user", "admin")]).await.0, 403);
    // What the other may not, is refused.
    let headers = [("impersonate-user", "ci")];
    let answer = admin.open(Method::GET, "/api/v1/secrets", &headers, Vec::new()).await;
    assert_eq!(answer.status(), 403);
}

#[test]
fn a_file_of_roles_that_is_not_understood_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let roles = dir.path().join("roles.yaml");
    for (text, said) in [("- { subjects: [] }", "rules"), ("[{ subjects: [], rules: [] }]", "[0].subjects")] {
        std::fs::write(&roles, text).unwrap();
        let output = std::process::Command::new(server::BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--link", "127.0.0.1:0", "--advertise", "127.0.0.1"])
            .arg("--roles")
            .arg(&roles)
            .arg("--data-dir")
            .arg(dir.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        assert!(!output.status.success());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(said) && told.contains("roles.yaml"), "{told}");
    }
}
