"""An agent that plans, previews, waits for a person and executes once, with the official Python client.

Against `loopgate demo --keep /tmp/loopgate`:

    python agent.py                      does every step; waits until somebody approves
    python agent.py --approve-as otto    approves as otto, too, so that nobody has to wait
    python agent.py --again              only the last step, as after a crash: same ids, nothing new

What to copy from it: it notes key, approval and arguments in a file before it acts, repeats a write only
with the same key, and does with every refusal what its `next` says.
"""

import argparse
import asyncio
import json
import pathlib
import sys
import uuid

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

CREATE = "loopiq_create_remediation_work_package"
POLL_SECONDS = 2


class Stopped(Exception):
    """There is no going on; the words say why."""


class Refused(Stopped):
    """The gateway said no: `error` has `code`, `reasons`, `retryable` and `next`."""

    def __init__(self, tool: str, error: dict) -> None:
        why = "; ".join(reason.get("message") or reason["code"] for reason in error.get("reasons", []))
        super().__init__(f"{tool} was refused, {error.get('code')}: {why}\n  next: {error.get('next')}")
        self.error = error


class Gateway:
    """Tool calls of one workflow. Everything that steers a call goes into `_meta`, apart from its arguments."""

    def __init__(self, client: Client, workflow: str) -> None:
        self.client, self.workflow = client, workflow

    async def call(self, tool: str, arguments: dict, **controls) -> tuple[dict, dict]:
        """The answer and what the gateway noted about it; raises `Refused`."""
        meta = {f"com.loopiq/{name}": value for name, value in {"workflow": self.workflow, **controls}.items()}
        answer = await self.client.call_tool(tool, arguments, meta=meta)
        said = answer.meta or {}
        if answer.is_error:
            raise Refused(tool, said.get("com.loopiq/error", {}))
        return answer.structured_content, said.get("com.loopiq/audit", {})

    async def write(self, tool: str, arguments: dict, **controls) -> tuple[dict, dict]:
        """The same for a write: repeated with the same key for as long as that may help."""
        while True:
            try:
                return await self.call(tool, arguments, **controls)
            except Refused as no:
                if not no.error.get("retryable"):
                    raise
                print(f"  {no}")
                await asyncio.sleep(no.error.get("retryAfterMs", POLL_SECONDS * 1000) / 1000)


def step(number: int, title: str) -> None:
    print(f"\n{number}. {title}")


async def plan(gateway: Gateway, release: str) -> dict:
    """Steps 1 to 3: what stands in the way of the release, and a work package that clears it."""
    step(1, f"read the certification of {release}")
    certification, _ = await gateway.call("loopiq_get_release_certification", {"release": release})
    print(f"  {certification['id']} is {certification['status']}: {json.dumps(certification['summary'])}")

    step(2, "read the evidence graph")
    graph, _ = await gateway.call("loopiq_get_release_certification_evidence_graph", {"release": release})
    if graph["stale"]:
        print(f"  built at {graph['builtAt']}, which is too old: refresh it")
        refresh = "loopiq_refresh_release_certification_evidence_graph"
        await gateway.write(refresh, {"release": release}, idempotencyKey=str(uuid.uuid4()))
        graph, _ = await gateway.call("loopiq_get_release_certification_evidence_graph", {"release": release})
    print(f"  built at {graph['builtAt']}, {len(graph['gaps'])} gaps")

    step(3, "draft a work package: one task for each open blocker")
    found, _ = await gateway.call("loopiq_get_release_certification_blockers", {"release": release})
    blockers = [blocker for blocker in found["items"] if blocker["status"] == "open"]
    tasks = [{"title": f"Clear: {one['title']}", "blocker": one["id"], "evidence": one["evidence"][0]} for one in blockers]
    for task in tasks:
        print(f"  {task['title']} ({task['blocker']}, {task['evidence']})")
    return {
        "release": release,
        "certification": certification["id"],
        "title": f"Close the blockers of {release}",
        "owner": certification["owner"],
        "parentStory": {"title": f"Clear {release} for certification"},
        "tasks": tasks,
        "evidence": sorted({task["evidence"] for task in tasks}),
        "blockers": [task["blocker"] for task in tasks],
        "evidenceAsOf": graph["builtAt"],
    }


async def preview(gateway: Gateway, package: dict) -> None:
    step(4, "dry run: what would happen, creating nothing")
    shown, _ = await gateway.call(CREATE, package, dryRun=True)
    for one in shown["preview"]["creates"]:
        print(f"  would create {one['kind']} {one['ref']}: {one['record']['title']}")


async def ask(gateway: Gateway, package: dict, key: str) -> str:
    """The id of the approval that people are asked for."""
    step(5, "call it for real: people must agree first")
    try:
        await gateway.call(CREATE, package, idempotencyKey=key)
        raise Stopped("it was not held back for approval: policy has changed, so look at what it did")
    except Refused as no:
        if no.error.get("code") != "approval_required":
            raise
        card = no.error["approval"]
        print(f"  {no.error['code']}: {card['summary']}")
        print(f"  approval {card['approvalId']}, by {', '.join(card['approvers']['roles'])}, until {card['approveBy']}")
        print(f"  digest {card['digest']}")
        return no.error["approvalId"]


async def approve(admin: str, token: str, approval: str) -> None:
    """What a person does at the operators' door: read the card, then vote for exactly what was read."""
    url = f"{admin}/api/v1/approvals/{approval}"
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30) as http:
        card = accepted(await http.get(url))
        vote = {"digest": card["digest"], "reason": "the preview is what we want"}
        accepted(await http.post(f"{url}/approve", json=vote))


def accepted(answer: httpx2.Response) -> dict:
    """What the operators' door says; a refusal stops with its words."""
    body = answer.json()
    if answer.is_error:
        error = body["error"]
        raise Stopped(f"the vote was refused, {error['code']}: {error['message']}\n  next: {error['next']}")
    return body


async def approved(gateway: Gateway, approval: str) -> None:
    """Waits until people have decided; raises `Stopped` when they said no."""
    while True:
        action, _ = await gateway.call("loopiq_get_action", {"approvalId": approval})
        state = action["approval"]["state"]
        if state != "pending":
            break
        print("  pending: ask one of the approvers, or start this program with --approve-as")
        await asyncio.sleep(POLL_SECONDS)
    print(f"  {state}")
    if state == "rejected":
        raise Stopped(f"people said no: {json.dumps(action['approval']['ended'])}")


async def execute(gateway: Gateway, noted: dict) -> None:
    step(7, "execute with the approval and the key")
    made, audit = await gateway.write(
        CREATE, noted["package"], approvalId=noted["approval"], idempotencyKey=noted["key"]
    )
    print(f"  {'replayed: it had happened already' if audit.get('replayed') else 'done'}")
    print(f"  package  {made['workPackage']}")
    print(f"  parent   {made['parent']['id']}")
    print(f"  children {' '.join(child['id'] for child in made['children'])}")
    print(f"  approval {audit['approvalId']}, key {audit['idempotencyKey']}, record {audit['auditRef']}")


async def work(gateway: Gateway, options: argparse.Namespace, noted: dict) -> None:
    if not options.again:
        noted["package"] = await plan(gateway, options.release)
        await preview(gateway, noted["package"])
        noted["approval"] = await ask(gateway, noted["package"], noted["key"])
        options.note.write_text(json.dumps(noted, indent=2))  # whatever breaks from here on, --again goes on
        step(6, "wait for people")
        if options.approve_as:
            await approve(options.admin, token(options, options.approve_as), noted["approval"])
            print(f"  {options.approve_as} has approved")
        await approved(gateway, noted["approval"])
    else:
        # A gateway that was restarted in between has forgotten what this workflow has read.
        release = {"release": noted["package"]["release"]}
        await gateway.call("loopiq_get_release_certification_evidence_graph", release)
    await execute(gateway, noted)


def token(options: argparse.Namespace, user: str) -> str:
    return (options.tokens / user).read_text().strip()


async def run(options: argparse.Namespace) -> str | None:
    """What went wrong, if anything."""
    fresh = {"key": str(uuid.uuid4()), "workflow": str(uuid.uuid4())}
    noted = json.loads(options.note.read_text()) if options.again else fresh
    headers = {"Authorization": f"Bearer {token(options, options.user)}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(options.url, http_client=http)) as client,
    ):
        try:
            await work(Gateway(client, noted["workflow"]), options, noted)
        except (Stopped, MCPError, httpx2.HTTPError) as why:
            return str(why)


def first(whys: BaseException) -> BaseException:
    """What went wrong first, of all that the client wraps in groups."""
    return first(whys.exceptions[0]) if isinstance(whys, BaseExceptionGroup) else whys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080/mcp", help="the gateway's MCP door")
    parser.add_argument("--admin", default="http://127.0.0.1:8081", help="its operators' door, for --approve-as")
    parser.add_argument("--tokens", type=pathlib.Path, default="/tmp/loopgate/tokens", help="folder with a token per user")
    parser.add_argument("--user", default="ada", help="whose agent this is")
    parser.add_argument("--release", default="backend-v1.0-GCN")
    parser.add_argument("--approve-as", metavar="USER", help="approve as this user, who must be another one")
    parser.add_argument("--note", type=pathlib.Path, default="agent-note.json", help="file that --again goes on from")
    parser.add_argument("--again", action="store_true", help="only the last step, with what was noted")
    options = parser.parse_args()
    try:
        sys.exit(asyncio.run(run(options)))
    except* (OSError, httpx2.HTTPError) as whys:
        sys.exit(f"{first(whys)}; is {options.url} the gateway, and are --tokens, --user and --note what you mean?")


if __name__ == "__main__":
    main()
