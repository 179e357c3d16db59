"""What fails, what was promised for it, and whether it held: one function to a row of design section 12.

Promises: each row does what its name says to real processes, notes every observation that the promise speaks of,
and holds only when all of them are as promised. A row that could not do its fault says so and does not hold.
Called by `run`.
"""

import contextlib
import itertools
import os
import pathlib
import subprocess
import threading
import time

from house import Broken, Home, Keys, Postgres, Sandbox, ask, until

SETTLE_SECONDS = 120


class Row:
    """Observations of one row."""

    def __init__(self, did: str, promised: str) -> None:
        self.did, self.promised = did, promised
        self.seen: list[str] = []
        self.holds = True

    def see(self, what: str, got, wanted) -> None:
        """Note one observation; `wanted` is a value or a set of values."""
        fits = got in wanted if isinstance(wanted, set) else got == wanted
        self.seen.append(f"{what}: {got}" if fits else f"{what}: {got}, NOT {wanted}")
        self.holds &= fits


def codes(answers) -> dict[str, int]:
    """How often each code was answered."""
    counted: dict[str, int] = {}
    for answer in answers:
        counted[answer.code] = counted.get(answer.code, 0) + 1
    return counted


def keys_unreachable() -> Row:
    row = Row("JWKS endpoint down past `max_stale` (6 s for the hour), then up", "last good keys, then 503, never 401; back by itself")
    with Sandbox() as sandbox, Home(sandbox.url) as probe:
        with Keys((probe.dir / "issuer/dev-issuer.jwks.json").read_text()) as keys:
            source = f"url: http://127.0.0.1:{keys.port}/jwks.json"
            with Home(sandbox.url, keys=source, issuer="refresh: 1s\n    max_stale: 6s") as home:
                own, stranger = probe.mint(), home.mint()
                home.serve()
                row.see("before", home.read(own).code, "ok")
                keys.down()
                down = time.monotonic()
                row.see("down, keys still good", home.read(own).code, "ok")
                seen = set()

                def stale() -> bool:
                    seen.add(home.read(own).code)
                    return "HTTP 503" in seen

                until("the keys are too old", stale, 60)
                row.see("refused at the earliest after", time.monotonic() - down > 4, True)
                row.see("answers on the way besides `ok`", sorted(seen - {"ok"}), ["HTTP 503"])
                row.see("a stranger's token", home.read(stranger).code, {"HTTP 503", "HTTP 401"})
                keys.up()
                until("the keys are read again", lambda: home.read(own).code == "ok", 90)
                row.see("up again", home.read(own).code, "ok")
                row.see("a stranger's token", home.read(stranger).code, "HTTP 401")
    return row


def postgres_restarted() -> Row:
    row = Row("PostgreSQL stopped at once (`-m immediate`) and started again", "governed writes refused, reads go on; back by itself, nothing twice")
    with Postgres() as postgres, Sandbox() as sandbox, Home(sandbox.url, ledger="{kind: postgres, url_file: url}") as home:
        (home.dir / "url").write_text(postgres.url)
        home.serve()
        row.see("a write before", home.write("before").code, "ok")
        postgres.down()
        row.see("a write while it is down", home.write("during").code, "ledger_unavailable")
        row.see("again under the key of before", home.write("before").code, "ledger_unavailable")
        row.see("a read while it is down", home.read().code, "ok")
        row.see("effects: only the first write's", sandbox.executions(), 1)
        postgres.up()
        until("writes are taken again", lambda: home.write("during").code == "ok", SETTLE_SECONDS)
        again = home.write("before")
        row.see("the write of before, again", (again.code, again.audit.get("replayed")), ("ok", True))
        each = [sandbox.of(home.executions[key]) for key in ("before", "during")]
        row.see("effects of each, and in all", (each, sandbox.executions()), ([1, 1], 2))
        row.see("journal", home.verify(), "fine")
    return row


@contextlib.contextmanager
def small_disk(at: pathlib.Path, size: str):
    """A disk of its own for a directory. Needs root; without it the row does not hold, and says so."""
    at.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(at)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(f"a small disk cannot be mounted here (run as root): {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(at)], check=False)


def fill(path: pathlib.Path, leave: int) -> None:
    """Write until so many bytes are left on the disk of `path`."""
    with path.open("ab") as file:
        while (free := os.statvfs(path).f_bavail * os.statvfs(path).f_frsize) > leave:
            try:
                file.write(b"\0" * min(free - leave, 1 << 16))
                file.flush()
            except OSError:
                return


def journal_full() -> Row:
    row = Row("the journal's disk filled to below `low_water`, then to the last byte, then freed", "no writes, then no reads; back by itself; the journal verifies")
    with Sandbox() as sandbox, Home(sandbox.url, audit="{dir: audit, low_water: 4MiB}") as home, small_disk(home.dir / "audit", "16m"):
        home.serve()
        row.see("a write before", home.write("before").code, "ok")
        ballast = home.dir / "audit/ballast"
        numbers = itertools.count()
        fill(ballast, 2 << 20)
        # The gateway looks at the free space once a second; until then it may still take one.
        until("writes are refused", lambda: home.write(f"low-{next(numbers)}").code == "audit_unavailable", 30)
        carried_out = sandbox.executions()
        row.see("below low_water: a write, a read", (home.write("low").code, home.read().code), ("audit_unavailable", "ok"))
        fill(ballast, 0)
        until("reads are refused", lambda: home.read().code == "audit_unavailable", 60)
        full = (home.write("full").code, home.read().code)
        row.see("full: a write, a read", full, ("audit_unavailable", "audit_unavailable"))
        row.see("effects since writes were refused", sandbox.executions() - carried_out, 0)
        row.see("alive", ask(f"{home.admin}/healthz")[0], 200)
        ballast.unlink()
        until("writes are taken again", lambda: home.write("after").code == "ok", SETTLE_SECONDS)
        row.see("freed: a read", home.read().code, "ok")
        row.see("journal", home.verify(), "fine")
    return row


def backend_slow() -> Row:
    row = Row("the backend answers a read and a write after 30 s; calls may take 10 s", "reads time out, writes become `unknown` and are reconciled, once")
    with Sandbox() as sandbox, Home(sandbox.url) as home:
        home.serve()
        sandbox.fault(kind="delay", method="GET", path="/api/v1/releases", ms=30_000, times=1)
        started = time.monotonic()
        row.see("the read", home.read().code, "backend_timeout")
        row.see("it was answered before the backend did", time.monotonic() - started < 25, True)
        sandbox.fault(kind="delay", method="POST", path="/api/v1/work-items", exact=True, dry_run=False, when="after", ms=30_000, times=1)
        row.see("the write", home.write("slow").code, {"execution_unknown", "backend_timeout"})
        row.see("another read meanwhile", home.read().code, "ok")
        until("the write is settled", lambda: home.write_state("slow") == "executed", SETTLE_SECONDS)
        again = home.write("slow")
        row.see("settled without anybody; the same write again", (again.code, again.audit.get("replayed")), ("ok", True))
        row.see("effects", (sandbox.of(home.executions["slow"]), sandbox.executions()), (1, 1))
        row.see("journal", home.verify(), "fine")
    return row


def backend_resets() -> Row:
    row = Row("every third of 30 writes is reset by the backend, before or after it took effect", "each is carried out once and settled; a reset is never told as done")
    with Sandbox() as sandbox, Home(sandbox.url) as home:
        home.serve()
        answers = {}
        for number in range(30):
            if number % 3 == 2:
                kind = "reset_after_commit" if number % 2 else "reset_before_commit"
                sandbox.fault(kind=kind, method="POST", path="/api/v1/work-items", exact=True, dry_run=False, times=1)
            answers[f"k{number}"] = home.write(f"k{number}")
        first = codes(answers.values())
        row.see("answered as done at once", first.get("ok", 0) >= 20, True)
        row.see("told", set(first) <= {"ok", "execution_unknown", "backend_unavailable", "backend_failed"}, True)
        row.seen.append(f"answers: {first}")
        done = [key for key, answer in answers.items() if answer.code == "ok"]
        row.see("done and not carried out once", [key for key in done if sandbox.of(home.executions[key]) != 1], [])
        until("every write is settled", lambda: all(home.write(key).code == "ok" for key in answers), SETTLE_SECONDS)
        row.see("not carried out exactly once", [key for key in answers if sandbox.of(home.executions[key]) != 1], [])
        row.see("carried out in all", sandbox.executions(), 30)
        row.see("journal", home.verify(), "fine")
    return row


def clock_moved() -> Row:
    row = Row("the gateway's clock put ten minutes forward, then ten back", "tokens by the clock; writes once; nothing stops; the journal verifies")
    library = next((path for path in pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if not library:
        raise Broken("libfaketime is needed: apt-get install faketime")
    with Sandbox() as sandbox, Home(sandbox.url) as home:
        clock = home.dir / "clock"

        def move(offset: str) -> None:
            (home.dir / "clock.new").write_text(offset + "\n")
            (home.dir / "clock.new").rename(clock)

        move("+0")
        short = home.mint("5m")
        home.serve({"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"})
        row.see("before: long token, short token, a write", (home.read().code, home.read(short).code, home.write("a").code), ("ok", "ok", "ok"))
        move("+600")
        row.see("forward: long token, token of five minutes", (home.read().code, home.read(short).code), ("ok", "HTTP 401"))
        again = home.write("a")
        row.see("the write again", (again.code, again.audit.get("replayed")), ("ok", True))
        row.see("a new write", home.write("b").code, "ok")
        move("+0")
        row.see("back: long token, token of five minutes", (home.read().code, home.read(short).code), ("ok", "ok"))
        again = home.write("b")
        row.see("the write again", (again.code, again.audit.get("replayed")), ("ok", True))
        row.see("a new write", home.write("c").code, "ok")
        row.see("effects", ([sandbox.of(home.executions[key]) for key in "abc"], sandbox.executions()), ([1, 1, 1], 3))
        row.see("ready", ask(f"{home.admin}/readyz")[0], 200)
        row.see("journal", home.verify(), "fine")
    return row


def killed() -> Row:
    row = Row("`kill -9` three times under load of eight clients", "nothing acknowledged is lost, no effect twice, the journal verifies")
    with Sandbox() as sandbox, Home(sandbox.url) as home:
        answered: dict[str, str] = {}
        for attempt in range(3):
            home.serve()
            load(home, attempt, answered)
            row.see(f"journal after kill {attempt + 1}", home.verify(), "fine")
        home.serve()
        lost = set(answered.values()) - home.recorded()
        row.see("acknowledged and not recorded", len(lost), 0)
        row.seen.append(f"writes acknowledged: {len(answered)}")
        row.see("some were", len(answered) >= 20, True)
        not_once = [key for key in answered if sandbox.of(home.executions[key]) != 1]
        row.see("acknowledged and not carried out once", not_once, [])
        replays = [home.write(key).audit.get("replayed") for key in list(answered)[:20]]
        row.see("answered again from memory", all(replays), True)
        tried = list(home.executions)
        until("every write is settled", lambda: all(home.write(key).code == "ok" for key in tried), SETTLE_SECONDS)
        row.see("carried out in all, of writes tried", (sandbox.executions(), len(tried)), (len(tried), len(tried)))
    return row


def load(home: Home, attempt: int, answered: dict[str, str]) -> None:
    """Writes from eight clients until the gateway is killed in the middle of them."""
    before, over = len(answered), threading.Event()

    def client(number: int) -> None:
        turn = 0
        while not over.is_set():
            key = f"{attempt}-{number}-{turn}"
            answer = home.write(key)
            if answer.code == "ok":
                answered[key] = answer.audit["auditRef"]
            turn += 1

    clients = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(8)]
    for one in clients:
        one.start()
    try:
        until("answers under load", lambda: len(answered) >= before + 20, 90)
        home.kill()
    finally:
        over.set()
        for one in clients:
            one.join()


ROWS = [keys_unreachable, postgres_restarted, journal_full, backend_slow, backend_resets, clock_moved, killed]
