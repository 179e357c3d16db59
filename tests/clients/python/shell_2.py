"""A shell for tools on the official Python client `mcp` 2.x: one request per line in, one answer per line out.

    LOOPGATE_URL=http://127.0.0.1:8080/mcp LOOPGATE_TOKEN=… python shell_2.py
    tools
    loopiq_get_release_certification {"release": "backend-v1.0-GCN"}
    listen                     opens a subscription to changes of the list of tools
    changed                    answers when the list has changed

LOOPGATE_TENANT names the organisation when the token carries several. Answers are as on the wire:
{"result": …} or {"error": …}; the first line is {"connected": VERSION} or {"refused": WHY}.
"""

import asyncio
import contextlib
import json
import os
import sys

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


def wire(model) -> dict:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


async def every_tool(client: Client) -> dict:
    tools, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools += wire(page)["tools"]
        if (cursor := page.next_cursor) is None:
            return {"tools": tools}


async def ask(client: Client, stack: contextlib.AsyncExitStack, subscriptions: list, line: str) -> dict:
    name, _, arguments = line.strip().partition(" ")
    try:
        if name == "listen":
            subscriptions.append(await stack.enter_async_context(client.listen(tools_list_changed=True)))
            return {"result": {"honoured": wire(subscriptions[-1].honored)}}
        if name == "changed":
            return {"result": {"changed": type(await anext(subscriptions[-1])).__name__}}
        if name == "tools":
            return {"result": await every_tool(client)}
        return {"result": wire(await client.call_tool(name, json.loads(arguments or "{}")))}
    except MCPError as error:
        return {"error": wire(error.error)}


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['LOOPGATE_TOKEN']}"}
    if tenant := os.environ.get("LOOPGATE_TENANT"):
        headers["X-LoopIQ-Tenant"] = tenant
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(os.environ["LOOPGATE_URL"], http_client=http)) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        say({"connected": client.protocol_version})
        subscriptions = []
        while line := await asyncio.to_thread(sys.stdin.readline):
            say(await ask(client, stack, subscriptions, line))


try:
    asyncio.run(main())
except Exception as error:
    say({"refused": repr(error)})
    sys.exit(1)
