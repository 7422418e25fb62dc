"""A server for a benchmark: on a free port of loopback, asked until it is ready."""
import socket
import sys
import time
import urllib.request

READY_S = 300


def free_url():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def wait_until_ready(url, process, log):
    """`log`: the file that it writes to, whose end is shown if it dies."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            sys.exit(f"the server ended: {log.read_text()[-500:]}")
        try:
            with urllib.request.urlopen(url + "/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.25)
    sys.exit("the server is not ready after five minutes")
