"""Large bodies do not fill the memory: what working on them takes is bounded by `max_bodies_bytes`, those beyond it are told to
try again, and afterwards the system has the memory back.

    tests/bodies_test.py BINARY MODEL
"""
import concurrent.futures
import http.client
import pathlib
import re
import sys
import tempfile

from running_server import eventually, serving

BUDGET = 256 << 20   # one of the bodies below at a time: 215 MB by the server's own count
BEYOND = 96 << 20    # the bodies as they arrive, and what the allocator keeps for a moment
VALUES = 1_000_000   # under the most that a request may have
PARALLEL = 8


def anonymous(pid, peak=False):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    field = "VmHWM" if peak else "RssAnon"
    return int(re.search(field + r":\s+(\d+) kB", status)[1]) * 1024


def ask(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Retry-After"), answer.read()[:300]
    finally:
        connection.close()


def main():
    binary, model = sys.argv[1:3]
    small = b'{"max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}'
    large = small[:-1] + b', "chat_template_kwargs": {"unused": [' + b",".join([b"{}"] * VALUES) + b"]}}"
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "redoubt.yaml"
        config.write_text(f"limits: {{max_bodies_bytes: {BUDGET >> 20}M}}\n")
        with serving(pathlib.Path(folder), binary, "serve", "--config", config, "--model", model, "--auth", "off", "--cache-bytes", "16M") as (server, port):
            for _ in range(5):
                assert ask(port, small)[0] == 200
            before, before_peak = anonymous(server.pid), anonymous(server.pid, peak=True)
            with concurrent.futures.ThreadPoolExecutor(PARALLEL) as clients:
                answers = list(clients.map(lambda _: ask(port, large), range(PARALLEL)))
            grown = anonymous(server.pid, peak=True) - before_peak
            done = [answer for answer in answers if answer[0] == 200]
            told = [answer for answer in answers if answer[0] == 503 and answer[1] == "1" and b"max_bodies_bytes" in answer[2]]
            assert done and len(done) + len(told) == PARALLEL, answers
            assert eventually(lambda: ask(port, large)[0] == 200, 15), "one alone finds room"
            assert ask(port, small)[0] == 200
            back = eventually(lambda: anonymous(server.pid) - before < 80 << 20, 15)
            kept = anonymous(server.pid) - before
            print(f"bodies: {len(done)} of {PARALLEL} large ones at once were worked on, {grown / 1e6:.0f} MB at most; {kept / 1e6:.0f} MB kept afterwards")
            assert grown < BUDGET + BEYOND, f"{grown} bytes, at most {BUDGET + BEYOND}"
            assert back, f"{kept} bytes are still held 15 s later"


if __name__ == "__main__":
    main()
