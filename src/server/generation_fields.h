// What every protocol says about how to generate: sampling, stops, structure. Parsed once, lowered once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/model_host.h"
#include "server/compiled_grammars.h"
#include "server/json_fields.h"

namespace redoubt {

struct GenerationFields {
  std::optional<double> temperature, top_p, min_p;
  std::optional<double> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> penalty_window;  // repeat_last_n: 0: no penalties; -1, absent: over the whole text
  std::optional<int64_t> top_k;           // 0: off
  std::optional<uint64_t> seed;
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::optional<int64_t> max_tokens;            // absent: to the end of the context
  std::string max_tokens_field = "max_tokens";  // what the protocol calls it, for errors
  std::string within;                           // where all these fields stand: "options.", or ""
  StopConditions stop;                          // all but max_tokens
  GrammarSpec grammar;
  int n = 1;
  bool skip_special_tokens = true;
  bool return_token_ids = false;
  bool cache_prompt = true;
  std::string cache_salt;
  int priority = 0;  // larger first
};

constexpr int kMaxChoices = 16;
constexpr size_t kMaxStopStrings = 16;

// The fields that OpenAI's two endpoints and the open servers share, all but max_tokens and logprobs; what of their
// extras is not obeyed here is refused by name.
Result<GenerationFields> parse_generation_fields(const JsonFields& fields);

// Where other protocols have an answer's structure, which would not be enforced here: refused by name.
Status refuse_structures_of_others(const JsonFields& fields, std::initializer_list<std::string_view> keys);

// `stream` and `stream_options`, which only a stream may have.
struct StreamFields {
  bool stream = false, include_usage = false, continuous_usage = false;
};
Result<StreamFields> parse_stream_fields(const JsonFields& fields);
Result<std::vector<std::string>> parse_stop(const JsonFields& fields, std::string_view key);

// Sampling, stops and structure as the engine takes them: the model's generation_config where a field is
// absent, a random seed.
// Errors: invalid_argument (an id beyond the vocabulary, a grammar that is refused).
Result<GenerationRequest> lower_generation(const GenerationFields& fields, const CompiledGrammars& grammars);

// The request's one structure. Errors: it has another one already.
Status set_grammar(GenerationFields& out, GrammarSpec spec);
// A structure's text ends where it is whole, however few tokens that are. Errors: min_tokens beside a structure.
Status refuse_bound_minimum(const GenerationRequest& request);

uint64_t random_u64();                           // of the operating system
std::string random_id(std::string_view prefix);  // prefix and 24 letters and digits
int64_t unix_seconds();

}  // namespace redoubt
