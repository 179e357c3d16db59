"""One step to a corpus: what of it is as it should be, and what is not.

Promises: each step proves that it can see what it looks for, by one request that must get through; every wait has a
deadline. Gives back what was wrong, in words, and how many cases were right. Called by `run`.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.parse

import fetched
from fetched import Missing

sys.path.insert(0, str(fetched.ROOT / "tests/faults"))
from demo import Demo, binary, running  # noqa: E402
from house import ask  # noqa: E402

Outcome = tuple[list[str], int]
SEVERE, AMBIGUOUS = 27, 37
ANSWER_SECONDS = 5
SLOW_SECONDS = 45  # thrice the time that a request may take to arrive
SLOW_CONNECTIONS = 200
READ = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "loopiq_get_release_certification", "arguments": {"release": "backend-v1.0-GCN"}}}


def json_files() -> Outcome:
    command = ["cargo", "test", "--quiet", "--locked", "--bench", "corpora", "--"]
    done = subprocess.run([*command, str(fetched.parsing()), str(fetched.vectors())], cwd=fetched.ROOT, text=True,
                          capture_output=True, timeout=fetched.SECONDS, stdin=subprocess.DEVNULL, check=False)
    counts = re.search(r"^(\d+) passed, (\d+) failed", done.stdout, re.MULTILINE)
    if not counts:
        raise Missing(f"nothing was counted: {done.stdout}{done.stderr}")
    lines = done.stdout[: counts.start()].strip().splitlines()
    print("\n".join(line for line in lines if line.startswith(("stricter", "accepted of"))))
    wrong = [line for line in lines if line and not line.startswith(("stricter", "accepted of", "running"))]
    return (wrong if done.returncode else []), int(counts[1])


def desync() -> Outcome:
    cases = [case for kind in ("severe", "ambiguous") for case in fetched.desync(kind)]
    if len(cases) != SEVERE + AMBIGUOUS:
        raise Missing(f"{len(cases)} requests of http-desync-guardian, {SEVERE + AMBIGUOUS} should be there")
    wrong, right = [], 0
    with running() as demo:
        before = arrived(demo)
        if status(demo, request(demo, {"method": "POST", "version": "HTTP/1.1", "headers": []})) != 200 or arrived(demo) != before + 1:
            raise Missing("the good request did not get through: nothing would be proved")
        before, decided = arrived(demo), decisions(demo)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            # A name that is not ASCII goes out in both of the ways in which a client could send it.
            sent = [(case, raw) for case in cases for raw in sorted({request(demo, case, code) for code in ("utf-8", "latin-1")})]
            statuses = list(pool.map(lambda one: status(demo, one[1]), sent))
        for (case, raw), got in zip(sent, statuses, strict=True):
            if got is not None and 400 <= got < 500:
                right += 1
            else:
                wrong.append(f"{case['name']}: {'not closed' if got == 0 else got or 'no answer'} to {raw[:400]!r}")
        if (now := arrived(demo)) != before:
            wrong.append(f"{now - before} of them reached the backend")
        if (now := decisions(demo)) != decided:
            wrong.append(f"{now - decided} of them were decided about")
    return wrong, right


def request(demo: Demo, case: dict, code: str = "utf-8") -> bytes:
    """The case's own headers on a call that would be good, with as much of a body as they speak of."""
    body = json.dumps(READ)
    said = [(str(header["name"]), str(header["value"])) for header in case["headers"]]
    lengths = [int(value) for name, value in said if "length" in name.lower() and value.isdigit() and len(value) < 6]
    if any("ncoding" in name or "ncod\u0131ng" in name for name, _ in said):
        body = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    elif lengths:
        body = body.ljust(max(lengths))
    elif not any("length" in name.lower() for name, _ in said):
        said.append(("Content-Length", str(len(body))))
    good = [("Authorization", f"Bearer {demo.token('ada')}"), ("Content-Type", "application/json")]
    if not any(name.lower() == "host" for name, _ in said):
        good.append(("Host", urllib.parse.urlsplit(demo.mcp).netloc))
    lines = [f"{case['method']} /mcp {case['version']}", *(f"{name}: {value}" for name, value in good + said), "", body]
    return "\r\n".join(lines).encode(code, "replace")


def status(demo: Demo, raw: bytes) -> int | None:
    """The status of the only answer; 0 when the connection stays open behind a refusal, none without an answer."""
    for _ in range(5):
        said, closed = exchange(demo, raw)
        # Who closes with bytes unread resets the connection, and the answer may be lost on the way: again, then.
        if said or not closed:
            break
    found = re.findall(rb"^HTTP/1\.[01] (\d{3}) ", said, re.MULTILINE)
    if len(found) != 1:
        return None
    return int(found[0]) if closed or found[0] == b"200" else 0


def exchange(demo: Demo, raw: bytes) -> tuple[bytes, bool]:
    """Everything that came back, and whether the connection was closed then."""
    at = urllib.parse.urlsplit(demo.mcp)
    said = b""
    with socket.create_connection((at.hostname, at.port), ANSWER_SECONDS) as connection:
        try:
            connection.sendall(raw)
            while part := connection.recv(65536):
                said += part
        except (ConnectionResetError, BrokenPipeError):
            pass
        except TimeoutError:
            return said, False
    return said, True


def arrived(demo: Demo) -> int:
    return len(ask(f"{demo.backend}/_sandbox/requests")[1]["items"])


def decisions(demo: Demo) -> int:
    command = [binary(), "audit", "query", str(demo.dir / "audit"), "--json", "--limit", "0"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return sum(bool(json.loads(line)["unmapped"]["loopgate"].get("decisions")) for line in said.splitlines())


def api() -> Outcome:
    tool = fetched.schemathesis() / "schemathesis"
    wrong, right = [], 0
    with running() as demo:
        for user in ("tess", "cleo"):  # who may do most, and who belongs to two organisations
            command = [
                str(tool), "run", f"{demo.admin}/api/v1/openapi.json", "-H", f"Authorization: Bearer {demo.token(user)}",
                "--max-examples", "20", "--seed", "1", "--no-color", "--generation-database", "none",
                "--suppress-health-check", "all", "--request-timeout", "20",
                # A cursor is opaque and a number must be one that JSON carries: the schema cannot say which are good.
                "--exclude-checks", "positive_data_acceptance",
            ]
            done = subprocess.run(command, cwd=fetched.HERE, capture_output=True, text=True, timeout=600,
                                  stdin=subprocess.DEVNULL, check=False,
                                  env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"})
            tested = re.search(r"Tested: (\d+)", done.stdout)
            cases = re.search(r"(\d+) generated", done.stdout)
            if done.returncode:
                at = done.stdout.find("= FAILURES =")
                wrong.append(f"as {user}: {done.stdout[at if at > 0 else -4000:][:8000]}{done.stderr[-2000:]}")
            elif not tested or int(tested[1]) < 10 or not cases:
                wrong.append(f"as {user}: too little was tested: {done.stdout[-1500:]}")
            else:
                right += int(cases[1])
        if ask(f"{demo.admin}/healthz")[0] != 200:
            wrong.append("it is not alive behind that")
    return wrong, right


def slow() -> Outcome:
    with running() as demo, concurrent.futures.ThreadPoolExecutor(3) as pool:
        metadata = f"{urllib.parse.urljoin(demo.mcp, '/')}.well-known/oauth-protected-resource"
        modes = {
            "slow heads": ["-H", "-i", "2", "-t", "POST", "-u", demo.mcp],
            "slow bodies": ["-B", "-i", "2", "-s", "8192", "-t", "POST", "-f", "application/json", "-u", demo.mcp],
            "slow readers": ["-X", "-n", "2", "-w", "1", "-y", "2", "-z", "1", "-k", "10", "-u", metadata],
        }
        runs = {name: pool.submit(slowly, mode) for name, mode in modes.items()}
        wrong, right, calls = [], 0, 0
        while not all(run.done() for run in runs.values()):
            got, body = ask(demo.mcp, READ, demo.token("ada"))
            calls += 1
            if got != 200 or body.get("result", {}).get("isError"):
                wrong.append(f"a normal call got {got} {body}")
            time.sleep(0.2)
        for name, run in runs.items():
            said = run.result()
            ended = re.search(r"Exit status:\s+(.*)", said)
            if not ended:
                wrong.append(f"{name}: {said[-500:]}")
            elif re.search(r"service available:\s+NO", said):
                wrong.append(f"{name}: it was not available meanwhile")
            # An answer as short as ours is in the kernel at once, whoever reads it how slowly: nothing is held for them.
            elif name != "slow readers" and ended[1] != "No open connections left":
                wrong.append(f"{name}: after {SLOW_SECONDS} s they were not all cut off: {ended[1]}")
            else:
                right += 1
        if calls < SLOW_SECONDS / 5:
            wrong.append(f"only {calls} normal calls were made meanwhile")
        return wrong, right + (not wrong)


def slowly(mode: list[str]) -> str:
    command = ["slowhttptest", "-c", str(SLOW_CONNECTIONS), "-r", str(SLOW_CONNECTIONS), "-l", str(SLOW_SECONDS), "-p", "5", *mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SLOW_SECONDS + 60, stdin=subprocess.DEVNULL,
                          cwd=pathlib.Path("/"), check=False)
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.stdout + done.stderr)
