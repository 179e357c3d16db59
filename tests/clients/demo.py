"""One running `loopgate demo`, started for a test and stopped after it, whatever happens.

Promises: every address is on loopback with a free port; nothing of the demo outlives the `with` block.
Called by `run` and `conformance`. LOOPGATE_BIN names the binary; without it, the release build.
"""

import contextlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
READY_SECONDS = 60
PROBE_SECONDS = 10
STOP_SECONDS = 20
ANY_PORT = "127.0.0.1:0"


class Broken(Exception):
    """The demo did not start, or a program under test gave no answer."""


def binary() -> str:
    named = os.environ.get("LOOPGATE_BIN")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return named or str(target / "release/loopgate")


def stop(child: subprocess.Popen, seconds: float = STOP_SECONDS) -> bool:
    """Ask the child to end, then make it; takes its whole process group along. Whether asking was enough."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


class Lines:
    """What a child prints, line by line, with a deadline for each."""

    def __init__(self, stream) -> None:
        self.queue: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._pump, args=(stream,), daemon=True).start()

    def _pump(self, stream) -> None:
        for line in stream:
            self.queue.put(line)
        self.queue.put("")

    def next(self, seconds: float, whose: str) -> str:
        try:
            line = self.queue.get(timeout=seconds)
        except queue.Empty:
            raise Broken(f"{whose} said nothing for {seconds} s") from None
        if not line:
            self.queue.put("")
            raise Broken(f"{whose} ended")
        return line


class Demo:
    """Where the demo listens and whom it knows."""

    def __init__(self, said: dict) -> None:
        self.mcp: str = said["mcp"]
        self.admin: str = said["admin"]
        self.backend: str = said["backend"]
        self.dir = pathlib.Path(said["dir"])
        self.tokens: dict[str, str] = {user["user"]: user["token"] for user in said["users"]}

    def token(self, user: str) -> str:
        return self.tokens[user]


def probe(demo: Demo) -> None:
    """A demo that says it is ready must be: one whose rules were refused would fail every promise for one reason."""
    ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    until = time.monotonic() + PROBE_SECONDS
    while True:
        try:
            with ask(f"{demo.admin}/readyz", timeout=PROBE_SECONDS):
                return
        except urllib.error.HTTPError as answer:
            why = f"{answer.code} {answer.read().decode(errors='replace')}"
        except OSError as error:
            why = str(error)
        if time.monotonic() > until:
            raise Broken(f"`loopgate demo` said that it is ready, but /readyz says {why}")
        time.sleep(0.2)


@contextlib.contextmanager
def running() -> Iterator[Demo]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that what was started is stopped
    command = [binary(), "demo", "--mcp", ANY_PORT, "--admin", ANY_PORT, "--backend", ANY_PORT, "--json"]
    with tempfile.TemporaryFile("w+") as log:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        except OSError as why:
            raise Broken(f"`{command[0]}` does not start: {why}; build it with `cargo build --release`") from why
        try:
            demo = Demo(json.loads(Lines(child.stdout).next(READY_SECONDS, "`loopgate demo`")))
            probe(demo)
            yield demo
        except BaseException as why:
            log.seek(0)
            if tail := log.read()[-8000:].strip():
                why.add_note(f"`loopgate demo` logged:\n{tail}")
            stop(child)
            raise
        if not stop(child):
            raise Broken(f"`loopgate demo` did not stop within {STOP_SECONDS} s of SIGTERM")
