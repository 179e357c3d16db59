"""Clients that asked for it are told when the list of tools that they may see has changed.

Promises: the policies of the demo are as they were afterwards. Judges by what the client is told and lists
then. Called by `run`.
"""

from demo import Demo

HIDDEN = "loopiq_get_release"
TENANT = "org_gcn:\n"
OPEN = "  tools: {}\n"
CLOSED = f"  tools: {{{HIDDEN}: false}}\n"


def names(session) -> set[str]:
    return {tool["name"] for tool in session.tools()}


def told(demo: Demo, connect) -> None:
    """is told that its tools have changed, and of nothing else"""
    file = demo.dir / "policies/data/tenants.yaml"
    before = file.read_text()
    assert before.index(OPEN) > before.index(TENANT), f"{file} is not as this test knows it"
    session = connect(demo.mcp, demo.token("ada"))
    try:
        honoured = session.ask("listen").result["honoured"]
        assert honoured == {"toolsListChanged": True}, f"subscribed to {honoured}"
        assert HIDDEN in names(session), f"`{HIDDEN}` is not offered from the start"
        for text, offered in ((before.replace(OPEN, CLOSED, 1), False), (before, True)):
            beside = file.with_suffix(".new")
            beside.write_text(text)
            beside.rename(file)
            changed = session.ask("changed").result["changed"]
            assert changed == "ToolsListChanged", f"told of {changed}"
            assert (HIDDEN in names(session)) == offered, f"`{HIDDEN}` {'is not' if offered else 'is still'} offered"
    finally:
        session.close()
        file.write_text(before)
