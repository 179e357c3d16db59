//! Whom a server must be to be believed, over real TLS.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use serde_json::json;

use super::scripted::*;
use crate::adapters::upstream::Place;
use crate::adapters::upstream::Server;
use crate::adapters::upstream::TrustFiles;
use crate::adapters::upstream::server::Upstream;
use crate::pep::ports::SendFaultKind::Unreachable;

/// Signs, and stands in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a name, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (signed.pem(), key.serialize_pem())
    }
}

fn served(own: &(String, String), clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(own.0.as_bytes()).unwrap()];
    builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(own.1.as_bytes()).unwrap()).unwrap()
}

fn client(port: u16, trust: TrustFiles) -> Upstream {
    let place = Place { tls: true, host: "localhost".into(), ..server(port).place };
    Upstream::new(Server { place, trust, ..server(port) })
}

fn done(seen: &Seen) -> Reply {
    Reply::Keep(result(seen, &json!({"content": []})))
}

fn file(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    fs::write(dir.join(name), text).unwrap();
    dir.join(name)
}

#[tokio::test]
async fn only_a_server_whom_the_authority_knows_by_that_name_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let ca = file(dir.path(), "ca.pem", &ours.pem);
    let trust = TrustFiles { ca: Some(ca), own: None };
    for (signed, believed) in
        [(ours.sign("localhost"), true), (ours.sign("mcp.example"), false), (theirs.sign("localhost"), false)]
    {
        let server = Scripted::start_tls(served(&signed, None), modern(done)).await;
        let read = client(server.port, trust.clone()).read().await;
        assert_eq!(read.is_ok(), believed, "{:?}", read.err());
        let unknown = client(server.port, TrustFiles::default()).read().await.unwrap_err();
        assert_eq!((unknown.kind, unknown.bytes_left), (Unreachable, false), "the system does not know it either");
        assert_eq!(server.asked().is_empty(), !believed, "who is not believed is told nothing");
    }
}

#[tokio::test]
async fn the_gateway_shows_its_own_certificate_where_one_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let own = ours.sign("gateway.example");
    let server = Scripted::start_tls(served(&ours.sign("localhost"), Some(&ours)), modern(done)).await;
    let ca = file(dir.path(), "ca.pem", &ours.pem);
    assert!(client(server.port, TrustFiles { ca: Some(ca.clone()), own: None }).read().await.is_err());
    assert!(server.asked().is_empty());
    let own = Some((file(dir.path(), "own.pem", &own.0), file(dir.path(), "own.key", &own.1)));
    client(server.port, TrustFiles { ca: Some(ca), own }).read().await.unwrap();
}

#[tokio::test]
async fn changed_files_are_used_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (Authority::new(), Authority::new());
    let path = file(dir.path(), "ca.pem", &before.pem);
    let server = Scripted::start_tls(served(&after.sign("localhost"), None), modern(done)).await;
    let upstream = client(server.port, TrustFiles { ca: Some(path), own: None });
    assert!(upstream.read().await.is_err());
    file(dir.path(), "ca.pem", &after.pem);
    upstream.read().await.unwrap();
    file(dir.path(), "ca.pem", "no certificate");
    upstream.read().await.unwrap();
}
