"""A first call through loopgate, with the official Python client (`pip install mcp==2.3.0`)."""

import asyncio
import json
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

URL = os.environ.get("LOOPGATE_URL", "http://127.0.0.1:8080/mcp")
TOKEN = os.environ["LOOPGATE_TOKEN"]  # a file in the demo's `tokens` folder holds one


async def main() -> None:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as http,
        Client(streamable_http_client(URL, http_client=http)) as client,
    ):
        page = await client.list_tools()
        print(f"MCP {client.protocol_version}, tools: {', '.join(tool.name for tool in page.tools)}")
        answer = await client.call_tool("loopiq_get_release_certification", {"release": "backend-v1.0-GCN"})
        print(json.dumps(answer.structured_content, indent=2))
        print("audit:", json.dumps((answer.meta or {}).get("com.loopiq/audit"), indent=2))


asyncio.run(main())
