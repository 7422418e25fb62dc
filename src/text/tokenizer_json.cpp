// Reads tokenizer.json and tokenizer_config.json. What would change the ids and is not built is refused by name.
// Bounds: the document's own size; ids, tokens, patterns and splits by the limits of tokenizer_spec.h.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>

#include "core/json.h"
#include "core/utf8.h"
#include "text/pretokenizer_known.h"
#include "text/tokenizer_spec.h"

namespace redoubt {
namespace {

using simdjson::dom::element;

constexpr size_t kMaxSequenceDepth = 8;

std::optional<std::string_view> string_at(const element& object, const char* key) {
  std::string_view value;
  if (object[key].get(value) != simdjson::SUCCESS) return std::nullopt;
  return value;
}

bool flag_at(const element& object, const char* key, bool otherwise = false) {
  bool value = otherwise;
  return object[key].get(value) == simdjson::SUCCESS ? value : otherwise;
}

Result<int32_t> checked_id(const simdjson::simdjson_result<element>& value, std::string_view where) {
  int64_t id = 0;
  if (value.get(id) != simdjson::SUCCESS || id < 0 || id >= kMaxTokenId) {
    return corrupt(fmt::format("{}: expected an id from 0 to {}, found none", where, kMaxTokenId - 1));
  }
  return static_cast<int32_t>(id);
}

Status read_normalizer(const element& normalizer, TokenizerSpec& spec, size_t depth) {
  if (normalizer.is_null()) return ok();
  const std::string_view type = string_at(normalizer, "type").value_or("");
  if (type == "NFC") {
    spec.nfc = true;
    return ok();
  }
  simdjson::dom::array parts;
  if (type != "Sequence" || depth == kMaxSequenceDepth || normalizer["normalizers"].get(parts) != simdjson::SUCCESS) {
    return unsupported(fmt::format("normalizer: expected none, NFC or a sequence of these, found \"{}\"", type));
  }
  for (const element& part : parts) REDOUBT_CHECK(read_normalizer(part, spec, depth + 1));
  return ok();
}

std::optional<SplitBehavior> behavior_of(std::string_view name) {
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  return std::nullopt;
}

Result<SplitRule> read_split(const element& split) {
  SplitRule rule;
  const element* const at = &split;
  if (const auto regex = string_at(*at, "pattern"); regex.has_value()) {
    rule.kind = SplitRule::Kind::literal;
    rule.pattern = *regex;
  } else {
    element pattern;
    if (split["pattern"].get(pattern) != simdjson::SUCCESS) return corrupt("Split: expected a pattern, found none");
    const auto expression = string_at(pattern, "Regex"), literal = string_at(pattern, "String");
    if (!expression.has_value() && !literal.has_value())
      return corrupt("Split: expected a Regex or String, found neither");
    rule.kind = expression.has_value() ? SplitRule::Kind::regex : SplitRule::Kind::literal;
    rule.pattern = expression.has_value() ? *expression : *literal;
  }
  const std::string_view behavior = string_at(split, "behavior").value_or("");
  const auto known = behavior_of(behavior);
  if (!known.has_value()) return unsupported(fmt::format("Split: expected a known behavior, found \"{}\"", behavior));
  rule.behavior = *known;
  rule.invert = flag_at(split, "invert");
  return rule;
}

// Appends the splits; sets `byte_level` when the step that maps bytes to characters was seen, which must be the last.
Status read_pretokenizer(const element& step, TokenizerSpec& spec, bool& byte_level, size_t depth) {
  const std::string_view type = string_at(step, "type").value_or("");
  if (byte_level)
    return unsupported(fmt::format("pre_tokenizer: expected ByteLevel last, found \"{}\" after it", type));
  if (spec.splits.size() >= kMaxSplits)
    return unsupported(fmt::format("pre_tokenizer: more than {} steps", kMaxSplits));
  if (type == "Sequence") {
    simdjson::dom::array parts;
    if (depth == kMaxSequenceDepth || step["pretokenizers"].get(parts) != simdjson::SUCCESS) {
      return corrupt("pre_tokenizer: expected a Sequence with pretokenizers");
    }
    for (const element& part : parts) REDOUBT_CHECK(read_pretokenizer(part, spec, byte_level, depth + 1));
    return ok();
  }
  if (type == "Split") {
    REDOUBT_TRY(SplitRule rule, read_split(step));
    spec.splits.push_back(std::move(rule));
    return ok();
  }
  if (type == "Digits") {
    spec.splits.push_back({.pattern = flag_at(step, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)"});
    return ok();
  }
  if (type == "ByteLevel") {
    if (flag_at(step, "add_prefix_space", true)) spec.splits.push_back({.kind = SplitRule::Kind::prefix_space});
    if (flag_at(step, "use_regex", true)) spec.splits.push_back({.pattern = std::string(patterns::kGpt2)});
    byte_level = true;
    return ok();
  }
  return unsupported(fmt::format("pre_tokenizer: expected Sequence, Split, Digits or ByteLevel, found \"{}\"", type));
}

Status read_vocabulary(const element& model, const std::vector<AddedToken>& added, TokenizerSpec& spec) {
  simdjson::dom::object vocab;
  if (model["vocab"].get(vocab) != simdjson::SUCCESS) return corrupt("model.vocab: expected an object, found none");
  int32_t largest = -1;
  for (const auto& [token, value] : vocab) {
    REDOUBT_TRY(const int32_t id, checked_id(simdjson::simdjson_result<element>(element(value)), "model.vocab"));
    largest = std::max(largest, id);
    if (token.size() > kMaxTokenBytes) return corrupt(fmt::format("model.vocab: token {} is too long", id));
  }
  for (const AddedToken& token : added) largest = std::max(largest, token.id);
  if (largest < 0) return corrupt("model.vocab: expected tokens, found none");
  spec.vocabulary.resize(largest + 1);

  std::string bytes;
  for (const auto& [token, value] : vocab) {
    const auto id = static_cast<int32_t>(int64_t(value));
    if (spec.vocabulary.is_set(id)) return corrupt(fmt::format("model.vocab: two tokens have the id {}", id));
    const bool mapped = unmap_byte_level(token, bytes);
    spec.vocabulary.set(id, mapped ? std::string_view(bytes) : token, TokenKind::normal);
    if (mapped) spec.vocabulary.index(id);
  }
  for (const AddedToken& token : added) {
    spec.vocabulary.set(token.id, token.content, token.special ? TokenKind::control : TokenKind::user_defined);
  }
  return ok();
}

Status read_added(const element& document, TokenizerSpec& spec) {
  simdjson::dom::array added;
  if (document["added_tokens"].get(added) != simdjson::SUCCESS) return ok();
  for (const element& entry : added) {
    AddedToken token;
    REDOUBT_TRY(token.id, checked_id(entry["id"], "added_tokens"));
    const auto content = string_at(entry, "content");
    if (!content.has_value()) return corrupt(fmt::format("added_tokens: token {} has no content", token.id));
    if (content->size() > kMaxAddedTokenBytes) {
      return corrupt(fmt::format("added_tokens: token {}: expected at most {} bytes, found {}", token.id,
                                 kMaxAddedTokenBytes, content->size()));
    }
    token.content = *content;
    token.special = flag_at(entry, "special");
    token.lstrip = flag_at(entry, "lstrip");
    token.rstrip = flag_at(entry, "rstrip");
    token.single_word = flag_at(entry, "single_word");
    token.normalized = flag_at(entry, "normalized", !token.special);
    spec.added.push_back(std::move(token));
  }
  return ok();
}

Status read_merges(const element& model, TokenizerSpec& spec) {
  simdjson::dom::array merges;
  if (model["merges"].get(merges) != simdjson::SUCCESS) return corrupt("model.merges: expected an array, found none");
  spec.merges.reserve(merges.size());
  std::string left_bytes, right_bytes;
  for (const element& entry : merges) {
    std::string_view left, right, text;
    simdjson::dom::array pair;
    if (entry.get(text) == simdjson::SUCCESS) {
      const size_t space = text.find(' ');
      if (space != std::string_view::npos) left = text.substr(0, space), right = text.substr(space + 1);
    } else if (entry.get(pair) == simdjson::SUCCESS && pair.size() == 2) {
      if (pair.at(0).get(left) != simdjson::SUCCESS || pair.at(1).get(right) != simdjson::SUCCESS) left = right = {};
    }
    const size_t rank = spec.merges.size();
    if (left.empty() || right.empty() || !unmap_byte_level(left, left_bytes) || !unmap_byte_level(right, right_bytes)) {
      return corrupt(fmt::format("model.merges: merge {}: expected two byte-level tokens", rank));
    }
    const auto left_id = spec.vocabulary.find(left_bytes), right_id = spec.vocabulary.find(right_bytes);
    const auto result = spec.vocabulary.find(left_bytes += right_bytes);
    if (!left_id.has_value() || !right_id.has_value() || !result.has_value()) {
      return corrupt(fmt::format("model.merges: merge {}: expected tokens of the vocabulary", rank));
    }
    spec.merges.push_back({*left_id, *right_id, *result});
  }
  return ok();
}

Status read_model(const element& model, TokenizerSpec& spec) {
  const std::string_view type = string_at(model, "type").value_or("BPE");  // absent in old files
  if (type != "BPE") return unsupported(fmt::format("model.type: expected BPE, found \"{}\"", type));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!string_at(model, key).value_or("").empty()) return unsupported(fmt::format("model.{}: expected none", key));
  }
  double dropout = 0;
  if (model["dropout"].get(dropout) == simdjson::SUCCESS && dropout != 0) {
    return unsupported("model.dropout: expected none or 0");
  }
  if (flag_at(model, "byte_fallback")) return unsupported("model.byte_fallback: expected false");
  spec.ignore_merges = flag_at(model, "ignore_merges");
  spec.fuse_unknown = flag_at(model, "fuse_unk");
  REDOUBT_CHECK(read_vocabulary(model, spec.added, spec));
  return read_merges(model, spec);
}

// A token named by its text: {"content": …} or a string. Nothing if the file names none or it is not in the vocabulary.
std::optional<int32_t> token_at(const element& object, const char* key, const TokenizerSpec& spec) {
  std::optional<std::string_view> text = string_at(object, key);
  element nested;
  if (!text.has_value() && object[key].get(nested) == simdjson::SUCCESS) text = string_at(nested, "content");
  if (!text.has_value()) return std::nullopt;
  for (const AddedToken& token : spec.added) {
    if (token.content == *text) return token.id;
  }
  std::string bytes;
  return unmap_byte_level(*text, bytes) ? spec.vocabulary.find(bytes) : std::nullopt;
}

// The token that a TemplateProcessing step puts before a text: how Llama-3's file asks for BOS.
std::optional<std::string_view> template_prefix(const element& processor, size_t depth) {
  const std::string_view type = string_at(processor, "type").value_or("");
  simdjson::dom::array parts;
  if (type == "Sequence" && depth < kMaxSequenceDepth && processor["processors"].get(parts) == simdjson::SUCCESS) {
    for (const element& part : parts) {
      if (const auto found = template_prefix(part, depth + 1); found.has_value()) return found;
    }
  }
  if (type != "TemplateProcessing" || processor["single"].get(parts) != simdjson::SUCCESS || parts.size() < 2)
    return {};
  element special;
  if (parts.at(0)["SpecialToken"].get(special) != simdjson::SUCCESS) return {};
  return string_at(special, "id");
}

Status read_config(std::string_view json, const element& document, TokenizerSpec& spec) {
  std::optional<int32_t> prefix;
  element processor;
  if (document["post_processor"].get(processor) == simdjson::SUCCESS) {
    const auto text = template_prefix(processor, 0);
    const auto token = std::find_if(spec.added.begin(), spec.added.end(),
                                    [&](const AddedToken& t) { return text.has_value() && t.content == *text; });
    if (token != spec.added.end()) prefix = token->id;
  }
  spec.bos = prefix;
  if (!json.empty()) {
    simdjson::dom::parser parser;
    element config;
    // Files hold model_max_length as an integer of thirty digits, which this parser refuses: it is rewritten as a
    // number.
    Result<Json> rewritten = parse_json(json);
    if (!rewritten) return corrupt(fmt::format("tokenizer_config.json: {}", rewritten.error().message));
    const std::string plain = dump_json(*rewritten);
    if (const auto error = parser.parse(simdjson::padded_string(plain)).get(config); error != simdjson::SUCCESS) {
      return corrupt(fmt::format("tokenizer_config.json: {}", simdjson::error_message(error)));
    }
    if (!config.is_object()) return corrupt("tokenizer_config.json: expected an object");
    if (const auto bos = token_at(config, "bos_token", spec); bos.has_value()) spec.bos = bos;
    spec.eos = token_at(config, "eos_token", spec);
    spec.add_bos = flag_at(config, "add_bos_token", prefix.has_value() && prefix == spec.bos);
  } else {
    spec.add_bos = prefix.has_value();
  }
  spec.add_bos = spec.add_bos && spec.bos.has_value();
  return ok();
}

}  // namespace

Result<TokenizerSpec> read_tokenizer_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json) {
  simdjson::dom::parser parser;
  const simdjson::padded_string padded(tokenizer_json);
  element document, part;
  if (const auto error = parser.parse(padded).get(document); error != simdjson::SUCCESS) {
    return corrupt(fmt::format("tokenizer.json: {}", simdjson::error_message(error)));
  }
  if (!document.is_object()) return corrupt("tokenizer.json: expected an object");
  TokenizerSpec spec;
  REDOUBT_CHECK(read_added(document, spec));
  if (document["normalizer"].get(part) == simdjson::SUCCESS) REDOUBT_CHECK(read_normalizer(part, spec, 0));
  bool byte_level = false;
  if (document["pre_tokenizer"].get(part) != simdjson::SUCCESS || part.is_null()) {
    return unsupported("pre_tokenizer: expected a ByteLevel step, found no pre-tokenizer");
  }
  REDOUBT_CHECK(read_pretokenizer(part, spec, byte_level, 0));
  if (!byte_level) return unsupported("pre_tokenizer: expected a ByteLevel step, found none");
  if (document["model"].get(part) != simdjson::SUCCESS) return corrupt("model: expected an object, found none");
  REDOUBT_CHECK(read_model(part, spec));
  spec.unknown = token_at(part, "unk_token", spec);
  REDOUBT_CHECK(read_config(tokenizer_config_json, document, spec));
  return spec;
}

}  // namespace redoubt
