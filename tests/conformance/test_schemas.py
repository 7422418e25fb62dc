"""Answers bound to a schema, judged by a validator that is not ours. The model's weights are random, so that its answers wander."""
import json

import jsonschema_rs
import pytest

SCHEMAS = [
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"type": "integer"}, {"type": "boolean"}], "additionalItems": {"type": "null"}, "minItems": 2, "maxItems": 4},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"enum": ["a", "b"]}, {"type": "null"}], "additionalItems": False, "minItems": 1},
    {"type": "integer", "multipleOf": 5}, {"type": "integer", "multipleOf": 100, "minimum": -5000, "maximum": 5000}, {"type": "integer", "multipleOf": 15, "minimum": 1},
    {"type": "number", "multipleOf": 0.1, "minimum": 0}, {"type": "number", "multipleOf": 0.001, "maximum": 9}, {"type": "number", "multipleOf": 0.25},
    {"type": "array", "uniqueItems": True, "minItems": 2, "items": {"enum": ["red", "green", "blue", 1, 1.0, None]}},
    {"type": "array", "uniqueItems": True, "maxItems": 3, "minItems": 1, "items": {"$ref": "#/$defs/day"}, "$defs": {"day": {"type": "string", "enum": ["mo", "tu", "we", "th"]}}},
    {"type": "object", "description": None, "title": None, "properties": {"n": {"type": "number", "multipleOf": 0.01, "default": None}}, "required": ["n"], "additionalProperties": False},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[-60:])
def test_answers_are_instances(server, tools_model, schema):
    # null is no title to a strict validator, and binds nothing.
    validator = jsonschema_rs.validator_for({key: value for key, value in schema.items() if value is not None})
    whole = set()
    for seed in range(12):
        response = server.http().post("/v1/chat/completions", json={
            "model": tools_model, "messages": [{"role": "user", "content": "x"}], "seed": seed, "temperature": 1.5, "max_tokens": 120,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})
        assert response.status_code == 200, response.text
        choice = response.json()["choices"][0]
        if choice["finish_reason"] == "stop":
            whole.add(choice["message"]["content"])
            assert validator.is_valid(json.loads(choice["message"]["content"])), choice
    assert whole, "no answer ended"
