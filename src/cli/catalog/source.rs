//! Where a document comes from: a file or a URL.
//!
//! Promises: bounded size, bounded time. Never sends anything but a plain GET.
//! Called by `catalog import`.

use std::path::PathBuf;
use std::time::Duration;

use super::CommandFault;

/// The largest public API descriptions are around 10 MiB.
const BYTES_MAX: usize = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the whole document.
pub(super) async fn read(place: &str) -> Result<String, CommandFault> {
    if place.starts_with("http://") || place.starts_with("https://") {
        return fetch(place).await.map_err(|cause| CommandFault::Fetch { url: place.to_owned(), cause });
    }
    let path = PathBuf::from(place);
    let at = |cause| CommandFault::File { path: path.clone(), cause };
    let bytes = std::fs::metadata(&path).map_err(at)?.len();
    if bytes > BYTES_MAX as u64 {
        return Err(at(std::io::Error::other(format!("it has {bytes} bytes, and {BYTES_MAX} are read at most"))));
    }
    std::fs::read_to_string(&path).map_err(at)
}

async fn fetch(url: &str) -> Result<String, String> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.map_err(|error| causes(&error.without_url()))?;
    if !answer.status().is_success() {
        return Err(format!("the answer is {}", answer.status()));
    }
    let mut answer = answer;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| causes(&error.without_url()))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > BYTES_MAX {
            return Err(format!("it is longer than {BYTES_MAX} bytes"));
        }
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
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
