"""One conversation between an official client and the gateway, whichever client it is.

Promises: a `Session` lists tools and calls them, answers as they were on the wire, every wait has a
deadline, and nothing that it started outlives it. Never judges an answer; that is for `promises`.
Called by `run`.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile

import toolchain
from demo import Broken, Lines, stop

ANSWER_SECONDS = 45
SCRATCH = "loopgate-clients-"


@dataclasses.dataclass
class Answer:
    """What came back for one call: a result, which may be a refusal, or a JSON-RPC error."""

    result: dict | None = None
    error: dict | None = None

    @property
    def value(self):
        return (self.result or {}).get("structuredContent")

    @property
    def refused(self) -> bool:
        return self.error is not None or bool((self.result or {}).get("isError"))

    @property
    def text(self) -> str:
        return "".join(block.get("text", "") for block in (self.result or {}).get("content", []))

    def meta(self, key: str) -> dict:
        return ((self.result or {}).get("_meta") or {}).get(f"com.loopiq/{key}") or {}

    @property
    def code(self) -> str | None:
        return self.meta("error").get("code") or ((self.error or {}).get("data") or {}).get("code")

    def __str__(self) -> str:
        return json.dumps(self.result if self.error is None else self.error)


def environment(url: str, token: str, tenant: str | None) -> dict:
    said = {"LOOPGATE_URL": url, "LOOPGATE_TOKEN": token, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    return {**os.environ, "PATH": toolchain.path(), **said, **({"LOOPGATE_TENANT": tenant} if tenant else {})}


class Shell:
    """A session with one of the shells beside this file: a request per line in, an answer per line out."""

    def __init__(self, command: list[str], url: str, token: str, tenant: str | None = None) -> None:
        self.name = pathlib.Path(command[1]).name
        self.log = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen(
            command, env=environment(url, token, tenant), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            text=True, start_new_session=True,
        )
        self.lines = Lines(self.child.stdout)
        hello = json.loads(self.lines.next(ANSWER_SECONDS, self.name))
        self.connected: str | None = hello.get("connected")
        self.failure: str | None = hello.get("refused")

    def ask(self, line: str) -> Answer:
        try:
            self.child.stdin.write(line + "\n")
            self.child.stdin.flush()
            said = json.loads(self.lines.next(ANSWER_SECONDS, self.name))
        except (Broken, OSError) as why:
            self.log.seek(0)
            raise Broken(f"the session is gone: {why} {self.log.read()[-2000:]}") from why
        if "refused" in said:
            raise Broken(f"the session broke off: {said['refused']}")
        return Answer(said.get("result"), said.get("error"))

    def tools(self) -> list[dict]:
        answer = self.ask("tools")
        if answer.result is None:
            raise Broken(f"no list of tools: {answer}")
        return answer.result["tools"]

    def call(self, name: str, arguments: dict) -> Answer:
        return self.ask(f"{name} {json.dumps(arguments)}")

    def close(self) -> None:
        try:
            self.child.stdin.close()
            self.child.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            pass
        stop(self.child, 2)
        self.log.close()


class Inspector:
    """A session with the command line of MCP Inspector, which connects anew for each request."""

    def __init__(self, era: str, url: str, token: str, tenant: str | None = None) -> None:
        self.home = tempfile.TemporaryDirectory(prefix=SCRATCH)  # it writes ~/.mcp-inspector
        self.env = {**environment(url, token, tenant), "HOME": self.home.name}
        program = toolchain.npm_package("@modelcontextprotocol/inspector/clients/launcher/build/index.js")
        self.command = [
            toolchain.node(), program, "--cli", url, "--transport", "http", "--stored-auth-only", "--format", "json",
            "--protocol-era", era, "--header", f"Authorization: Bearer {token}",
        ]
        if tenant:
            self.command += ["--header", f"X-LoopIQ-Tenant: {tenant}"]
        hello = self._ask(["--method", "tools/list"])
        self.failure = f"{hello.error}" if (hello.error or {}).get("code") in ("auth_required", "unreachable") else None
        self.connected = None if self.failure else era

    def _ask(self, arguments: list[str]) -> Answer:
        child = subprocess.Popen(
            self.command + arguments, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )
        try:
            out, err = child.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise Broken(f"the Inspector said nothing for {ANSWER_SECONDS} s") from None
        finally:
            stop(child, 2)
        said = [json.loads(line) for line in (out + err).splitlines() if line.startswith("{")]
        for answer in said:
            if "result" in answer:
                return Answer(answer["result"])
        if not said:
            raise Broken(f"the Inspector answered with exit code {child.returncode} and {out + err!r}")
        return Answer(None, said[-1].get("error"))

    def tools(self) -> list[dict]:
        answer = self._ask(["--method", "tools/list"])
        if answer.result is None:
            raise Broken(f"no list of tools: {answer}")
        return answer.result["tools"]

    def call(self, name: str, arguments: dict) -> Answer:
        return self._ask(["--method", "tools/call", "--tool-name", name, "--tool-args-json", json.dumps(arguments)])

    def close(self) -> None:
        self.home.cleanup()
