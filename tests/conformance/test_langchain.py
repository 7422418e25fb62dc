"""LangChain's OpenAI binding: invoke, stream, tools, structured output."""
import pytest
from conftest import API_KEY
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field


def chat(server, model, **options):
    return ChatOpenAI(base_url=server.url + "/v1", api_key=API_KEY, model=model, max_retries=0, timeout=120, **options)


def test_invokes_and_streams(server, any_model):
    llm = chat(server, any_model, max_tokens=12, temperature=0)
    whole = llm.invoke("What is the capital of France?")
    assert whole.usage_metadata["output_tokens"] > 0
    assert "".join(part.text for part in llm.stream("What is the capital of France?")) == whole.text


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return city


def test_binds_tools(server, tools_model):
    llm = chat(server, tools_model, max_tokens=250, seed=5).bind_tools([get_weather], tool_choice="get_weather")
    message = llm.invoke("Weather?")
    if not message.tool_calls:  # the model's random text may run to the limit inside a string
        pytest.fail(f"no tool call: {message}")
    assert message.tool_calls[0]["name"] == "get_weather" and isinstance(message.tool_calls[0]["args"]["city"], str)


class Pet(BaseModel):
    name: str = Field(max_length=8)
    kind: str = Field(pattern="^(cat|dog)$")


def test_structured_output(server, tools_model):
    pet = chat(server, tools_model, max_tokens=250, seed=3).with_structured_output(Pet, method="json_schema").invoke("A pet")
    assert pet.kind in ("cat", "dog") and len(pet.name) <= 8
