//! A certificate authority of a test's own: what it signs is good, expired or for other names, as asked.

#![allow(dead_code, clippy::allow_attributes, reason = "each user needs a part of it")]

use std::fs;
use std::path::Path;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rcgen::date_time_ymd;

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, in PEM.
    pub(crate) pem: String,
}

/// A certificate with its key, both in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For a server of these names, from year to year.
    pub(crate) fn server(&self, names: &[&str], years: (i32, i32)) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign(CertificateParams::new(names).unwrap(), ExtendedKeyUsagePurpose::ServerAuth, years)
    }

    /// For a client with this DNS name and this URI, from year to year.
    pub(crate) fn client(&self, dns: &str, uri: &str, years: (i32, i32)) -> Identity {
        let mut params = CertificateParams::new(vec![dns.to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth, years)
    }

    fn sign(&self, mut params: CertificateParams, purpose: ExtendedKeyUsagePurpose, years: (i32, i32)) -> Identity {
        params.extended_key_usages = vec![purpose];
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }
}

impl Identity {
    /// Writes `certificate.pem` and `key.pem` into a folder.
    pub(crate) fn save(&self, dir: &Path) {
        fs::write(dir.join("certificate.pem"), &self.certificate).unwrap();
        fs::write(dir.join("key.pem"), &self.key).unwrap();
    }
}
