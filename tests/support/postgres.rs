//! A real PostgreSQL of a test's own: a throw-away cluster in a temporary directory.
//!
//! Reached by a socket in that directory, so no two get in each other's way. A small shell holds it:
//! when the test's process ends, however it ends, the shell stops the server and removes everything.
//! PostgreSQL refuses to run as root; for root it runs as the user `postgres`. Without PostgreSQL on
//! the machine the test fails and says what to install.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

/// What to do when there is none.
const INSTALL: &str = "PostgreSQL is needed for this test: apt-get install postgresql";
/// Longest wait for a server to come up.
const UP: Duration = Duration::from_mins(1);
/// Holds a server: reads one word at a time, says `done` after each.
const HOLDER: &str = r#"
dir=$1; shift
run() { "$@" >>"$dir/log" 2>&1 <&- & pid=$!; }
end() { kill "-$1" "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; }
trap '' INT HUP
run "$@"
echo done
while read -r word; do
    case $word in
    start) run "$@" ;;
    alive) kill -0 "$pid" 2>/dev/null && echo yes || echo no ;;
    stop) end INT ;;
    kill) end KILL ;;
    esac
    echo done
done
end QUIT
rm -rf "$dir"
"#;

/// A cluster; its server can be stopped, killed and started again.
pub(crate) struct Cluster {
    dir: PathBuf,
    holder: Mutex<Holder>,
    databases: std::sync::atomic::AtomicU32,
}

struct Holder {
    child: Child,
    say: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
}

impl Cluster {
    /// Makes a cluster and starts its server.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same, with settings of the server's, such as `synchronous_commit=off`.
    pub(crate) fn with(settings: &[&str]) -> Self {
        let bin = binaries();
        // WHY under /tmp: the path of a socket has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("lgpg").tempdir_in("/tmp").unwrap().keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        if is_root() {
            let owned = Command::new("chown").arg("postgres:").arg(&dir).output().unwrap();
            assert!(owned.status.success(), "{INSTALL} ({})", String::from_utf8_lossy(&owned.stderr).trim());
        }
        let data = dir.join("data");
        let made = as_its_user(&bin.join("initdb"))
            .args(["--username=loopgate", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(&dir)
            .output()
            .unwrap_or_else(|cause| panic!("{INSTALL} ({cause})"));
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = as_its_user(&bin.join("postgres"));
        server.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c", "max_connections=200"]);
        server.arg("-c").arg(format!("unix_socket_directories={}", dir.display()));
        for setting in settings {
            server.args(["-c", setting]);
        }
        let mut child = Command::new("sh")
            .args(["-c", HOLDER, "holder"])
            .arg(&dir)
            .arg(server.get_program())
            .args(server.get_args())
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, hear) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut holder = Holder { child, say, hear };
        holder.hear();
        let cluster = Self { dir, holder: Mutex::new(holder), databases: std::sync::atomic::AtomicU32::new(0) };
        cluster.wait();
        cluster
    }

    /// The connection URL of a database that is there from the start.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, database: &str) -> String {
        let host = self.dir.to_str().unwrap().replace('/', "%2F");
        format!("postgres://loopgate@{host}/{database}")
    }

    /// A database of its own, empty; its connection URL.
    pub(crate) fn database(&self) -> String {
        let at = self.databases.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("d{at}");
        self.psql(&format!("CREATE DATABASE {name}"));
        self.url_of(&name)
    }

    /// Runs SQL in the database `postgres`, as a person would; what it prints.
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.psql_in("postgres", sql).unwrap_or_else(|cause| panic!("psql: {sql}: {cause}"))
    }

    /// Runs SQL in a database.
    pub(crate) fn psql_in(&self, database: &str, sql: &str) -> Result<String, String> {
        let run = Command::new(binaries().join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "loopgate", "-d", database, "-c", sql, "-h"])
            .arg(&self.dir)
            .env_remove("PGPORT")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if run.status.success() { Ok(text(&run.stdout)) } else { Err(text(&run.stderr)) }
    }

    /// Stops the server in order; nobody is waited for.
    pub(crate) fn stop(&self) {
        self.holder.lock().unwrap().tell("stop");
    }

    /// Kills the server (`kill -9`), with whatever was under way.
    pub(crate) fn kill(&self) {
        self.holder.lock().unwrap().tell("kill");
    }

    /// Starts it again, and waits until it answers.
    pub(crate) fn start_again(&self) {
        self.holder.lock().unwrap().tell("start");
        self.wait();
    }

    /// Asks until it answers. After a kill it may have to be started more than once, while parts of
    /// the killed one are still ending.
    fn wait(&self) {
        let until = Instant::now() + UP;
        while let Err(cause) = self.psql_in("postgres", "SELECT 1") {
            if Instant::now() > until {
                let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                panic!("PostgreSQL does not come up: {cause}\n{log}");
            }
            let mut holder = self.holder.lock().unwrap();
            if holder.ask("alive") == "no" {
                holder.tell("start");
            }
            drop(holder);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let holder = self.holder.get_mut().unwrap();
        drop(holder.say.take());
        drop(holder.child.wait());
    }
}

impl Holder {
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.say.as_mut().unwrap(), "{word}").unwrap();
        assert_eq!(self.hear(), "done");
    }

    fn ask(&mut self, word: &str) -> String {
        writeln!(self.say.as_mut().unwrap(), "{word}").unwrap();
        let answer = self.hear();
        assert_eq!(self.hear(), "done");
        answer
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that PostgreSQL agrees to run under.
fn as_its_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

/// Where `initdb`, `postgres` and `psql` are: as `pg_config` says, where Debian puts them, or in the path.
fn binaries() -> PathBuf {
    let of_config = Command::new("pg_config").arg("--bindir").output().ok().filter(|out| out.status.success());
    let mut places: Vec<PathBuf> =
        of_config.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim())).into_iter().collect();
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    versions.sort();
    places.extend(versions.into_iter().rev());
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let whole = |dir: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| dir.join(name).exists());
    places.into_iter().find(whole).unwrap_or_else(|| panic!("{INSTALL}"))
}
