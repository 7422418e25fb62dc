#include "server/generation_fields.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <charconv>
#include <chrono>
#include <random>
#include <set>

namespace redoubt {
namespace {

constexpr size_t kMaxStopBytes = 4096;  // of one stop string
constexpr size_t kMaxStopIds = 256;
constexpr size_t kMaxLogitBias = 4096;
constexpr size_t kMaxGrammarChoices = 4096;
constexpr double kTinyTopP = 1e-9;  // top_p 0 means "only the likeliest", and the engine wants it over 0

Status parse_choice(GenerationFields& out, const JsonFields& fields, std::string_view key) {
  REDOUBT_TRY(const Json* list, fields.array(key));
  if (list == nullptr) return ok();
  GrammarSpec spec{.kind = GrammarSpec::Kind::choice, .param = fields.param(key)};
  for (const Json& choice : *list) {
    if (!choice.is_string()) return wrong_type(spec.param, "an array of strings", choice);
    spec.choices.push_back(choice.get<std::string>());
  }
  if (spec.choices.empty() || spec.choices.size() > kMaxGrammarChoices) {
    return fields.refuse(key, fmt::format("expected 1 to {} choices, found {}", kMaxGrammarChoices, list->size()));
  }
  return set_grammar(out, std::move(spec));
}

Status parse_text_grammar(GenerationFields& out, const JsonFields& fields, std::string_view key,
                          GrammarSpec::Kind kind) {
  REDOUBT_TRY(auto text, fields.string(key));
  if (!text) return ok();
  if (text->empty()) return fields.refuse(key, "expected a text that is not empty; leave it out for none");
  return set_grammar(out, {.kind = kind, .text = std::move(*text), .param = fields.param(key)});
}

// A schema as an object, as a boolean, or as a string that holds one.
Status parse_schema(GenerationFields& out, const JsonFields& fields, std::string_view key) {
  const Json* value = fields.find(key);
  if (value == nullptr) return ok();
  GrammarSpec spec{.kind = GrammarSpec::Kind::json_schema, .param = fields.param(key)};
  if (value->is_string()) {
    auto parsed = parse_json(value->get_ref<const std::string&>());
    if (!parsed) return fields.refuse(key, parsed.error().message);
    spec.schema = std::move(*parsed);
    spec.text = value->get_ref<const std::string&>();
  } else {
    spec.schema = *value;
  }
  if (!spec.schema.is_object() && !spec.schema.is_boolean()) {
    return wrong_type(spec.param, "a JSON schema", spec.schema);
  }
  return set_grammar(out, std::move(spec));
}

Status parse_structured_outputs(GenerationFields& out, const JsonFields& fields) {
  REDOUBT_TRY(const Json* object, fields.object("structured_outputs"));
  if (object != nullptr) {
    const JsonFields inner(*object, fields.param("structured_outputs"));
    REDOUBT_CHECK(parse_schema(out, inner, "json"));
    REDOUBT_TRY(const auto any_object, inner.boolean("json_object"));
    if (any_object.value_or(false)) {
      REDOUBT_CHECK(set_grammar(out, {.kind = GrammarSpec::Kind::json_object, .param = inner.param("json_object")}));
    }
    REDOUBT_CHECK(parse_text_grammar(out, inner, "regex", GrammarSpec::Kind::regex));
    REDOUBT_CHECK(parse_choice(out, inner, "choice"));
    REDOUBT_CHECK(parse_text_grammar(out, inner, "grammar", GrammarSpec::Kind::gbnf));
    static const std::set<std::string_view> kKnown = {"json", "json_object", "regex", "choice", "grammar"};
    for (const auto& [key, value] : object->items()) {
      if (!kKnown.contains(key)) REDOUBT_CHECK(inner.refuse_unless_empty(key, "is not supported"));
    }
  }
  REDOUBT_CHECK(parse_schema(out, fields, "guided_json"));
  REDOUBT_CHECK(parse_text_grammar(out, fields, "guided_regex", GrammarSpec::Kind::regex));
  REDOUBT_CHECK(parse_choice(out, fields, "guided_choice"));
  REDOUBT_CHECK(parse_text_grammar(out, fields, "guided_grammar", GrammarSpec::Kind::gbnf));
  if (const Json* grammar = fields.find("grammar");
      grammar && *grammar != "") {  // llama.cpp's clients send "" for none
    REDOUBT_CHECK(parse_text_grammar(out, fields, "grammar", GrammarSpec::Kind::gbnf));
  }
  REDOUBT_CHECK(parse_schema(out, fields, "json_schema"));
  // SGLang's names.
  REDOUBT_CHECK(parse_text_grammar(out, fields, "regex", GrammarSpec::Kind::regex));
  REDOUBT_CHECK(parse_text_grammar(out, fields, "ebnf", GrammarSpec::Kind::gbnf));
  return ok();
}

Status parse_response_format(GenerationFields& out, const JsonFields& fields) {
  REDOUBT_TRY(const Json* object, fields.object("response_format"));
  if (object == nullptr) return ok();
  const JsonFields format(*object, fields.param("response_format"));
  REDOUBT_TRY(const auto type, format.string("type"));
  if (!type) return format.refuse("type", "expected text, json_object or json_schema");
  if (*type == "text") return ok();
  if (*type == "json_object") {
    const std::string_view key = format.find("schema") != nullptr ? "schema" : "";
    if (!key.empty()) return parse_schema(out, format, key);  // llama.cpp's form
    return set_grammar(out, {.kind = GrammarSpec::Kind::json_object, .param = fields.param("response_format")});
  }
  if (*type != "json_schema") return format.refuse("type", "expected text, json_object or json_schema");
  REDOUBT_TRY(const Json* wrapped, format.object("json_schema"));
  if (wrapped == nullptr) return format.refuse("json_schema", "expected an object, found nothing");
  const JsonFields inner(*wrapped, format.param("json_schema"));
  REDOUBT_CHECK(inner.string("name"));
  REDOUBT_CHECK(inner.boolean("strict"));  // always enforced, strict or not
  if (inner.find("schema") == nullptr) return inner.refuse("schema", "expected a JSON schema, found nothing");
  return parse_schema(out, inner, "schema");
}

Status parse_logit_bias(GenerationFields& out, const JsonFields& fields) {
  REDOUBT_TRY(const Json* object, fields.object("logit_bias"));
  if (object == nullptr) return ok();
  if (object->size() > kMaxLogitBias) {
    return fields.refuse("logit_bias",
                         fmt::format("expected at most {} entries, found {}", kMaxLogitBias, object->size()));
  }
  for (const auto& [key, value] : object->items()) {
    int32_t id = -1;
    const auto [end, failed] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (failed != std::errc() || end != key.data() + key.size() || id < 0) {
      return fields.refuse("logit_bias", "expected token ids as keys");
    }
    if (!value.is_number()) return wrong_type(fields.param("logit_bias"), "numbers as values", value);
    const double bias = value.get<double>();
    if (!(bias >= -100 && bias <= 100)) {
      return fields.refuse("logit_bias", fmt::format("expected values from -100 to 100, found {}", bias));
    }
    out.logit_bias.emplace_back(id, static_cast<float>(bias));
  }
  return ok();
}

Status parse_stop_ids(GenerationFields& out, const JsonFields& fields) {
  REDOUBT_TRY(const Json* list, fields.array("stop_token_ids"));
  if (list == nullptr) return ok();
  if (list->size() > kMaxStopIds) {
    return fields.refuse("stop_token_ids", fmt::format("expected at most {} ids, found {}", kMaxStopIds, list->size()));
  }
  for (const Json& id : *list) {
    if (!id.is_number_integer()) return wrong_type(fields.param("stop_token_ids"), "an array of token ids", id);
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      return fields.refuse("stop_token_ids", "expected token ids, found a number out of range");
    }
    out.stop.token_ids.push_back(id.get<int32_t>());
  }
  return ok();
}

// Fields of other servers that would change the answer, and do not here.
Status refuse_foreign(const JsonFields& fields) {
  for (const char* key : {"lora", "lora_request", "adapter"}) {
    REDOUBT_CHECK(fields.refuse_unless_empty(key, "adapters are not supported"));
  }
  for (const char* key :
       {"stop_regex", "no_repeat_ngram_size", "samplers", "dynatemp_range", "guided_whitespace_pattern"}) {
    REDOUBT_CHECK(fields.refuse_unless_empty(key, "is not supported"));
  }
  REDOUBT_CHECK(fields.refuse_unless_empty("n_probs", "is not supported; use logprobs"));
  if (fields.find("truncate_prompt_tokens") != nullptr) {
    return fields.refuse("truncate_prompt_tokens", "a prompt is never cut");
  }
  REDOUBT_TRY(const auto do_sample, fields.boolean("do_sample"));
  if (!do_sample.value_or(true)) return fields.refuse("do_sample", "is not supported; send temperature 0");
  REDOUBT_CHECK(fields.refuse_unless_empty("return_progress", "is not supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("timings_per_token", "is not supported; timings come with the last chunk"));
  REDOUBT_CHECK(fields.refuse_unless_empty("use_beam_search", "is not supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("mirostat", "is not supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("dry_multiplier", "is not supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("xtc_probability", "is not supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("bad_words", "is not supported; use logit_bias"));
  REDOUBT_CHECK(fields.refuse_unless_empty("allowed_token_ids", "is not supported; use a grammar"));
  REDOUBT_CHECK(fields.refuse_unless_empty("logits_processors", "is not supported"));
  if (const Json* value = fields.find("prompt_logprobs")) {
    if (!value->is_boolean() || value->get<bool>()) {
      return fields.refuse("prompt_logprobs", "is not supported; use /v1/completions with echo and logprobs");
    }
  }
  REDOUBT_TRY(const auto slot, fields.integer("id_slot"));
  if (slot.value_or(-1) >= 0) return fields.refuse("id_slot", "there are no slots; leave it out or send -1");
  REDOUBT_TRY(const auto typical, fields.number("typical_p", 0, 1));
  if (typical.value_or(1.0) != 1.0) return fields.refuse("typical_p", "is not supported");
  REDOUBT_TRY(const auto tfs, fields.number("tfs_z", 0, 1));
  if (tfs.value_or(1.0) != 1.0) return fields.refuse("tfs_z", "is not supported");
  REDOUBT_TRY(const auto n_sigma, fields.number("top_n_sigma", -1e9, 1e9));
  if (n_sigma.value_or(-1.0) > 0) return fields.refuse("top_n_sigma", "is not supported");
  if (fields.find("n_predict") != nullptr) return fields.refuse("n_predict", "is not supported; use max_tokens");
  REDOUBT_TRY(const auto length_penalty, fields.number("length_penalty", -100, 100));
  if (length_penalty.value_or(1.0) != 1.0) return fields.refuse("length_penalty", "is not supported");
  REDOUBT_TRY(const auto best_of, fields.integer("best_of"));
  REDOUBT_TRY(const auto n, fields.integer("n"));
  if (best_of && *best_of != n.value_or(1)) return fields.refuse("best_of", "is not supported");
  return ok();
}

// What is taken and not used; of a wrong type it is the client's mistake all the same.
Status check_unused(const JsonFields& fields) {
  REDOUBT_CHECK(fields.string("user"));
  REDOUBT_CHECK(fields.object("metadata"));
  REDOUBT_CHECK(fields.boolean("store"));
  REDOUBT_CHECK(fields.string("service_tier"));
  return ok();
}

}  // namespace

Status set_grammar(GenerationFields& out, GrammarSpec spec) {
  if (out.grammar.kind != GrammarSpec::Kind::none) {
    return invalid(fmt::format("{}: expected one structure, found another one in {}", spec.param, out.grammar.param),
                   spec.param);
  }
  out.grammar = std::move(spec);
  return ok();
}

Status refuse_bound_minimum(const GenerationRequest& request) {
  if (request.grammar == nullptr || request.stop.min_tokens == 0) return ok();
  return unsupported("min_tokens: cannot be kept beside a structure, whose text ends where it is whole", "min_tokens");
}

Result<StreamFields> parse_stream_fields(const JsonFields& fields) {
  StreamFields out;
  REDOUBT_TRY(const auto stream, fields.boolean("stream"));
  out.stream = stream.value_or(false);
  REDOUBT_TRY(const Json* options, fields.object("stream_options"));
  if (options == nullptr) return out;
  if (!out.stream) return fields.refuse("stream_options", "expected stream to be true");
  const JsonFields inner(*options, "stream_options");
  REDOUBT_TRY(const auto usage, inner.boolean("include_usage"));
  REDOUBT_TRY(const auto continuous, inner.boolean("continuous_usage_stats"));
  out.continuous_usage = continuous.value_or(false);
  out.include_usage = usage.value_or(false) || out.continuous_usage;
  return out;
}

Result<std::vector<std::string>> parse_stop(const JsonFields& fields, std::string_view key) {
  std::vector<std::string> stops;
  const Json* value = fields.find(key);
  if (value == nullptr) return stops;
  const Json one = value->is_string() ? Json::array({*value}) : Json();
  const Json& list = value->is_string() ? one : *value;
  if (!list.is_array()) return wrong_type(fields.param(key), "a string or an array of strings", *value);
  if (list.size() > kMaxStopStrings) {
    return fields.refuse(key, fmt::format("expected at most {} strings, found {}", kMaxStopStrings, list.size()));
  }
  for (const Json& stop : list) {
    if (!stop.is_string()) return wrong_type(fields.param(key), "a string or an array of strings", stop);
    const auto& text = stop.get_ref<const std::string&>();
    if (text.empty()) return fields.refuse(key, "expected strings that are not empty");
    if (text.size() > kMaxStopBytes) {
      return fields.refuse(key,
                           fmt::format("expected strings of at most {} bytes, found {}", kMaxStopBytes, text.size()));
    }
    stops.push_back(text);
  }
  return stops;
}

Result<GenerationFields> parse_generation_fields(const JsonFields& fields) {
  constexpr int64_t kMaxTokens = int64_t{1} << 40;
  GenerationFields out;
  out.within = fields.param("");
  REDOUBT_TRY(out.temperature, fields.number("temperature", 0, 2));
  REDOUBT_TRY(out.top_p, fields.number("top_p", 0, 1));
  REDOUBT_TRY(out.min_p, fields.number("min_p", 0, 1));
  REDOUBT_TRY(out.presence_penalty, fields.number("presence_penalty", -2, 2));
  REDOUBT_TRY(out.frequency_penalty, fields.number("frequency_penalty", -2, 2));
  for (const char* name : {"repetition_penalty", "repeat_penalty"}) {  // the latter llama.cpp's and Ollama's
    REDOUBT_TRY(const auto penalty, fields.number(name, 0, 10));
    // Dividing by less leaves no finite score.
    if (penalty && *penalty < 0.01) return fields.refuse(name, "expected a number from 0.01 to 10");
    if (!out.repetition_penalty) out.repetition_penalty = penalty;
  }
  REDOUBT_TRY(out.penalty_window, fields.integer("repeat_last_n", -1));
  REDOUBT_TRY(out.top_k, fields.integer("top_k", -1, std::numeric_limits<int32_t>::max()));
  if (out.top_k == -1) out.top_k = 0;
  REDOUBT_TRY(const auto seed, fields.integer("seed"));
  if (seed) out.seed = static_cast<uint64_t>(*seed);
  REDOUBT_CHECK(parse_logit_bias(out, fields));

  REDOUBT_TRY(out.stop.strings, parse_stop(fields, "stop"));
  REDOUBT_CHECK(parse_stop_ids(out, fields));
  REDOUBT_TRY(const auto min_tokens, fields.integer("min_tokens", 0, kMaxTokens));
  out.stop.min_tokens = min_tokens.value_or(0);
  REDOUBT_TRY(const auto ignore_eos, fields.boolean("ignore_eos"));
  out.stop.ignore_eos = ignore_eos.value_or(false);
  REDOUBT_TRY(const auto include_stop, fields.boolean("include_stop_str_in_output"));
  out.stop.include_stop_string = include_stop.value_or(false);

  REDOUBT_TRY(const auto n, fields.integer("n", 1, kMaxChoices));
  out.n = static_cast<int>(n.value_or(1));
  REDOUBT_TRY(const auto skip, fields.boolean("skip_special_tokens"));
  out.skip_special_tokens = skip.value_or(true);
  REDOUBT_TRY(const auto spaces, fields.boolean("spaces_between_special_tokens"));
  static_cast<void>(spaces);  // byte-level decoding writes no spaces of its own
  REDOUBT_TRY(const auto ids, fields.boolean("return_token_ids"));
  out.return_token_ids = ids.value_or(false);
  REDOUBT_TRY(const auto cache_prompt, fields.boolean("cache_prompt"));
  out.cache_prompt = cache_prompt.value_or(true);
  REDOUBT_TRY(const auto salt, fields.string("cache_salt"));
  if (salt && (salt->empty() || salt->size() > 256)) return fields.refuse("cache_salt", "expected 1 to 256 bytes");
  out.cache_salt = salt.value_or("");
  // As in vLLM the smaller number goes first; in the engine the larger does.
  REDOUBT_TRY(const auto priority, fields.integer("priority", -1'000'000'000, 1'000'000'000));
  out.priority = static_cast<int>(-priority.value_or(0));

  REDOUBT_CHECK(parse_response_format(out, fields));
  REDOUBT_CHECK(parse_structured_outputs(out, fields));
  REDOUBT_CHECK(refuse_foreign(fields));
  REDOUBT_CHECK(check_unused(fields));
  return out;
}

Status refuse_structures_of_others(const JsonFields& fields, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys)
    REDOUBT_CHECK(fields.refuse_unless_empty(key, "is another protocol's; an answer would not be held to it here"));
  return ok();
}

Result<GenerationRequest> lower_generation(const GenerationFields& fields, const CompiledGrammars& grammars) {
  const LoadedModel& model = grammars.model();
  const SamplingDefaults& defaults = model.sampling;
  const int32_t vocab = model.tokenizer.vocab_size();
  GenerationRequest out;
  SamplingParams& sampling = out.sampling;
  sampling.temperature = fields.temperature.value_or(defaults.temperature);
  sampling.top_p = fields.top_p.value_or(defaults.top_p);
  if (sampling.top_p <= 0) sampling.top_p = kTinyTopP;
  sampling.min_p = fields.min_p.value_or(defaults.min_p);
  sampling.top_k = static_cast<int>(fields.top_k.value_or(defaults.top_k));
  sampling.repetition_penalty = fields.repetition_penalty.value_or(defaults.repetition_penalty);
  sampling.penalty_window = fields.penalty_window.value_or(-1);
  sampling.presence_penalty = fields.presence_penalty.value_or(0.0);
  sampling.frequency_penalty = fields.frequency_penalty.value_or(0.0);
  sampling.seed = fields.seed ? *fields.seed : random_u64();
  for (const auto& [id, bias] : fields.logit_bias) {
    if (id >= vocab) {
      const std::string param = fields.within + "logit_bias";
      return invalid(fmt::format("{}: expected token ids under {}, found {}", param, vocab, id), param);
    }
  }
  sampling.logit_bias = fields.logit_bias;

  out.stop = fields.stop;
  out.stop.max_tokens = fields.max_tokens.value_or(0);
  if (fields.max_tokens && fields.stop.min_tokens > *fields.max_tokens) {
    const std::string param = fields.within + "min_tokens";
    return invalid(fmt::format("{}: expected at most {} ({}), found {}", param, fields.max_tokens_field,
                               *fields.max_tokens, fields.stop.min_tokens),
                   param);
  }
  for (const int32_t id : fields.stop.token_ids) {
    if (id >= vocab) {
      const std::string param = fields.within + "stop_token_ids";
      return invalid(fmt::format("{}: expected token ids under {}, found {}", param, vocab, id), param);
    }
  }
  REDOUBT_TRY(out.grammar, grammars.of(fields.grammar));
  out.grammar_param = fields.grammar.param;
  REDOUBT_CHECK(refuse_bound_minimum(out));
  out.n = fields.n;
  out.skip_special_tokens = fields.skip_special_tokens;
  // A salt that nobody else has keeps the request out of the shared prefix cache.
  out.cache_salt = fields.cache_prompt ? fields.cache_salt : random_id("salt-");
  out.priority = fields.priority;
  return out;
}

uint64_t random_u64() {
  uint64_t value = 0;
  if (getrandom(&value, sizeof(value), 0) != static_cast<ssize_t>(sizeof(value))) value = std::random_device()();
  return value;
}

std::string random_id(std::string_view prefix) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  std::string id(prefix);
  for (int word = 0; word < 3; ++word) {
    uint64_t bits = random_u64();
    for (int i = 0; i < 8; ++i, bits /= kAlphabet.size()) id.push_back(kAlphabet[bits % kAlphabet.size()]);
  }
  return id;
}

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace redoubt
