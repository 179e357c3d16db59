//! Whose signed approvals are accepted: what is wrong with the list.

use super::Check;
use super::raw;
use crate::config::ApprovalIssuer;

/// Longest name of an issuer: it begins the ids of its approvals, which travel in headers.
const NAME_BYTES_MAX: usize = 64;

impl Check<'_> {
    pub(super) fn approval_issuers(&mut self, raw: &[raw::RawApprovalIssuer]) -> Vec<ApprovalIssuer> {
        if !raw.is_empty() {
            self.names("approvals.issuers", raw.iter().map(|issuer| issuer.name.as_str()));
        }
        raw.iter().enumerate().map(|(at, issuer)| self.approval_issuer(at, issuer)).collect()
    }

    fn approval_issuer(&mut self, at: usize, raw: &raw::RawApprovalIssuer) -> ApprovalIssuer {
        let path = format!("approvals.issuers[{at}]");
        if raw.name.len() > NAME_BYTES_MAX {
            self.fault(&format!("{path}.name"), "the name is too long", "use at most 64 characters");
        }
        if raw.issuer.is_empty() {
            self.fault(&format!("{path}.issuer"), "no issuer is named", "write the exact `iss` of its approvals");
        }
        let remedy = "use RS256, ES256 or EdDSA, or HS256 alone";
        self.algorithms(&path, &raw.algorithms, true, remedy);
        if !raw.keys.secret_file.is_empty() && raw.algorithms != ["HS256"] {
            let message = "a shared secret signs by HS256 only";
            self.fault(&format!("{path}.algorithms"), message, "write [HS256], or set `keys.file` or `keys.url`");
        }
        ApprovalIssuer {
            name: raw.name.clone(),
            issuer: raw.issuer.clone(),
            algorithms: raw.algorithms.clone(),
            keys: self.keys_alone(&path, &raw.keys),
            place: self.place(&raw.keys.ca_file, raw.keys.allow_private),
            tenants: raw.tenants.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::KeySource;
    use crate::config::parse;

    const CALLERS: &str = "
issuers: [{name: main, issuer: 'https://issuer.example', keys: {file: jwks.json}}]
backends: [{url: 'http://127.0.0.1:9400'}]
approvals:
  issuers:
";

    fn paths(issuers: &str) -> Vec<String> {
        let faults = parse(&format!("{CALLERS}{issuers}"), Path::new("/etc")).err().unwrap_or_default();
        assert!(faults.iter().all(|fault| !fault.remedy.is_empty()));
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn an_issuer_of_approvals_needs_a_name_an_iss_and_keys() {
        let good =
            "    - {name: loopiq, issuer: 'https://loopiq.example', keys: {file: jwks.json}, tenants: [org_gcn]}";
        let settings = parse(&format!("{CALLERS}{good}"), Path::new("/etc")).unwrap();
        let issuer = &settings.approval_issuers[0];
        assert_eq!(issuer.keys, KeySource::File("/etc/jwks.json".into()));
        assert_eq!((issuer.name.as_str(), issuer.tenants.as_slice()), ("loopiq", ["org_gcn".to_owned()].as_slice()));
        assert_eq!(
            paths("    - {name: a.b, algorithms: [none], keys: {url: 'http://keys.example/jwks'}}"),
            [
                "approvals.issuers[0].name",
                "approvals.issuers[0].issuer",
                "approvals.issuers[0].algorithms",
                "approvals.issuers[0].keys.url"
            ]
        );
        let long = format!("    - {{name: {}, issuer: x, keys: {{file: j}}}}", "n".repeat(65));
        assert_eq!(paths(&long), ["approvals.issuers[0].name"]);
        let twice = "    - {name: a, issuer: first, keys: {file: j}}\n    - {name: a, issuer: second, keys: {file: j}}";
        assert_eq!(paths(twice), ["approvals.issuers[1].name"]);
    }

    #[test]
    fn a_shared_secret_goes_with_hs256_alone() {
        let with = |algorithms: &str| format!("    - {{name: a, issuer: x, {algorithms}keys: {{secret_file: s}}}}");
        assert_eq!(paths(&with("algorithms: [HS256], ")), [""; 0]);
        assert_eq!(paths(&with("")), ["approvals.issuers[0].algorithms"]);
        assert_eq!(paths(&with("algorithms: [HS256, EdDSA], ")), ["approvals.issuers[0].algorithms"]);
    }

    #[test]
    fn without_the_list_nobodys_signed_approvals_are_accepted() {
        let settings = parse(CALLERS.split("approvals").next().unwrap(), Path::new("/etc")).unwrap();
        assert!(settings.approval_issuers.is_empty());
    }
}
