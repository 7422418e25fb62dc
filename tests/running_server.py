"""What the tests of a running server share."""
import contextlib
import json
import os
import re
import subprocess
import time


def eventually(what, seconds=60):
    """Whether `what` becomes true: of what takes a second or two, on a machine that is busy."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.1)
    return False


def served_port(process, log):
    """The port of the address that `redoubt serve` prints once it serves; `log` is the file that it writes to, if it does not."""
    for line in process.stdout:
        if match := re.match(r"address +https?://\S+:(\d+)/v1", line):
            return int(match[1])
    raise RuntimeError("the server did not start: " + log.read_text()[-2000:])


@contextlib.contextmanager
def serving(folder, *command, environment=None):
    """A server's process and port while it runs, its log in `folder`; it must end well."""
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([*map(str, command), "--port", "0", "--data", folder / "data"], stdout=subprocess.PIPE, stderr=log, text=True,
                                  env={**os.environ, **(environment or {})})
        try:
            yield server, served_port(server, folder / "log")
        finally:
            server.terminate()
            assert server.wait(60) == 0
            server.stdout.close()


def administer(binary, data, *arguments):
    """What a command of administration answers: a record, or the lines of a list."""
    ended = subprocess.run([binary, *map(str, arguments), "--data", data, "--json"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout) if ended.stdout.count("\n") == 1 else ended.stdout
