//! Keys over real TLS: only the authority named counts.

use std::net::SocketAddr;
use std::sync::Once;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer as Authority;
use rcgen::KeyPair;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

static PROVIDER: Once = Once::new();

/// An authority of its own, its certificate in a file, and a server that it vouches for.
struct Secure {
    dir: tempfile::TempDir,
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Secure {
    async fn start(host: &str) -> Self {
        PROVIDER.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
        let dir = tempfile::tempdir().unwrap();
        let mut of_authority = CertificateParams::new(Vec::new()).unwrap();
        of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let certificate = of_authority.self_signed(&authority_key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        let authority = Authority::new(of_authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![own.der().clone()], private).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).await;
                let body = String::from_utf8(jwks(&[&ED])).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _written = stream.write_all(format!("{head}{body}").as_bytes()).await;
                let _closed = stream.shutdown().await;
            }
        });
        Self { dir, addr, _tasks: tasks }
    }

    async fn fault(&self, host: &str, ca_file: Option<&str>) -> Option<String> {
        let url = format!("https://{host}:{}/jwks", self.addr.port());
        let mut issuer = IssuerConfig::new(settings(), KeySource::Url(url));
        issuer.way.ca_file = ca_file.map(|name| self.dir.path().join(name));
        let keys = Keys::new(vec![issuer]).unwrap();
        keys.load().await;
        assert_eq!(keys.principal(&ED.token(&claims()), NOW).await.is_ok(), keys.health()[0].fault.is_none());
        keys.health()[0].fault.clone()
    }
}

#[tokio::test]
async fn keys_come_over_tls_from_whom_the_named_authority_vouches_for() {
    let server = Secure::start("localhost").await;
    assert_eq!(server.fault("localhost", Some("ca.pem")).await, None);
    assert!(server.fault("localhost", None).await.is_some(), "the system does not know this authority");
    assert!(server.fault("127.0.0.1", Some("ca.pem")).await.is_some(), "its certificate is for another name");
    let other = Secure::start("localhost").await;
    std::fs::copy(other.dir.path().join("ca.pem"), server.dir.path().join("other.pem")).unwrap();
    assert!(server.fault("localhost", Some("other.pem")).await.is_some(), "another authority does not count");
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_keeps_the_issuer_from_being_set_up() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.pem"), "").unwrap();
    for name in ["missing.pem", "empty.pem"] {
        let mut issuer = IssuerConfig::new(settings(), KeySource::Url("https://idp.example/jwks".to_owned()));
        issuer.way.ca_file = Some(dir.path().join(name));
        let fault = Keys::new(vec![issuer]).err().unwrap().to_string();
        assert!(fault.contains(name) && fault.contains("issuer `main`"), "{fault}");
    }
}
