//! TLS at our doors: certificate, key and the authorities of clients, read from files.
//!
//! Promises: TLS 1.2 and 1.3 by rustls; files are read again when they change, and what cannot be
//! used keeps the last good one in force, with an alarm; a client's certificate is verified (chain,
//! purpose, times) before anybody hears of it. Never shows a key. A room below the other adapters:
//! `adapters::door` and `adapters::admin` accept through it, `app` opens it.

mod files;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;

pub use files::{Clients, Files, TlsFault};

use crate::domain::identity::ClientCertificate;
use crate::metrics::Metrics;
use crate::pep::ports::Clock;

/// HTTP/2, as ALPN names it.
pub const H2: &[u8] = b"h2";
/// HTTP/1.1, as ALPN names it.
pub const HTTP11: &[u8] = b"http/1.1";
/// How long before its end a certificate is spoken of.
const SOON_S: i64 = 14 * 24 * 3600;

/// A door's side of TLS.
pub struct Server {
    /// Where it stands in the settings: `listen.tls` or `listen.admin_tls`.
    place: &'static str,
    files: Files,
    protocols: Vec<Vec<u8>>,
    config: ArcSwap<ServerConfig>,
    standing: Mutex<Standing>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What is known of the files.
struct Standing {
    /// SHA-256 of all that was last read, good or not.
    seen: Vec<u8>,
    /// When the certificate in force ends: seconds since the Unix epoch.
    expires_s: i64,
    /// Why changed files are not in force.
    fault: Option<TlsFault>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.place)
    }
}

impl Server {
    /// Reads the files. `protocols` are what ALPN may agree on, the best first.
    pub fn open(
        place: &'static str,
        files: Files,
        protocols: &[&[u8]],
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TlsFault> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let read = files.read()?;
        let (config, expires_s) = read.server(&files, &protocols, now_s(&*clock))?;
        let standing = Mutex::new(Standing { seen: read.digest(), expires_s, fault: None });
        let server = Self { place, files, protocols, config: ArcSwap::from_pointee(config), standing, clock, metrics };
        server.tell();
        Ok(server)
    }

    /// A handshake; whoever calls bounds its time.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<ClientCertificate>)> {
        let stream = TlsAcceptor::from(self.config.load_full()).accept(tcp).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|der| client_certificate(der)).transpose()?;
        Ok((stream, certificate))
    }

    /// Looks at the files every so often, until `stopped`.
    pub async fn watch(&self, every: Duration, mut stopped: watch::Receiver<bool>) {
        let mut looks = interval(every.max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // Whoever could say stop has gone, or says so.
                _ = stopped.wait_for(|stop| *stop) => return,
                _ = looks.tick() => self.look(),
            }
        }
    }

    /// Puts changed files in force, or keeps what is and says why.
    fn look(&self) {
        let read = self.files.read();
        let seen = read.as_ref().map(files::Read::digest).unwrap_or_default();
        let mut standing = self.lock();
        // WHY: files that cannot be read are read again, for nobody says when they can be.
        if seen == standing.seen && read.is_ok() {
            return;
        }
        let again = seen == standing.seen && standing.fault.is_some();
        standing.seen = seen;
        match read.and_then(|read| read.server(&self.files, &self.protocols, now_s(&*self.clock))) {
            Ok((config, expires_s)) => {
                self.config.store(Arc::new(config));
                (standing.expires_s, standing.fault) = (expires_s, None);
                tracing::info!(listener = self.place, "changed files of `{}` are in force", self.place);
            }
            Err(fault) => {
                if !again {
                    tracing::error!(
                        listener = self.place,
                        "changed files of `{}` are refused, the last good ones stay: {fault}",
                        self.place
                    );
                }
                standing.fault = Some(fault);
            }
        }
        drop(standing);
        self.tell();
    }

    /// What operators should know: files that are refused, a certificate that ends soon or has ended.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let standing = self.lock();
        let mut findings = Vec::new();
        findings.extend(standing.fault.as_ref().map(|fault| {
            format!("`{}`: changed files are refused, the last good ones stay in force: {fault}", self.place)
        }));
        let left_s = standing.expires_s - now_s(&*self.clock);
        if left_s < SOON_S {
            let verb = if left_s < 0 { "ended" } else { "ends" };
            let at = files::date(standing.expires_s);
            findings.push(format!("`{}`: its certificate {verb} at {at}; put a new one in its file", self.place));
        }
        findings
    }

    fn tell(&self) {
        let standing = self.lock();
        self.metrics.certificate_expires.with_label_values(&[self.place]).set(standing.expires_s);
        let stale = i64::from(standing.fault.is_some());
        self.metrics.certificate_stale.with_label_values(&[self.place]).set(stale);
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What would keep these files from being used at a door; reaches for nothing but them.
pub fn check(files: &Files, now_s: i64) -> Result<(), TlsFault> {
    files.read()?.server(files, &[HTTP11.to_vec()], now_s).map(|_| ())
}

/// A verified certificate as the sentence knows it.
fn client_certificate(der: &[u8]) -> io::Result<ClientCertificate> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(io::Error::other)?;
    let names = certificate.subject_alternative_name().map_err(io::Error::other)?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("dns:{}", name.to_ascii_lowercase())),
        GeneralName::URI(uri) => Some(format!("uri:{uri}")),
        _ => None,
    });
    let until_s = certificate.validity().not_after.timestamp();
    Ok(ClientCertificate { sha256: hex(digest(&SHA256, der).as_ref()), names: names.collect(), until_s })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // A string takes whatever is written.
        let _fits = write!(hex, "{byte:02x}");
        hex
    })
}

fn now_s(clock: &dyn Clock) -> i64 {
    clock.now_ms().div_euclid(1000)
}

#[cfg(test)]
#[path = "../../tests/support/certificates.rs"]
pub(crate) mod forge;
#[cfg(test)]
mod tests;
