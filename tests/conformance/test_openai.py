"""The official OpenAI client, as people use it."""
import concurrent.futures
import json
import re
import time

import openai
import pytest
from conftest import API_KEY

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"], "additionalProperties": False}}}
HELLO = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=API_KEY, max_retries=0, timeout=120)


def test_lists_every_model(client, server):
    assert {model.id for model in client.models.list()} == set(server.models)
    assert client.models.retrieve(server.models[0]).id == server.models[0]


def test_answers_a_question(client, real):
    answer = client.chat.completions.create(model=real, messages=HELLO, temperature=0, max_tokens=24)
    assert "Paris" in answer.choices[0].message.content
    assert answer.object == "chat.completion" and answer.choices[0].finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 0 and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_stream_says_the_same_as_the_whole_answer(client, any_model):
    asked = dict(model=any_model, messages=HELLO, temperature=0.8, seed=7, max_tokens=40)
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [whole.choices[0].finish_reason]
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage.model_copy(update={
        "prompt_tokens_details": chunks[-1].usage.prompt_tokens_details})
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].choices[0].delta.role == "assistant"


def test_stream_events_are_as_written_in_the_contract(server, any_model):
    body = {"model": any_model, "messages": HELLO, "stream": True, "max_tokens": 8, "temperature": 0}
    with server.http().stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache" and response.headers["x-request-id"]
        raw = response.read().decode()
    events = [event for event in raw.split("\n\n") if event and not event.startswith(":")]
    assert all(event.startswith("data: ") for event in events) and events[-1] == "data: [DONE]" and raw.endswith("\n\n")
    chunks = [json.loads(event[6:]) for event in events[:-1]]
    assert all(chunk["object"] == "chat.completion.chunk" and not chunk.get("usage") for chunk in chunks)
    assert sum(bool(chunk["choices"][0]["finish_reason"]) for chunk in chunks) == 1


def test_thinking_has_both_names(server, think_model):
    body = {"model": think_model, "messages": HELLO, "max_tokens": 40, "seed": 3, "thinking_token_budget": 12}
    message = server.http().post("/v1/chat/completions", json=body).json()
    assert "error" not in message, message
    choice = message["choices"][0]["message"]
    assert choice["reasoning_content"] and choice["reasoning_content"] == choice["reasoning"]
    details = message["usage"]["completion_tokens_details"]
    assert 0 < details["reasoning_tokens"] <= 16  # the budget, and the tokens that close the block


def test_thinking_is_switched_off_as_deepseek_has_it(client, think_model):
    def thought(**more):
        answer = client.chat.completions.create(model=think_model, messages=HELLO, max_tokens=24, seed=3, extra_body=more)
        return answer.usage.completion_tokens_details.reasoning_tokens
    assert thought() == 24
    for off in ({"thinking": {"type": "disabled"}}, {"enable_thinking": False}):
        assert thought(**off) < 8, off  # no more than the tokens that close the block
    with pytest.raises(openai.BadRequestError) as refused:
        thought(thinking={"type": "sometimes"})
    assert refused.value.param == "thinking.type"


def test_logprobs_have_bytes_and_tops(client, any_model):
    answer = client.chat.completions.create(model=any_model, messages=HELLO, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3,
                                            extra_body={"ignore_eos": True})
    content = answer.choices[0].logprobs.content
    assert len(content) == 5
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3 and token.logprob <= token.top_logprobs[0].logprob + 1e-6


def test_choices_and_stops(client, any_model):
    answer = client.chat.completions.create(model=any_model, messages=HELLO, n=3, max_tokens=6, seed=1, temperature=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    whole = client.chat.completions.create(model=any_model, messages=HELLO, max_tokens=24, temperature=0).choices[0].message.content
    stop = whole.strip()[4:6]
    cut = client.chat.completions.create(model=any_model, messages=HELLO, max_tokens=24, temperature=0, stop=[stop]).choices[0]
    assert stop not in cut.message.content and whole.startswith(cut.message.content) and cut.finish_reason == "stop"


def test_a_schema_is_obeyed_by_a_model_that_knows_nothing(client, tools_model):
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
              "kind": {"enum": ["cat", "dog"]}}, "required": ["name", "age", "kind"], "additionalProperties": False}
    for seed in range(4):
        answer = client.chat.completions.create(model=tools_model, messages=HELLO, seed=seed, temperature=1.2, max_tokens=200,
            response_format={"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": schema}})
        pet = json.loads(answer.choices[0].message.content)
        assert set(pet) == {"name", "age", "kind"} and 0 <= pet["age"] <= 120 and pet["kind"] in ("cat", "dog")


def test_a_custom_tool_takes_a_text(client, tools_model):
    form = {"syntax": "regex", "definition": "[a-z]{4}\\n"}
    ask = {"model": tools_model, "input": "Hello", "max_output_tokens": 100, "tool_choice": {"type": "custom", "name": "patch"},
           "tools": [{"type": "custom", "name": "patch", "format": {"type": "grammar", **form}}]}
    call = client.responses.create(**ask).output[-1]
    assert call.type == "custom_tool_call" and call.name == "patch" and re.fullmatch("[a-z]{4}\n", call.input), call
    with client.responses.stream(**ask) as stream:
        events = list(stream)
        (last,) = stream.get_final_response().output
    assert "".join(event.delta for event in events if event.type == "response.custom_tool_call_input.delta") == last.input
    answer = client.chat.completions.create(model=tools_model, messages=HELLO, max_tokens=100, tool_choice={"type": "custom", "custom": {"name": "patch"}},
        tools=[{"type": "custom", "custom": {"name": "patch", "format": {"type": "grammar", "grammar": form}}}])
    (call,) = answer.choices[0].message.tool_calls
    assert call.type == "custom" and re.fullmatch("[a-z]{4}\n", call.custom.input), call


def test_a_forced_tool_is_called_with_valid_arguments(client, tools_model):
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer = client.chat.completions.create(model=tools_model, messages=HELLO, tools=[WEATHER], tool_choice=choice, seed=5, max_tokens=250)
        assert answer.choices[0].finish_reason == "tool_calls"
        call = answer.choices[0].message.tool_calls[0]
        arguments = json.loads(call.function.arguments)
        assert call.function.name == "get_weather" and call.type == "function" and call.id
        assert isinstance(arguments["city"], str) and 1 <= arguments["days"] <= 9


def test_tool_deltas_carry_id_and_name_once(client, tools_model):
    stream = client.chat.completions.create(model=tools_model, messages=HELLO, tools=[WEATHER], tool_choice="required", seed=5,
                                            max_tokens=250, stream=True)
    deltas, finish = [], None
    for chunk in stream:
        finish = chunk.choices[0].finish_reason or finish
        deltas += chunk.choices[0].delta.tool_calls or []
    first = [delta for delta in deltas if delta.index == 0]
    assert first[0].id and first[0].function.name == "get_weather"
    assert all(delta.id is None and delta.function.name is None for delta in first[1:])
    assert 1 <= json.loads("".join(delta.function.arguments or "" for delta in first))["days"] <= 9
    assert finish == "tool_calls"


def test_tool_results_go_back(client, tools_model):
    messages = HELLO + [{"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Bern","days":1}'}}]},
                        {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]
    assert client.chat.completions.create(model=tools_model, messages=messages, tools=[WEATHER], max_tokens=4).usage.completion_tokens > 0
    none = client.chat.completions.create(model=tools_model, messages=HELLO, tools=[WEATHER], tool_choice="none", max_tokens=8, seed=2)
    assert not none.choices[0].message.tool_calls


def error_of(call):
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("field, value", [("temperature", -1), ("temperature", "hot"), ("top_p", 1.5), ("n", 0), ("max_tokens", -5), ("logit_bias", [1]),
                                          ("top_logprobs", 21), ("messages", []), ("messages", "hello"), ("stop", 5), ("seed", "x"),
                                          ("min_tokens", -1), ("repetition_penalty", 0), ("response_format", {"type": "poem"})])
def test_a_wrong_value_is_a_400_that_names_the_field(server, any_model, field, value):
    body = {"model": any_model, "messages": HELLO, "max_tokens": 4, "logprobs": True, field: value}
    response = server.http().post("/v1/chat/completions", json=body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert field in (error["param"] or "") and error["type"] == "invalid_request_error" and error["message"]


def test_errors_are_those_that_the_client_knows(client, server, any_model):
    error = error_of(lambda: client.chat.completions.create(model="none-such", messages=HELLO))
    assert isinstance(error, openai.NotFoundError) and error.code == "model_not_found"
    error = error_of(lambda: client.chat.completions.create(model=any_model, messages=[{"role": "user", "content": "word " * 20000}]))
    assert isinstance(error, openai.BadRequestError) and error.code == "context_length_exceeded"
    stranger = openai.OpenAI(base_url=server.url + "/v1", api_key="wrong-key-0123456789", max_retries=0)
    assert isinstance(error_of(lambda: stranger.models.list()), openai.AuthenticationError)
    assert error_of(lambda: client.embeddings.create(model=any_model, input="x")).status_code == 501
    assert error_of(lambda: client.chat.completions.create(model=any_model, messages=HELLO, extra_body={"stream_options": {"include_usage": True}})).status_code == 400


def test_completions_and_echo(client, real):
    answer = client.completions.create(model=real, prompt="The capital of France is", max_tokens=3, temperature=0, logprobs=2, echo=True)
    choice = answer.choices[0]
    assert choice.text.startswith("The capital of France is Paris")
    assert choice.logprobs.token_logprobs[0] is None and len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs)
    assert client.completions.create(model=real, prompt=["a", "b"], max_tokens=1).choices[1].index == 1


def test_a_client_that_leaves_frees_its_blocks(client, server, any_model):
    for _ in range(20):
        stream = client.chat.completions.create(model=any_model, messages=HELLO, stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
    deadline = time.monotonic() + 20
    while server.metric("vllm:num_requests_running") + server.metric("vllm:num_requests_waiting") > 0:
        assert time.monotonic() < deadline, "requests of clients that left still run"
        time.sleep(0.2)


def test_the_same_request_gives_the_same_answer_under_load(client, any_model):
    def ask(i):
        return client.chat.completions.create(model=any_model, messages=[{"role": "user", "content": f"Number {i} of things"}], seed=i,
                                              temperature=1, max_tokens=16, extra_body={"ignore_eos": True}).choices[0].message.content
    alone = [ask(i) for i in range(8)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, list(range(8)) * 2))
    assert together == alone * 2


def test_responses(client, any_model):
    answer = client.responses.create(model=any_model, input="Say something", max_output_tokens=32)
    assert answer.object == "response" and answer.status in ("completed", "incomplete") and answer.usage.output_tokens > 0
    events = list(client.responses.create(model=any_model, input="Say something", max_output_tokens=32, stream=True))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in events] == list(range(events[0].sequence_number, events[0].sequence_number + len(events)))
    assert error_of(lambda: client.responses.create(model=any_model, input="x", previous_response_id="resp_none")).status_code == 404


def test_responses_take_their_own_items_back(client, any_model, tools_model):
    """Clients send an answer's items as they came, `id` and `status` included."""
    tool = {"type": "function", **WEATHER["function"]}
    call = client.responses.create(model=tools_model, input="Weather?", tools=[tool], tool_choice="required", max_output_tokens=250)
    assert all(item.status in ("completed", "incomplete") for item in call.output if item.type != "reasoning")
    past = [{"role": "user", "content": "Weather?"}, *call.output]
    past += [{"type": "function_call_output", "call_id": item.call_id, "output": "22", "status": "completed"} for item in call.output if item.type == "function_call"]
    told = client.responses.create(model=tools_model, input=past, tools=[tool], max_output_tokens=32)
    assert told.object == "response"
    first = client.responses.create(model=any_model, input="Say something", max_output_tokens=32)
    again = client.responses.create(model=any_model, input=[{"role": "user", "content": "Say something"}, *[item.model_dump() for item in first.output], {"role": "user", "content": "More", "type": "message", "status": "completed"}], max_output_tokens=32)
    assert again.usage.input_tokens > first.usage.input_tokens


def test_responses_calls_a_forced_function(client, tools_model):
    tool = {"type": "function", **WEATHER["function"]}
    answer = client.responses.create(model=tools_model, input="Weather?", tools=[tool], tool_choice="required", max_output_tokens=250)
    call = next(item for item in answer.output if item.type == "function_call")
    assert call.name == "get_weather" and 1 <= json.loads(call.arguments)["days"] <= 9
