// JSON schemas of the requests, for the OpenAPI document: what the parsers accept, so that a generator of requests
// finds more than refusals.
#pragma once

#include <initializer_list>
#include <string_view>

#include "core/json.h"

namespace redoubt {

Json chat_request_schema();
Json completions_request_schema();
Json tokenize_request_schema();
Json detokenize_request_schema();
Json anthropic_request_schema();
Json responses_request_schema();
Json ollama_chat_schema();
Json ollama_generate_schema();
Json ollama_model_schema();
Json embeddings_request_schema();

Json object_schema(std::initializer_list<std::string_view> required);  // an object that has these keys
Json path_parameter(std::string_view name);                            // an OpenAPI parameter object

}  // namespace redoubt
