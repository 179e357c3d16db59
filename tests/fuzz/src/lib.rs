//! What must hold of whatever a stranger sends, one module to a promise.
//!
//! Promises: each `holds` takes any bytes at all and panics if what loopgate says of them breaks the
//! promise that its module opens with; it says nothing otherwise. Reads no file and no clock, so that
//! the same bytes are the same run. Called by the fuzzer (`targets/`) and, over every seed that is
//! kept in `corpus/`, by `cargo test` (`replay.rs`).

pub mod json;
pub mod rpc;
pub mod headers;
pub mod token;
pub mod template;
pub mod segment;
pub mod state;

/// Takes the next `N` bytes off the front; zeros where there are none left.
fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let (front, rest) = data.split_at(N.min(data.len()));
    for (to, from) in taken.iter_mut().zip(front) {
        *to = *from;
    }
    *data = rest;
    taken
}

/// The parts between zero bytes, as text; what is not UTF-8 in them is replaced.
fn parts(data: &[u8]) -> Vec<String> {
    data.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// Lines `name: value` up to the first empty one, and whatever follows it.
fn headers_and_rest(data: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let mut headers = Vec::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    (headers, rest)
}
