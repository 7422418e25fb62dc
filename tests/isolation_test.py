"""Nothing leaves: start, load, chat and stop inside a network namespace whose only way out is counted, and stays at zero.

    tests/isolation_test.py BINARY MODEL

The namespace has loopback, and one interface that is the default route and counts every packet, name look-ups
included. Needs root (unshare, ip): without, it says so and ends with status 77.
"""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

KEY = "isolation-key-0123456789abcdef"
LEFT = pathlib.Path("/sys/class/net/out0/statistics/tx_packets")


def skip(why):
    print(f"isolation: SKIPPED: {why}")
    sys.exit(77)


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def enter_namespace():
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            skip(f"{tool} is not here")
    if os.geteuid() != 0:
        skip("only root may make a network namespace and count in it")
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode != 0:
        skip("a network namespace cannot be made here")
    os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv, "--inside"])


def left():
    return int(LEFT.read_text())


def prepare():
    """Loopback, and one interface that takes everything else, counts it and loses it. The count before the server starts."""
    try:
        run("mount", "-t", "sysfs", "sysfs", "/sys")  # of this namespace
        run("ip", "link", "set", "lo", "up")
        disable_ipv6 = pathlib.Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")  # the kernel itself would speak on a new interface
        if disable_ipv6.exists():
            disable_ipv6.write_text("1")
        run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "sink0")
        run("ip", "link", "set", "sink0", "up")
        run("ip", "address", "add", "198.51.100.2/24", "dev", "out0")
        run("ip", "link", "set", "out0", "up")
        run("ip", "neighbour", "add", "198.51.100.1", "lladdr", "02:00:00:00:00:01", "dev", "out0", "nud", "permanent")
        run("ip", "route", "add", "default", "via", "198.51.100.1")
    except subprocess.CalledProcessError as error:
        skip(f"{' '.join(map(str, error.cmd))}: {error.stderr.strip()}")
    before = left()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server:
        name_server.sendto(b"x", ("203.0.113.9", 53))
    assert left() == before + 1, "the counter does not count"
    return left()


def ask(url, body=None):
    request = urllib.request.Request(url, data=json.dumps(body).encode() if body else None,
                                     headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60).read().decode()


def main():
    if sys.argv[-1] != "--inside":
        enter_namespace()
    binary, model = sys.argv[1:3]
    before = prepare()
    with tempfile.TemporaryDirectory() as folder:
        log = open(pathlib.Path(folder) / "log", "w")
        server = subprocess.Popen([binary, "serve", "--model", model, "--port", "0", "--data", folder + "/data", "--cache-bytes", "64M"],
                                  stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "REDOUBT_BOOTSTRAP_KEY": KEY})
        try:
            url = next(match.group(1) for match in (re.match(r"address +(\S+)/v1", line) for line in server.stdout) if match)
            assert "data" in ask(url + "/v1/models")
            chat = {"messages": [{"role": "user", "content": "canary-of-the-isolation-test"}], "max_tokens": 8}
            try:
                assert "choices" in ask(url + "/v1/chat/completions", chat)
                assert "[DONE]" in ask(url + "/v1/chat/completions", {**chat, "stream": True})
            except urllib.error.HTTPError as error:  # a model without a template
                assert error.code == 400, error
            assert "choices" in ask(url + "/v1/completions", {"prompt": "canary-of-the-isolation-test", "max_tokens": 8})
            sockets = run("ss", "-tunp") if shutil.which("ss") else ""
            assert f"pid={server.pid}," not in "\n".join(line for line in sockets.splitlines() if "127.0.0.1" not in line), sockets
        finally:
            server.terminate()
            assert server.wait(60) == 0
            server.stdout.close()
        log.close()
        for path in pathlib.Path(folder).rglob("*"):
            if path.is_file():
                assert b"canary-of-the-isolation-test" not in path.read_bytes(), f"{path} holds the prompt"
    packets = left() - before
    assert packets == 0, f"{packets} packets left"
    print("isolation: start, load, chat and stop: no packet left, no file holds the prompt")


if __name__ == "__main__":
    main()
