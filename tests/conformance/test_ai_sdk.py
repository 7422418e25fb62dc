"""@ai-sdk/deepseek from npm, run by Node.js."""
import json
import pathlib
import shutil
import subprocess

import pytest
from conftest import API_KEY, ROOT

NPM = ROOT / "build/npm"


def run(server, model, what):
    if not shutil.which("node") or not (NPM / "node_modules/@ai-sdk/deepseek").exists():
        pytest.skip("@ai-sdk/deepseek is not installed (no Node.js, or no npm registry)")
    script = NPM / "ai_sdk.mjs"
    shutil.copy(pathlib.Path(__file__).with_name("ai_sdk.mjs"), script)
    ended = subprocess.run(["node", str(script), server.url + "/v1", API_KEY, model, what], capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout)


def test_generates_and_streams_the_same(server, any_model):
    assert run(server, any_model, "text")["usage"]["outputTokens"] > 0
    assert run(server, any_model, "stream")["same"]


def test_reasoning_is_told_apart(server, think_model):
    assert run(server, think_model, "reasoning")["reasoning"]


def test_thinking_is_switched_off(server, think_model):
    off = run(server, think_model, "unthinking")
    assert off["usage"]["outputTokens"] > 0 and len(off["reasoning"]) < len(run(server, think_model, "reasoning")["reasoning"])


def test_calls_a_tool(server, tools_model):
    call = run(server, tools_model, "tool")
    assert call["name"] == "getWeather" and isinstance(call["input"]["city"], str)


def test_errors_carry_the_message(server):
    assert run(server, "none-such", "error")["status"] == 404
