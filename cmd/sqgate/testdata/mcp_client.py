"""Uses sqgate with the public client of the Model Context Protocol: URL KEY READ_KEY."""

import asyncio
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

url, own, reader = sys.argv[1:]
ORIGIN = "1.1.1/1.1.1/1.1.1"


def client(key, **options):
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"})
    return Client(streamable_http_client(url, http_client=http), **options)


async def use(c, tool, failed=False, **arguments):
    result = await c.call_tool(tool, {"phext": "notes", **arguments})
    text = result.content[0].text
    assert result.is_error == failed, (tool, arguments, text)
    return text


async def tools(c):
    return {tool.name for tool in (await c.list_tools()).tools}


async def main():
    for mode in ("auto", "legacy"):  # the newest protocol, and the one with a handshake
        async with client(own, mode=mode) as c:
            assert len(await tools(c)) == 8
            assert "Updated 6 bytes" in await use(c, "write", coordinate=ORIGIN, content="a note")
            assert "Inserted 1 bytes" in await use(c, "append", coordinate=ORIGIN, content="!")
            assert await use(c, "read", coordinate=ORIGIN) == "a note!"
            assert ORIGIN in await use(c, "list")
            assert ORIGIN in await use(c, "search", query="note")
            assert "a note!" in await use(c, "query", coordinates=[ORIGIN])
            assert "412" in await use(c, "write", failed=True, coordinate=ORIGIN, content="x", if_match="0123")
        async with client(reader, mode=mode) as c:
            assert await tools(c) == {"read", "list", "search", "query", "history"}
            assert await use(c, "read", coordinate=ORIGIN) == "a note!"
        async with client(own, mode=mode) as c:
            assert "Removed 7 bytes" in await use(c, "delete", coordinate=ORIGIN)
            assert "no scroll" in await use(c, "read", failed=True, coordinate=ORIGIN)
    print("all is well")


asyncio.run(main())
