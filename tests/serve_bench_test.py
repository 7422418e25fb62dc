"""bench/serve against a small server of known delays: does it report what happened? Needs nothing but Python.

    python3 tests/serve_bench_test.py
"""
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import time
import unittest

BENCH = pathlib.Path(__file__).resolve().parents[1] / "bench/serve"
FIRST_S, NEXT_S = 0.05, 0.02


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def do_GET(self):
        body = json.dumps({"data": [{"id": "a-model"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.bodies.append(body)
            number = len(server.bodies)
            server.running += 1
            server.most = max(server.most, server.running)
        try:
            if number in server.refuse:
                self.send_response(503)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"full")
                return
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            time.sleep(FIRST_S)
            for i in range(body["max_tokens"]):
                if i > 0:
                    time.sleep(NEXT_S)
                data = b"data: " + json.dumps({"choices": [{"text": "x"}]}).encode() + b"\r\n\r\n"
                self.chunk(data[:7])  # events come in any pieces
                self.chunk(data[7:])
            self.chunk(b'data: {"choices": [], "usage": {"completion_tokens": %d}}\n\n' % body["max_tokens"])
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")
        finally:
            with server.lock:
                server.running -= 1


class ServeBench(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.lock, self.server.bodies, self.server.refuse, self.server.running, self.server.most = threading.Lock(), [], set(), 0, 0
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def bench(self, *arguments, status=0):
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        ended = subprocess.run([sys.executable, BENCH, "--url", url, "--json", *map(str, arguments)], capture_output=True, text=True, timeout=120)
        self.assertEqual(ended.returncode, status, ended.stderr)
        return json.loads(ended.stdout) if ended.stdout else ended.stderr

    def test_a_closed_loop_keeps_its_clients_busy(self):
        result = self.bench("--clients", 3, "--requests", 7, "--prompt", 5, "--gen", 4, "--warm-up", 0)
        self.assertEqual((result["model"], result["requests"], result["failed"], result["clients"]), ("a-model", 7, 0, 3))
        self.assertEqual(self.server.most, 3)
        self.assertGreaterEqual(result["ttft_ms"]["p50"], 1e3 * FIRST_S)
        self.assertGreaterEqual(result["tpot_ms"]["p50"], 1e3 * NEXT_S * 0.9)
        self.assertGreaterEqual(result["latency_ms"]["p99"], result["ttft_ms"]["p99"])
        self.assertAlmostEqual(result["output_tokens_per_s"], 28 / result["seconds"])
        prompts = [body["prompt"] for body in self.server.bodies]
        self.assertTrue(all(len(prompt) == 5 for prompt in prompts))
        self.assertEqual(len({tuple(prompt) for prompt in prompts}), 7)  # no prefix that a cache could know

    def test_an_open_loop_does_not_wait_for_answers(self):
        result = self.bench("--rate", 200, "--requests", 20, "--gen", 3, "--warm-up", 0)
        self.assertEqual((result["requests"], result["failed"], result["unsent"], result["rate"]), (20, 0, 0, 200))
        self.assertGreater(self.server.most, 3)  # 20 arrivals in 0.1 s, each takes about as long

    def test_goodput_counts_what_kept_both_levels(self):
        all_kept = self.bench("--requests", 3, "--gen", 2, "--slo-ttft-ms", 60000, "--slo-tpot-ms", 60000)
        self.assertEqual(all_kept["goodput_share"], 1)
        none_kept = self.bench("--requests", 3, "--gen", 2, "--slo-ttft-ms", 1)
        self.assertEqual((none_kept["goodput_share"], none_kept["goodput_requests_per_s"], none_kept["failed"]), (0, 0, 0))

    def test_failures_are_counted_and_named(self):
        self.server.refuse = {2}
        result = self.bench("--requests", 4, "--gen", 2, "--warm-up", 0, status=1)
        self.assertEqual((result["requests"], result["failed"], result["goodput_share"]), (4, 1, 0.75))
        self.assertIn("503", result["first_error"])

    def test_other_machines_are_left_alone(self):
        for url in ("http://example.org", "http://10.0.0.1:8000", "https://127.0.0.1", "ftp://127.0.0.1"):
            ended = subprocess.run([sys.executable, BENCH, "--url", url], capture_output=True, text=True, timeout=60)
            self.assertEqual(ended.returncode, 2)
            self.assertIn("127.0.0.1", ended.stderr)

    def test_nobody_there_is_one_sentence(self):
        ended = subprocess.run([sys.executable, BENCH, "--url", "http://127.0.0.1:1"], capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, r"^bench/serve: .*\n$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
