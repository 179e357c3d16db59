//! Files that change, and certificates that are not what they should be. Handshakes are the doors' tests.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use super::forge::{Authority, Identity};
use super::*;

const GOOD: (i32, i32) = (2020, 2035);
/// 2026-11-21.
const NOW_S: i64 = 1_795_219_200;

/// A clock that tests move.
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed) * 1000
    }

    fn random(&self) -> [u8; 16] {
        [0; 16]
    }
}

fn files(dir: &Path) -> Files {
    Files { certificate: dir.join("certificate.pem"), key: dir.join("key.pem"), clients: None }
}

fn fault(dir: &Path, clients: Option<Clients>) -> String {
    check(&Files { clients, ..files(dir) }, NOW_S).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let good = authority.server(&["localhost"], GOOD);
    assert!(fault(dir.path(), None).contains("certificate.pem"), "a file that is not there");
    for (broken, says) in [
        (authority.server(&["localhost"], (2020, 2021)), "certificate.pem: ended at 2021-01-01"),
        (authority.server(&["localhost"], (2034, 2035)), "certificate.pem: begins at 2034-01-01"),
        (
            Identity { key: authority.server(&["b"], GOOD).key, ..authority.server(&["a"], GOOD) },
            "key.pem: does not fit",
        ),
        (Identity { key: good.certificate.clone(), ..authority.server(&["a"], GOOD) }, "key.pem: holds no private key"),
        (Identity { certificate: String::new(), ..authority.server(&["a"], GOOD) }, "holds no certificate"),
        (
            Identity {
                certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into(),
                ..authority.server(&["a"], GOOD)
            },
            "no certificate",
        ),
    ] {
        broken.save(dir.path());
        let said = fault(dir.path(), None);
        assert!(said.contains(says) && said.contains("; "), "{said}");
        assert!(!said.contains("PRIVATE"), "a key is never shown");
    }
    good.save(dir.path());
    check(&files(dir.path()), NOW_S).unwrap();
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, "nothing").unwrap();
    assert!(
        fault(dir.path(), Some(Clients { ca: ca.clone(), required: true })).contains("ca.pem: holds no certificate")
    );
    fs::write(&ca, &authority.pem).unwrap();
    check(&Files { clients: Some(Clients { ca, required: true }), ..files(dir.path()) }, NOW_S).unwrap();
}

#[test]
fn changed_files_go_in_force_and_broken_ones_keep_the_last_good_with_an_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    authority.server(&["localhost"], GOOD).save(dir.path());
    let (clock, metrics) = (Arc::new(Hands(AtomicI64::new(NOW_S))), Arc::new(Metrics::new()));
    let server =
        Server::open("listen.tls", files(dir.path()), &[HTTP11], Arc::<Hands>::clone(&clock), Arc::clone(&metrics))
            .unwrap();
    let first = server.config.load_full();
    let expires = || metrics.certificate_expires.with_label_values(&["listen.tls"]).get();
    let stale = || metrics.certificate_stale.with_label_values(&["listen.tls"]).get();
    server.look();
    assert!(Arc::ptr_eq(&first, &server.config.load()) && server.findings().is_empty());
    assert_eq!((expires(), stale()), (2_051_222_400, 0));

    // Half of a renewal: the key of the certificate that comes next.
    let next = authority.server(&["localhost"], (2020, 2030));
    fs::write(dir.path().join("key.pem"), &next.key).unwrap();
    server.look();
    server.look();
    assert!(Arc::ptr_eq(&first, &server.config.load()));
    assert!(server.findings()[0].contains("last good ones stay"), "{:?}", server.findings());
    assert_eq!((expires(), stale()), (2_051_222_400, 1));
    fs::remove_file(dir.path().join("key.pem")).unwrap();
    server.look();
    assert!(Arc::ptr_eq(&first, &server.config.load()) && stale() == 1);

    next.save(dir.path());
    server.look();
    assert!(!Arc::ptr_eq(&first, &server.config.load()) && server.findings().is_empty());
    assert_eq!((expires(), stale()), (1_893_456_000, 0));

    clock.0.store(1_893_456_000 - 3600, Ordering::Relaxed);
    assert!(server.findings()[0].contains("ends at 2030-01-01"), "{:?}", server.findings());
    clock.0.store(1_893_456_000 + 3600, Ordering::Relaxed);
    assert!(server.findings()[0].contains("ended at 2030-01-01"), "{:?}", server.findings());
}
