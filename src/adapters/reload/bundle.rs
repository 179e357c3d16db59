//! Bundles from a folder or an archive, tried in a child process before anybody loads them.
//!
//! Promises: a bundle that ends, stalls or exhausts the process that compiles it does so in a
//! child with limits of memory, time and stack, and comes back as a fault; what was tried is what
//! is given back, not what the folder holds by then. Never decides and never keeps a bundle.
//! Called by `adapters::reload`, `app` and the policy commands.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::setrlimit;
use serde::Deserialize;
use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::archive::ARCHIVE_BYTES_MAX;
use crate::domain::pdp::archive::Archive;
use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::probe::GROWS;

/// How long a child may take. A bundle of 10,000 tenants takes a second in a debug build.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// Address space of the child; a megabyte of data takes three.
const CHILD_MEMORY_BYTES: u64 = 2 << 30;

/// Stack that the child tries a bundle on: what the threads that later decide have, less a quarter.
const CHILD_STACK_BYTES: usize = 1_536 << 10;

/// Files that a bundle's folder may hold.
const FILES_MAX: usize = 4_096;

/// Bytes that they may have together.
const BYTES_MAX: usize = 128 << 20;

/// Folders within folders.
const DEPTH_MAX: usize = 16;

/// What to do about a child that could not be asked.
const TRY_AGAIN: &str = "try again; if it stays, look at the limits of processes and files";

/// The hidden command that the child runs: `loopgate policy check-child`.
pub const CHILD_ARGUMENTS: [&str; 2] = ["policy", "check-child"];

#[derive(Serialize, Deserialize)]
struct Request {
    bundle: Bundle,
    tools: BTreeMap<String, ToolFacts>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    faults: Vec<BundleFault>,
}

/// Reads the bundle at `dir`, a folder or an archive, and tries it in a child of `exe`, which must be this program.
///
/// The caller compiles what comes back with [`Pdp::compile`].
pub async fn load_checked(
    exe: &Path,
    dir: &Path,
    tools: &BTreeMap<String, ToolFacts>,
) -> Result<Bundle, Vec<BundleFault>> {
    let folder = dir.to_owned();
    let bundle = tokio::task::spawn_blocking(move || read(&folder))
        .await
        .map_err(|cause| vec![broken(format!("the bundle could not be read: {cause}"))])??;
    check_in_child(exe, &bundle, tools).await?;
    Ok(bundle)
}

/// Reads the bundle at `path`, a folder or an archive in OPA's format, compiling nothing.
///
/// Says nothing about the signature of an archive: whoever runs a command named the file themselves.
pub fn read(path: &Path) -> Result<Bundle, Vec<BundleFault>> {
    if !path.is_file() {
        return Bundle::from_files(files(path)?);
    }
    let plain = |faults: Vec<ArchiveFault>| faults.into_iter().map(BundleFault::from).collect::<Vec<_>>();
    Ok(archive(path)?.open().map_err(plain)?.bundle)
}

/// Unpacks an archive.
pub fn archive(path: &Path) -> Result<Archive, Vec<BundleFault>> {
    let unread = |cause: io::Error| {
        let message = format!("cannot be read: {cause}");
        vec![BundleFault::new(&path.display().to_string(), message, "check that it exists and who may read it")]
    };
    // One byte more than allowed, so that a longer file is seen to be longer.
    let most = u64::try_from(ARCHIVE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unread)?;
    Archive::unpack(&bytes).map_err(|fault| {
        let mut fault = BundleFault::from(fault);
        if fault.path.is_empty() {
            fault.path = path.display().to_string();
        }
        vec![fault]
    })
}

/// Every file of an archive; or below a folder, but for hidden ones: (relative path with `/`, bytes), by path.
pub fn files(dir: &Path) -> Result<Vec<(String, Vec<u8>)>, Vec<BundleFault>> {
    if dir.is_file() {
        return Ok(archive(dir)?.into_files().into_iter().collect());
    }
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut folders = vec![(dir.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let unread = |cause: io::Error| {
            let path = if prefix.is_empty() { folder.display().to_string() } else { prefix.clone() };
            vec![BundleFault::new(
                &path,
                format!("cannot be read: {cause}"),
                "check that it exists and who may read it",
            )]
        };
        for entry in std::fs::read_dir(&folder).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let Some(name) = entry.file_name().to_str().filter(|name| !name.starts_with('.')).map(str::to_owned) else {
                continue;
            };
            let path = format!("{prefix}{name}");
            // Follows links, as mounted config folders are made of them; `DEPTH_MAX` ends circles.
            let about = std::fs::metadata(entry.path()).map_err(unread)?;
            if about.is_dir() && depth < DEPTH_MAX {
                folders.push((entry.path(), format!("{path}/"), depth + 1));
            } else if about.is_file() && is_of_bundle(&entry.path()) {
                let text = std::fs::read(entry.path()).map_err(unread)?;
                bytes += text.len();
                found.push((path, text));
            }
            if found.len() > FILES_MAX || bytes > BYTES_MAX {
                let message = format!("the folder has more than {FILES_MAX} files or {} MiB", BYTES_MAX >> 20);
                return Err(vec![BundleFault::new("", message, "point to the folder of the policies alone")]);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_of_bundle(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    matches!(extension, Some("rego" | "yaml" | "yml" | "json"))
}

/// Tries a bundle in a child of `exe`.
pub async fn check_in_child(
    exe: &Path,
    bundle: &Bundle,
    tools: &BTreeMap<String, ToolFacts>,
) -> Result<(), Vec<BundleFault>> {
    let request = serde_json::to_vec(&Request { bundle: bundle.clone(), tools: tools.clone() })
        .map_err(|cause| vec![broken(format!("the bundle could not be handed over: {cause}"))])?;
    let (status, output) = match tokio::time::timeout(CHECK_TIMEOUT, ask_child(exe, request)).await {
        Ok(done) => {
            done.map_err(|cause| vec![broken(format!("the process that tries bundles did not run: {cause}"))])?
        }
        // Dropping the child kills it.
        Err(_elapsed) => {
            let message = format!("the bundle was not compiled and tried within {} s", CHECK_TIMEOUT.as_secs());
            return Err(vec![BundleFault::new("", message, GROWS).coded(Code::CheckFailed)]);
        }
    };
    if !status.success() {
        return Err(vec![died(status)]);
    }
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|cause| vec![broken(format!("the process that tries bundles gave no answer: {cause}"))])?;
    if answer.faults.is_empty() { Ok(()) } else { Err(answer.faults) }
}

async fn ask_child(exe: &Path, request: Vec<u8>) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut child = tokio::process::Command::new(exe)
        .args(CHILD_ARGUMENTS)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let write = async move {
        if let Some(mut stdin) = stdin {
            // A child that dies early closes its end; its status says more than this error.
            let _closed_early = stdin.write_all(&request).await.is_err();
        }
    };
    let read = async move {
        let mut output = Vec::new();
        if let Some(mut stdout) = stdout {
            stdout.read_to_end(&mut output).await?;
        }
        Ok::<_, io::Error>(output)
    };
    let ((), output) = tokio::join!(write, read);
    let status = child.wait().await?;
    Ok((status, output?))
}

fn died(status: ExitStatus) -> BundleFault {
    BundleFault::new(
        "",
        format!("the bundle ended the process that tried it ({status})"),
        "look for rules that nest or chain very deeply, or that build very large values",
    )
    .coded(Code::CheckFailed)
}

fn broken(message: String) -> BundleFault {
    BundleFault::new("", message, TRY_AGAIN).coded(Code::CheckFailed)
}

/// Whether trying the same bundle again may give another answer: the child did not run, or the
/// machine was too busy for it.
#[must_use]
pub fn passing(fault: &BundleFault) -> bool {
    fault.path.is_empty() && [TRY_AGAIN, GROWS].contains(&fault.remedy.as_str())
}

/// The child's side: reads a request, tries the bundle, writes what is wrong with it.
///
/// Limits itself first, so that what goes wrong goes wrong here.
pub fn serve_child(input: &mut dyn io::Read, output: &mut dyn io::Write) -> io::Result<()> {
    limit(Resource::Core, 0)?;
    limit(Resource::As, CHILD_MEMORY_BYTES)?;
    limit(Resource::Cpu, CHECK_TIMEOUT.as_secs())?;
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let request: Request = serde_json::from_slice(&bytes)?;
    let trying = std::thread::Builder::new()
        .stack_size(CHILD_STACK_BYTES)
        .spawn(move || Pdp::compile(&request.bundle, &request.tools).err().unwrap_or_default())?;
    let faults = trying.join().unwrap_or_else(|_panic| {
        let remedy = "look at what was changed last";
        vec![BundleFault::new("", "the policy engine panicked on this bundle", remedy).coded(Code::CheckFailed)]
    });
    serde_json::to_writer(&mut *output, &Answer { faults })?;
    output.flush()
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}
