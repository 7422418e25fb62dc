// Reads the tokenizer.ggml.* keys of a GGUF file.
#include <fmt/format.h>

#include "core/log.h"
#include "core/utf8.h"
#include "formats/gguf.h"
#include "text/tokenizer_spec.h"

namespace redoubt {
namespace {

enum GgufTokenType : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

Status read_tokens(const GgufFile& file, TokenizerSpec& spec) {
  const auto tokens = file.strings("tokenizer.ggml.tokens");
  if (!tokens.has_value() || tokens->empty()) return corrupt("tokenizer.ggml.tokens: expected strings, found none");
  if (tokens->size() > static_cast<size_t>(kMaxTokenId)) {
    return corrupt(fmt::format("tokenizer.ggml.tokens: expected at most {}, found {}", kMaxTokenId, tokens->size()));
  }
  const auto types = file.integers("tokenizer.ggml.token_type");
  if (types.has_value() && types->size() != tokens->size()) {
    return corrupt(
        fmt::format("tokenizer.ggml.token_type: expected {} entries, found {}", tokens->size(), types->size()));
  }
  spec.vocabulary.resize(static_cast<int32_t>(tokens->size()));
  std::string bytes;
  for (size_t i = 0; i < tokens->size(); ++i) {
    const std::string_view token = (*tokens)[i];
    const auto id = static_cast<int32_t>(i);
    const int64_t type = types.has_value() ? (*types)[i] : kNormal;
    if (type == kUnused) continue;
    const bool added = type == kControl || type == kUserDefined;
    if (token.size() > (added ? kMaxAddedTokenBytes : kMaxTokenBytes)) {
      return corrupt(fmt::format("tokenizer.ggml.tokens: token {} is too long: {} bytes", id, token.size()));
    }
    if (added) {
      spec.added.push_back({.content = std::string(token), .id = id, .special = type == kControl});
      spec.vocabulary.set(id, token, type == kControl ? TokenKind::control : TokenKind::user_defined);
    } else if (unmap_byte_level(token, bytes)) {
      spec.vocabulary.set(id, bytes, type == kUnknown ? TokenKind::control : TokenKind::normal);
      spec.vocabulary.index(id);
    } else {
      spec.vocabulary.set(id, token, TokenKind::normal);
    }
  }
  return ok();
}

Status read_merges(const GgufFile& file, TokenizerSpec& spec) {
  const auto merges = file.strings("tokenizer.ggml.merges");
  if (!merges.has_value()) return corrupt("tokenizer.ggml.merges: expected strings, found none");
  spec.merges.reserve(merges->size());
  std::string left, right;
  for (size_t rank = 0; rank < merges->size(); ++rank) {
    const std::string_view text = (*merges)[rank];
    const size_t space = text.find(' ', 1);
    if (space == std::string_view::npos || !unmap_byte_level(text.substr(0, space), left) ||
        !unmap_byte_level(text.substr(space + 1), right)) {
      return corrupt(fmt::format("tokenizer.ggml.merges: merge {}: expected two byte-level tokens", rank));
    }
    const auto left_id = spec.vocabulary.find(left), right_id = spec.vocabulary.find(right);
    const auto result = spec.vocabulary.find(left += right);
    // A converter may have made a merged token into an added one: such a merge makes nothing.
    if (left_id.has_value() && right_id.has_value() && result.has_value()) {
      spec.merges.push_back({*left_id, *right_id, *result});
    }
  }
  return ok();
}

std::optional<int32_t> token_id(const GgufFile& file, std::string_view key, const TokenizerSpec& spec) {
  const auto id = file.integer(key);
  if (!id.has_value() || *id < 0 || *id >= spec.vocabulary.size()) return std::nullopt;
  return static_cast<int32_t>(*id);
}

}  // namespace

Result<TokenizerSpec> read_tokenizer_gguf(const GgufFile& file) {
  REDOUBT_TRY(const std::string_view model, file.expect_string("tokenizer.ggml.model"));
  if (model == "no_vocab") return unsupported(fmt::format("{}: the file has no tokenizer", file.file()));
  if (model != "gpt2") {
    return unsupported(fmt::format("tokenizer.ggml.model: expected gpt2 (byte-level BPE), found \"{}\"", model));
  }
  TokenizerSpec spec;
  REDOUBT_CHECK(read_tokens(file, spec));
  REDOUBT_CHECK(read_merges(file, spec));

  const std::string_view pre = file.string("tokenizer.ggml.pre").value_or("");
  auto named = named_pretokenizer(pre);
  if (!named.has_value()) {
    log::warn(
        "{}: tokenizer.ggml.pre is \"{}\", which is not known; words are cut as GPT-2 cuts them, and the ids may "
        "not be those that the model was trained on",
        file.file(), repair_utf8(pre.substr(0, 64)));
    named = named_pretokenizer("gpt-2");
  }
  spec.splits = std::move(named->splits);
  spec.nfc = named->nfc;
  spec.ignore_merges = named->ignore_merges;
  if (file.boolean("tokenizer.ggml.add_space_prefix").value_or(false)) {
    spec.splits.insert(spec.splits.begin(), SplitRule{.kind = SplitRule::Kind::prefix_space});
  }
  spec.bos = token_id(file, "tokenizer.ggml.bos_token_id", spec);
  spec.eos = token_id(file, "tokenizer.ggml.eos_token_id", spec);
  // Files of the Llama-3 family leave the flag out and mean yes.
  spec.add_bos = file.boolean("tokenizer.ggml.add_bos_token").value_or(spec.ignore_merges) && spec.bos.has_value();
  return spec;
}

}  // namespace redoubt
