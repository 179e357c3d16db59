//! A real Redis of a test's own, on a socket in a temporary directory.
//!
//! A small shell holds it: when the test's process ends, however it ends, the shell stops the server
//! and removes everything. Without Redis on the machine the test fails and says what to install.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;

/// Holds a server: `start` says `up` when it answers, `stop` says `down` when it has gone.
const HOLDER: &str = r#"
dir=$1
for name in redis-server valkey-server; do
    command -v "$name" >/dev/null 2>&1 && server=$name && break
done
[ -n "${server:-}" ] || { echo "Redis is needed for this test: apt-get install redis-server"; exit 1; }
trap '' INT HUP
end() { [ -n "${pid:-}" ] && kill -KILL "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; pid=; }
while read -r word; do
    case $word in
    start)
        rm -f "$dir/redis.sock"
        "$server" --port 0 --unixsocket "$dir/redis.sock" --save '' --appendonly no --dir "$dir" >"$dir/log" 2>&1 <&- &
        pid=$!
        until [ -S "$dir/redis.sock" ]; do kill -0 "$pid" 2>/dev/null || { cat "$dir/log"; exit 1; }; sleep 0.02; done
        echo up ;;
    stop) end; rm -f "$dir/redis.sock"; echo down ;;
    esac
done
end
rm -rf "$dir"
"#;

/// A server that can be stopped and started again; it remembers nothing.
pub(crate) struct Redis {
    dir: PathBuf,
    holder: Mutex<Holder>,
}

struct Holder {
    child: Child,
    say: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let redis = Self::away();
        redis.tell("start", "up");
        redis
    }

    /// One that is not there yet.
    pub(crate) fn away() -> Self {
        // WHY under /tmp: the path of a socket has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("lgrd").tempdir_in("/tmp").unwrap().keep();
        let mut child = Command::new("sh")
            .args(["-c", HOLDER, "holder"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, hear) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { dir, holder: Mutex::new(Holder { child, say, hear }) }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.dir.join("redis.sock").display())
    }

    pub(crate) fn start_again(&self) {
        self.tell("start", "up");
    }

    /// Kills it.
    pub(crate) fn stop(&self) {
        self.tell("stop", "down");
    }

    fn tell(&self, word: &str, expected: &str) {
        let mut holder = self.holder.lock().unwrap();
        writeln!(holder.say.as_mut().unwrap(), "{word}").unwrap();
        let mut line = String::new();
        holder.hear.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let holder = self.holder.get_mut().unwrap();
        drop(holder.say.take());
        drop(holder.child.wait());
    }
}
