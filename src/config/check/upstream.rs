//! The meaning of settings about upstream MCP servers.

use std::path::PathBuf;

use super::Check;
use super::UrlParts;
use super::raw;
use super::url_parts;
use crate::config::Credential;
use crate::config::Upstream;
use crate::domain::catalog::pointer::Pointer;
use crate::domain::catalog::upstream::Class;
use crate::domain::catalog::upstream::Terms;
use crate::domain::catalog::upstream::ToolTerms;

/// Longer names leave no room for those of tools.
const NAME_CHARS_MAX: usize = 32;

impl Check<'_> {
    pub(super) fn upstreams(&mut self, all: &[raw::RawUpstream], backends: &[raw::RawBackend]) -> Vec<Upstream> {
        if !all.is_empty() {
            self.names("upstreams", all.iter().map(|upstream| upstream.name.as_str()));
        }
        for (at, upstream) in all.iter().enumerate() {
            let path = format!("upstreams[{at}].name");
            if backends.iter().any(|backend| backend.name == upstream.name) {
                self.fault(&path, format!("`{}` is a backend too", upstream.name), "give it a name of its own");
            }
            if upstream.name.len() > NAME_CHARS_MAX {
                self.fault(&path, format!("it has more than {NAME_CHARS_MAX} characters"), "choose a shorter one");
            }
        }
        all.iter().enumerate().map(|(at, upstream)| self.upstream(&format!("upstreams[{at}]"), upstream)).collect()
    }

    fn upstream(&mut self, path: &str, raw: &raw::RawUpstream) -> Upstream {
        let parts = url_parts(&raw.url).unwrap_or_else(|| {
            let remedy = "write it as https://host/mcp, without user, query or fragment";
            self.fault(&format!("{path}.url"), format!("`{}` is not a URL", raw.url), remedy);
            UrlParts { tls: false, host: String::new(), port: 0, path: String::new() }
        });
        let own = match (raw.certificate_file.as_str(), raw.key_file.as_str()) {
            ("", "") => None,
            (certificate, key) if !certificate.is_empty() && !key.is_empty() => {
                Some((self.base.join(certificate), self.base.join(key)))
            }
            _ => {
                let remedy = "name both `certificate_file` and `key_file`, or neither";
                self.fault(&format!("{path}.key_file"), "a certificate and its key go together", remedy);
                None
            }
        };
        let file = |text: &str| -> Option<PathBuf> { (!text.is_empty()).then(|| self.base.join(text)) };
        let accepted = file(&raw.accepted);
        let ca_file = file(&raw.ca_file);
        Upstream {
            terms: self.terms(path, raw),
            tls: parts.tls,
            host: parts.host,
            port: parts.port,
            path: parts.path,
            private_addresses: raw.private_addresses,
            ca_file,
            own,
            refresh: self.duration(&format!("{path}.refresh"), &raw.refresh),
            connect: self.duration(&format!("{path}.connect"), &raw.connect),
            credential: self.credential(path, raw),
            accepted: accepted.unwrap_or_else(|| self.base.join(format!("../data/upstreams/{}.json", raw.name))),
        }
    }

    fn credential(&mut self, upstream: &str, raw: &raw::RawUpstream) -> Credential {
        let path = format!("{upstream}.credential");
        let said = &raw.credential;
        let lifetime = self.duration(&format!("{path}.lifetime"), &said.lifetime);
        match said.mode {
            raw::RawCredentialMode::None => Credential::None,
            raw::RawCredentialMode::Static => {
                if said.secret_file.is_empty() {
                    self.fault(&format!("{path}.secret_file"), "mode `static` needs a credential", "name its file");
                }
                Credential::Static { secret_file: self.base.join(&said.secret_file) }
            }
            raw::RawCredentialMode::Assertion => {
                let named = [&said.audience, &raw.name].into_iter().find(|name| !name.is_empty());
                Credential::Assertion { audience: named.cloned().unwrap_or_default(), lifetime }
            }
        }
    }

    fn terms(&mut self, path: &str, raw: &raw::RawUpstream) -> Terms {
        let proper = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let prefix = raw.prefix.clone().unwrap_or_else(|| format!("{}_", raw.name));
        if prefix.len() > NAME_CHARS_MAX + 1 || !prefix.bytes().all(proper) {
            let remedy = "use up to 33 of `A-Z a-z 0-9 _ . -`";
            self.fault(&format!("{path}.prefix"), format!("`{prefix}` cannot begin a name"), remedy);
        }
        let defaults = &raw.defaults;
        self.family(&format!("{path}.defaults.family"), defaults.family.as_deref());
        let tools = raw.tools.iter().map(|(name, tool)| {
            let of_tool = format!("{path}.tools.{name}");
            (name.clone(), self.tool_terms(&of_tool, tool))
        });
        let tools = tools.collect();
        Terms {
            server: raw.name.clone(),
            prefix,
            trust: raw.trust,
            believe_hints: raw.believe_hints,
            defaults: Class { effect: defaults.effect, impact: defaults.impact, family: defaults.family.clone() },
            tools,
            prompts: raw.prompts,
            resources: raw.resources,
            timeout: self.duration(&format!("{path}.timeout"), &raw.timeout),
        }
    }

    fn tool_terms(&mut self, path: &str, raw: &raw::RawUpstreamTool) -> ToolTerms {
        self.family(&format!("{path}.family"), raw.family.as_deref());
        for (field, pointers) in [
            ("tenant_fields", raw.tenant_fields.as_deref().unwrap_or_default()),
            ("record_ids", &raw.record_ids),
            ("tenant_arguments", &raw.tenant_arguments),
            ("sensitive", &raw.sensitive),
        ] {
            for fault in pointers.iter().filter_map(|text| Pointer::parse(text).err()) {
                self.fault(&format!("{path}.{field}"), fault.to_string(), "write such as `/items/*/id`");
            }
        }
        ToolTerms {
            class: Class { effect: raw.effect, impact: raw.impact, family: raw.family.clone() },
            hidden: raw.hidden,
            tenant_fields: raw.tenant_fields.clone(),
            record_ids: raw.record_ids.clone(),
            tenant_arguments: raw.tenant_arguments.clone(),
            sensitive: raw.sensitive.clone(),
        }
    }

    fn family(&mut self, path: &str, family: Option<&str>) {
        let proper = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if family.is_some_and(|text| !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.bytes().all(proper)) {
            self.fault(path, "a family is `[a-z][a-z0-9_]*`", "name the family as policies do, such as `crm`");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Credential;
    use crate::config::parse;
    use crate::domain::catalog::Effect;
    use crate::domain::catalog::upstream::Trust;

    const GOOD: &str = "
issuers: [{name: main, issuer: https://issuer.example, keys: {file: jwks.json}}]
backends: [{url: 'http://127.0.0.1:9400'}]
upstreams:
  - {name: crm, url: 'https://crm.example/mcp', defaults: {effect: read}}
";

    #[test]
    fn a_name_and_an_address_are_enough() {
        let settings = parse(GOOD, Path::new("/etc/loopgate")).expect("good settings");
        let crm = &settings.upstreams[0];
        assert_eq!((crm.terms.server.as_str(), crm.terms.prefix.as_str()), ("crm", "crm_"));
        assert_eq!((crm.tls, crm.host.as_str(), crm.port, crm.path.as_str()), (true, "crm.example", 443, "/mcp"));
        assert_eq!(crm.accepted, Path::new("/etc/loopgate/../data/upstreams/crm.json"));
        assert_eq!((crm.terms.trust, crm.terms.defaults.effect), (Trust::First, Some(Effect::Read)));
        assert_eq!(crm.credential, Credential::None);
    }

    #[test]
    fn every_fault_of_an_upstream_is_told_with_its_place() {
        let bad = GOOD.replace(
            "defaults: {effect: read}",
            "prefix: 'a b', credential: {mode: static}, certificate_file: c.pem, tools: {find: {family: Big, record_ids: [id]}}",
        );
        let bad = bad.replace("https://crm.example/mcp", "ftp://crm").replace("name: crm", "name: loopiq");
        let faults = parse(&bad, Path::new(".")).expect_err("bad");
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        for path in [
            "name",
            "url",
            "prefix",
            "credential.secret_file",
            "key_file",
            "tools.find.family",
            "tools.find.record_ids",
        ] {
            assert!(paths.contains(&format!("upstreams[0].{path}").as_str()), "{path} is missing from {paths:?}");
        }
    }
}
