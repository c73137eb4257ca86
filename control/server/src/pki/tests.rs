//! Keys and certificates over several starts.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn open(dir: &Path, names: &[&str], now: Timestamp) -> Pki {
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    let life = Duration::from_secs(365 * 86_400);
    Pki::open(dir, Terms { names, addresses: vec!["127.0.0.1".parse().unwrap()], life }, now).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

const START: i64 = 1_700_000_000;

#[test]
fn a_second_start_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &["weft-control"], at(START));
    let second = open(dir.path(), &["weft-control"], at(START + 3_600));
    assert_eq!(first.ca_pem, second.ca_pem);
    assert_eq!(first.server().certificate_pem, second.server().certificate_pem);
    assert_eq!(first.account_key_der, second.account_key_der);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn leaves_are_renewed_for_age_and_for_names_and_the_ca_stays() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &["weft-control"], at(START));
    let aged = open(dir.path(), &["weft-control"], at(START + 320 * 86_400));
    assert_ne!(first.server().certificate_pem, aged.server().certificate_pem);
    let named = open(dir.path(), &["weft-control", "api.example"], at(START + 320 * 86_400));
    assert_ne!(named.server().certificate_pem, aged.server().certificate_pem);
    assert_eq!(named.admin.load().certificate_pem, aged.admin.load().certificate_pem);
    assert_eq!(first.ca_pem, named.ca_pem);
}

#[test]
fn a_running_server_renews_what_nears_its_end_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let pki = open(dir.path(), &["weft-control"], at(START));
    let first = pki.server();
    assert!(!pki.renew(at(START + 300 * 86_400)).unwrap());
    assert!(pki.renew(at(START + 320 * 86_400)).unwrap());
    assert!(*pki.server() != *first);
    let again = open(dir.path(), &["weft-control"], at(START + 320 * 86_400));
    assert!(*again.server() == *pki.server(), "it is on the disk");
}

#[test]
fn a_certificate_of_another_key_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &["weft-control"], at(START)).server();
    let other = KeyPair::generate().unwrap();
    std::fs::write(dir.path().join("server.key"), other.serialize_pem()).unwrap();
    let second = open(dir.path(), &["weft-control"], at(START)).server();
    assert!(second.certificate_pem != first.certificate_pem && second.key_pem != other.serialize_pem());
}

#[test]
fn a_node_gets_its_own_subject_whatever_it_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let pki = open(dir.path(), &["weft-control"], at(START));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let pem = pki.sign_node(&csr, "node-1", at(START)).unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let text = certificate.subject().to_string();
    assert!(text.contains("CN=system:node:node-1") && text.contains("O=system:nodes"), "{text}");
    assert!(!text.contains("masters"));
    assert!(pki.sign_node("not a request", "node-1", at(START)).is_err());
}
