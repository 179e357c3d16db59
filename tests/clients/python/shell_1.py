"""The shell of shell_2.py on the older line of the official Python client, `mcp` 1.x."""

import asyncio
import json
import os
import sys

import httpx
from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


def wire(model) -> dict:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


async def every_tool(session: ClientSession) -> dict:
    tools, cursor = [], None
    while True:
        page = await session.list_tools(cursor=cursor)
        tools += wire(page)["tools"]
        if (cursor := page.nextCursor) is None:
            return {"tools": tools}


async def ask(session: ClientSession, line: str) -> dict:
    name, _, arguments = line.strip().partition(" ")
    try:
        if name == "tools":
            return {"result": await every_tool(session)}
        return {"result": wire(await session.call_tool(name, json.loads(arguments or "{}")))}
    except McpError as error:
        return {"error": wire(error.error)}


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['LOOPGATE_TOKEN']}"}
    if tenant := os.environ.get("LOOPGATE_TENANT"):
        headers["X-LoopIQ-Tenant"] = tenant
    async with (
        httpx.AsyncClient(headers=headers, timeout=30) as http,
        streamable_http_client(os.environ["LOOPGATE_URL"], http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        hello = await session.initialize()
        say({"connected": hello.protocolVersion})
        while line := await asyncio.to_thread(sys.stdin.readline):
            say(await ask(session, line))


try:
    asyncio.run(main())
except Exception as error:
    say({"refused": repr(error)})
    sys.exit(1)
