"""Two thousand streams open at once, each read slowly, on one server as it starts by default: every one is served to its
end, and what they take beyond the weights and the cache pool stays under 64 MB.

    tests/streams_test.py BINARY MODEL [STREAMS]
"""
import asyncio
import json
import pathlib
import re
import resource
import sys
import tempfile
import time

from running_server import serving

KEY = "streams-key-0123456789abcdef"
POOL = 16 << 20
BEYOND = 64 << 20
PROBES = 5  # before: what a server of one client needs is not counted


def resident(pid, field):
    return int(re.search(field + r":\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024


async def stream(port, number, opened, go):
    """One answer, read in small pieces with pauses. Returns what was wrong, or None."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    try:
        body = json.dumps({"prompt": [3 + number % 200, 3 + number % 7, 5, 8], "max_tokens": 12, "ignore_eos": True, "stream": True, "seed": number}).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer " + KEY.encode()
                     + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        opened()
        await go.wait()
        answer = b""
        while b"data: [DONE]" not in answer:
            piece = await reader.read(400)
            if not piece:
                return f"stream {number} ended early: {answer[:200]!r} ... {answer[-200:]!r}"
            answer += piece
            if not answer.startswith(b"HTTP/1.1 200 "[:len(answer)]):
                return f"stream {number}: {answer[:300]!r}"
            await asyncio.sleep(0.02)
        tokens = answer.count(b'"text"')
        return None if tokens > 1 else f"stream {number}: {answer[-300:]!r}"
    finally:
        writer.close()


async def load(port, count):
    go, all_open, left = asyncio.Event(), asyncio.Event(), count

    def opened():
        nonlocal left
        left -= 1
        if left == 0:
            all_open.set()
    streams = [asyncio.create_task(stream(port, number, opened, go)) for number in range(count)]
    await asyncio.wait([asyncio.create_task(all_open.wait()), *streams], return_when=asyncio.FIRST_COMPLETED)
    assert left == 0, "not all could be opened: " + str([task.result() for task in streams if task.done()][:1])
    go.set()
    wrong = [result for result in await asyncio.gather(*streams) if result is not None]
    assert not wrong, f"{len(wrong)} of {count} streams failed, the first: {wrong[0]}"


def main():
    binary, model = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with tempfile.TemporaryDirectory() as folder, serving(pathlib.Path(folder), binary, "serve", "--model", model, "--cache-bytes", POOL,
                                                          environment={"REDOUBT_BOOTSTRAP_KEY": KEY}) as (server, port):
        asyncio.run(load(port, PROBES))
        before, began = resident(server.pid, "VmRSS"), time.monotonic()
        asyncio.run(load(port, count))
        grown = resident(server.pid, "VmHWM") - before
        print(f"streams: {count} open at once, all served in {time.monotonic() - began:.1f} s; {grown / 1e6:.1f} MB more resident at most, {POOL / 1e6:.1f} MB of it cache pool")
        assert grown < POOL + BEYOND, f"{grown} bytes more, at most {POOL + BEYOND}"


if __name__ == "__main__":
    main()
