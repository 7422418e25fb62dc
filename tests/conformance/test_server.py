"""What no client library checks: health, metrics, CORS, limits, keys, and the end on SIGTERM."""
import socket
import threading
import time
import urllib.parse

import httpx
from conftest import API_KEY, Server

HELLO = [{"role": "user", "content": "Hello"}]


def test_health_is_open_and_the_rest_is_not(server):
    with httpx.Client(base_url=server.url) as stranger:
        for path in ("/livez", "/readyz", "/health"):
            assert stranger.get(path).status_code == 200
        for path in ("/v1/models", "/metrics", "/openapi.json", "/api/tags", "/version"):
            response = stranger.get(path)
            assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer", path
        assert stranger.get("/v1/models", headers={"x-api-key": API_KEY}).status_code == 200
        assert stranger.get("/no/such/route", headers={"x-api-key": API_KEY}).status_code == 404


def test_metrics_have_the_names_of_dashboards(server, any_model):
    server.http().post("/v1/chat/completions", json={"model": any_model, "messages": HELLO, "max_tokens": 2})
    text = server.http().get("/metrics").text
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:cache_config_info", "vllm:prompt_tokens_total",
                 "vllm:generation_tokens_total", "vllm:time_to_first_token_seconds_bucket", "vllm:request_success_total", "deepseek_inference_latency_seconds"):
        assert name in text, name


def test_request_ids_go_back(server):
    assert server.http().get("/v1/models", headers={"x-request-id": "abc-123"}).headers["x-request-id"] == "abc-123"
    assert server.http().get("/v1/models").headers["x-request-id"]


def test_cors_is_closed_but_for_those_named(server):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os"}
    with httpx.Client(base_url=server.url) as http:
        good = http.options("/v1/chat/completions", headers={"Origin": "https://chat.example", **asked})
        assert good.status_code == 204 and good.headers["access-control-allow-origin"] == "https://chat.example"
        bad = http.options("/v1/chat/completions", headers={"Origin": "https://evil.example", **asked})
        assert "access-control-allow-origin" not in bad.headers


def test_bodies_are_bounded_and_parsed_strictly(server):
    with server.http() as http:
        assert http.post("/v1/chat/completions", content=b"{").status_code == 400
        assert http.post("/v1/chat/completions", content=b"[" * 10000).status_code == 400
        assert http.post("/v1/chat/completions", content=b"[]", headers={"content-type": "application/json"}).status_code == 400
        assert http.post("/v1/chat/completions", content=b'{"model": "\xff"}').status_code == 400
        assert http.get("/v1/chat/completions").status_code == 405
        assert http.post("/v1/completions", content=b" " * (40 << 20)).status_code == 413


def raw(server):
    url = urllib.parse.urlsplit(server.url)
    return socket.create_connection((url.hostname, url.port), timeout=30)


def test_too_many_or_too_large_headers_are_refused(server):
    for headers in (b"x: y\r\n" * 1000, b"x: " + b"y" * 200_000 + b"\r\n"):
        with raw(server) as connection:
            try:
                connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n" + headers + b"\r\n")
                answer = connection.recv(200)
            except OSError:
                continue
            assert answer == b"" or b" 431 " in answer or b" 400 " in answer


def test_slow_senders_do_not_hold_the_server(server):
    slow = [raw(server) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-le")
    start = time.monotonic()
    assert server.http().get("/livez").status_code == 200 and time.monotonic() - start < 2
    for connection in slow:
        connection.close()


def test_sigterm_lets_open_answers_end(tmp_path, server):
    own = Server(tmp_path, {name: path for name, path in _paths(server).items()})
    answers = []
    def ask():
        body = {"messages": HELLO, "max_tokens": 60, "stream": True, "ignore_eos": True}
        with own.http().stream("POST", "/v1/chat/completions", json=body) as response:
            answers.append(response.read().decode())
    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    assert own.stop() == 0
    thread.join()
    assert answers and answers[0].rstrip().endswith("data: [DONE]")


def _paths(server):
    import json
    config = json.loads((server.log.parent / "config.yaml").read_text())
    return {entry["name"]: entry["path"] for entry in config["models"][:1]}
