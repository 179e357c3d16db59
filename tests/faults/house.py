"""Real processes for the rows: gateways, a stand-in LoopIQ, an issuer of keys, a PostgreSQL.

Promises: everything listens on loopback on a free port or in a scratch directory; whatever was started ends with
its `with` block, and the directory goes. Never judges anything: `rows` does. Standard library only.
"""

import contextlib
import http.server
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))
from demo import Lines, binary, stop  # noqa: E402  (the rules for children are the same)

READY_SECONDS = 120
CALL_SECONDS = 90
TENANT = "org_gcn"
RELEASE = "backend-v1.0-GCN"


class Broken(Exception):
    """Something that a row needs did not come about; says nothing about the promise."""


def until(what: str, ask, seconds: float = 60):
    """Ask again until the answer is true, and give it back."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Broken(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.05)


def ask(url: str, body=None, token: str = "") -> tuple[int, dict]:
    """One HTTP exchange: status and JSON; status 0 when there was no answer."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=CALL_SECONDS) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        status, text = refused.code, refused.read()
    except OSError:
        return 0, {}
    try:
        return status, json.loads(text)
    except ValueError:
        return status, {"text": text.decode(errors="replace")}


def run(*arguments: str, code: int | None = 0) -> str:
    """The program to its end; its standard output."""
    done = subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
    if code is not None and done.returncode != code:
        raise Broken(f"loopgate {' '.join(arguments[:2])}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Child(contextlib.AbstractContextManager):
    """A process that ends with its block."""

    def __init__(self, command: list[str], cwd=None, env: dict | None = None) -> None:
        self.log = tempfile.TemporaryFile("w+", prefix="loopgate-faults-")
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True,
            start_new_session=True,
        )
        self.lines = Lines(self.process.stdout)

    def said(self) -> str:
        self.log.flush()
        with open(f"/proc/self/fd/{self.log.fileno()}") as again:
            return again.read()

    def word(self, pattern: str) -> str:
        """The first group of the first printed line that fits."""
        while True:
            line = self.lines.next(READY_SECONDS, "a process")
            if found := re.search(pattern, line):
                return found.group(1)

    def __exit__(self, *_) -> None:
        stop(self.process)
        self.process.stdout.close()
        self.log.close()


class Sandbox(Child):
    """A stand-in LoopIQ that misbehaves when told to, and counts what it did."""

    def __init__(self) -> None:
        super().__init__([binary(), "sandbox", "--listen", "127.0.0.1:0"])
        self.url = self.word(r"(http://\S+)")

    def fault(self, **fault) -> None:
        status, body = ask(f"{self.url}/_sandbox/faults", fault)
        if status != 201:
            raise Broken(f"the sandbox takes no such fault: {body}")

    def effects(self) -> dict:
        return ask(f"{self.url}/_sandbox/effects")[1]

    def executions(self) -> int:
        """How many writes were carried out, in all."""
        return self.effects()["executions"]

    def of(self, ids: set[str]) -> int:
        """How often the writes of these execution ids were carried out."""
        counted = self.effects().get("byKey", {}).get(TENANT, {})
        return sum(counted.get(one, 0) for one in ids)

    def arrived(self) -> int:
        return len(ask(f"{self.url}/_sandbox/requests")[1].get("items", []))


class Keys(contextlib.AbstractContextManager):
    """A JWKS endpoint that can be taken down and put up again at the same address."""

    def __init__(self, document: str) -> None:
        self.document = document.encode()
        self.port = 0
        self.server = None
        self.up()

    def up(self) -> None:
        document = self.document

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, *_) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def down(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def __exit__(self, *_) -> None:
        self.down()


class Postgres(contextlib.AbstractContextManager):
    """A throw-away cluster, reached by a socket in its own directory."""

    def __init__(self) -> None:
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        bindir = shutil.which("postgres") or (found and str(found[-1]))
        if not bindir:
            raise Broken("PostgreSQL is needed: apt-get install postgresql")
        self.bin = pathlib.Path(os.path.realpath(bindir)).parent
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lgpg", dir="/tmp"))
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            shutil.chown(self.dir, self.user)
            self.dir.chmod(0o755)
        self._run("initdb", "--username=loopgate", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync",
                  "-D", str(self.dir / "data"))
        self.up()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([str(self.bin / program), *arguments], user=self.user, cwd=self.dir, capture_output=True,
                              text=True, check=False, stdin=subprocess.DEVNULL, timeout=CALL_SECONDS,
                              group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                              extra_groups=[] if self.user else None)
        if done.returncode:
            raise Broken(f"{program}: {done.stdout}{done.stderr}")

    def _control(self, *words: str) -> None:
        self._run("pg_ctl", "-D", str(self.dir / "data"), "-w", "-l", str(self.dir / "log"), *words)

    def up(self) -> None:
        self._control("start", "-o", f"-c listen_addresses= -c unix_socket_directories={self.dir}")

    def down(self) -> None:
        self._control("stop", "-m", "immediate")

    @property
    def url(self) -> str:
        return f"postgres://loopgate@%2F{str(self.dir).lstrip('/').replace('/', '%2F')}/postgres"

    def __exit__(self, *_) -> None:
        with contextlib.suppress(Broken):
            self.down()
        shutil.rmtree(self.dir, ignore_errors=True)


class Home(contextlib.AbstractContextManager):
    """A directory with settings, keys and tokens, and the gateway that runs on it."""

    def __init__(self, backend: str, keys: str = "file: issuer/dev-issuer.jwks.json", **sections: str) -> None:
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="loopgate-faults-"))
        run("token", "init", "--dir", str(self.dir / "issuer"))
        sections = {"audit": "{dir: audit}", "ledger": "{path: ledger.db}", "issuer": "", **sections}
        (self.dir / "gateway.yaml").write_text(
            f"""listen: {{mcp: "127.0.0.1:0", admin: "127.0.0.1:0"}}
issuers:
  - name: main
    issuer: http://localhost/loopgate-dev
    audiences: [http://127.0.0.1:8080/mcp]
    algorithms: [EdDSA]
    keys: {{{keys}}}
    {sections["issuer"]}
catalog: {ROOT / "config/catalog.yaml"}
policy: {{dir: {ROOT / "policies"}, store: store}}
backends:
  - url: {backend}
audit: {sections["audit"]}
ledger: {sections["ledger"]}
keys: {{dir: keys}}
log: {{format: json}}
""")
        self.gateway: Child | None = None
        self.mcp = self.admin = ""
        self.executions: dict[str, set[str]] = {}  # under each key, every execution that was told of
        self.token = self.mint()

    def mint(self, ttl: str = "1h", key: str = "issuer") -> str:
        return run("token", "mint", "--key", str(self.dir / key / "dev-issuer.pem"), "--user", "ada", "--tenant", TENANT,
                   "--role", "release_manager", "--ttl", ttl).strip()

    def serve(self, env: dict | None = None) -> None:
        """Start it and wait until it says that it is ready."""
        config = str(self.dir / "gateway.yaml")
        self.gateway = Child([binary(), "serve", "--config", config], cwd=self.dir, env={**os.environ, **(env or {})})

        def listens():
            if self.gateway.process.poll() is not None:
                raise Broken(f"the gateway ended: {self.gateway.said()[-3000:]}")
            return re.search(r"serving MCP on ([^ ]+), operators on ([^ \"]+)", self.gateway.said())

        said = until("the gateway listens", listens, READY_SECONDS)
        self.mcp, self.admin = f"http://{said[1]}/mcp", f"http://{said[2]}"
        until("the gateway is ready", lambda: ask(f"{self.admin}/readyz")[0] == 200, READY_SECONDS)

    def kill(self) -> None:
        os.killpg(self.gateway.process.pid, signal.SIGKILL)
        self.gateway.process.wait()
        self.gateway.__exit__()

    def call(self, tool: str, arguments: dict, token: str | None = None) -> "Answer":
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        return Answer(*ask(self.mcp, body, self.token if token is None else token))

    def read(self, token: str | None = None) -> "Answer":
        return self.call("loopiq_get_release_certification", {"release": RELEASE}, token)

    def write(self, key: str) -> "Answer":
        item = {"title": f"item {key}", "type": "task", "parent": "WI-1001", "owner": "ada", "idempotencyKey": key}
        answer = self.call("loopiq_create_work_item", item)
        told = answer.audit.get("executionId") or answer.error.get("executionId")
        self.executions.setdefault(key, set()).update({told} if told else set())
        return answer

    def write_state(self, key: str) -> str:
        """What the gateway says became of a write."""
        answer = self.call("loopiq_get_action", {"idempotencyKey": key})
        return (answer.value or {}).get("state", "") or answer.code

    def verify(self) -> str:
        """What `audit verify` says: its exit code, and its words when they are not good ones."""
        done = subprocess.run([binary(), "audit", "verify", "--config", str(self.dir / "gateway.yaml")],
                              capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
        return "fine" if done.returncode == 0 else f"exit code {done.returncode}: {done.stdout}{done.stderr}".strip()

    def recorded(self) -> set[str]:
        said = run("audit", "query", "--config", str(self.dir / "gateway.yaml"), "--json", "--limit", "0")
        return {json.loads(line)["metadata"]["uid"] for line in said.splitlines()}

    def __exit__(self, *_) -> None:
        if self.gateway:
            self.gateway.__exit__()
        shutil.rmtree(self.dir, ignore_errors=True)


class Answer:
    """What a caller saw of one call."""

    def __init__(self, status: int, body: dict) -> None:
        self.status = status
        self.result = body.get("result") or {}
        meta = self.result.get("_meta") or {}
        self.audit = meta.get("com.loopiq/audit") or {}
        self.error = meta.get("com.loopiq/error") or {}
        self.value = self.result.get("structuredContent") or self._of_text()

    def _of_text(self):
        """Clients of the first revision get the value as text alone."""
        try:
            return json.loads(self.result["content"][0]["text"])
        except (KeyError, IndexError, ValueError):
            return None

    @property
    def code(self) -> str:
        """`ok`, the code of the refusal, or the HTTP status when it was no answer of MCP's."""
        if self.error:
            return self.error.get("code", "?")
        return "ok" if self.status == 200 and self.result and not self.result.get("isError") else f"HTTP {self.status}"
