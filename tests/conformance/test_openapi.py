"""schemathesis against the server's own OpenAPI document: whatever is sent, never a 500, 502 or 504."""
import re
import subprocess
import sys

import pytest
from conftest import API_KEY, Server, tiny_models


@pytest.fixture
def tiny_server(tmp_path):
    """A server of its own whose answers are short: a request without a limit runs to the end of 512 tokens."""
    models = tiny_models(tmp_path)
    if not models:
        pytest.skip("no golden models here")
    running = Server(tmp_path, models)
    yield running
    running.stop()


def test_the_document_lists_the_routes(server):
    document = server.http().get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/messages", "/v1/responses", "/tokenize", "/api/chat"):
        assert path in document["paths"], path


def test_nothing_sent_makes_a_server_error(tiny_server, tmp_path):
    server = tiny_server
    command = [sys.executable, "-c", "import schemathesis.cli as c; c.schemathesis()", "run", server.url + "/openapi.json", "--header", f"Authorization: Bearer {API_KEY}",
               "--checks", "not_a_server_error", "--max-examples", "25", "--seed", "1", "--request-timeout", "20", "--phases", "examples,coverage,fuzzing",
               "--no-color", "--exclude-deprecated", "--max-time", "60"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    # 501 and 503 are honest answers; the check counts every 5xx, so look at which it found.
    bad = re.findall(r"\[(500|502|504)\] ", ended.stdout)
    assert not bad, ended.stdout[-6000:]
    assert "Usage:" not in ended.stderr, ended.stderr
    assert server.process.poll() is None and server.http().get("/livez").status_code == 200
