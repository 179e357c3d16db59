//! The policy bundle and how it goes live: what is wrong with that part of the settings.

use std::path::PathBuf;

use super::Check;
use super::is_loopback;
use super::raw;
use super::url_parts;
use crate::config::Canary;
use crate::config::Gate;
use crate::config::Policy;
use crate::config::Served;
use crate::config::Shadow;

impl Check<'_> {
    pub(super) fn policy(&mut self, raw: &raw::RawPolicy) -> Policy {
        if raw.activation == raw::Activation::Gated && raw.gate.decisions == 0 {
            let message = "a gate that asks for no recorded decision lets everything through";
            self.fault("policy.gate.decisions", message, "use a number from 1 up, or `activation: automatic`");
        }
        for (path, percent) in [
            ("policy.shadow.percent", raw.shadow.percent),
            ("policy.canary.band", raw.canary.band),
            ("policy.canary.errors", raw.canary.errors),
        ] {
            if percent > 100 {
                self.fault(path, format!("{percent} is no percentage"), "use a number from 0 to 100");
            }
        }
        Policy {
            dir: self.base.join(&raw.dir),
            store: self.base.join(&raw.store),
            served: self.served(&raw.bundle),
            activation: raw.activation,
            gate: Gate {
                decisions: raw.gate.decisions,
                age: self.duration("policy.gate.age", &raw.gate.age),
                keys: self.key_files(&raw.gate.keys),
            },
            shadow: Shadow {
                dir: Some(&raw.shadow.dir).filter(|dir| !dir.is_empty()).map(|dir| self.base.join(dir)),
                tenants: raw.shadow.tenants.clone(),
                percent: raw.shadow.percent,
            },
            canary: Canary {
                least: raw.canary.least,
                band: raw.canary.band,
                errors: raw.canary.errors,
                window: self.duration("policy.canary.window", &raw.canary.window),
            },
        }
    }

    fn served(&mut self, raw: &raw::RawServed) -> Option<Served> {
        let every = self.duration("policy.bundle.every", &raw.every);
        if raw.url.is_empty() {
            return None;
        }
        if !url_parts(&raw.url).is_some_and(|parts| parts.tls || is_loopback(&parts.host)) {
            let message = format!("`{}` is not a safe place for policy", raw.url);
            self.fault("policy.bundle.url", message, "use https, or http on a loopback address");
        }
        if raw.keys.is_empty() {
            let remedy = "name files with the public keys of those who may sign it";
            self.fault("policy.bundle.keys", "a bundle from a server must be signed, and nobody may", remedy);
        }
        Some(Served {
            url: raw.url.clone(),
            token_file: Some(&raw.token_file).filter(|file| !file.is_empty()).map(|file| self.base.join(file)),
            keys: self.key_files(&raw.keys),
            scope: raw.scope.clone(),
            every,
            allow_rollback: raw.allow_rollback,
        })
    }

    fn key_files(&self, files: &[String]) -> Vec<PathBuf> {
        files.iter().map(|file| self.base.join(file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    fn paths(policy: &str) -> Vec<String> {
        let text = format!(
            "issuers: [{{name: main, issuer: 'https://issuer.example', keys: {{file: jwks.json}}}}]\n\
             backends: [{{url: 'http://127.0.0.1:9400'}}]\npolicy: {policy}\n"
        );
        let faults = parse(&text, Path::new("/etc")).err().unwrap_or_default();
        assert!(faults.iter().all(|fault| !fault.remedy.is_empty()));
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn a_served_bundle_needs_a_safe_address_and_somebody_who_may_sign_it() {
        assert_eq!(paths("{bundle: {url: 'https://bundles.example/b.tar.gz', keys: [sign.pub]}}"), [""; 0]);
        assert_eq!(paths("{bundle: {url: 'http://127.0.0.1:9/b.tar.gz', keys: [sign.pub]}}"), [""; 0]);
        assert_eq!(
            paths("{bundle: {url: 'http://bundles.example/b.tar.gz'}}"),
            ["policy.bundle.url", "policy.bundle.keys"]
        );
    }

    #[test]
    fn a_gate_that_asks_for_nothing_and_shares_beyond_the_whole_are_faults() {
        assert_eq!(paths("{activation: gated, gate: {decisions: 0}}"), ["policy.gate.decisions"]);
        assert_eq!(paths("{shadow: {percent: 101}}"), ["policy.shadow.percent"]);
        assert_eq!(paths("{activation: gated, canary: {window: soon}}"), ["policy.canary.window"]);
    }
}
