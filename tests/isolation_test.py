"""Nothing leaves: start, load, chat and stop inside a network namespace whose only way out is counted, and stays at zero.
Nor is a prompt or an answer left anywhere: not in files, the log, errors or metrics, and there is no core dump.

    tests/isolation_test.py BINARY MODEL

The namespace has loopback, and one interface that is the default route of IPv4 and IPv6 and counts every packet, name
look-ups included. Needs root (unshare, ip): without, it says so and ends with status 77.
"""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

KEY = "isolation-key-0123456789abcdef"
CANARY = "canary-of-the-isolation-test"
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
    """Loopback, and one interface that takes everything else, counts it and loses it. The count before the server starts, and if there is IPv6."""
    try:
        run("mount", "-t", "sysfs", "sysfs", "/sys")  # of this namespace
        run("ip", "link", "set", "lo", "up")
        ipv6 = pathlib.Path("/proc/sys/net/ipv6").exists()
        run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "sink0")
        if ipv6:  # the kernel itself would speak on a new interface: of its address, to look for routers and for another with the same
            for name in ("out0", "sink0"):
                for setting, value in (("addr_gen_mode", 1), ("accept_dad", 0), ("dad_transmits", 0), ("router_solicitations", 0), ("accept_ra", 0)):
                    pathlib.Path(f"/proc/sys/net/ipv6/conf/{name}/{setting}").write_text(str(value))
            pathlib.Path("/proc/sys/net/ipv6/conf/sink0/disable_ipv6").write_text("1")
        run("ip", "link", "set", "sink0", "multicast", "off", "up")
        run("ip", "address", "add", "198.51.100.2/24", "dev", "out0")
        run("ip", "link", "set", "out0", "arp", "off", "multicast", "off", "up")  # no looking for neighbours, no groups joined
        run("ip", "route", "add", "default", "via", "198.51.100.1")
        if ipv6:
            run("ip", "-6", "address", "add", "2001:db8::2/64", "dev", "out0", "nodad")
            run("ip", "-6", "route", "add", "default", "via", "2001:db8::1")
    except subprocess.CalledProcessError as error:
        skip(f"{' '.join(map(str, error.cmd))}: {error.stderr.strip()}")
    for family, address in ((socket.AF_INET, "203.0.113.9"), (socket.AF_INET6, "2001:db8:9::9")):
        if family == socket.AF_INET6 and not ipv6:
            continue
        before = left()
        with socket.socket(family, socket.SOCK_DGRAM) as name_server:
            name_server.sendto(b"x", (address, 53))
        assert left() == before + 1, f"the counter does not count {address}"
    return left(), ipv6


def ask(url, body=None, as_administrator=None):
    request = urllib.request.Request(url, data=json.dumps(body).encode() if body else None,
                                     headers={"Authorization": f"Bearer {as_administrator or KEY}", "Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60).read().decode()


def refusal(url, path, body):
    """The body of an error: JSON, or text as it is."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            raise AssertionError(f"{path} {body}: {answer.status}")
    except urllib.error.HTTPError as error:
        return error.read().decode()


def check_errors(url):
    """What is wrong with a request is told without its prompt."""
    say = {"role": "user", "content": CANARY}
    for path, body in (("/v1/chat/completions", {"messages": [say], "max_tokens": "many"}),
                       ("/v1/chat/completions", {"messages": [say], "temperature": -1}),
                       ("/v1/chat/completions", {"messages": [{"role": "user", "content": {CANARY: CANARY}}]}),
                       ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}, {"type": "text", "text": CANARY}]}]}),
                       ("/v1/chat/completions", {"messages": CANARY}),
                       ("/v1/chat/completions", {"messages": [say], "model": "no-such-model"}),
                       ("/v1/chat/completions", {"messages": [say], "response_format": {"type": "json_schema"}}),
                       ("/v1/completions", {"prompt": CANARY * 4000, "max_tokens": 8}),
                       ("/v1/completions", {"prompt": {"text": CANARY}}),
                       ("/v1/completions", {"prompt": [CANARY, 7]}),
                       ("/v1/completions", {"prompt": CANARY, "n": 10**6}),
                       ("/v1/completions", '{"prompt": "' + CANARY),
                       ("/v1/completions", '{"prompt": "' + CANARY + '" "max_tokens": 8}'),
                       ("/v1/responses", {"input": CANARY, "max_output_tokens": -1}),
                       ("/v1/messages", {"messages": [say]}),
                       ("/api/chat", {"model": "no-such-model", "messages": [say]}),
                       ("/tokenize", {"content": [CANARY]})):
        told = refusal(url, path, body)
        assert "error" in told, told
        assert CANARY not in told, f"{path}: {told}"


def check_core(binary, model):
    """A server that dies of a signal leaves none, though a process that forbids nothing does."""
    with tempfile.TemporaryDirectory() as folder:
        def dies(command, ready):
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "REDOUBT_BOOTSTRAP_KEY": KEY},
                                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
            next(line for line in process.stdout if line.startswith(ready))
            os.kill(process.pid, signal.SIGSEGV)
            status = os.waitpid(process.pid, 0)[1]
            process.returncode = status
            process.stdout.close()
            assert os.WIFSIGNALED(status), status
            return os.WCOREDUMP(status)
        can = dies([sys.executable, "-uc", "import time; print('ready'); time.sleep(60)"], "ready")
        dumped = dies([binary, "serve", "--model", model, "--port", "0", "--data", folder + "/data", "--cache-bytes", "64M"], "address")
        assert not dumped, "the server left a core"
        return "no core of a server that died" if can else "no core of a server that died (nor of anything else here)"


def serve_and_chat(binary, model, host):
    with tempfile.TemporaryDirectory() as folder:
        log = open(pathlib.Path(folder) / "log", "w")
        server = subprocess.Popen([binary, "serve", "--model", model, "--host", host, "--port", "0", "--data", folder + "/data", "--cache-bytes", "64M"],
                                  stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "REDOUBT_BOOTSTRAP_KEY": KEY})
        try:
            url = next(match.group(1) for match in (re.match(r"address +(\S+)/v1", line) for line in server.stdout) if match)
            assert "data" in ask(url + "/v1/models")
            appointed = run(binary, "user", "appoint", "--system", "sam", "--security", "sue", "--audit", "ann", "--data", folder + "/data", "--json")
            administrator = json.loads(appointed)["system"]["key"]
            time.sleep(0.6)  # within half a second the server knows them
            chat = {"messages": [{"role": "user", "content": CANARY}], "max_tokens": 8}
            try:
                assert "choices" in ask(url + "/v1/chat/completions", chat)
                assert "[DONE]" in ask(url + "/v1/chat/completions", {**chat, "stream": True})
            except urllib.error.HTTPError as error:  # a model without a template
                assert error.code == 400, error
            answer = json.loads(ask(url + "/v1/completions", {"prompt": CANARY, "max_tokens": 32, "ignore_eos": True, "temperature": 0}))["choices"][0]["text"]
            assert len(answer) >= 16, answer
            check_errors(url)
            metrics = ask(url + "/metrics", as_administrator=administrator)
            assert "vllm:prompt_tokens_total" in metrics
            assert CANARY not in metrics and answer not in metrics, "metrics tell what was said"
            sockets = run("ss", "-tunp").splitlines() if shutil.which("ss") else []
            beyond = [line for line in sockets if f"pid={server.pid}," in line and "127.0.0.1" not in line and "[::1]" not in line]
            assert not beyond, beyond
        finally:
            server.terminate()
            assert server.wait(60) == 0
            server.stdout.close()
        log.close()
        for path in pathlib.Path(folder).rglob("*"):
            if path.is_file():
                assert CANARY.encode() not in path.read_bytes(), f"{path} holds the prompt"
                assert answer.encode() not in path.read_bytes(), f"{path} holds the answer"


def main():
    if sys.argv[-1] != "--inside":
        enter_namespace()
    binary, model = (str(pathlib.Path(argument).resolve()) for argument in sys.argv[1:3])  # check_core runs elsewhere
    before, ipv6 = prepare()
    seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # what arrives at the other end, to say what it was
    seen.bind(("sink0", 0))
    seen.setblocking(False)
    for host in ("127.0.0.1", "::1") if ipv6 else ("127.0.0.1",):
        serve_and_chat(binary, model, host)
    cores = check_core(binary, model)
    packets = left() - before
    time.sleep(0.1)
    assert packets == 0, f"{packets} packets left, the first of them {seen.recv(2048).hex()}"
    print(f"isolation: start, load, chat and stop: no packet left over {'IPv4 or IPv6' if ipv6 else 'IPv4; there is no IPv6 here'}, no file, error or metric holds prompt or answer, {cores}")


if __name__ == "__main__":
    main()
