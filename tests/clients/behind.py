"""An upstream MCP server, and a loopgate before it that lets everything through, started for a test and stopped after it.

Promises: every address is on loopback with a free port; nothing outlives the `with` block. What is passed on has no prefix,
and policy allows all of it to the one caller, so that whatever differs is the gateway's doing. Called by `conformance`.
"""

import contextlib
import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator

import demo
import toolchain

READY_SECONDS = 60
SERVER = "upstream-server.mjs"

SETTINGS = """
listen: {{mcp: "127.0.0.1:0", admin: "127.0.0.1:0"}}
issuers:
  - {{name: test, issuer: http://localhost/loopgate-dev, audiences: [behind], algorithms: [EdDSA], keys: {{file: issuer/dev-issuer.jwks.json}}}}
catalog: catalog.yaml
policy: {{dir: policies, store: data/store, reload_every: 100ms}}
backends: [{{name: nobody, url: "http://127.0.0.1:9"}}]
upstreams:
  - name: everything
    url: {url}
    prefix: ""
    accepted: data/everything.json
    defaults: {{effect: read, impact: low}}
audit: {{dir: data/audit}}
ledger: {{path: data/ledger.db}}
keys: {{dir: data/keys}}
"""

CATALOG = """
schema: 1
tools: []
"""

POLICY = """package loopiq.gateway

mine if {
	input.caller.tenant == "org_test"
	"tester" in input.caller.roles
}

# METADATA
# entrypoint: true
decision := {"allow": true, "reasons": [], "obligations": [], "visible": visible} if mine

decision := {"allow": false, "reasons": [{"code": "not_a_tester", "message": "only testers may", "next": "be one"}], "obligations": [], "visible": []} if {
	not mine
}

visible := [name | some name, _ in input.tools] if {
	input.phase == "list"
} else := [input.tool.name]
"""


@contextlib.contextmanager
def server(command: list[str]) -> Iterator[str]:
    """The URL of a server that prints it when it is ready."""
    child = subprocess.Popen(
        command, cwd=toolchain.HERE, env={**os.environ, "PATH": toolchain.path()}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )
    try:
        said = demo.Lines(child.stdout).next(READY_SECONDS, "the upstream server")
        found = re.search(r"http://\S+", said)
        if not found:
            raise demo.Broken(f"the upstream server said `{said.strip()}` and no URL")
        yield found.group()
    finally:
        demo.stop(child, 2)


def own_server() -> contextlib.AbstractContextManager[str]:
    toolchain.npm_package("@modelcontextprotocol/server/package.json")
    return server([toolchain.node(), str(toolchain.HERE / SERVER), "--era", "both"])


@contextlib.contextmanager
def gateway(upstream: str) -> Iterator[tuple[str, str]]:
    """The URL of a gateway before this server, and a token that may use all of it."""
    with tempfile.TemporaryDirectory(prefix="loopgate-behind-") as name:
        home = pathlib.Path(name)
        (home / "policies").mkdir()
        (home / "policies/all.rego").write_text(POLICY)
        (home / "catalog.yaml").write_text(CATALOG)
        (home / "gateway.yaml").write_text(SETTINGS.format(url=upstream))
        tool = [demo.binary(), "token"]
        subprocess.run([*tool, "init", "--dir", str(home / "issuer"), "--audience", "behind"], check=True, capture_output=True)
        key = next((home / "issuer").glob("*.pem"))
        mint = [*tool, "mint", "--key", str(key), "--user", "tessa", "--tenant", "org_test", "--role", "tester", "--ttl", "3h"]
        token = subprocess.run(mint, check=True, capture_output=True, text=True).stdout.strip()
        child = subprocess.Popen(
            [demo.binary(), "serve", "--config", str(home / "gateway.yaml")], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        try:
            lines, said = demo.Lines(child.stderr), ""
            while not (found := re.search(r"serving MCP on (\S+),", said)):
                said = lines.next(READY_SECONDS, "`loopgate serve`")
            yield f"http://{found.group(1)}", token
        finally:
            demo.stop(child)
