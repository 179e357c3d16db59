"""What every official client must find when it talks to the demo: the scenario, written once.

Each promise is a function of a `Stage`; what it is called in the table is its docstring. It returns when the
promise holds and raises `AssertionError` when not. Never opens a connection itself, but through the
stage. Called by `run`.
"""

import datetime
import json
import urllib.error
import urllib.request
from collections.abc import Callable

from demo import Demo
from sessions import Answer

RELEASE = "backend-v1.0-GCN"
KNOWN_BY_NAME = {
    "loopiq_get_mcp_reliability_contract", "loopiq_list_ai_ml_agents", "loopiq_list_resources", "loopiq_list_routes",
    "loopiq_invoke_route", "loopiq_get_release_certification", "loopiq_get_release_certification_evidence_graph",
    "loopiq_create_remediation_work_package",
}
ADMINS_ONLY = "loopiq_get_diagnostics"
NOBODYS = "loopiq_get_diagnosticz"


class Stage:
    """A demo, a way to connect to it with one client, and that client's session as ada."""

    def __init__(self, demo: Demo, connect: Callable, version: str) -> None:
        self.demo, self.connect, self.version = demo, connect, version
        self.ada = connect(demo.mcp, demo.token("ada"))

    def close(self) -> None:
        self.ada.close()

    def as_user(self, user: str, act: Callable, tenant: str | None = None):
        session = self.connect(self.demo.mcp, self.demo.token(user), tenant)
        try:
            assert session.connected, f"{user} cannot connect: {session.failure}"
            return act(session)
        finally:
            session.close()


def same(found, wanted, what: str) -> None:
    assert found == wanted, f"{what} is {found!r}, not {wanted!r}"


def done(answer: Answer) -> Answer:
    assert not answer.refused, f"refused: {answer}"
    return answer


def refused(answer: Answer, code: str) -> Answer:
    assert answer.refused, f"not refused: {answer}"
    same(answer.code, code, f"the refusal's code ({answer})")
    return answer


def certification(session) -> Answer:
    return session.call("loopiq_get_release_certification", {"release": RELEASE})


def connects(stage: Stage) -> None:
    """connects in the era it prefers"""
    same(stage.ada.connected, stage.version, f"the version negotiated ({stage.ada.failure})")


def lists(stage: Stage) -> None:
    """lists tools, sorted, once each"""
    names = [tool["name"] for tool in stage.ada.tools()]
    assert KNOWN_BY_NAME <= set(names), f"not listed: {sorted(KNOWN_BY_NAME - set(names))}"
    same(names, sorted(set(names)), "the list")
    for tool in stage.ada.tools():
        same(tool["inputSchema"].get("type"), "object", f"the root of the input schema of {tool['name']}")
        assert tool.get("description"), f"{tool['name']} has no description"


def lists_by_role(stage: Stage) -> None:
    """lists less for a viewer"""
    mine = {tool["name"] for tool in stage.ada.tools()}
    viewers = {tool["name"] for tool in stage.as_user("vic", lambda vic: vic.tools())}
    assert viewers < mine, f"a viewer sees {sorted(viewers)}, a release manager {sorted(mine)}"
    assert "loopiq_create_work_item" not in viewers, "a viewer is offered `loopiq_create_work_item`"


def calls(stage: Stage) -> None:
    """calls the release's certification"""
    answer = done(certification(stage.ada))
    same(answer.value.get("tenant"), "org_gcn", "the tenant answered")
    assert RELEASE in json.dumps(answer.value), f"the release is not named: {answer.value}"
    same(json.loads(answer.text), answer.value, "the text, which must say what the structure says,")


def audits(stage: Stage) -> None:
    """finds the audit reference"""
    first, second = (done(certification(stage.ada)).meta("audit") for _ in range(2))
    for field in ("requestId", "traceId", "decisionId", "policyRevision", "auditRef"):
        assert first.get(field), f"`{field}` is missing: {first}"
    same((first.get("tenant"), first.get("user")), ("org_gcn", "ada"), "tenant and user in the audit reference")
    for field in ("requestId", "auditRef"):
        assert first[field] != second[field], f"two calls share the {field} {first[field]}"


def hides(stage: Stage) -> None:
    """cannot tell hidden from missing"""
    tess = stage.as_user("tess", lambda tess: {tool["name"] for tool in tess.tools()})
    assert ADMINS_ONLY in tess, f"nobody sees `{ADMINS_ONLY}`, so there is nothing to hide"
    assert ADMINS_ONLY not in {tool["name"] for tool in stage.ada.tools()}, f"ada is offered `{ADMINS_ONLY}`"
    hidden, missing = stage.ada.call(ADMINS_ONLY, {}), stage.ada.call(NOBODYS, {})
    assert hidden.refused and missing.refused, f"answered: {hidden} {missing}"
    same(str(hidden).replace(ADMINS_ONLY, "NAME"), str(missing).replace(NOBODYS, "NAME"), "the answer for a hidden tool")


def names_tenant(stage: Stage) -> None:
    """learns which tenant it is in"""
    answer = done(stage.ada.call("loopiq_get_tenant_context", {}))
    assert "org_gcn" in json.dumps(answer.value), f"org_gcn is not named: {answer.value}"
    assert "org_nordbank" not in str(answer), f"another's tenant is named: {answer}"


def asks_tenant(stage: Stage) -> None:
    """is asked which of two tenants"""
    answer = stage.as_user("cleo", certification)
    assert answer.refused, f"answered without a tenant chosen: {answer}"
    for word in ("tenant_required", "org_gcn", "org_nordbank"):
        assert word in str(answer), f"`{word}` is not in {answer}"


def takes_tenant(stage: Stage) -> None:
    """is served in the tenant chosen"""
    answer = done(stage.as_user("cleo", certification, "org_gcn"))
    same(answer.value.get("tenant"), "org_gcn", "the tenant answered")
    same(answer.meta("audit").get("tenant"), "org_gcn", "the tenant recorded")
    other = done(stage.as_user("cleo", lambda cleo: cleo.call("loopiq_get_tenant_context", {}), "org_nordbank"))
    same(other.meta("audit").get("tenant"), "org_nordbank", "the tenant recorded")


def refuses_tenant(stage: Stage) -> None:
    """is kept out of others' tenants"""
    answer = stage.as_user("nora", certification, "org_gcn")
    assert answer.refused and "tenant_forbidden" in str(answer), f"not refused: {answer}"
    answer = stage.as_user("nora", certification)
    assert answer.refused, f"a release of org_gcn was shown to nora: {answer}"


def needs_approval(stage: Stage) -> None:
    """needs approval for high impact"""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = stage.ada.call("loopiq_create_remediation_work_package", {
        "release": RELEASE,
        "certification": str(done(certification(stage.ada)).value.get("id")),
        "title": "Close the certification gaps", "owner": "ada",
        "parentStory": {"title": "Close the certification gaps"},
        "tasks": [{"title": "Attach the penetration test report", "owner": "ben"}],
        "evidence": [], "blockers": [], "evidenceAsOf": now,
    })
    refused(answer, "approval_required")
    assert answer.meta("audit").get("auditRef"), f"the refusal has no audit reference: {answer}"
    assert answer.text and answer.meta("error").get("next"), f"the refusal does not say what to do next: {answer}"


def writes(stage: Stage) -> None:
    """writes at low impact, once, with a key"""
    parents = done(stage.ada.call("loopiq_search_work_items", {"type": "story"})).value["items"]
    assert parents, "the demo has no story to put a task under"
    wanted = {"title": "Rotate the signing key", "type": "task", "parent": parents[0]["id"], "owner": "ben"}
    answer = done(stage.ada.call("loopiq_create_work_item", wanted))
    audit = answer.meta("audit")
    assert audit.get("idempotencyKey"), f"no idempotency key: {audit}"
    assert answer.value["id"] in audit.get("recordIds", []), f"{answer.value['id']} is not among the record ids: {audit}"
    found = done(stage.ada.call("loopiq_get_work_item", {"workItem": answer.value["id"]})).value
    same({key: found.get(key) for key in wanted}, wanted, "the work item read back")


def explains(stage: Stage) -> None:
    """is told which argument is wrong"""
    answer = stage.ada.call("loopiq_get_release_certification", {"release": RELEASE, "colour": "blue"})
    refused(answer, "invalid_arguments")
    assert "colour" in str(answer), f"the argument is not named: {answer}"


def challenges(stage: Stage) -> None:
    """is challenged for a bad token"""
    session = stage.connect(stage.demo.mcp, "not.a.token")
    session.close()
    assert not session.connected, "connected with a bad token"
    ask = urllib.request.Request(stage.demo.mcp, b"{}", {"Authorization": "Bearer not.a.token", "Content-Type": "application/json"})
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(ask, timeout=30)
        raise AssertionError("a bad token was accepted")
    except urllib.error.HTTPError as answer:
        same(answer.code, 401, "the status")
        challenge = answer.headers.get("WWW-Authenticate", "")
    assert challenge.startswith("Bearer ") and "resource_metadata=" in challenge, f"WWW-Authenticate is {challenge!r}"


ALL = (
    connects, lists, lists_by_role, calls, audits, hides, names_tenant, asks_tenant, takes_tenant, refuses_tenant,
    explains, needs_approval, writes, challenges,
)
