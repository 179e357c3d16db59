//! Who vouches for callers and how they are proven to backends: what is wrong with it.

use std::path::PathBuf;
use std::time::Duration;

use super::Check;
use super::is_loopback;
use super::raw;
use super::url_parts;
use crate::config::Introspection;
use crate::config::Issuer;
use crate::config::KeySource;
use crate::config::Propagation;
use crate::config::Rotation;
use crate::config::Scopes;
use crate::config::Way;
use crate::domain::identity::AuthMethod;
use crate::domain::identity::binding;
use crate::domain::identity::metadata::is_scope;

impl Check<'_> {
    pub(super) fn issuer(&mut self, at: usize, raw: &raw::RawIssuer) -> Issuer {
        let path = format!("issuers[{at}]");
        if raw.issuer.is_empty() {
            self.fault(&format!("{path}.issuer"), "no issuer is named", "write the exact `iss` of its tokens");
        }
        if raw.kind == AuthMethod::ServiceAccount && raw.tenants.is_empty() {
            let message = "kind `service_account` needs the tenants that its accounts may work for";
            self.fault(&format!("{path}.tenants"), message, "list them, as [org_a, org_b]");
        }
        let shared = raw.kind == AuthMethod::Loopiq;
        let remedy = "use RS256, ES256 or EdDSA; HS256 only for kind `loopiq`";
        self.algorithms(&path, &raw.algorithms, shared, remedy);
        let keys = self.key_source(&path, &raw.keys, shared);
        if keys == KeySource::Certificates && !matches!(raw.kind, AuthMethod::Helix | AuthMethod::Loopiq) {
            let message = "certificates alone vouch for whom headers name, which is for kinds `helix` and `loopiq`";
            self.fault(&format!("{path}.keys"), message, "set the kind, or set `file`, `url` or `introspection` too");
        }
        self.certificates(&format!("{path}.keys.certificates"), &raw.keys.certificates);
        Issuer {
            name: raw.name.clone(),
            kind: raw.kind,
            issuer: raw.issuer.clone(),
            audiences: raw.audiences.clone(),
            tenants: raw.tenants.clone(),
            algorithms: raw.algorithms.clone(),
            keys,
            place: self.place(&raw.keys.ca_file, raw.keys.allow_private),
            certificates: raw.keys.certificates.clone(),
            refresh: self.duration(&format!("{path}.refresh"), &raw.refresh),
            max_stale: self.duration(&format!("{path}.max_stale"), &raw.max_stale),
            leeway: self.duration(&format!("{path}.leeway"), &raw.leeway),
            claims: raw.claims.clone(),
            scopes: raw.scopes.clone(),
        }
    }

    pub(super) fn algorithms(&mut self, issuer: &str, algorithms: &[String], shared: bool, remedy: &str) {
        for alg in algorithms {
            let accepted = match alg.as_str() {
                "RS256" | "ES256" | "EdDSA" => true,
                "HS256" => shared,
                _ => false,
            };
            if !accepted {
                self.fault(&format!("{issuer}.algorithms"), format!("`{alg}` is not accepted here"), remedy);
            }
        }
    }

    fn certificates(&mut self, path: &str, names: &[String]) {
        for name in names.iter().filter(|name| !binding::is_name(name)) {
            let remedy = "write dns:NAME, uri:URI or sha256: and 64 hexadecimal digits";
            self.fault(path, format!("`{name}` names no certificate"), remedy);
        }
    }

    /// Keys of an issuer of approvals: these are signed, and come by any connection.
    pub(super) fn keys_alone(&mut self, issuer: &str, keys: &raw::RawKeySource) -> KeySource {
        if !keys.introspection.url.is_empty() || !keys.certificates.is_empty() {
            let remedy = "set `file`, `url` or `secret_file`";
            self.fault(&format!("{issuer}.keys"), "an approval is signed, and verified by keys alone", remedy);
        }
        self.key_source(issuer, keys, true)
    }

    /// `shared`: whether a secret that the issuer and the gateway share will do.
    fn key_source(&mut self, issuer: &str, keys: &raw::RawKeySource, shared: bool) -> KeySource {
        let path = format!("{issuer}.keys");
        let set = [&keys.file, &keys.url, &keys.secret_file, &keys.introspection.url];
        match set.iter().filter(|text| !text.is_empty()).count() {
            0 if !keys.certificates.is_empty() => return KeySource::Certificates,
            0 => {
                let remedy = "set `file`, `url`, `secret_file` or `introspection.url`; or `certificates` alone";
                self.fault(&path, "no key source", remedy);
                return KeySource::File(PathBuf::new());
            }
            1 => {}
            _ => {
                let remedy = "set exactly one of `file`, `url`, `secret_file` and `introspection.url`";
                self.fault(&path, "more than one key source", remedy);
                return KeySource::File(PathBuf::new());
            }
        }
        if !keys.introspection.url.is_empty() {
            return KeySource::Introspection(self.introspection(&path, &keys.introspection));
        }
        if !keys.url.is_empty() {
            self.endpoint(&format!("{path}.url"), &keys.url);
            return KeySource::Url(keys.url.clone());
        }
        if !keys.secret_file.is_empty() {
            if !shared {
                self.fault(&path, "a shared secret is accepted for kind `loopiq` only", "use `file` or `url`");
            }
            return KeySource::SecretFile(self.base.join(&keys.secret_file));
        }
        KeySource::File(self.base.join(&keys.file))
    }

    fn introspection(&mut self, keys: &str, raw: &raw::RawIntrospection) -> Introspection {
        let path = format!("{keys}.introspection");
        self.endpoint(&format!("{path}.url"), &raw.url);
        if raw.client_id.is_empty() {
            let message = "the server must know who asks";
            self.fault(&format!("{path}.client_id"), message, "name the gateway's client there");
        }
        Introspection {
            url: raw.url.clone(),
            client_id: raw.client_id.clone(),
            secret_file: self.optional(&raw.secret_file),
            cache: self.duration(&format!("{path}.cache"), &raw.cache),
            token_prefix: raw.token_prefix.clone(),
        }
    }

    /// A URL that the gateway asks, and whose answer decides who gets in.
    fn endpoint(&mut self, path: &str, url: &str) {
        let good = url_parts(url).is_some_and(|parts| parts.tls || is_loopback(&parts.host));
        if !good {
            let remedy = "use https, or http on a loopback address";
            self.fault(path, format!("`{url}` is not a safe place for keys and tokens"), remedy);
        }
    }

    pub(super) fn place(&mut self, ca_file: &str, allow_private: bool) -> Way {
        Way { ca_file: self.optional(ca_file), allow_private }
    }

    fn optional(&self, file: &str) -> Option<PathBuf> {
        (!file.is_empty()).then(|| self.base.join(file))
    }

    pub(super) fn propagation(&mut self, backend: &str, raw: &raw::RawBackend) -> Propagation {
        let path = format!("{backend}.propagation");
        let set = &raw.propagation;
        let lifetime = self.duration(&format!("{path}.lifetime"), &set.lifetime);
        let named = [&set.audience, &raw.name].into_iter().find(|name| !name.is_empty());
        let audience = named.cloned().unwrap_or_default();
        match set.mode {
            raw::PropagationMode::Assertion => Propagation::Assertion { audience, lifetime },
            raw::PropagationMode::Exchange => {
                self.endpoint(&format!("{path}.url"), &set.url);
                if set.client_id.is_empty() {
                    let message = "the token service must know who asks";
                    self.fault(&format!("{path}.client_id"), message, "name the gateway's client there");
                }
                Propagation::Exchange {
                    url: set.url.clone(),
                    place: self.place(&set.ca_file, set.allow_private),
                    client_id: set.client_id.clone(),
                    secret_file: self.optional(&set.secret_file),
                    audience,
                    scope: set.scope.clone(),
                }
            }
            raw::PropagationMode::Static => {
                if set.secret_file.is_empty() {
                    self.fault(&format!("{path}.secret_file"), "mode `static` needs a credential", "name its file");
                }
                Propagation::Static { secret_file: self.base.join(&set.secret_file) }
            }
        }
    }

    pub(super) fn scopes(&mut self, raw: &raw::RawScopes) -> Scopes {
        for (path, scopes) in [("scopes.read", &raw.read), ("scopes.write", &raw.write), ("scopes.admin", &raw.admin)] {
            for scope in scopes.iter().filter(|scope| !is_scope(scope)) {
                let remedy = "name scopes as tokens carry them, each by itself";
                self.fault(path, format!("`{scope}` is no scope"), remedy);
            }
        }
        Scopes { read: raw.read.clone(), write: raw.write.clone(), admin: raw.admin.clone() }
    }

    pub(super) fn rotation(&mut self, raw: &raw::RawKeys) -> Rotation {
        let publish_before = self.duration("keys.publish_before", &raw.publish_before);
        let every = (!raw.rotate.is_empty()).then(|| self.duration("keys.rotate", &raw.rotate));
        let too_often = |every: &Duration| *every < publish_before + Duration::from_hours(1);
        if every.as_ref().is_some_and(too_often) {
            let message = "keys are replaced before anybody has read them";
            self.fault("keys.rotate", message, "write at least an hour more than `keys.publish_before`, as 90d");
        }
        Rotation { every, publish_before }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Settings;
    use crate::config::parse;

    fn settings(issuer: &str, more: &str) -> Result<Settings, Vec<String>> {
        let text = format!(
            "issuers: [{{name: main, issuer: 'https://issuer.example', {issuer}}}]\nbackends: [{{url: 'http://127.0.0.1:9400'}}]\n{more}"
        );
        parse(&text, Path::new("/etc")).map_err(|faults| {
            assert!(faults.iter().all(|fault| !fault.remedy.is_empty()));
            faults.into_iter().map(|fault| fault.path).collect()
        })
    }

    #[test]
    fn opaque_tokens_need_a_safe_endpoint_and_a_client() {
        let good = "keys: {introspection: {url: 'https://issuer.example/introspect', client_id: gw, secret_file: s}}";
        let KeySource::Introspection(server) = settings(good, "").unwrap().issuers[0].keys.clone() else { panic!() };
        assert_eq!(server.secret_file, Some("/etc/s".into()));
        assert_eq!(server.cache, Duration::from_secs(30));
        let bad = "keys: {introspection: {url: 'http://issuer.example/introspect'}}";
        let paths = ["issuers[0].keys.introspection.url", "issuers[0].keys.introspection.client_id"];
        assert_eq!(settings(bad, "").unwrap_err(), paths);
        let both = "keys: {file: j, introspection: {url: 'https://issuer.example/i', client_id: gw}}";
        assert_eq!(settings(both, "").unwrap_err(), ["issuers[0].keys"]);
    }

    #[test]
    fn certificates_alone_vouch_for_sessions_and_beside_keys_they_narrow() {
        let names = format!("[dns:helix.internal, 'sha256:{}']", "ab".repeat(32));
        let alone = settings(&format!("kind: helix, keys: {{certificates: {names}}}"), "").unwrap();
        assert_eq!(alone.issuers[0].keys, KeySource::Certificates);
        let beside = settings(&format!("keys: {{file: j, certificates: {names}}}"), "").unwrap();
        assert_eq!(beside.issuers[0].keys, KeySource::File("/etc/j".into()));
        assert_eq!(beside.issuers[0].certificates.len(), 2);
        assert_eq!(settings(&format!("keys: {{certificates: {names}}}"), "").unwrap_err(), ["issuers[0].keys"]);
        let odd = settings("kind: helix, keys: {certificates: [helix.internal]}", "").unwrap_err();
        assert_eq!(odd, ["issuers[0].keys.certificates"]);
    }

    #[test]
    fn service_accounts_have_a_list_of_tenants() {
        let none = settings("kind: service_account, keys: {file: j}", "").unwrap_err();
        assert_eq!(none, ["issuers[0].tenants"]);
        assert!(settings("kind: service_account, tenants: [org_gcn], keys: {file: j}", "").is_ok());
    }

    #[test]
    fn an_approval_is_verified_by_keys_alone() {
        for keys in
            ["{introspection: {url: 'https://l.example/i', client_id: gw}}", "{certificates: ['dns:l.example']}"]
        {
            let more = format!("approvals: {{issuers: [{{name: a, issuer: x, keys: {keys}}}]}}");
            let paths = settings("keys: {file: j}", &more).unwrap_err();
            assert!(paths.iter().all(|path| path.starts_with("approvals.issuers[0].keys")), "{paths:?}");
        }
    }

    #[test]
    fn an_exchange_needs_a_safe_endpoint_and_a_client() {
        let with = |propagation: &str| {
            let text = format!(
                "issuers: [{{name: main, issuer: x, keys: {{file: j}}}}]\nbackends: [{{name: loopiq, url: 'http://127.0.0.1:1', propagation: {propagation}}}]"
            );
            parse(&text, Path::new("/etc")).map_err(|faults| faults.into_iter().map(|one| one.path).collect::<Vec<_>>())
        };
        let good = with("{mode: exchange, url: 'https://sts.example/token', client_id: gw}").unwrap();
        let Propagation::Exchange { audience, secret_file, .. } = &good.backends[0].propagation else { panic!() };
        assert_eq!((audience.as_str(), secret_file), ("loopiq", &None));
        let paths = ["backends[0].propagation.url", "backends[0].propagation.client_id"];
        assert_eq!(with("{mode: exchange, url: 'http://sts.example/token'}").unwrap_err(), paths);
    }

    #[test]
    fn a_scope_is_one_word_and_keys_are_known_before_they_sign() {
        let more = "scopes: {write: ['tools:read tools:write']}\nkeys: {rotate: 1h, publish_before: 10m}";
        assert_eq!(settings("keys: {file: j}", more).unwrap_err(), ["scopes.write", "keys.rotate"]);
        let good = settings("keys: {file: j}", "keys: {rotate: 90d}").unwrap();
        assert_eq!(good.rotation.every, Some(Duration::from_hours(90 * 24)));
    }
}
