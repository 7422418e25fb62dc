"""The official Anthropic client, and requests of the shape that Claude Code sends."""
import anthropic
import pytest
from conftest import API_KEY

HELLO = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {"name": "get_weather", "description": "Weather", "input_schema": {"type": "object", "properties": {
    "city": {"type": "string", "maxLength": 12}}, "required": ["city"], "additionalProperties": False}}


@pytest.fixture
def client(server):
    return anthropic.Anthropic(base_url=server.url, api_key=API_KEY, max_retries=0, timeout=120)


def test_answers(client, any_model):
    message = client.messages.create(model=any_model, max_tokens=16, messages=HELLO)
    assert message.type == "message" and message.role == "assistant" and message.stop_reason in ("end_turn", "max_tokens")
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0


def test_streams(client, any_model):
    with client.messages.stream(model=any_model, max_tokens=16, messages=HELLO, system="Be brief.") as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()
    assert events[0] == "message_start" and events[-1] == "message_stop" and "message_delta" in events
    assert final.usage.input_tokens > 0 and final.usage.output_tokens > 0


def test_thinking_is_a_block_of_its_own(client, think_model):
    message = client.messages.create(model=think_model, max_tokens=48, messages=HELLO, thinking={"type": "enabled", "budget_tokens": 1024})
    assert message.content[0].type == "thinking" and message.content[0].thinking


def test_a_forced_tool(client, tools_model):
    message = client.messages.create(model=tools_model, max_tokens=200, messages=HELLO, tools=[TOOL], tool_choice={"type": "tool", "name": "get_weather"})
    block = next(block for block in message.content if block.type == "tool_use")
    assert message.stop_reason == "tool_use" and block.name == "get_weather" and isinstance(block.input["city"], str)
    with client.messages.stream(model=tools_model, max_tokens=200, messages=HELLO, tools=[TOOL], tool_choice={"type": "any"}) as stream:
        assert any(block.type == "tool_use" for block in stream.get_final_message().content)


def test_goes_on_from_a_last_message_of_the_assistant(client, any_model):
    prefill = {"role": "assistant", "content": [{"type": "text", "text": "The capital of France, as everyone knows, is"}]}
    def count(*more):
        return client.messages.count_tokens(model=any_model, messages=[*HELLO, *more]).input_tokens
    # No new turn is opened behind it: its end and the next turn's beginning would be tokens of their own.
    closed = count(prefill, {"role": "user", "content": "x"})
    assert count() < count(prefill) < closed
    message = client.messages.create(model=any_model, max_tokens=8, messages=[*HELLO, prefill], extra_body={"temperature": 0})
    opened = client.messages.create(model=any_model, max_tokens=8, messages=[*HELLO, prefill], extra_body={"temperature": 0, "continue_final_message": False})
    prompt = lambda answer: answer.usage.input_tokens + answer.usage.cache_read_input_tokens
    assert prompt(opened) > prompt(message) == count(prefill)
    if any_model == "smollm2":
        assert message.content[0].text.startswith(" Paris"), message.content
    with client.messages.stream(model=any_model, max_tokens=8, messages=[*HELLO, prefill], extra_body={"temperature": 0}) as stream:
        assert stream.get_final_text() == message.content[0].text
    with pytest.raises(anthropic.BadRequestError, match="thinking: is not possible"):
        client.messages.create(model=any_model, max_tokens=2000, messages=[*HELLO, prefill], thinking={"type": "enabled", "budget_tokens": 1024})
    with pytest.raises(anthropic.BadRequestError, match="white space"):
        client.messages.create(model=any_model, max_tokens=8, messages=[*HELLO, {"role": "assistant", "content": "It is "}])


def test_counts_tokens(client, any_model):
    few = client.messages.count_tokens(model=any_model, messages=HELLO).input_tokens
    many = client.messages.count_tokens(model=any_model, messages=HELLO, system="A longer text in front of it. " * 20).input_tokens
    assert 0 < few < many


def test_errors_have_its_envelope(client, any_model):
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="none-such", max_tokens=4, messages=HELLO)
    assert caught.value.body["type"] == "error" and caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model=any_model, max_tokens=0, messages=HELLO)


def test_what_claude_code_sends(server, any_model):
    """Recorded shape: system as a list whose first block changes each time, cache_control, tool results with lists."""
    headers = {"x-api-key": API_KEY, "anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
               "x-stainless-lang": "js", "x-stainless-package-version": "0.60.0", "x-app": "cli", "user-agent": "claude-cli/2.0 (external, cli)"}
    def body(i):
        return {"model": any_model, "max_tokens": 8, "stream": True, "metadata": {"user_id": "user_1"}, "temperature": 1,
                "system": [{"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.0.{i}; cch={i:05d};"},
                           {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}}],
                "tools": [],
                "messages": [{"role": "user", "content": [{"type": "text", "text": "List the files.", "cache_control": {"type": "ephemeral"}}]},
                             {"role": "assistant", "content": [{"type": "text", "text": "Reading."}]},
                             {"role": "user", "content": [{"type": "text", "text": "Go on."}]}]}
    counts = []
    with server.http() as http:
        for i in range(2):
            response = http.post("/v1/messages?beta=true", json=body(i), headers=headers)
            assert response.status_code == 200, response.text
            assert '"input_tokens"' in response.text.split("event: content_block_start")[0]
            counted = http.post("/v1/messages/count_tokens?beta=true", headers=headers,
                                json={key: body(i * 777)[key] for key in ("model", "system", "messages", "tools")})
            counts.append(counted.json()["input_tokens"])
    assert counts[0] == counts[1]  # the block that changes is not part of the prompt


def test_tool_results_may_be_lists(server, tools_model):
    body = {"model": tools_model, "max_tokens": 4, "tools": [TOOL], "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Bern"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]}]}]}
    assert server.http().post("/v1/messages", json=body).status_code == 200
