//! How many calls may be made: what is wrong with the numbers, and where they are counted.

use super::Check;
use super::raw;
use crate::config::Counted;
use crate::config::LedgerPlace;
use crate::config::Subscriptions;
use crate::domain::limit::Rate;
use crate::domain::limit::Rates;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60_000;

impl Check<'_> {
    pub(super) fn rates(&mut self, raw: &raw::RawRates) -> Rates {
        let mut rate = |name: &str, one: &raw::RawRate| self.rate(&format!("limits.rates.{name}"), one);
        let (tenant, user) = (rate("tenant", &raw.tenant), rate("user", &raw.user));
        let (tool, failures) = (rate("tool", &raw.tool), rate("failures", &raw.failures));
        let concurrent = Some(raw.concurrent).filter(|most| *most > 0);
        let mut rates = Rates { tenant, user, tool, failures, concurrent, ..Rates::default() };
        for (class, one) in &raw.classes {
            let path = format!("limits.rates.classes.{class}");
            match self.rate(&path, one) {
                Some(rate) => drop(rates.classes.insert(class.clone(), rate)),
                None if *one == raw::RawRate::default() => {
                    self.fault(&path, "a class without a rate limits nothing", "set `per_second` or `per_minute`");
                }
                None => {}
            }
        }
        rates
    }

    fn rate(&mut self, path: &str, raw: &raw::RawRate) -> Option<Rate> {
        let (calls, window_ms) = match (raw.per_second, raw.per_minute) {
            (0, 0) if raw.burst == 0 => return None,
            (0, 0) => {
                self.fault(path, "a burst without a rate is used up for ever", "set `per_second` or `per_minute` too");
                return None;
            }
            (calls, 0) => (calls, SECOND_MS),
            (0, calls) => (calls, MINUTE_MS),
            (_, _) => {
                self.fault(path, "both `per_second` and `per_minute` are set", "set one of them");
                return None;
            }
        };
        let burst = if raw.burst == 0 { calls } else { raw.burst };
        let rate = Rate::new(calls, window_ms, burst);
        if rate.is_none() {
            self.fault(path, "a number is too large", "use numbers up to 1000000000, or leave the rate out");
        }
        rate
    }

    pub(super) fn counted(&mut self, raw: &raw::RawRates, ledger: &LedgerPlace) -> Counted {
        let named = !raw.url_file.is_empty();
        match raw.shared {
            raw::SharedCounters::Redis if named => {
                return Counted::Redis { url_file: self.base.join(&raw.url_file) };
            }
            raw::SharedCounters::Redis => {
                let remedy = "name a file that holds redis://user:password@host, or rediss:// for TLS";
                self.fault("limits.rates.url_file", "`shared: redis` needs a connection URL", remedy);
            }
            raw::SharedCounters::Local | raw::SharedCounters::Postgres if named => {
                let remedy = "set `shared: redis`, or take it out";
                self.fault("limits.rates.url_file", "only `shared: redis` has a connection URL", remedy);
            }
            raw::SharedCounters::Postgres if matches!(ledger, LedgerPlace::Postgres { .. }) => {
                return Counted::Postgres;
            }
            raw::SharedCounters::Postgres => {
                let remedy = "set `ledger.kind: postgres`, or count with `redis` or `local`";
                self.fault("limits.rates.shared", "there is no database: the ledger is in a file", remedy);
            }
            raw::SharedCounters::Local => {}
        }
        Counted::Here
    }

    pub(super) fn subscriptions(raw: &raw::RawSubscriptions) -> Subscriptions {
        Subscriptions { caller: raw.caller, all: raw.all }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn with(limits: &str) -> Result<crate::config::Settings, Vec<String>> {
        let text = format!(
            "issuers: [{{name: a, issuer: x, keys: {{file: k}}}}]\nbackends: [{{url: 'http://b.example'}}]\nlimits: {limits}"
        );
        let told = |faults: Vec<crate::config::ConfigFault>| faults.into_iter().map(|fault| fault.path).collect();
        parse(&text, Path::new("/etc/loopgate")).map_err(told)
    }

    #[test]
    fn nothing_is_limited_until_somebody_says_so() {
        let limits = with("{}").unwrap().limits;
        assert_eq!((limits.rates, limits.counted), (Rates::default(), Counted::Here));
    }

    #[test]
    fn a_burst_that_is_not_named_is_what_the_rate_gives() {
        let limits = with("{rates: {user: {per_minute: 30}, classes: {gold: {per_second: 5, burst: 50}}}}").unwrap();
        assert_eq!(limits.limits.rates.user, Rate::new(30, 60_000, 30));
        assert_eq!(limits.limits.rates.classes.get("gold").copied(), Rate::new(5, 1_000, 50));
    }

    #[test]
    fn a_rate_that_contradicts_itself_is_a_fault_with_its_path() {
        for (rates, path) in [
            ("{user: {per_minute: 1, per_second: 1}}", "limits.rates.user"),
            ("{tool: {burst: 5}}", "limits.rates.tool"),
            ("{tenant: {per_second: 2000000000}}", "limits.rates.tenant"),
            ("{classes: {gold: {}}}", "limits.rates.classes.gold"),
            ("{shared: redis}", "limits.rates.url_file"),
            ("{url_file: x}", "limits.rates.url_file"),
            ("{shared: postgres}", "limits.rates.shared"),
        ] {
            assert_eq!(with(&format!("{{rates: {rates}}}")).unwrap_err(), [path], "{rates}");
        }
        let limits = with("{rates: {shared: redis, url_file: redis.url}}").unwrap().limits;
        assert_eq!(limits.counted, Counted::Redis { url_file: "/etc/loopgate/redis.url".into() });
    }
}
