"""The official Ollama client."""
import ollama
import pytest
from conftest import API_KEY

HELLO = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(server):
    return ollama.Client(host=server.url, headers={"Authorization": f"Bearer {API_KEY}"})


def test_lists_and_shows(client, server, any_model):
    assert set(server.models) <= {model.model.removesuffix(":latest") for model in client.list().models}
    assert client.show(any_model).modelinfo


def test_chats(client, any_model):
    answer = client.chat(any_model, HELLO, options={"num_predict": 8, "temperature": 0})
    assert answer.done and answer.message.role == "assistant" and answer.eval_count > 0
    parts = list(client.chat(any_model, HELLO, stream=True, options={"num_predict": 8, "temperature": 0}))
    assert "".join(part.message.content or "" for part in parts) == (answer.message.content or "")
    assert parts[-1].done and parts[-1].done_reason in ("stop", "length")


def test_generates(client, any_model):
    answer = client.generate(any_model, "The capital of France is", options={"num_predict": 4, "temperature": 0})
    assert answer.done and answer.response
    assert "".join(p.response for p in client.generate(any_model, "The capital", stream=True, options={"num_predict": 4}))


def test_formats(client, tools_model):
    answer = client.chat(tools_model, HELLO, format={"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"], "additionalProperties": False},
                         options={"num_predict": 60})
    assert '"n"' in answer.message.content


def test_thinks(client, think_model):
    assert client.chat(think_model, HELLO, think=True, options={"num_predict": 12}).message.thinking


def test_an_unknown_model_is_its_404(client):
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("none-such", HELLO)
    assert caught.value.status_code == 404
