//! A Unix socket for clients on the same machine, such as the agent that this gateway is a sidecar of.
//!
//! Promises: nobody can connect before the file has its mode (0660: owner and group); a socket that
//! somebody listens on is never taken, and a file that is none never replaced; what is left of a
//! gateway that was killed is; the file goes when the door closes, unless it is another's by then.
//! Called by `adapters::door`.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// A socket that is listened on.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: whether the file is still ours.
    ours: Option<(u64, u64)>,
}

impl Socket {
    /// Listens, in the place of a socket that nobody listens on any more.
    pub(super) async fn open(path: &Path) -> Result<Self, String> {
        free(path).await?;
        // WHY: bound in a folder that only we can enter, and moved when its mode is set; the umask,
        // which would do it in one step, belongs to the whole process.
        let beside = path.with_added_extension(format!("{}.new", std::process::id()));
        let bound = bind(&beside, path);
        // Empty by now, or never made.
        let _gone = fs::remove_dir_all(&beside);
        let listener = bound.map_err(|cause| {
            format!("{cause}; name a file of less than 100 characters in a folder that the gateway may write to")
        })?;
        Ok(Self { listener, path: path.to_owned(), ours: identity(path) })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(unix, _)| unix)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.ours.is_some() && identity(&self.path) == self.ours {
            // A file that stays is taken for what it is at the next start.
            let _left_behind = fs::remove_file(&self.path);
        }
    }
}

fn bind(beside: &Path, path: &Path) -> io::Result<UnixListener> {
    let _stale = fs::remove_dir_all(beside);
    fs::create_dir(beside)?;
    fs::set_permissions(beside, fs::Permissions::from_mode(0o700))?;
    let new = beside.join("s");
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(MODE))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

/// Whether a socket may be put there.
async fn free(path: &Path) -> Result<(), String> {
    let there = match fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cause.to_string()),
        Ok(there) => there,
    };
    if !there.file_type().is_socket() {
        return Err("there is a file that is no socket; take it away or choose another `listen.mcp_socket`".into());
    }
    match UnixStream::connect(path).await {
        Err(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(_) => Err("somebody listens there; choose another `listen.mcp_socket` or stop what listens".into()),
        Err(cause) => Err(format!("whether somebody listens there cannot be told ({cause}); take it away")),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_for_owner_and_group_and_goes_with_its_door() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcp.sock");
        let socket = Socket::open(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let (there, here) = tokio::join!(UnixStream::connect(&path), socket.accept());
        assert!(there.is_ok() && here.is_ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_is_taken_from_the_dead_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcp.sock");
        let first = Socket::open(&path).await.unwrap();
        assert!(Socket::open(&path).await.unwrap_err().contains("somebody listens"));
        // What a killed gateway leaves: the file, and nobody behind it.
        let stale = dir.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        let second = Socket::open(&stale).await.unwrap();
        let other = dir.path().join("file");
        fs::write(&other, "precious").unwrap();
        assert!(Socket::open(&other).await.unwrap_err().contains("no socket"));
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        // Somebody put another file in its place: that one stays.
        fs::remove_file(&stale).unwrap();
        fs::write(&stale, "another's").unwrap();
        drop((first, second));
        assert!(stale.exists() && !path.exists());
    }
}
