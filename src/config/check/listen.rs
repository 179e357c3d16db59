//! Listeners: TLS is whole or absent, and what is open to a network without it is spoken of.

use super::Check;
use crate::config::Settings;
use crate::config::Tls;
use crate::config::TlsClients;
use crate::config::raw;

impl Check<'_> {
    pub(super) fn tls(&mut self, path: &str, raw: &raw::RawTls) -> Option<Tls> {
        let clients = &raw.clients;
        if clients.required && clients.ca.is_empty() {
            self.fault(
                &format!("{path}.clients.ca"),
                "nobody says whose clients are known",
                "name a file of authorities",
            );
        }
        match (raw.certificate.is_empty(), raw.key.is_empty()) {
            (true, true) => {
                if !clients.ca.is_empty() {
                    let remedy = "set `certificate` and `key`, or take `clients` out";
                    self.fault(&format!("{path}.certificate"), "without TLS no client shows a certificate", remedy);
                }
                return None;
            }
            (true, false) => self.fault(&format!("{path}.certificate"), "a key needs its certificate", "name its file"),
            (false, true) => self.fault(&format!("{path}.key"), "a certificate needs its key", "name its file"),
            (false, false) => {}
        }
        Some(Tls {
            certificate: self.base.join(&raw.certificate),
            key: self.base.join(&raw.key),
            clients: (!clients.ca.is_empty())
                .then(|| TlsClients { ca: self.base.join(&clients.ca), required: clients.required }),
        })
    }
}

impl Settings {
    /// What is no fault and may be a mistake, in plain words.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let behind_tls = self.public_url.as_deref().is_some_and(|url| url.starts_with("https://"));
        if self.mcp_tls.is_none() && !self.mcp.ip().is_loopback() && !behind_tls {
            notes.push(format!(
                "listen.mcp: {} is open to a network without TLS, so tokens can be read on the way; set `listen.tls`, \
                 or `public_url` to the https address of the proxy in front",
                self.mcp
            ));
        }
        if self.admin_tls.is_none() && !self.admin.ip().is_loopback() {
            notes.push(format!(
                "listen.admin: {} is open to a network without TLS; set `listen.admin_tls`, or keep it to networks \
                 where nobody listens",
                self.admin
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    const REST: &str = "
issuers: [{name: main, issuer: x, keys: {file: jwks.json}}]
backends: [{url: 'http://127.0.0.1:9400'}]
";

    fn paths(listen: &str) -> Vec<String> {
        let faults = parse(&format!("listen: {listen}{REST}"), Path::new("/etc")).err().unwrap_or_default();
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn tls_is_whole_or_absent() {
        assert_eq!(paths("{tls: {certificate: c, key: k, clients: {ca: a, required: true}}}"), [""; 0]);
        assert_eq!(paths("{tls: {certificate: c}}"), ["listen.tls.key"]);
        assert_eq!(paths("{tls: {key: k}}"), ["listen.tls.certificate"]);
        assert_eq!(paths("{admin_tls: {clients: {ca: a}}}"), ["listen.admin_tls.certificate"]);
        assert_eq!(paths("{tls: {certificate: c, key: k, clients: {required: true}}}"), ["listen.tls.clients.ca"]);
    }

    #[test]
    fn a_door_on_a_network_without_tls_is_spoken_of() {
        let notes = |listen: &str| {
            let settings = parse(&format!("listen: {listen}\n{REST}"), Path::new("/etc")).expect("good settings");
            settings.notes().len()
        };
        assert_eq!(notes("{}"), 0);
        assert_eq!(notes("{mcp: '0.0.0.0:8080'}"), 1);
        assert_eq!(notes("{mcp: '0.0.0.0:8080', tls: {certificate: c, key: k}}"), 0);
        assert_eq!(notes("{mcp: '0.0.0.0:8080'}\npublic_url: https://gateway.example/mcp"), 0);
        assert_eq!(notes("{mcp: '0.0.0.0:8080'}\npublic_url: http://gateway.example/mcp"), 1);
        assert_eq!(notes("{admin: '[::]:8081'}"), 1);
    }
}
