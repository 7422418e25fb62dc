"""Tenants of one running server: what one uses is counted to the token, what one asked is no secret told to another by time, and
without its database the server says that it is not ready.

    tests/tenants_test.py BINARY MODEL

The server is the program itself over a synthetic model of MODEL's shape (`redoubt synth`), its database SQLite.
"""
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import unittest

import running_server
import unit_results
from running_server import eventually

BINARY = MODEL = None
CONTEXT = 4096


class Tenants(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="redoubt-tenants-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.data = cls.folder / "data"
        shape = json.loads((pathlib.Path(MODEL) / "config.json").read_text())
        shape["max_position_embeddings"] = CONTEXT
        (cls.folder / "config.json").write_text(json.dumps(shape))
        subprocess.run([BINARY, "synth", cls.folder / "r1", "--config", cls.folder / "config.json"], check=True, stdout=subprocess.DEVNULL)
        for path in pathlib.Path(MODEL).glob("tokenizer*.json"):
            shutil.copy(path, cls.folder / "r1")
        cls.log = open(cls.folder / "log", "w")
        cls.addClassCleanup(cls.log.close)
        cls.server = subprocess.Popen([BINARY, "serve", "--model", cls.folder / "r1", "--port", "0", "--data", cls.data, "--cache-bytes", "256M"],
                                      stdout=subprocess.PIPE, stderr=cls.log, text=True, env={**os.environ, "REDOUBT_BOOTSTRAP_KEY": "tenants-test-0123456789"})
        cls.addClassCleanup(cls.stop)
        cls.port = running_server.served_port(cls.server, cls.folder / "log")
        three = cls.administer("user", "appoint", "--system", "sam", "--security", "sue", "--audit", "ann")
        cls.system_key = three["system"]["key"]
        cls.random = random.Random(5)

    @classmethod
    def stop(cls):
        cls.server.terminate()
        cls.server.stdout.close()
        assert cls.server.wait(60) == 0

    @classmethod
    def administer(cls, *arguments):
        return running_server.administer(BINARY, cls.data, *arguments)

    def tenant(self, name):
        """A tenant with one user; the user's key."""
        self.administer("tenant", "create", name)
        self.administer("user", "create", f"u@{name}", "--tenant", name)
        key = self.administer("key", "create", f"u@{name}", "--name", "test")["key"]
        self.assertTrue(eventually(lambda: self.get("/v1/models", key)[0] == 200))
        return key

    def get(self, path, key=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"Authorization": "Bearer " + key} if key else {})
        answer = connection.getresponse()
        status, body = answer.status, answer.read().decode()
        connection.close()
        return status, body

    def post(self, key, **body):
        """The open connection and its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", "/v1/completions", json.dumps({"temperature": 0, **body}),
                           {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
        return connection, connection.getresponse()

    def ask(self, key, **body):
        connection, answer = self.post(key, **body)
        status, text = answer.status, answer.read().decode()
        connection.close()
        return status, json.loads(text)

    def prompt(self, size):
        return [self.random.randrange(10, 400) for _ in range(size)]

    def counters(self):
        """What the engine itself counted, since it was loaded: tokens of prompts and of answers."""
        text = self.get("/metrics", self.system_key)[1]
        return sum(int(float(re.search(rf"^vllm:{name}_tokens_total{{.*}} (\S+)$", text, re.M).group(1))) for name in ("prompt", "generation"))

    def usage(self, counter):
        found = self.administer("limit", "usage", counter)
        return found if isinstance(found, dict) else {"settled": 0, "reserved": 0}

    # --- the prefix cache

    def test_a_prompt_of_another_tenant_takes_the_time_of_a_new_one(self):
        north, south = self.tenant("north"), self.tenant("south")
        self.ask(north, prompt=self.prompt(64), max_tokens=1)

        def timed(key, prompt):
            began = time.monotonic()
            status, answer = self.ask(key, prompt=prompt, max_tokens=1)
            self.assertEqual(status, 200, answer)
            return time.monotonic() - began, answer["usage"]["prompt_tokens_details"]["cached_tokens"]

        times = {"own": [], "another's": [], "new": []}
        for _ in range(5):
            secret = self.prompt(3000)
            self.assertEqual(timed(north, secret)[1], 0)
            for name, key, prompt in (("own", north, secret), ("another's", south, secret), ("new", south, self.prompt(3000))):
                took, cached = timed(key, prompt)
                times[name].append(took)
                if name == "own":
                    self.assertGreater(cached, 2900)
                else:
                    self.assertEqual(cached, 0, f"{name}: tokens that were read before")
        own, others, new = (statistics.median(times[name]) for name in ("own", "another's", "new"))
        print(f"median ms: one's own prompt again {own * 1e3:.1f}, another tenant's {others * 1e3:.1f}, a new one {new * 1e3:.1f}", flush=True)
        self.assertLess(own, new / 2, "the clock sees what a cached prompt saves")
        self.assertGreater(others, new / 2, "and of another tenant's nothing is saved")

    # --- limits

    def test_64_callers_with_aborts_are_counted_to_the_token_and_never_over_the_limit(self):
        key, limit = self.tenant("west"), 12_000
        counter = "tokens_per_day tenant west"
        self.administer("limit", "set", "tenant", "west", "tokens_per_day", limit)
        self.assertTrue(eventually(lambda: "west" in str(self.administer("limit", "list"))))
        time.sleep(1)  # the running server sees it within half a second
        before = self.counters()
        prompts = [[self.prompt(8 + n % 24) for _ in range(40)] for n in range(64)]

        def call(n):
            """Until the limit ends it: tokens that answers reported, how many calls were cut off, and what came last."""
            reported, aborted = 0, 0
            for turn, prompt in enumerate(prompts[n]):
                kind = (n + turn) % 3
                body = {"prompt": prompt, "max_tokens": 48, "ignore_eos": True}
                if kind > 0:
                    body |= {"stream": True, "stream_options": {"include_usage": True}}
                connection, answer = self.post(key, **body)
                try:
                    if answer.status != 200:
                        return reported, aborted, answer.status, answer.getheader("Retry-After"), answer.read().decode()
                    if kind == 2:  # its prompt was read: the engine counts prompts whole or not at all
                        while not answer.readline().startswith(b"data: "):
                            pass
                        aborted += 1
                        continue
                    text = answer.read().decode()
                    if kind == 1:
                        text = [line for line in text.split("\n") if line.startswith("data: {")][-1][6:]
                    reported += json.loads(text)["usage"]["total_tokens"]
                finally:
                    connection.close()
            return reported, aborted, 0, None, ""

        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            calls = [pool.submit(call, n) for n in range(64)]
            while not all(one.done() for one in calls):
                self.assertLessEqual(self.usage(counter)["settled"], limit)
                time.sleep(0.5)
        results = [one.result() for one in calls]
        for _, _, status, retry_after, text in results:
            self.assertEqual(status, 429, text)
            self.assertIn("tokens_per_day", text)
            self.assertGreater(int(retry_after), 0)
        reported, aborted = (sum(result[i] for result in results) for i in (0, 1))
        self.assertGreater(aborted, 20)
        self.assertLessEqual(reported, limit)
        # What was cut off ends within a step; then all is settled.
        self.assertTrue(eventually(lambda: self.usage(counter)["settled"] == self.counters() - before), f"settled {self.usage(counter)}, counted {self.counters() - before}")
        settled = self.usage(counter)["settled"]
        print(f"limit {limit}: settled {settled}, of it reported by answers {reported}, the rest of {aborted} that were cut off", flush=True)
        self.assertLessEqual(settled, limit)
        self.assertGreater(settled, reported, "what was cut off is paid")
        self.assertGreater(settled, limit * 0.7, "and the limit can be used up")

    # --- the database

    def test_while_usage_cannot_be_recorded_it_is_not_ready_and_strangers_learn_that_alone(self):
        key = self.tenant("east")
        self.administer("limit", "set", "tenant", "east", "tokens_per_day", 1_000_000)
        time.sleep(1)
        asked = {"prompt": self.prompt(16), "max_tokens": 4}
        self.assertEqual(self.ask(key, **asked)[0], 200)
        self.assertEqual(self.get("/readyz"), (200, '{"status":"ok"}'))
        taken = sqlite3.connect(self.data / "redoubt.db", isolation_level=None, timeout=30)
        taken.execute("BEGIN IMMEDIATE")  # nobody else writes
        try:
            self.assertTrue(eventually(lambda: self.ask(key, **asked)[0] == 503))
            self.assertTrue(eventually(lambda: self.get("/readyz")[0] == 503))
            self.assertEqual(self.get("/readyz")[1], '{"status":"unavailable"}')
            self.assertEqual(self.get("/health"), (503, '{"status":"unavailable"}'))
            self.assertEqual(self.get("/livez"), (200, '{"status":"ok"}'), "a restart brings no database back")
            self.assertIn('redoubt_health_red{cause="ledger_away"} 1\n', self.get("/metrics", self.system_key)[1])
        finally:
            taken.execute("ROLLBACK")
            taken.close()
        self.assertTrue(eventually(lambda: self.get("/readyz") == (200, '{"status":"ok"}')))
        self.assertEqual(self.ask(key, **asked)[0], 200)
        log = (self.folder / "log").read_text()
        self.assertIn("not ready: what was used cannot be recorded", log)
        self.assertIn("no longer so: what was used cannot be recorded", log)


if __name__ == "__main__":
    BINARY, MODEL = (str(pathlib.Path(argument).resolve()) for argument in sys.argv[1:3])
    sys.exit(not unit_results.run("tenants", Tenants, sys.argv[3:]))
