"""The example of a custom agent against the demo: what LoopIQ counts at each of its steps.

Promises: judges the agent by what it prints and by the demo's effects, never by its code. Called by `run`.
"""

import json
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.request

import sessions
import toolchain
from demo import ROOT, Demo, Lines, stop

AGENT = ROOT / "config/examples/custom-agent/agent.py"
STEP_SECONDS = 60


class Agent:
    """The example as a process, with a line of its output at a time."""

    def __init__(self, demo: Demo, note: pathlib.Path, *options: str) -> None:
        where = ["--url", demo.mcp, "--admin", demo.admin, "--tokens", str(demo.dir / "tokens"), "--note", str(note)]
        env = {**sessions.environment(demo.mcp, "", None), "PYTHONUNBUFFERED": "1"}
        self.said = ""
        self.child = subprocess.Popen(
            [toolchain.python(2), str(AGENT), *where, *options], env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )
        self.lines = Lines(self.child.stdout)

    def until(self, words: str) -> str:
        """The first line with these words."""
        while True:
            try:
                line = self.lines.next(STEP_SECONDS, "the agent")
            except Exception as why:
                raise AssertionError(f"no line with {words!r}: {why}; it said\n{self.said}") from why
            self.said += line
            if words in line:
                return line

    def ends(self) -> None:
        code = self.child.wait(STEP_SECONDS)
        assert code == 0, f"exit code {code}, after\n{self.said}"

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        stop(self.child, 2)


def ask(url: str, token: str = "", body: dict | None = None) -> dict:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.load(answer)


def effects(demo: Demo) -> dict:
    return ask(f"{demo.backend}/_sandbox/effects")


def created(demo: Demo, since: dict) -> dict:
    """How many records of each kind there are more than then."""
    now = effects(demo)["byKind"]
    more = {kind: count - since["byKind"].get(kind, 0) for kind, count in now.items()}
    return {kind: count for kind, count in more.items() if count}


def results(agent: Agent) -> dict:
    """What its last step printed, by name."""
    return {name: agent.until(f"  {name} ").split()[1:] for name in ("package", "parent", "children")}


def plays(demo: Demo) -> None:
    """Every step once, the last one twice."""
    with tempfile.TemporaryDirectory() as scratch:
        note = pathlib.Path(scratch) / "note.json"
        before = effects(demo)
        with Agent(demo, note) as agent:
            agent.until("5. ")
            assert effects(demo) == before, "the dry run created something"
            approval = re.search(r"approval (apr_\S+?),", agent.until("approval apr_")).group(1)
            agent.until("pending")
            assert effects(demo) == before, "something was created that nobody has approved"
            url, otto = f"{demo.admin}/api/v1/approvals/{approval}", demo.token("otto")
            ask(f"{url}/approve", otto, {"digest": ask(url, otto)["digest"], "reason": "read and agreed"})
            agent.until("approved")
            agent.until("done")
            first = results(agent)
            agent.ends()
        tasks = len(json.loads(note.read_text())["package"]["tasks"])
        assert tasks == len(first["children"]) > 0, f"{tasks} tasks, but {first}"
        assert created(demo, before) == {"work_item": 1 + tasks, "work_package": 1}, f"created: {created(demo, before)}"
        after = effects(demo)
        with Agent(demo, note, "--again") as agent:
            agent.until("replayed")
            assert results(agent) == first, f"other ids the second time:\n{agent.said}"
            agent.ends()
        assert effects(demo) == after, "running the last step again did something"


def plays_alone(demo: Demo) -> None:
    """The two commands of its README."""
    with tempfile.TemporaryDirectory() as scratch:
        note = pathlib.Path(scratch) / "note.json"
        before = effects(demo)
        for options in (["--approve-as", "otto"], ["--again"]):
            with Agent(demo, note, *options) as agent:
                results(agent)
                agent.ends()
        assert effects(demo)["executions"] == before["executions"] + 1, "two runs, more than one effect"


def is_told_no(demo: Demo) -> None:
    """People say no: the agent stops, says why, and nothing is created."""
    with tempfile.TemporaryDirectory() as scratch, Agent(demo, pathlib.Path(scratch) / "note.json") as agent:
        before = effects(demo)
        approval = re.search(r"approval (apr_\S+?),", agent.until("approval apr_")).group(1)
        url, otto = f"{demo.admin}/api/v1/approvals/{approval}", demo.token("otto")
        ask(f"{url}/reject", otto, {"digest": ask(url, otto)["digest"], "reason": "not this week"})
        agent.until("not this week")
        assert agent.child.wait(STEP_SECONDS) == 1, "it did not say with its exit code that it stopped"
        assert effects(demo) == before, "what was rejected was done"


ALL = (plays, plays_alone, is_told_no)
