"""Requests of the shape that Codex sends to /v1/responses."""
import json
import re


def events_of(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ") and line != "data: [DONE]"]


def body(model, **more):
    return {"model": model, "instructions": "You are a coding agent.", "stream": True, "store": False, "parallel_tool_calls": False,
            "tool_choice": "auto", "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0198", "reasoning": {"effort": "medium", "summary": "auto"},
            "text": {"verbosity": "low"}, "max_output_tokens": 48,
            "tools": [{"type": "function", "name": "shell", "description": "Runs a command", "strict": False, "parameters": {"type": "object", "properties": {"command": {"type": "array", "items": {"type": "string"}}}, "required": ["command"], "additionalProperties": False}},
                      {"type": "web_search", "external_web_access": False}, {"type": "custom", "name": "apply_patch", "description": "Edits", "format": {"type": "text"}}],
            "input": [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandbox: read-only."}]},
                      {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files."}]}], **more}


def check_stream(response):
    assert response.status_code == 200, response.text
    events = events_of(response.text)
    assert events[0]["type"] == "response.created" and events[-1]["type"] in ("response.completed", "response.incomplete")
    open_items = set()
    for event in events:
        if event["type"] == "response.output_item.added":
            open_items.add(event["output_index"])
        elif event["type"] == "response.output_item.done":
            open_items.remove(event["output_index"])
        elif ".delta" in event["type"]:
            assert event["output_index"] in open_items and event["item_id"]
    assert not open_items
    assert events[-1]["response"]["usage"]["input_tokens"] > 0
    return events


def test_first_turn(server, tools_model):
    response = server.http().post("/v1/responses", json=body(tools_model))
    check_stream(response)
    assert response.headers["x-redoubt-tools-left-out"] == "web_search"


def test_a_custom_tool_is_called_with_its_text(server, tools_model):
    request = body(tools_model, tool_choice={"type": "custom", "name": "apply_patch"})
    request["tools"][2]["format"] = {"type": "grammar", "syntax": "regex", "definition": "[a-z]{3} \\| \"x\""}
    events = check_stream(server.http().post("/v1/responses", json=request))
    deltas = "".join(event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta")
    (item,) = [event["item"] for event in events if event["type"] == "response.output_item.done" and event["item"]["type"] == "custom_tool_call"]
    assert item["input"] == deltas and re.fullmatch(r'[a-z]{3} \| "x"', deltas), item
    request["input"] += [item, {"type": "custom_tool_call_output", "call_id": item["call_id"], "output": "Done"}]
    check_stream(server.http().post("/v1/responses", json=request | {"tool_choice": "auto"}))


def test_a_larks_grammar_is_refused_by_name(server, tools_model):
    request = body(tools_model)
    request["tools"][2]["format"] = {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}
    response = server.http().post("/v1/responses", json=request)
    assert response.status_code == 400 and response.json()["error"]["param"] == "tools[2].format.syntax"


def test_a_turn_with_a_call_and_its_output(server, tools_model):
    request = body(tools_model)
    request["input"] += [{"type": "function_call", "call_id": "call_1", "name": "shell", "arguments": '{"command":["ls"]}'},
                         {"type": "function_call_output", "call_id": "call_1", "output": "a.txt"}]
    check_stream(server.http().post("/v1/responses", json=request))


def test_thinking_streams_as_reasoning(server, think_model):
    events = check_stream(server.http().post("/v1/responses", json=body(think_model, tools=[])))
    assert any(event["type"] == "response.reasoning_text.delta" for event in events)
