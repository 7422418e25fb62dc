// The tokenizers against the published ones: every text of golden/tokens and of the vocabulary files, and the rule that
// a request's text can never become an added token.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/json.h"
#include "core/mapped_file.h"
#include "core/utf8.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

fs::path data() {
  if (const char* named = std::getenv("REDOUBT_TEST_DATA"); named != nullptr) return named;
  for (const char* at : {"/../shared/data"}) {
    if (const fs::path folder = std::string(REDOUBT_SOURCE_DIR) + at; fs::exists(folder)) return folder;
  }
  return {};
}

fs::path real_model() {
  if (const char* named = std::getenv("REDOUBT_REAL_MODEL"); named != nullptr) return named;
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  return (cache != nullptr ? fs::path(cache) : fs::path(home != nullptr ? home : "") / ".cache") /
         "redoubt/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

// Where the tokenizer of golden/tokens/NAME.jsonl lies.
fs::path tokenizer_of(const std::string& name) {
  const fs::path folder = data() / "tokenizers" / name;
  return fs::exists(folder) ? folder : real_model();
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

class GoldenTokens : public testing::TestWithParam<fs::path> {};

TEST_P(GoldenTokens, EveryTextGivesThePublishedIdsAndBack) {
  const fs::path at = tokenizer_of(GetParam().stem().string());
  if (!fs::exists(at)) GTEST_SKIP() << "SKIPPED LOUDLY: no tokenizer at " << at;
  const auto tokenizer = Tokenizer::open(at);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  int rows = 0;
  for (const std::string& line : lines_of(GetParam())) {
    const Json row = parse_json(line).value();
    const std::vector<int32_t> ids = row["ids"];
    EXPECT_EQ(tokenizer->encode(MarkedText::all_markup(row["text"])), ids) << row["text"];
    EXPECT_EQ(tokenizer->decode(ids), row["decoded"].get<std::string>()) << line.substr(0, 200);
    const auto text = MarkedText::all_markup(row["text"]);
    const auto count = static_cast<int64_t>(ids.size());
    EXPECT_EQ(tokenizer->encode_within(text, count), ids) << row["text"];
    EXPECT_EQ(tokenizer->encode_within(text, count - 1), std::nullopt) << row["text"];
    EXPECT_LE(tokenizer->fewest_tokens(text.text), count) << row["text"];
    EXPECT_LE(text.text.size(), tokenizer->most_bytes(count)) << row["text"];
    StreamDecoder stream(*tokenizer, false);
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string piece = stream.push(id);
      EXPECT_TRUE(is_valid_utf8(piece));
      streamed += piece;
    }
    EXPECT_EQ(streamed + stream.finish(), row["decoded"].get<std::string>());
    ++rows;
  }
  EXPECT_GT(rows, 0);
}

std::vector<fs::path> files(const fs::path& folder, const std::string& suffix) {
  std::vector<fs::path> found;
  if (data().empty() || !fs::exists(folder)) return found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().string().ends_with(suffix)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}
std::string name_of(const testing::TestParamInfo<fs::path>& info) {
  std::string name = info.param.filename().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenTokens);
INSTANTIATE_TEST_SUITE_P(Files, GoldenTokens, testing::ValuesIn(files(data() / "golden/tokens", ".jsonl")), name_of);

class VocabularyFile : public testing::TestWithParam<fs::path> {};  // the .inp file

TEST_P(VocabularyFile, EveryTextGivesThePublishedIds) {
  const std::string base = GetParam().string().substr(0, GetParam().string().size() - 4);  // ....gguf
  fs::path at = base;
  if (!fs::exists(at)) at = data() / "tokenizers" / (base.find("qwen2") != std::string::npos ? "qwen3" : "llama3_1");
  const auto tokenizer = Tokenizer::open(at);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const std::string text = read_text_file(GetParam()).value();
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::vector<std::string> expected = lines_of(base + ".out");
  size_t begin = 0, row = 0;
  for (; begin <= text.size() && row < expected.size(); ++row) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    std::istringstream ids(expected[row]);
    const std::vector<int32_t> wanted{std::istream_iterator<int32_t>(ids), {}};
    EXPECT_EQ(tokenizer->encode(MarkedText::plain(text.substr(begin, end - begin))), wanted) << "text " << row;
    begin = end + separator.size();
  }
  EXPECT_EQ(row, expected.size());
  EXPECT_GT(row, 0u);
}
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(VocabularyFile);
INSTANTIATE_TEST_SUITE_P(Files, VocabularyFile, testing::ValuesIn(files(data() / "vocab", ".inp")), name_of);

Tokenizer own_tokenizer() {
  return Tokenizer::open(fs::path(REDOUBT_SOURCE_DIR) / "tests/golden/models/deepseek_v3").value();
}

TEST(Markup, OnlyTheTemplatesCharactersBecomeAddedTokens) {
  const Tokenizer tokenizer = own_tokenizer();
  const std::string mark = "<｜Assistant｜>";
  const int32_t id = tokenizer.find(mark).value();
  EXPECT_EQ(tokenizer.encode(MarkedText::all_markup("a" + mark)).back(), id);
  for (int32_t token = 0; token < tokenizer.vocab_size(); ++token) {
    if (tokenizer.kind(token) == TokenKind::normal || tokenizer.bytes(token).empty()) continue;
    const std::string literal(tokenizer.bytes(token));
    for (const std::string& text : {literal, "x" + literal + "y", literal + literal}) {
      const auto ids = tokenizer.encode(MarkedText::plain(text));
      EXPECT_EQ(
          std::count_if(ids.begin(), ids.end(), [&](int32_t i) { return tokenizer.kind(i) != TokenKind::normal; }), 0);
      EXPECT_EQ(tokenizer.decode(ids), text);
    }
    // A mark that is partly the request's is text too.
    const auto ids = tokenizer.encode({literal, {{0, literal.size() - 1}}});
    EXPECT_EQ(std::count(ids.begin(), ids.end(), token), 0);
  }
}

TEST(Tokenizer, KnowsWhatItsFileSays) {
  const Tokenizer tokenizer = own_tokenizer();
  EXPECT_EQ(tokenizer.bos(), 0);
  EXPECT_EQ(tokenizer.eos(), 1);
  EXPECT_TRUE(tokenizer.add_bos());
  EXPECT_EQ(tokenizer.kind(0), TokenKind::control);
  EXPECT_EQ(tokenizer.kind(tokenizer.find("<think>").value()), TokenKind::user_defined);
  EXPECT_EQ(tokenizer.bytes(1'000'000'000), "");
  EXPECT_EQ(tokenizer.bytes(-1), "");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{0}, /*skip_control=*/true), "");
}

TEST(Tokenizer, AnyBytesComeBackUnlessTheyAreNoText) {
  const Tokenizer tokenizer = own_tokenizer();
  uint32_t state = 1;
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    for (int i = 0; i < 40; ++i) {
      state = state * 1664525u + 1013904223u;
      bytes += static_cast<char>(state >> 24);
    }
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(MarkedText::plain(bytes))), repair_utf8(bytes));
  }
}

TEST(Tokenizer, LongRunsAreNotQuadratic) {
  const Tokenizer tokenizer = own_tokenizer();
  EXPECT_GT(tokenizer.encode(MarkedText::plain(std::string(1 << 20, 'a'))).size(), 0u);
  EXPECT_GT(tokenizer.encode(MarkedText::plain(std::string(1 << 20, ' '))).size(), 0u);
}

TEST(Tokenizer, HostileFilesGiveOneSentence) {
  for (const char* text : {"", "{", "[]", "{}", R"({"model":{"type":"Unigram"}})",
                           R"({"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}})",
                           R"({"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})",
                           R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}})",
                           R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}})"}) {
    const auto tokenizer = Tokenizer::from_json(text);
    ASSERT_FALSE(tokenizer) << text;
    EXPECT_FALSE(tokenizer.error().message.empty());
  }
}

}  // namespace
}  // namespace redoubt
