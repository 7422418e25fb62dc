#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
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

// The most bytes that normalisation can make one of: U+1FBE U+0308 U+0301 become U+0390, 7 bytes 2 (over all of Unicode
// 16, found by trying every decomposition; rounded up).
constexpr size_t kMostNfcShrinkage = 4;

// The bytes of the longest token, or 0 if a token may stand for more bytes than its own, or none for some.
size_t longest_token(const TokenizerSpec& spec, bool pretokenizer_keeps_all) {
  bool has_every_byte = true;
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    has_every_byte = has_every_byte && spec.vocabulary.find({&character, 1}).has_value();
  }
  const bool takes_spaces = std::ranges::any_of(spec.added, [](const AddedToken& t) { return t.lstrip || t.rstrip; });
  if (!pretokenizer_keeps_all || !has_every_byte || takes_spaces) return 0;
  size_t longest = 1;
  for (int32_t id = 0; id < spec.vocabulary.size(); ++id) longest = std::max(longest, spec.vocabulary.bytes(id).size());
  for (const AddedToken& token : spec.added) longest = std::max(longest, token.content.size());
  return longest;
}

// Ids as they come, and how many there may be.
struct Encoding {
  std::vector<int32_t> ids;
  size_t most = std::numeric_limits<size_t>::max();
  bool is_over = false;  // there are more than `most`: what follows is left out

  // Before `fewest` more come, or as many as nobody knows (0).
  bool has_room(size_t fewest) {
    is_over = is_over || ids.size() > most || fewest > most - ids.size();
    return !is_over;
  }
};

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
  Pretokenizer pretokenizer;
  size_t longest_token_bytes;  // 0: a token may stand for any number of bytes
  Vocabulary vocabulary;
  Bpe bpe;
  bool nfc;
  AddedTokenFinder raw_added, normalized_added;  // the second looks at what the first left, after normalisation
  std::unordered_map<std::string, int32_t> added_ids;
  std::optional<int32_t> bos, eos;
  bool add_bos;

  State(TokenizerSpec spec, Pretokenizer made)
      : pretokenizer(std::move(made)),
        longest_token_bytes(longest_token(spec, pretokenizer.keeps_all())),
        vocabulary(std::move(spec.vocabulary)),
        bpe(vocabulary, spec.merges, barred_ids(spec.added, vocabulary.size()),
            {.ignore_merges = spec.ignore_merges, .unknown = spec.unknown, .fuse_unknown = spec.fuse_unknown}),
        nfc(spec.nfc),
        raw_added(those_normalized(spec.added, false, spec.nfc)),
        normalized_added(those_normalized(spec.added, true, spec.nfc)),
        bos(spec.bos),
        eos(spec.eos),
        add_bos(spec.add_bos) {
    for (const AddedToken& token : spec.added) added_ids.emplace(token.content, token.id);
  }

  // Of so many bytes as they are cut into pieces; 0: unknown.
  size_t fewest(size_t bytes) const {
    return longest_token_bytes == 0 || bytes == 0 ? 0 : (bytes - 1) / longest_token_bytes + 1;
  }

  void encode_unmarked(std::string_view text, Encoding& out) const;
  void encode_normalized(std::string_view text, size_t begin, size_t end, const std::vector<MarkedText::Range>& markup,
                         Encoding& out) const;
  void encode_raw(std::string_view text, const std::vector<MarkedText::Range>& markup, Encoding& out) const;
  void encode(const MarkedText& text, Encoding& out) const;
};

// Text between added tokens, normalised.
void Tokenizer::State::encode_unmarked(std::string_view text, Encoding& out) const {
  if (!out.has_room(fewest(text.size()))) return;
  Pretokenizer::Pieces pieces;
  pretokenizer.split(text, pieces);
  size_t begin = 0;
  for (size_t i = 0; i < pieces.ends.size(); ++i) {
    if (!pieces.begins.empty()) begin = pieces.begins[i];
    const size_t size = pieces.ends[i] - begin;
    if (!out.has_room(size <= longest_token_bytes ? 1 : fewest(size))) return;
    bpe.encode(pieces.text.substr(begin, size), out.ids);
    begin = pieces.ends[i];
  }
}

void Tokenizer::State::encode_normalized(std::string_view text, size_t begin, size_t end,
                                         const std::vector<MarkedText::Range>& markup, Encoding& out) const {
  for (const AddedMatch& match : normalized_added.find(text, begin, end, markup)) {
    encode_unmarked(text.substr(begin, match.begin - begin), out);
    if (!out.has_room(1)) return;
    out.ids.push_back(match.id);
    begin = match.end;
  }
  encode_unmarked(text.substr(begin, end - begin), out);
}

void Tokenizer::State::encode_raw(std::string_view text, const std::vector<MarkedText::Range>& markup,
                                  Encoding& out) const {
  const auto between = [&](size_t begin, size_t end) {
    const std::string_view part = text.substr(begin, end - begin);
    if (!nfc || is_nfc(part)) return encode_normalized(text, begin, end, markup, out);
    std::vector<MarkedText::Range> inside;
    if (!normalized_added.empty()) {
      for (const MarkedText::Range& range : markup) {
        const size_t from = std::max(range.begin, begin), to = std::min(range.end, end);
        if (from < to) inside.push_back({from - begin, to - begin});
      }
    }
    const MarkedText composed = compose_nfc(part, inside);
    encode_normalized(composed.text, 0, composed.text.size(), composed.markup, out);
  };
  size_t begin = 0;
  for (const AddedMatch& match : raw_added.find(text, 0, text.size(), markup)) {
    between(begin, match.begin);
    if (!out.has_room(1)) return;
    out.ids.push_back(match.id);
    begin = match.end;
  }
  between(begin, text.size());
}

void Tokenizer::State::encode(const MarkedText& text, Encoding& out) const {
  out.ids.reserve(std::min(text.text.size() / 4, out.most));
  const std::vector<MarkedText::Range> ranges = ordered_ranges(text.markup, text.text.size());
  if (is_valid_utf8(text.text)) return encode_raw(text.text, ranges, out);
  const MarkedText repaired = repair_text(text.text, ranges);
  encode_raw(repaired.text, repaired.markup, out);
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
  Encoding out;
  state_->encode(text, out);
  return std::move(out.ids);
}

std::optional<std::vector<int32_t>> Tokenizer::encode_within(const MarkedText& text, int64_t most) const {
  if (fewest_tokens(text.text) > most) return std::nullopt;
  Encoding out{.most = static_cast<size_t>(std::max<int64_t>(most, 0))};
  state_->encode(text, out);
  if (!out.has_room(0)) return std::nullopt;
  return std::move(out.ids);
}

size_t Tokenizer::most_bytes(int64_t tokens) const {
  constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();
  const size_t each = state_->longest_token_bytes * (state_->nfc ? kMostNfcShrinkage : 1);
  const auto count = static_cast<size_t>(std::max<int64_t>(tokens, 0));
  return each == 0 || count > kNoLimit / each ? kNoLimit : count * each;
}

int64_t Tokenizer::fewest_tokens(std::string_view text) const {
  const size_t kept = state_->nfc && !is_nfc(text) ? text.size() / kMostNfcShrinkage : text.size();
  return static_cast<int64_t>(state_->fewest(kept));
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
