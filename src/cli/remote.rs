//! The operators' door of a running gateway, as the commands for people use it.
//!
//! Promises: a token comes from a file or the environment, never from the command line, where others
//! could read it; it goes to the address that was named and to no other; a no is told with its code
//! and what to do next. Exit codes: 1 the answer is no, 2 wrong usage, 3 not reachable.
//! Called by `approvals`, `writes` and `policy`.

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use reqwest::RequestBuilder;
use reqwest::header::AUTHORIZATION;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use serde_json::Value;

use super::print;

const URL: &str = "http://127.0.0.1:8081";
/// Longer than the door takes for one exchange.
const WITHIN: Duration = Duration::from_mins(1);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// What stays as it is in one segment of a path (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the gateway is, and who asks.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Place {
    /// Operators' door of the gateway; without it what `LOOPGATE_URL` holds, or `http://127.0.0.1:8081`
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// File with your token; without it the token is what `LOOPGATE_TOKEN` holds
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Organisation, when your token carries several
    #[arg(long, value_name = "ORG")]
    pub tenant: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The question makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The gateway says no.
    #[error("{code}: {message}; {next}")]
    No {
        /// Stable, for programs.
        code: String,
        /// What failed.
        message: String,
        /// What to do next.
        next: String,
    },
    /// There is no answer, or none of a gateway that works.
    #[error("{0}")]
    Unreachable(String),
    /// Standard output is gone.
    #[error("cannot print: {0}")]
    Out(#[from] io::Error),
}

impl Stop {
    /// A no that was found on this side.
    #[must_use]
    pub fn no(code: &str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::No { code: code.to_owned(), message: message.into(), next: next.into() }
    }

    /// Its exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            // Whoever reads the output has seen enough.
            Self::Out(cause) if cause.kind() == io::ErrorKind::BrokenPipe => super::DONE,
            Self::No { .. } => super::NO,
            Self::Usage(_) | Self::Out(_) => super::USAGE,
            Self::Unreachable(_) => super::UNREACHABLE,
        }
    }

    /// Says it, and gives its exit code.
    #[must_use]
    pub fn told(&self) -> ExitCode {
        let code = self.code();
        if code != super::DONE {
            print::failed(&print::plain(&self.to_string()));
        }
        ExitCode::from(code)
    }
}

/// A gateway's operators' door.
pub struct Remote {
    http: reqwest::Client,
    base: String,
    headers: HeaderMap,
}

impl Place {
    /// The door that is meant, with the token of whoever asks.
    pub fn reach(&self) -> Result<Remote, Stop> {
        let base = self.url.clone().or_else(|| environment("LOOPGATE_URL")).unwrap_or_else(|| URL.to_owned());
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(Stop::Usage(format!("`{base}` is no address; write it as http://host:port")));
        }
        let mut headers = HeaderMap::new();
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.token()?));
        let mut bearer = bearer.map_err(|_| Stop::Usage("the token has characters that no token has".to_owned()))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        if let Some(tenant) = &self.tenant {
            let name = HeaderValue::from_str(tenant);
            headers.insert("x-loopiq-tenant", name.map_err(|_| Stop::Usage(format!("`{tenant}` is no organisation")))?);
        }
        // WHY: a redirect would take the token to an address that nobody named.
        let http = reqwest::Client::builder().timeout(WITHIN).redirect(Policy::none()).build();
        let http = http.map_err(|cause| Stop::Unreachable(cause.to_string()))?;
        Ok(Remote { http, base: base.trim_end_matches('/').to_owned(), headers })
    }

    fn token(&self) -> Result<String, Stop> {
        let token = match &self.token_file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|cause| Stop::Usage(format!("{} cannot be read: {cause}", file.display())))?,
            None => environment("LOOPGATE_TOKEN").unwrap_or_default(),
        };
        match token.trim() {
            "" => Err(Stop::Usage("no token: name its file with --token-file, or set LOOPGATE_TOKEN".to_owned())),
            token => Ok(token.to_owned()),
        }
    }
}

impl Remote {
    /// Reads something.
    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Stop> {
        self.answer(self.http.get(self.address(path, query))).await
    }

    /// Changes something.
    pub async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Stop> {
        self.answer(self.http.post(self.address(path, &[])).json(body)).await
    }

    fn address(&self, path: &[&str], query: &[(&str, String)]) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
        let mut address = format!("{}/api/v1", self.base);
        for segment in path {
            address.extend(["/", &encoded(segment)]);
        }
        for (at, (name, value)) in query.iter().enumerate() {
            address.extend([if at == 0 { "?" } else { "&" }, &encoded(name), "=", &encoded(value)]);
        }
        address
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, Stop> {
        let there = |cause: &reqwest::Error| {
            Stop::Unreachable(format!("{} does not answer: {}; is the gateway running?", self.base, causes(cause)))
        };
        let sent = request.headers(self.headers.clone()).send().await;
        let mut answer = sent.map_err(|cause| there(&cause.without_url()))?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|cause| there(&cause.without_url()))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(Stop::Unreachable(format!("the answer of {} is too long", self.base)));
            }
        }
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        let error = value.as_ref().and_then(|value| value.get("error"));
        match (value.as_ref(), error) {
            (Some(_), None) if status.is_success() => Ok(value.unwrap_or_default()),
            (_, Some(error)) => Err(refusal(status.as_u16(), error)),
            _ => Err(Stop::Unreachable(format!(
                "{} answers {status}, which is not how a gateway's operators' door answers",
                self.base
            ))),
        }
    }
}

fn refusal(status: u16, error: &Value) -> Stop {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let next = match text("code").as_str() {
        "tenant_required" => "name one of them with --tenant".to_owned(), // here nobody sets a header
        _ => text("next"),
    };
    let no = Stop::No { code: text("code"), message: text("message"), next };
    match status {
        400 | 405 | 413 | 415 => Stop::Usage(no.to_string()),
        503 => Stop::Unreachable(no.to_string()),
        _ => no,
    }
}

/// JSON as the gateway gave it, with everything hidden in it escaped.
pub fn json_out(answer: &Value, out: &mut (impl Write + ?Sized)) -> Result<(), Stop> {
    writeln!(out, "{}", print::plain_json(&answer.to_string()))?;
    Ok(())
}

/// Where to go on, when there is more.
pub fn more(page: &Value, out: &mut impl Write) -> Result<(), Stop> {
    if let Some(next) = page.get("next").and_then(Value::as_str) {
        writeln!(out, "\nthere may be more: --cursor {}", print::plain(next))?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a client of the gateway has no settings file")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// An error with what caused it: the outermost words alone do not say what to mend.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_whatever_stands_in_it() {
        let place = Place { url: Some("http://127.0.0.1:1/".to_owned()), ..Place::default() };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "t.o.k\n").unwrap();
        let remote = Place { token_file: Some(file.path().to_owned()), ..place }.reach().unwrap();
        assert_eq!(remote.headers[AUTHORIZATION], "Bearer t.o.k");
        assert_eq!(
            remote.address(&["approvals", "../x?y#z/é"], &[("key", "a&b".to_owned())]),
            "http://127.0.0.1:1/api/v1/approvals/..%2Fx%3Fy%23z%2F%C3%A9?key=a%26b"
        );
    }

    #[test]
    fn a_token_that_cannot_be_had_is_wrong_usage_and_is_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bad in ["", " \n", "sec\u{7f}ret", "sec\nret"] {
            std::fs::write(file.path(), bad).unwrap();
            let place = Place { token_file: Some(file.path().to_owned()), ..Place::default() };
            let Err(Stop::Usage(words)) = place.reach() else { panic!("{bad:?}") };
            assert!(!words.contains("sec") && !words.contains("ret"), "{words}");
        }
    }

    #[test]
    fn each_kind_of_no_has_its_exit_code() {
        let error = serde_json::json!({"code": "c", "message": "m", "next": "n"});
        for (status, usage, no) in [(400, true, false), (401, false, true), (404, false, true), (409, false, true)] {
            let stop = refusal(status, &error);
            assert_eq!((matches!(stop, Stop::Usage(_)), matches!(stop, Stop::No { .. })), (usage, no), "{status}");
            assert_eq!(stop.to_string(), "c: m; n");
        }
        assert!(matches!(refusal(503, &error), Stop::Unreachable(_)));
    }
}
