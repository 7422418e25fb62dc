#include "formats/tokenizer_keys.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <map>
#include <optional>

#include "core/json.h"
#include "core/mapped_file.h"
#include "formats/pre_tokenizers.h"
#include "formats/shown.h"

namespace redoubt {
namespace {

namespace dom = simdjson::dom;
namespace fs = std::filesystem;

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;  // tokenizer.ggml.token_type
constexpr size_t kMaxTokenizerBytes = 64 << 20;
constexpr uint64_t kMaxId = 1 << 24;

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;  // 0: no token has this id

  Status set(uint64_t id, std::string_view text, int32_t type, size_t file_bytes) {
    // Ids may have gaps (filler rows), but not so that a small file claims a large table.
    if (id > kMaxId || id > 1024 + file_bytes)
      return corrupt(fmt::format("tokenizer.json: token id {}: too large", id));
    if (id >= tokens.size()) {
      tokens.resize(id + 1);
      types.resize(id + 1, 0);
    }
    tokens[id] = text;
    types[id] = type;
    return ok();
  }
  std::optional<uint32_t> find(std::string_view text) const {
    const auto it = std::ranges::find(tokens, text);
    if (text.empty() || it == tokens.end()) return std::nullopt;
    return static_cast<uint32_t>(it - tokens.begin());
  }
};

Error not_a_tokenizer(std::string_view what) { return corrupt(fmt::format("tokenizer.json: expected {}", what)); }

Result<Vocabulary> read_vocabulary(dom::element root, size_t file_bytes) {
  dom::object vocab;
  if (root["model"]["vocab"].get(vocab) != simdjson::SUCCESS) return not_a_tokenizer("a BPE model with a vocab object");
  Vocabulary result;
  for (const auto [text, value] : vocab) {
    uint64_t id = 0;
    if (value.get(id) != simdjson::SUCCESS) return not_a_tokenizer("token ids that are integers");
    REDOUBT_CHECK(result.set(id, text, kNormal, file_bytes));
  }
  dom::array added;
  if (root["added_tokens"].get(added) != simdjson::SUCCESS) return result;
  for (const dom::element entry : added) {
    uint64_t id = 0;
    std::string_view text;
    bool special = false;
    if (entry["id"].get(id) != simdjson::SUCCESS || entry["content"].get(text) != simdjson::SUCCESS ||
        entry["special"].get(special) != simdjson::SUCCESS) {
      return not_a_tokenizer("added tokens with id, content and special");
    }
    REDOUBT_CHECK(result.set(id, text, special ? kControl : kUserDefined, file_bytes));
  }
  return result;
}

Result<std::vector<std::string>> read_merges(dom::element root) {
  dom::array list;
  if (root["model"]["merges"].get(list) != simdjson::SUCCESS) return not_a_tokenizer("a BPE model with merges");
  std::vector<std::string> merges;
  for (const dom::element entry : list) {
    std::string_view text, second;
    if (entry.get(text) == simdjson::SUCCESS) {
      merges.emplace_back(text);
    } else if (entry.at(0).get(text) == simdjson::SUCCESS && entry.at(1).get(second) == simdjson::SUCCESS) {
      merges.push_back(fmt::format("{} {}", text, second));
    } else {
      return not_a_tokenizer("merges that are strings or pairs");
    }
  }
  return merges;
}

std::string detect_pre_tokenizer(dom::element root) {
  std::vector<std::string> patterns;
  bool digits = false, own_pattern = false;
  const auto visit = [&](dom::element step) {
    std::string_view text;
    bool flag = false;
    if (step["pattern"]["Regex"].get(text) == simdjson::SUCCESS) patterns.emplace_back(text);
    if (step["individual_digits"].get(flag) == simdjson::SUCCESS) digits |= flag;
    if (step["use_regex"].get(flag) == simdjson::SUCCESS) own_pattern |= flag;
  };
  dom::array steps;
  dom::element pre;
  if (root["pre_tokenizer"].get(pre) != simdjson::SUCCESS) return {};
  if (pre["pretokenizers"].get(steps) == simdjson::SUCCESS) {
    for (const dom::element step : steps) visit(step);
  } else {
    visit(pre);
  }
  return pre_tokenizer_name(patterns, digits, own_pattern);
}

// "bos_token": "<s>" or {"content": "<s>", ...}
std::string_view token_text(dom::element config, const char* key) {
  std::string_view text;
  if (config[key].get(text) == simdjson::SUCCESS) return text;
  if (config[key]["content"].get(text) == simdjson::SUCCESS) return text;
  return {};
}

Status add_special_keys(const SideFiles& files, const Vocabulary& vocabulary, const GenerationConfig& generation,
                        GgufMetadata& metadata) {
  std::optional<uint32_t> eos;
  dom::parser parser;
  if (files.has("tokenizer_config.json")) {
    REDOUBT_TRY(const std::string text, files.read("tokenizer_config.json", kMaxTokenizerBytes));
    dom::element config;
    if (parser.parse(text).get(config) != simdjson::SUCCESS) return corrupt("tokenizer_config.json: expected JSON");
    if (const auto id = vocabulary.find(token_text(config, "bos_token")))
      metadata.emplace_back("tokenizer.ggml.bos_token_id", *id);
    if (const auto id = vocabulary.find(token_text(config, "pad_token"))) {
      metadata.emplace_back("tokenizer.ggml.padding_token_id", *id);
    }
    eos = vocabulary.find(token_text(config, "eos_token"));
    for (const char* key : {"add_bos_token", "add_eos_token"}) {
      bool flag = false;
      if (config[key].get(flag) == simdjson::SUCCESS)
        metadata.emplace_back(fmt::format("tokenizer.ggml.{}", key), flag);
    }
  }
  if (!generation.eos_token_ids.empty()) eos = static_cast<uint32_t>(generation.eos_token_ids.front());
  if (eos) metadata.emplace_back("tokenizer.ggml.eos_token_id", *eos);
  if (generation.eos_token_ids.size() > 1) {
    metadata.emplace_back("tokenizer.ggml.eot_token_id", static_cast<uint32_t>(generation.eos_token_ids[1]));
  }
  return ok();
}

}  // namespace

Status add_tokenizer_keys(const SideFiles& files, int64_t vocab_size, const GenerationConfig& generation,
                          GgufMetadata& metadata, std::vector<std::string>& notes) {
  if (!files.has("tokenizer.json")) {
    notes.push_back("The model has no tokenizer.json: the file has no tokenizer.");
    metadata.emplace_back("tokenizer.ggml.model", std::string("no_vocab"));  // without it others refuse the file
    return ok();
  }
  REDOUBT_TRY(std::string text, files.read("tokenizer.json", kMaxTokenizerBytes));
  dom::parser parser;
  dom::element root;
  if (parser.parse(text).get(root) != simdjson::SUCCESS) return not_a_tokenizer("JSON");
  REDOUBT_TRY(Vocabulary vocabulary, read_vocabulary(root, text.size()));
  REDOUBT_TRY(std::vector<std::string> merges, read_merges(root));
  if (vocab_size > 0 && static_cast<int64_t>(vocabulary.tokens.size()) < vocab_size) {
    vocabulary.tokens.resize(static_cast<size_t>(vocab_size));
    vocabulary.types.resize(static_cast<size_t>(vocab_size), 0);
  }
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.types[id] != 0) continue;
    vocabulary.tokens[id] = fmt::format("[PAD{}]", id);
    vocabulary.types[id] = kUnused;
  }
  std::string pre = detect_pre_tokenizer(root);
  if (pre.empty()) {
    notes.push_back(
        "The pre-tokenizer has no GGUF name: tokenizer.ggml.pre is 'default', other programs may split otherwise.");
    pre = "default";
  }
  REDOUBT_CHECK(add_special_keys(files, vocabulary, generation, metadata));
  metadata.emplace_back("tokenizer.ggml.model", std::string("gpt2"));
  metadata.emplace_back("tokenizer.ggml.pre", std::move(pre));
  metadata.emplace_back("tokenizer.ggml.tokens", std::move(vocabulary.tokens));
  metadata.emplace_back("tokenizer.ggml.token_type", std::move(vocabulary.types));
  metadata.emplace_back("tokenizer.ggml.merges", std::move(merges));
  metadata.emplace_back("tokenizer.huggingface.json", std::move(text));
  return ok();
}

namespace {

std::string quoted(std::string_view text) { return dump_json(Json(std::string(text))); }

// Composes tokenizer.json. Built as text: the vocabulary is too large for an ordered Json object.
Result<std::string> compose_tokenizer(const GgufFile& file, std::vector<std::string>& notes) {
  const auto tokens = file.strings("tokenizer.ggml.tokens");
  const auto merges = file.strings("tokenizer.ggml.merges");
  const auto types = file.integers("tokenizer.ggml.token_type");
  if (!tokens || !merges)
    return unsupported(fmt::format("{}: expected byte-level BPE with tokens and merges", file.file()));
  if (types && types->size() != tokens->size()) {
    return corrupt(fmt::format("{}: tokenizer.ggml.token_type: expected {} values, found {}", file.file(),
                               tokens->size(), types->size()));
  }
  const std::string_view pre = file.string("tokenizer.ggml.pre").value_or("default");
  const std::string pre_json = pre_tokenizer_json(pre);
  if (pre_json.empty()) {
    notes.push_back(fmt::format("The pre-tokenizer {} has no spelling here: tokenizer.json was left out.", shown(pre)));
    return std::string();
  }
  std::string added, vocab, merge_list;
  for (size_t id = 0; id < tokens->size(); ++id) {
    const int64_t type = types ? (*types)[id] : kNormal;
    const std::string text = quoted((*tokens)[id]);
    if (type == kControl || type == kUserDefined) {
      added += fmt::format(
          R"({}{{"id":{},"content":{},"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":{}}})",
          added.empty() ? "" : ",", id, text, type == kControl);
    } else if (type != kUnused) {
      vocab += fmt::format("{}{}:{}", vocab.empty() ? "" : ",", text, id);
    }
  }
  for (const std::string_view merge : *merges)
    merge_list += fmt::format("{}{}", merge_list.empty() ? "" : ",", quoted(merge));
  const bool ignore_merges = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3";
  const bool nfc = pre == "qwen2" || pre == "deepseek-r1-qwen";  // as Qwen's own tokenizer.json
  constexpr std::string_view kByteLevel =
      R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true})";
  return fmt::format(
      R"({{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{}],"normalizer":{},"pre_tokenizer":{},)"
      R"("post_processor":null,"decoder":{},"model":{{"type":"BPE","dropout":null,"unk_token":null,)"
      R"("continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,)"
      R"("ignore_merges":{},"vocab":{{{}}},"merges":[{}]}}}})",
      added, nfc ? R"({"type":"NFC"})" : "null", pre_json, kByteLevel, ignore_merges, vocab, merge_list);
}

}  // namespace

Status write_tokenizer_files(const GgufFile& file, const fs::path& directory, std::vector<std::string>& notes) {
  const auto tokens = file.strings("tokenizer.ggml.tokens");
  if (!tokens) {
    notes.push_back("The file has no tokenizer: tokenizer.json was left out.");
    return ok();
  }
  std::string json(file.string("tokenizer.huggingface.json").value_or(""));
  if (json.empty()) {
    REDOUBT_TRY(json, compose_tokenizer(file, notes));
  }
  if (!json.empty()) REDOUBT_CHECK(write_text_file(directory / "tokenizer.json", json));

  Json config = Json::object();
  const auto token = [&](const char* name, const char* key) {
    const auto id = file.integer(key);
    if (id && *id >= 0 && *id < static_cast<int64_t>(tokens->size()))
      config[name] = std::string((*tokens)[static_cast<size_t>(*id)]);
  };
  token("bos_token", "tokenizer.ggml.bos_token_id");
  token("eos_token", "tokenizer.ggml.eos_token_id");
  token("pad_token", "tokenizer.ggml.padding_token_id");
  for (const char* key : {"add_bos_token", "add_eos_token"}) {
    if (const auto flag = file.boolean(fmt::format("tokenizer.ggml.{}", key))) config[key] = *flag;
  }
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  config["clean_up_tokenization_spaces"] = false;
  if (const auto chat_template = file.string("tokenizer.chat_template"))
    config["chat_template"] = std::string(*chat_template);
  return write_text_file(directory / "tokenizer_config.json", dump_json(config));
}

}  // namespace redoubt
