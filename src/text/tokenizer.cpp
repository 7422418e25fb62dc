#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "core/mapped_file.h"
#include "core/utf8.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/packed_file.h"
#include "formats/side_files.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_normalizer.h"
#include "text/tokenizer_spec.h"

namespace redoubt {
namespace {

constexpr size_t kMaxTokenizerFileBytes = size_t{256} << 20;

std::vector<AddedToken> those_normalized(const std::vector<AddedToken>& added, bool normalized, bool nfc) {
  std::vector<AddedToken> result;
  for (const AddedToken& token : added) {
    if (token.normalized != normalized) continue;
    result.push_back(token);
    if (normalized && nfc) result.back().content = compose_nfc(token.content);
  }
  return result;
}

// An added token's id comes from markup alone. Single bytes are the exception: without them there is no text.
std::vector<bool> barred_ids(const std::vector<AddedToken>& added, int32_t vocab_size) {
  std::vector<bool> barred(static_cast<size_t>(vocab_size));
  for (const AddedToken& token : added) {
    if (token.content.size() > 1) barred[static_cast<size_t>(token.id)] = true;
  }
  return barred;
}

}  // namespace

struct Tokenizer::State {
  Vocabulary vocabulary;
  Bpe bpe;
  Pretokenizer pretokenizer;
  bool nfc;
  AddedTokenFinder raw_added, normalized_added;  // the second looks at what the first left, after normalisation
  std::unordered_map<std::string, int32_t> added_ids;
  std::optional<int32_t> bos, eos;
  bool add_bos;

  State(TokenizerSpec spec, Pretokenizer made)
      : vocabulary(std::move(spec.vocabulary)),
        bpe(vocabulary, spec.merges, barred_ids(spec.added, vocabulary.size()),
            {.ignore_merges = spec.ignore_merges, .unknown = spec.unknown, .fuse_unknown = spec.fuse_unknown}),
        pretokenizer(std::move(made)),
        nfc(spec.nfc),
        raw_added(those_normalized(spec.added, false, spec.nfc)),
        normalized_added(those_normalized(spec.added, true, spec.nfc)),
        bos(spec.bos),
        eos(spec.eos),
        add_bos(spec.add_bos) {
    for (const AddedToken& token : spec.added) added_ids.emplace(token.content, token.id);
  }

  void encode_unmarked(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_normalized(std::string_view text, size_t begin, size_t end, const std::vector<MarkedText::Range>& markup,
                         std::vector<int32_t>& ids) const;
  void encode_raw(std::string_view text, const std::vector<MarkedText::Range>& markup, std::vector<int32_t>& ids) const;
};

// Text between added tokens, normalised.
void Tokenizer::State::encode_unmarked(std::string_view text, std::vector<int32_t>& ids) const {
  Pretokenizer::Pieces pieces;
  pretokenizer.split(text, pieces);
  size_t begin = 0;
  for (size_t i = 0; i < pieces.ends.size(); ++i) {
    if (!pieces.begins.empty()) begin = pieces.begins[i];
    bpe.encode(pieces.text.substr(begin, pieces.ends[i] - begin), ids);
    begin = pieces.ends[i];
  }
}

void Tokenizer::State::encode_normalized(std::string_view text, size_t begin, size_t end,
                                         const std::vector<MarkedText::Range>& markup,
                                         std::vector<int32_t>& ids) const {
  for (const AddedMatch& match : normalized_added.find(text, begin, end, markup)) {
    encode_unmarked(text.substr(begin, match.begin - begin), ids);
    ids.push_back(match.id);
    begin = match.end;
  }
  encode_unmarked(text.substr(begin, end - begin), ids);
}

void Tokenizer::State::encode_raw(std::string_view text, const std::vector<MarkedText::Range>& markup,
                                  std::vector<int32_t>& ids) const {
  const auto between = [&](size_t begin, size_t end) {
    const std::string_view part = text.substr(begin, end - begin);
    if (!nfc || is_nfc(part)) return encode_normalized(text, begin, end, markup, ids);
    std::vector<MarkedText::Range> inside;
    if (!normalized_added.empty()) {
      for (const MarkedText::Range& range : markup) {
        const size_t from = std::max(range.begin, begin), to = std::min(range.end, end);
        if (from < to) inside.push_back({from - begin, to - begin});
      }
    }
    const MarkedText composed = compose_nfc(part, inside);
    encode_normalized(composed.text, 0, composed.text.size(), composed.markup, ids);
  };
  size_t begin = 0;
  for (const AddedMatch& match : raw_added.find(text, 0, text.size(), markup)) {
    between(begin, match.begin);
    ids.push_back(match.id);
    begin = match.end;
  }
  between(begin, text.size());
}

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json) {
  REDOUBT_TRY(TokenizerSpec spec, read_tokenizer_json(tokenizer_json, tokenizer_config_json));
  REDOUBT_TRY(Pretokenizer pretokenizer, Pretokenizer::make(std::move(spec.splits)));
  return Tokenizer(std::make_unique<State>(std::move(spec), std::move(pretokenizer)));
}

Result<Tokenizer> Tokenizer::from_gguf(const GgufFile& file) {
  REDOUBT_TRY(TokenizerSpec spec, read_tokenizer_gguf(file));
  REDOUBT_TRY(Pretokenizer pretokenizer, Pretokenizer::make(std::move(spec.splits)));
  return Tokenizer(std::make_unique<State>(std::move(spec), std::move(pretokenizer)));
}

Result<Tokenizer> Tokenizer::from_files(const SideFiles& files) {
  if (!files.has("tokenizer.json"))
    return not_found(fmt::format("{}: expected a tokenizer.json, found none", files.where()));
  REDOUBT_TRY(const std::string json, files.read("tokenizer.json", kMaxTokenizerFileBytes));
  std::string config;
  if (files.has("tokenizer_config.json")) {
    REDOUBT_TRY(config, files.read("tokenizer_config.json", kMaxTokenizerFileBytes));
  }
  auto tokenizer = from_json(json, config);
  if (!tokenizer.has_value()) return std::move(tokenizer).error().within(files.where("tokenizer.json"));
  return tokenizer;
}

Result<Tokenizer> Tokenizer::from_directory(const std::filesystem::path& directory) {
  return from_files(SideFiles::in_directory(directory));
}

Result<Tokenizer> Tokenizer::from_checkpoint(const Checkpoint& checkpoint) {
  return checkpoint.gguf() != nullptr ? from_gguf(*checkpoint.gguf()) : from_files(checkpoint.files());
}

Result<Tokenizer> Tokenizer::open(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return from_directory(path);
  REDOUBT_TRY(const bool is_packed, PackedFile::is_one(path));
  if (is_packed) {
    REDOUBT_TRY(const Checkpoint checkpoint, Checkpoint::open(path));
    return from_checkpoint(checkpoint);
  }
  REDOUBT_TRY(const GgufFile file, GgufFile::open(path));
  return from_gguf(file);
}

std::vector<int32_t> Tokenizer::encode(const MarkedText& text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.text.size() / 4);
  const std::vector<MarkedText::Range> ranges = ordered_ranges(text.markup, text.text.size());
  if (is_valid_utf8(text.text)) {
    state_->encode_raw(text.text, ranges, ids);
  } else {
    const MarkedText repaired = repair_text(text.text, ranges);
    state_->encode_raw(repaired.text, repaired.markup, ids);
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_control) const {
  std::string out;
  for (const int32_t id : ids) {
    if (!skip_control || kind(id) != TokenKind::control) out += bytes(id);
  }
  return is_valid_utf8(out) ? out : repair_utf8(out);
}

std::string_view Tokenizer::bytes(int32_t id) const {
  return id >= 0 && id < vocab_size() ? state_->vocabulary.bytes(id) : std::string_view();
}

TokenKind Tokenizer::kind(int32_t id) const {
  return id >= 0 && id < vocab_size() ? state_->vocabulary.kind(id) : TokenKind::unused;
}

std::optional<int32_t> Tokenizer::find(std::string_view literal) const {
  if (const auto it = state_->added_ids.find(std::string(literal)); it != state_->added_ids.end()) return it->second;
  return state_->vocabulary.find(literal);
}

int32_t Tokenizer::vocab_size() const { return state_->vocabulary.size(); }
std::optional<int32_t> Tokenizer::bos() const { return state_->bos; }
std::optional<int32_t> Tokenizer::eos() const { return state_->eos; }
bool Tokenizer::add_bos() const { return state_->add_bos; }
std::string Tokenizer::bos_text() const { return state_->bos.has_value() ? std::string(bytes(*state_->bos)) : ""; }
std::string Tokenizer::eos_text() const { return state_->eos.has_value() ? std::string(bytes(*state_->eos)) : ""; }

}  // namespace redoubt
