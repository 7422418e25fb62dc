#include "server/routes_schemas.h"

namespace redoubt {
namespace {

// Written as the document shows them; each is a literal of ours, so parsing cannot fail.
Json literal(const char* text) { return Json::parse(text); }

Json sampling_properties() {
  return literal(R"({
    "model": {"type": "string"},
    "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
    "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "top_k": {"type": ["integer", "null"], "minimum": -1, "maximum": 2147483647},
    "min_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "presence_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
    "frequency_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
    "repetition_penalty": {"type": ["number", "null"], "minimum": 0.01, "maximum": 10},
    "repeat_last_n": {"type": ["integer", "null"], "minimum": -1},
    "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 16},
    "seed": {"type": ["integer", "null"], "minimum": -9223372036854775808, "maximum": 9223372036854775807},
    "stop": {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 1, "maxLength": 1024},
                       {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 1024}, "maxItems": 16}]},
    "stop_token_ids": {"type": ["array", "null"], "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}, "maxItems": 256},
    "min_tokens": {"type": ["integer", "null"], "minimum": 0},
    "ignore_eos": {"type": ["boolean", "null"]},
    "include_stop_str_in_output": {"type": ["boolean", "null"]},
    "skip_special_tokens": {"type": ["boolean", "null"]},
    "logit_bias": {"type": ["object", "null"], "propertyNames": {"pattern": "^[0-9]{1,6}$"},
                   "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
    "return_token_ids": {"type": ["boolean", "null"]},
    "cache_salt": {"type": ["string", "null"], "minLength": 1, "maxLength": 256},
    "cache_prompt": {"type": ["boolean", "null"]},
    "priority": {"type": ["integer", "null"], "minimum": -1000000000, "maximum": 1000000000},
    "user": {"type": ["string", "null"]},
    "stream": {"type": ["boolean", "null"]},
    "stream_options": {"type": ["object", "null"], "properties": {
      "include_usage": {"type": "boolean"}, "continuous_usage_stats": {"type": "boolean"}}},
    "response_format": {"type": ["object", "null"], "required": ["type"], "properties": {
      "type": {"enum": ["text", "json_object", "json_schema"]},
      "json_schema": {"type": "object", "required": ["schema"], "properties": {
        "name": {"type": "string"}, "strict": {"type": ["boolean", "null"]}, "schema": {"type": "object"}}}}},
    "structured_outputs": {"type": ["object", "null"], "properties": {
      "json": {"type": ["object", "string"]}, "json_object": {"type": "boolean"}, "regex": {"type": "string"},
      "choice": {"type": "array", "items": {"type": "string"}, "minItems": 1}, "grammar": {"type": "string"}}}
  })");
}

Json merged(Json properties, const char* more, const char* required) {
  properties.update(literal(more));
  return {{"type", "object"}, {"required", literal(required)}, {"properties", std::move(properties)}};
}

constexpr const char* kMessages = R"({"type": "array", "minItems": 1, "items": {
  "type": "object", "required": ["role", "content"], "properties": {
    "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
    "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {
      "type": "object", "required": ["type", "text"],
      "properties": {"type": {"enum": ["text"]}, "text": {"type": "string"}}}}]},
    "name": {"type": "string"}, "tool_call_id": {"type": "string"}, "reasoning_content": {"type": ["string", "null"]},
    "tool_calls": {"type": "array", "items": {"type": "object", "required": ["function"], "properties": {
      "id": {"type": "string"}, "type": {"enum": ["function"]},
      "function": {"type": "object", "required": ["name", "arguments"],
                   "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}}}}}}}}})";

}  // namespace

Json object_schema(std::initializer_list<std::string_view> required) {
  Json names = Json::array();
  for (const std::string_view name : required) names.push_back(name);
  return {{"type", "object"}, {"required", std::move(names)}};
}

Json path_parameter(std::string_view name) {
  return {{"name", name}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}};
}

Json chat_request_schema() {
  Json schema = merged(sampling_properties(), R"({
    "max_tokens": {"type": ["integer", "null"], "minimum": 1},
    "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
    "logprobs": {"type": ["boolean", "null"]},
    "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
    "tools": {"type": ["array", "null"], "maxItems": 512, "items": {"type": "object", "required": ["type"],
      "properties": {"type": {"enum": ["function", "custom"]}, "custom": {"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z0-9_.:/-]{1,256}$"}, "description": {"type": "string"},
        "format": {"type": "object", "required": ["type"]}}}, "function": {"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z0-9_.:/-]{1,256}$"}, "description": {"type": "string"},
        "parameters": {"type": "object"}, "strict": {"type": ["boolean", "null"]}}}}}},
    "tool_choice": {"anyOf": [{"enum": ["none", "auto", "required", null]}, {"type": "object", "required": ["type", "function"],
      "properties": {"type": {"enum": ["function"]}, "function": {"type": "object", "required": ["name"],
                     "properties": {"name": {"type": "string"}}}}}]},
    "parallel_tool_calls": {"type": ["boolean", "null"]},
    "reasoning_effort": {"enum": ["none", "minimal", "low", "medium", "high", "xhigh", "max", null]},
    "thinking_token_budget": {"type": ["integer", "null"], "minimum": -1},
    "thinking": {"type": ["object", "null"], "properties": {"type": {"enum": ["enabled", "disabled", "adaptive"]},
      "budget_tokens": {"type": "integer", "minimum": 0}}},
    "enable_thinking": {"type": ["boolean", "null"]},
    "separate_reasoning": {"type": ["boolean", "null"]},
    "verbosity": {"enum": ["low", "medium", "high", null]},
    "add_generation_prompt": {"type": ["boolean", "null"]},
    "continue_final_message": {"type": ["boolean", "null"]},
    "chat_template": {"type": ["string", "null"], "maxLength": 262144},
    "chat_template_kwargs": {"type": ["object", "null"]}
  })",
                       R"(["messages"])");
  schema["properties"]["messages"] = literal(kMessages);
  return schema;
}

Json completions_request_schema() {
  return merged(sampling_properties(), R"({
    "prompt": {"anyOf": [{"type": "string", "minLength": 1},
      {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 64},
      {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
      {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}, "minItems": 1, "maxItems": 64}]},
    "max_tokens": {"type": ["integer", "null"], "minimum": 0},
    "echo": {"type": ["boolean", "null"]},
    "logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
    "add_special_tokens": {"type": ["boolean", "null"]},
    "thinking_token_budget": {"type": ["integer", "null"], "minimum": -1}
  })",
                R"(["prompt"])");
}

Json tokenize_request_schema() {
  Json schema = literal(R"({"type": "object", "properties": {
    "model": {"type": "string"}, "prompt": {"type": "string"}, "content": {"type": "string"},
    "add_special_tokens": {"type": ["boolean", "null"]}, "return_token_strs": {"type": ["boolean", "null"]},
    "add_special": {"type": ["boolean", "null"]}, "parse_special": {"type": ["boolean", "null"]},
    "with_pieces": {"type": ["boolean", "null"]}},
    "anyOf": [{"required": ["prompt"]}, {"required": ["content"]}, {"required": ["messages"]}]})");
  schema["properties"]["messages"] = literal(kMessages);
  return schema;
}

Json detokenize_request_schema() {
  return literal(R"({"type": "object", "required": ["tokens"], "properties": {
    "model": {"type": "string"}, "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0}}}})");
}

Json anthropic_request_schema() {
  return literal(R"({"type": "object", "required": ["messages", "max_tokens"], "properties": {
    "model": {"type": "string"}, "max_tokens": {"type": "integer", "minimum": 1},
    "messages": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role", "content"], "properties": {
      "role": {"enum": ["user", "assistant"]},
      "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object", "required": ["type", "text"],
        "properties": {"type": {"enum": ["text"]}, "text": {"type": "string"}}}}]}}}},
    "system": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object", "required": ["type", "text"],
      "properties": {"type": {"enum": ["text"]}, "text": {"type": "string"}}}}]},
    "stream": {"type": "boolean"}, "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1}, "top_k": {"type": "integer", "minimum": 0, "maximum": 2147483647},
    "stop_sequences": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 1024}, "maxItems": 16},
    "thinking": {"type": "object", "required": ["type"], "properties": {"type": {"enum": ["enabled", "disabled", "adaptive"]},
      "budget_tokens": {"type": "integer", "minimum": 0}}},
    "tools": {"type": "array", "items": {"type": "object", "required": ["name", "input_schema"], "properties": {
      "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}, "description": {"type": "string"}, "input_schema": {"type": "object"}}}},
    "tool_choice": {"type": "object", "required": ["type"], "properties": {"type": {"enum": ["auto", "any", "tool", "none"]},
      "name": {"type": "string"}, "disable_parallel_tool_use": {"type": "boolean"}}}}})");
}

Json responses_request_schema() {
  return literal(R"({"type": "object", "required": ["input"], "properties": {
    "model": {"type": "string"},
    "input": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role", "content"],
      "properties": {"type": {"enum": ["message"]}, "role": {"enum": ["system", "developer", "user", "assistant"]},
      "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object", "required": ["type", "text"],
        "properties": {"type": {"enum": ["input_text", "output_text"]}, "text": {"type": "string"}}}}]}}}}]},
    "instructions": {"type": ["string", "null"]}, "max_output_tokens": {"type": ["integer", "null"], "minimum": 1},
    "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2}, "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "stream": {"type": ["boolean", "null"]}, "store": {"type": ["boolean", "null"]}, "parallel_tool_calls": {"type": ["boolean", "null"]},
    "reasoning": {"type": ["object", "null"], "properties": {"effort": {"enum": ["none", "minimal", "low", "medium", "high", "xhigh", null]}}},
    "text": {"type": ["object", "null"], "properties": {"verbosity": {"enum": ["low", "medium", "high", null]}, "format": {"type": "object", "required": ["type"], "properties": {
      "type": {"enum": ["text", "json_object", "json_schema"]}, "name": {"type": "string"}, "schema": {"type": "object"}}}}},
    "tools": {"type": ["array", "null"], "items": {"type": "object", "required": ["type"], "properties": {
      "type": {"enum": ["function", "custom", "web_search"]}, "name": {"type": "string"}, "parameters": {"type": ["object", "null"]}}}},
    "tool_choice": {"anyOf": [{"enum": ["none", "auto", "required", null]}, {"type": "object", "required": ["type", "name"],
      "properties": {"type": {"enum": ["function", "custom"]}, "name": {"type": "string"}}}]},
    "previous_response_id": {"type": ["string", "null"]}}})");
}

Json ollama_chat_schema() {
  return literal(R"({"type": "object", "required": ["messages"], "properties": {
    "model": {"type": "string"},
    "messages": {"type": "array", "items": {"type": "object", "required": ["role", "content"], "properties": {
      "role": {"enum": ["system", "user", "assistant", "tool"]}, "content": {"type": "string"}, "thinking": {"type": "string"}}}},
    "stream": {"type": "boolean"}, "think": {"type": ["boolean", "string", "null"]}, "format": {"type": ["object", "string"]},
    "options": {"type": "object"}, "tools": {"type": "array", "items": {"type": "object"}},
    "keep_alive": {"type": ["string", "number"]}}})");
}

Json ollama_generate_schema() {
  return literal(R"({"type": "object", "properties": {
    "model": {"type": "string"}, "prompt": {"type": "string"}, "system": {"type": "string"}, "raw": {"type": "boolean"},
    "stream": {"type": "boolean"}, "think": {"type": ["boolean", "string", "null"]}, "format": {"type": ["object", "string"]},
    "options": {"type": "object"}, "keep_alive": {"type": ["string", "number"]}}})");
}

Json ollama_model_schema() {
  return literal(R"({"type": "object", "properties": {"model": {"type": "string"}, "name": {"type": "string"}}})");
}

Json embeddings_request_schema() {
  return literal(R"({"type": "object", "properties": {"model": {"type": "string"}, "input": {}}})");
}

}  // namespace redoubt
