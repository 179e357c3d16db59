//! `backends[]`: where calls go, and what stands before it.

use std::path::Path;
use std::time::Duration;

use super::Check;
use super::raw;
use super::url_parts;
use crate::config::At;
use crate::config::Backend;
use crate::config::BackendTls;
use crate::config::Breaker;
use crate::config::Concurrency;
use crate::config::Health;
use crate::config::Place;

/// The least time between two health checks.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// The place that a URL of a member names: of `http`, `https`, or `unix:/path`.
#[must_use]
pub fn place(url: &str) -> Option<Place> {
    if let Some(path) = url.strip_prefix("unix:") {
        let at = At::Socket(path.into());
        // WHY the length: the system takes no longer name for a socket.
        return (path.starts_with('/') && path.len() < 108).then(|| Place { tls: false, at, prefix: String::new() });
    }
    let parts = url_parts(url).filter(|parts| !parts.host.is_empty())?;
    let prefix = parts.path.trim_end_matches('/').to_owned();
    Some(Place { tls: parts.tls, at: At::Host { host: parts.host, port: parts.port }, prefix })
}

impl Check<'_> {
    pub(super) fn backend(&mut self, at: usize, raw: &raw::RawBackend) -> Backend {
        let path = format!("backends[{at}]");
        let members_file = self.file(&raw.members_file);
        let host_is_good = http::uri::Authority::try_from(raw.host.as_str()).is_ok_and(|it| !it.as_str().contains('@'));
        if !host_is_good {
            self.fault(&format!("{path}.host"), format!("`{}` is not a host", raw.host), "write it as loopiq.internal");
        }
        Backend {
            name: raw.name.clone(),
            places: self.places(&path, raw),
            members_file,
            balance: raw.balance,
            allow_private: raw.allow_private,
            host: raw.host.clone(),
            connect: self.duration(&format!("{path}.connect"), &raw.connect),
            pool: raw.pool,
            idle: self.duration(&format!("{path}.idle"), &raw.idle),
            tls: self.backend_tls(&path, &raw.tls),
            http2: raw.http2,
            health: self.health(&path, &raw.health),
            breaker: self.breaker(&path, &raw.breaker),
            concurrency: self.concurrency(&path, &raw.concurrency),
            propagation: self.propagation(&path, raw),
        }
    }

    fn places(&mut self, path: &str, raw: &raw::RawBackend) -> Vec<Place> {
        let one = Some(&raw.url).filter(|url| !url.is_empty() || (raw.urls.is_empty() && raw.members_file.is_empty()));
        let one = one.map(|url| (format!("{path}.url"), url));
        let more = raw.urls.iter().enumerate().map(|(at, url)| (format!("{path}.urls[{at}]"), url));
        let mut places: Vec<Place> = Vec::new();
        for (path, url) in one.into_iter().chain(more) {
            match place(url) {
                Some(place) if places.contains(&place) => {
                    self.fault(&path, format!("`{url}` stands twice"), "name each member once");
                }
                Some(place) => places.push(place),
                None => {
                    let remedy = "write it as http://host:port, https://host:port/prefix or unix:/path";
                    self.fault(&path, format!("`{url}` is not a URL"), remedy);
                }
            }
        }
        places
    }

    fn backend_tls(&mut self, backend: &str, raw: &raw::RawBackendTls) -> BackendTls {
        let own = match (self.file(&raw.certificate), self.file(&raw.key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                let remedy = "name both files, or neither";
                self.fault(&format!("{backend}.tls"), "a certificate needs its key, and a key its certificate", remedy);
                None
            }
        };
        let name = Some(raw.name.clone()).filter(|name| !name.is_empty());
        BackendTls { ca: self.file(&raw.ca), own, name }
    }

    fn health(&mut self, backend: &str, raw: &raw::RawHealth) -> Health {
        let path = format!("{backend}.health");
        if !raw.path.is_empty() && http::uri::PathAndQuery::try_from(raw.path.as_str()).is_err()
            || !(raw.path.is_empty() || raw.path.starts_with('/'))
        {
            self.fault(&format!("{path}.path"), format!("`{}` is not a path", raw.path), "write it as /healthz");
        }
        if raw.healthy == 0 || raw.unhealthy == 0 {
            self.fault(&path, "0 checks say nothing", "use numbers from 1 up for `healthy` and `unhealthy`");
        }
        let every = self.duration(&format!("{path}.every"), &raw.every);
        if every < EVERY_MIN {
            // WHY never off: after its rest a member that gets writes only is known to be back by this alone.
            self.fault(&format!("{path}.every"), "checks need time between them", "use 100ms or more");
        }
        Health {
            path: Some(raw.path.clone()).filter(|path| !path.is_empty()),
            every,
            timeout: self.duration(&format!("{path}.timeout"), &raw.timeout),
            healthy: raw.healthy,
            unhealthy: raw.unhealthy,
        }
    }

    fn breaker(&mut self, backend: &str, raw: &raw::RawBreaker) -> Breaker {
        let path = format!("{backend}.breaker");
        if raw.failures == 0 {
            self.fault(&format!("{path}.failures"), "after 0 failures nothing is ever sent", "use a number from 1 up");
        }
        Breaker { failures: raw.failures, rest: self.duration(&format!("{path}.rest"), &raw.rest) }
    }

    fn concurrency(&mut self, backend: &str, raw: &raw::RawConcurrency) -> Concurrency {
        let path = format!("{backend}.concurrency");
        if raw.min == 0 || raw.max < raw.min {
            self.fault(&path, "the limit has no room to move", "use 1 or more for `min`, and no less for `max`");
        }
        let wait = self.duration(&format!("{path}.wait"), &raw.wait);
        Concurrency { min: raw.min, max: raw.max, queue: raw.queue, wait }
    }

    fn file(&self, name: &str) -> Option<std::path::PathBuf> {
        (!name.is_empty()).then(|| self.base.join(Path::new(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn faults(backend: &str) -> Vec<String> {
        let text = format!(
            "issuers: [{{name: a, issuer: https://a.example, keys: {{file: a}}}}]\nbackends: [{{name: b, {backend}}}]"
        );
        let faults = parse(&text, Path::new("/etc")).err().unwrap_or_default();
        faults.into_iter().map(|fault| fault.path.trim_start_matches("backends[0].").to_owned()).collect()
    }

    #[test]
    fn members_are_named_by_url_by_socket_or_by_file() {
        for good in [
            "url: http://127.0.0.1:9400",
            "urls: [https://a.example/x, https://b.example/x]",
            "url: unix:/run/loopiq.sock",
            "members_file: members",
        ] {
            assert_eq!(faults(good), Vec::<String>::new(), "{good}");
        }
        for (bad, path) in [
            ("host: a", "url"),
            ("url: ftp://a.example", "url"),
            ("url: http://me@a.example", "url"),
            ("url: unix:loopiq.sock", "url"),
            ("urls: [http://a.example, http://a.example/]", "urls[1]"),
            ("url: http://a.example, host: 'a b'", "host"),
        ] {
            assert_eq!(faults(bad), [path], "{bad}");
        }
    }

    #[test]
    fn what_stands_before_a_backend_can_work() {
        for (bad, path) in [
            ("tls: {certificate: c}", "tls"),
            ("health: {path: healthz}", "health.path"),
            ("health: {every: 0s}", "health.every"),
            ("health: {healthy: 0}", "health"),
            ("breaker: {failures: 0}", "breaker.failures"),
            ("concurrency: {min: 9, max: 8}", "concurrency"),
            ("concurrency: {min: 0}", "concurrency"),
            ("concurrency: {wait: soon}", "concurrency.wait"),
        ] {
            assert_eq!(faults(&format!("url: http://a.example, {bad}")), [path], "{bad}");
        }
    }
}
