"""An upstream MCP server on the official Python SDK, of whichever line is installed.

    python upstream.py      prints its URL, then serves until killed

Promises: what it offers goes by the same names as with `../upstream-server.mjs`, as far as it offers it. Version 2 of
the SDK speaks both eras, version 1 the legacy one only. Called by `../upstreams`.
"""

import asyncio
import socket

import uvicorn

try:
    from mcp.server.mcpserver import Context, MCPServer
except ImportError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer

server = MCPServer("loopgate-test-upstream")


@server.tool()
def test_simple_text() -> str:
    """Answers with text."""
    return "This is a simple text response for testing."


@server.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool()
def test_error_handling() -> str:
    """Fails."""
    raise ValueError("This tool intentionally returns an error for testing")


@server.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Reports progress."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100, f"Completed step {progress} of 100")
    return "done"


@server.resource("test://static-text")
def static_text() -> str:
    return "This is the content of the static text resource."


@server.resource("test://template/{id}/data")
def template(id: str) -> str:
    return f"Data for ID: {id}"


@server.prompt()
def test_simple_prompt() -> str:
    return "This is a simple prompt for testing."


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    # Connections are taken from here on; they wait until the program serves.
    await uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning")).serve(sockets=[listener])


asyncio.run(main())
