//! From text to [`Settings`]: structure by the generated schema, then meaning; all faults at once.

mod approvals;
mod backends;
mod callers;
mod listen;
mod policy;
mod upstream;
mod rates;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use jsonschema::error::ValidationErrorKind;

pub use self::backends::place;
use super::Audit;
use super::ConfigFault;
use super::Ledger;
use super::LedgerPlace;
use super::Limits;
use super::Log;
use super::Operators;
use super::PolicyPeople;
use super::Settings;
use super::raw;
use super::units;
/// Reads and checks a settings file.
pub fn load(file: &Path) -> Result<Settings, Vec<ConfigFault>> {
    let text = std::fs::read_to_string(file).map_err(|cause| {
        vec![ConfigFault {
            path: file.display().to_string(),
            message: format!("cannot be read: {cause}"),
            remedy: "name an existing file with --config".into(),
        }]
    })?;
    parse(&text, file.parent().unwrap_or(Path::new(".")))
}

/// Checks settings given as text; relative paths are relative to `base`.
pub fn parse(text: &str, base: &Path) -> Result<Settings, Vec<ConfigFault>> {
    let (raw, mut faults) = structure(text)?;
    let mut check = Check { base, faults: Vec::new() };
    let settings = check.settings(&raw);
    // What was taken out for its form is not missed once more for its meaning.
    let told = |path: &str| faults.iter().any(|fault| under(&fault.path, path) || under(path, &fault.path));
    let of_meaning: Vec<ConfigFault> = check.faults.into_iter().filter(|fault| !told(&fault.path)).collect();
    faults.extend(of_meaning);
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

/// Whether one place in a file is another, or in it.
fn under(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Text to the raw mirror, without what has the wrong form, and every fault of form with its path.
fn structure(text: &str) -> Result<(raw::RawConfig, Vec<ConfigFault>), Vec<ConfigFault>> {
    let whole = |message: String| {
        vec![ConfigFault { path: "settings".into(), message, remedy: "correct the YAML at the place named".into() }]
    };
    let mut value: serde_json::Value = match text.trim() {
        "" => serde_json::json!({}),
        _ => serde_saphyr::from_str(text)
            .map_err(|cause| whole(cause.to_string().trim_start_matches("error: ").into()))?,
    };
    let schema = raw::schema();
    let validator = jsonschema::draft202012::new(&schema).map_err(|cause| whole(cause.to_string()))?;
    let mut faults = Vec::new();
    let mut out: Vec<String> = Vec::new();
    for error in validator.iter_errors(&value) {
        let pointer = error.instance_path().to_string();
        let mut fault = |pointer: &str, message: String, remedy: &str| {
            faults.push(ConfigFault { path: dotted(pointer), message, remedy: remedy.into() });
            out.push(pointer.to_owned());
        };
        if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() {
            for name in unexpected {
                let remedy = "take it out or correct its name; config/gateway.yaml shows every option";
                fault(&format!("{pointer}/{name}"), format!("`{name}` is no option"), remedy);
            }
        } else {
            fault(&pointer, error.to_string(), "see config/gateway.yaml for every option and its form");
        }
    }
    for pointer in &out {
        take_out(&mut value, pointer);
    }
    match serde_json::from_value(value) {
        Ok(raw) => Ok((raw, faults)),
        Err(cause) if faults.is_empty() => Err(whole(cause.to_string())),
        // What is left has no meaning to check.
        Err(_) => Err(faults),
    }
}

/// Takes a member out of its object; an element goes with its list, for the others would change places.
fn take_out(value: &mut serde_json::Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    match value.pointer_mut(parent) {
        Some(serde_json::Value::Object(members)) => {
            members.remove(name);
        }
        Some(_) => take_out(value, parent),
        None => {}
    }
}

/// `/backends/0/url` as people write it: `backends[0].url`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').filter(|part| !part.is_empty()) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            path.extend(["[", part, "]"]);
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(part);
        }
    }
    if path.is_empty() { "settings".into() } else { path }
}

struct Check<'a> {
    base: &'a Path,
    faults: Vec<ConfigFault>,
}

impl Check<'_> {
    fn fault(&mut self, path: &str, message: impl Into<String>, remedy: &str) {
        self.faults.push(ConfigFault { path: path.into(), message: message.into(), remedy: remedy.into() });
    }

    fn settings(&mut self, raw: &raw::RawConfig) -> Settings {
        self.names("issuers", raw.issuers.iter().map(|issuer| issuer.name.as_str()));
        self.names("backends", raw.backends.iter().map(|backend| backend.name.as_str()));
        if !raw.public_url.is_empty() && url_parts(&raw.public_url).is_none() {
            self.fault("public_url", format!("`{}` is not a URL", raw.public_url), "write it as https://host/mcp");
        }
        if raw.tools_list.page == 0 {
            self.fault("tools_list.page", "a page of 0 tools never ends", "use a number from 1 up");
        }
        let ledger = self.ledger(&raw.ledger);
        Settings {
            mcp: self.address("listen.mcp", &raw.listen.mcp),
            mcp_tls: self.tls("listen.tls", &raw.listen.tls),
            mcp_socket: Some(&raw.listen.mcp_socket).filter(|path| !path.is_empty()).map(|path| self.base.join(path)),
            admin: self.address("listen.admin", &raw.listen.admin),
            admin_tls: self.tls("listen.admin_tls", &raw.listen.admin_tls),
            public_url: Some(raw.public_url.trim_end_matches('/').to_owned()).filter(|url| !url.is_empty()),
            allowed_hosts: raw.allowed_hosts.clone(),
            allowed_origins: raw.allowed_origins.clone(),
            limits: self.limits(&raw.limits, &ledger.place),
            issuers: raw.issuers.iter().enumerate().map(|(at, issuer)| self.issuer(at, issuer)).collect(),
            scopes: self.scopes(&raw.scopes),
            catalog: self.base.join(&raw.catalog),
            policy: self.policy(&raw.policy),
            reload_every: self.duration("policy.reload_every", &raw.policy.reload_every),
            backends: raw.backends.iter().enumerate().map(|(at, backend)| self.backend(at, backend)).collect(),
            upstreams: self.upstreams(&raw.upstreams, &raw.backends),
            audit: self.audit(&raw.audit),
            ledger,
            approvals_link: self.link(&raw.approvals.link),
            approval_issuers: self.approval_issuers(&raw.approvals.issuers),
            operators: self.operators(&raw.operators),
            keys_dir: self.base.join(&raw.keys.dir),
            rotation: self.rotation(&raw.keys),
            list_page: raw.tools_list.page,
            list_ttl: self.duration("tools_list.ttl", &raw.tools_list.ttl),
            drain: self.duration("drain", &raw.drain),
            log: Log { json: raw.log.format == raw::LogFormat::Json, filter: raw.log.filter.clone() },
        }
    }

    fn limits(&mut self, raw: &raw::RawLimits, ledger: &LedgerPlace) -> Limits {
        Limits {
            body_bytes: self.bytes("limits.body", &raw.body),
            json_depth: raw.json_depth.min(120), // WHY: serde_json itself stops at 127
            json_members: raw.json_members,
            request_arrival: self.duration("limits.request_arrival", &raw.request_arrival),
            connections: raw.connections,
            response_bytes: self.bytes("limits.response", &raw.response),
            rates: self.rates(&raw.rates),
            counted: self.counted(&raw.rates, ledger),
            subscriptions: Self::subscriptions(&raw.subscriptions),
        }
    }

    fn audit(&mut self, raw: &raw::RawAudit) -> Audit {
        let id = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.')
        };
        for (path, text) in [("audit.writer", &raw.writer), ("audit.deployment", &raw.deployment)] {
            if !id(text) || text.starts_with('.') {
                self.fault(path, format!("`{text}` is not a name"), "use letters, digits, `-`, `_` and `.`");
            }
        }
        Audit {
            dir: self.base.join(&raw.dir),
            writer: raw.writer.clone(),
            deployment: raw.deployment.clone(),
            segment_bytes: self.bytes("audit.segment", &raw.segment) as u64,
            queue: raw.queue,
            deadline: self.duration("audit.deadline", &raw.deadline),
            low_water_bytes: self.bytes("audit.low_water", &raw.low_water) as u64,
        }
    }

    fn ledger(&mut self, raw: &raw::RawLedger) -> Ledger {
        let place = match raw.kind {
            raw::LedgerKind::Sqlite => {
                if raw.path.is_empty() {
                    self.fault("ledger.path", "kind `sqlite` needs a file", "name it, as ../data/ledger.db");
                }
                LedgerPlace::Sqlite { path: self.base.join(&raw.path) }
            }
            raw::LedgerKind::Postgres => {
                if raw.url_file.is_empty() {
                    let remedy = "name a file that holds postgres://user:password@host/database";
                    self.fault("ledger.url_file", "kind `postgres` needs a connection URL", remedy);
                }
                LedgerPlace::Postgres { url_file: self.base.join(&raw.url_file), pool: raw.pool }
            }
        };
        if raw.kind == raw::LedgerKind::Sqlite && !raw.url_file.is_empty() {
            let remedy = "set `kind: postgres`, or take it out";
            self.fault("ledger.url_file", "kind `sqlite` has no connection URL", remedy);
        }
        if raw.pool == 0 {
            self.fault("ledger.pool", "without connections nothing is written", "use a number from 1 up");
        }
        Ledger {
            place,
            keep: self.duration("ledger.keep", &raw.keep),
            resend_within: self.duration("ledger.resend_within", &raw.resend_within),
            settle_after: self.duration("ledger.settle_after", &raw.settle_after),
        }
    }

    fn link(&mut self, text: &str) -> Option<String> {
        if !text.is_empty() && url_parts(text).is_none() {
            self.fault("approvals.link", format!("`{text}` is not a URL"), "write it as https://host/approvals");
        }
        Some(text.trim_end_matches('/').to_owned()).filter(|url| !url.is_empty())
    }

    fn operators(&mut self, raw: &raw::RawOperators) -> Operators {
        let policy = &raw.policy;
        for (path, roles) in [
            ("operators.read", &raw.read),
            ("operators.settle", &raw.settle),
            ("operators.policy.roles", &policy.roles),
        ] {
            if roles.iter().any(|role| role.trim().is_empty()) {
                self.fault(path, "a role has no name", "name organisation roles as tokens carry them, or take it out");
            }
        }
        let policy = PolicyPeople { tenants: policy.tenants.clone(), roles: policy.roles.clone() };
        Operators { read: raw.read.clone(), settle: raw.settle.clone(), policy }
    }

    /// Names of a list: present, unique, of one grammar.
    fn names<'n>(&mut self, list: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = BTreeSet::new();
        let mut names = names.enumerate().peekable();
        if names.peek().is_none() {
            self.fault(list, "the list is empty", "add at least one; config/gateway.yaml shows how");
        }
        for (at, name) in names {
            let path = format!("{list}[{at}].name");
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                self.fault(&path, format!("`{name}` is not a name"), "use letters, digits, `-` and `_`");
            } else if !seen.insert(name) {
                self.fault(&path, format!("`{name}` stands twice"), "give each its own name");
            }
        }
    }

    fn address(&mut self, path: &str, text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            self.fault(path, format!("`{text}` is not an address"), "write it as 127.0.0.1:8080 or [::1]:8080");
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn duration(&mut self, path: &str, text: &str) -> Duration {
        units::duration(text).unwrap_or_else(|message| {
            self.fault(path, message, "write it with its unit, as 30s or 5m");
            Duration::ZERO
        })
    }

    fn bytes(&mut self, path: &str, text: &str) -> usize {
        units::size(text).and_then(|n| usize::try_from(n).map_err(|e| e.to_string())).unwrap_or_else(|message| {
            self.fault(path, message, "write it with its unit, as 1MiB or 512KiB");
            0
        })
    }
}

struct UrlParts {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// The parts of an `http` or `https` URL without user, query or fragment.
fn url_parts(text: &str) -> Option<UrlParts> {
    let uri: http::Uri = text.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = uri.authority()?;
    if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
        return None;
    }
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Some(UrlParts { tls, host: authority.host().to_owned(), port, path: uri.path().to_owned() })
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeySource;

    const GOOD: &str = "
issuers:
  - name: main
    issuer: https://issuer.example
    keys: {file: jwks.json}
backends:
  - url: http://127.0.0.1:9400/base/
";

    #[test]
    fn a_short_file_is_enough_and_paths_are_relative_to_it() {
        let settings = parse(GOOD, Path::new("/etc/loopgate")).expect("good settings");
        assert_eq!(settings.mcp, SocketAddr::from(([127, 0, 0, 1], 8080)));
        assert_eq!(settings.backends[0].places[0].prefix, "/base");
        assert_eq!(settings.catalog, Path::new("/etc/loopgate/catalog.yaml"));
        assert_eq!(settings.issuers[0].keys, KeySource::File("/etc/loopgate/jwks.json".into()));
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_path_and_a_remedy() {
        let bad = "
listen: {mcp: nowhere}
drain: 20
issuers:
  - {name: a, issuer: '', keys: {file: x, url: 'http://keys.example/jwks'}, algorithms: [none]}
  - {name: a, issuer: x, keys: {url: 'http://keys.example/jwks'}}
";
        let faults = parse(bad, Path::new(".")).expect_err("bad in form and in meaning");
        let paths: Vec<&str> = faults.iter().map(|f| f.path.as_str()).collect();
        for path in [
            "listen.mcp",
            "drain",
            "issuers[0].issuer",
            "issuers[0].algorithms",
            "issuers[0].keys",
            "issuers[1].name",
            "issuers[1].keys.url",
            "backends",
        ] {
            assert!(paths.contains(&path), "{path} is missing from {paths:?}");
        }
        assert!(faults.iter().all(|f| !f.remedy.is_empty()));
    }

    #[test]
    fn what_has_the_wrong_form_is_told_once_and_hides_nothing_else() {
        let bad = GOOD.replace("file: jwks.json", "file: 7").replace("url: http", "url: ftp") + "drain: soon";
        let faults = parse(&bad, Path::new(".")).expect_err("bad");
        let paths: Vec<&str> = faults.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["issuers[0].keys.file", "backends[0].url", "drain"], "{faults:?}");
        let faults = parse("issuers: [7]", Path::new(".")).expect_err("bad");
        let paths: Vec<&str> = faults.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["issuers[0]", "backends"], "{faults:?}");
    }

    #[test]
    fn an_unknown_member_is_a_fault() {
        let faults = parse("lissen: {}", Path::new(".")).expect_err("a typo");
        assert!(faults[0].message.contains("lissen"), "{faults:?}");
    }

    #[test]
    fn a_duplicate_member_is_a_fault() {
        assert!(parse("drain: 1s\ndrain: 2s", Path::new(".")).is_err());
    }

    #[test]
    fn hs256_is_for_loopiq_issued_tokens_only() {
        let text = GOOD.replace("keys:", "algorithms: [HS256]\n    keys:");
        assert!(parse(&text, Path::new(".")).is_err());
        let text = text.replace("keys: {file: jwks.json}", "kind: loopiq\n    keys: {secret_file: s}");
        assert!(parse(&text, Path::new(".")).is_ok(), "{:?}", parse(&text, Path::new(".")));
    }
}
