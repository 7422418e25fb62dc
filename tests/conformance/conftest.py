"""A running server for the tests of this folder: the program as it is built, on a free port, with the real small model
and two tiny ones whose random weights answer nonsense in the right form.

tiny-tools  a template that knows tools (Hermes marks);  tiny-think  one that opens <think> itself.
"""
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import threading
import time

import httpx
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("REDOUBT_BINARY", ROOT / "build/release/redoubt"))
DATA = pathlib.Path(os.environ.get("REDOUBT_TEST_DATA", ROOT.parent / "shared/data"))
API_KEY = "conformance-key-0123456789"

TOOLS_TEMPLATE = """{{ bos_token }}{% if tools %}{% for t in tools %}{{ t['function']['name'] }} {% endfor %}<tool_call>
{"name": "", "arguments": {}}
</tool_call>{% endif %}{% for m in messages %}{% if m['role'] == 'user' %}<｜User｜>{{ m['content'] }}{% elif m['role'] == 'assistant' %}<｜Assistant｜>{{ m['content'] }}{% if m['tool_calls'] %}{% for c in m['tool_calls'] %}<tool_call>
{{ c['function'] | tojson }}
</tool_call>{% endfor %}{% endif %}{{ eos_token }}{% elif m['role'] == 'tool' %}<｜User｜><tool_response>{{ m['content'] }}</tool_response>{% else %}{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"""
THINK_TEMPLATE = """{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<｜User｜>{{ m['content'] }}{% elif m['role'] == 'assistant' %}<｜Assistant｜>{{ m['content'].split('</think>')[-1] }}{{ eos_token }}{% else %}{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜><think>
{% endif %}"""


class Server:
    def __init__(self, folder, models):
        self.models = list(models)
        config = folder / "config.yaml"
        config.write_text(json.dumps({  # JSON is YAML
            "host": "127.0.0.1", "port": 0, "data": str(folder / "data"), "cache_bytes": "600M", "threads": 2,
            "api_key_file": str(folder / "keys"), "cors_origins": ["https://chat.example"],
            "models": [{"name": name, "path": str(path)} for name, path in models.items()]}))
        (folder / "keys").write_text(API_KEY + "\n")
        (folder / "keys").chmod(0o600)
        self.log = folder / "server.log"
        self.process = subprocess.Popen([str(BINARY), "serve", "--config", str(config)], stdout=subprocess.PIPE,
                                        stderr=open(self.log, "w"), text=True)
        lines = queue.Queue()
        threading.Thread(target=lambda: [lines.put(line) for line in self.process.stdout], daemon=True).start()
        deadline = time.monotonic() + 60
        while True:
            try:
                match = re.match(r"address +(http://\S+)/v1", lines.get(timeout=1))
                if match:
                    break
            except queue.Empty:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}")
        self.url = match.group(1)

    def http(self, **options):
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {API_KEY}"}, timeout=120, **options)

    def metric(self, name, model=None):
        text = self.http().get("/metrics").text
        rows = [line for line in text.splitlines() if line.startswith(name) and (model is None or f'"{model}"' in line)]
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows)

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def tiny_model(folder, name, template, thinks):
    """A tiny golden model with another chat template, and without the token <think> where it is not to think."""
    source = DATA / "golden/models" / name
    if not source.exists():
        source = ROOT / "tests/golden/models" / name
    if not source.exists():
        return None
    target = folder / f"tiny-{name}-{len(list(folder.iterdir()))}"
    shutil.copytree(source, target, copy_function=shutil.copy)
    for path in target.rglob("*"):
        path.chmod(0o644)
    tokenizer = json.loads((target / "tokenizer_config.json").read_text())
    tokenizer["chat_template"] = template
    (target / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    if not thinks:
        words = (target / "tokenizer.json").read_text()
        (target / "tokenizer.json").write_text(words.replace("<think>", "<mark1>").replace("</think>", "<mark2>"))
    return target


def tiny_models(folder):
    models = {}
    for name, golden, template, thinks in (("tiny-tools", "qwen2", TOOLS_TEMPLATE, False),
                                           ("tiny-think", "deepseek_v3", THINK_TEMPLATE, True)):
        path = tiny_model(folder, golden, template, thinks)
        if path:
            models[name] = path
    return models


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if not BINARY.exists():
        pytest.skip(f"{BINARY} is not built")
    folder = tmp_path_factory.mktemp("server")
    models = {"smollm2": os.environ["REDOUBT_REAL_MODEL"]} if os.environ.get("REDOUBT_REAL_MODEL") else {}
    models |= tiny_models(folder)
    if not models:
        pytest.skip("no model: neither the real one nor the golden ones are here")
    running = Server(folder, models)
    yield running
    running.stop()


def need(server, name):
    if name not in server.models:
        pytest.skip(f"the model {name} is not here")
    return name


@pytest.fixture
def real(server):
    return need(server, "smollm2")


@pytest.fixture
def tools_model(server):
    return need(server, "tiny-tools")


@pytest.fixture
def think_model(server):
    return need(server, "tiny-think")


@pytest.fixture
def any_model(server):
    return server.models[0]
