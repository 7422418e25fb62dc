// What a tokenizer file may say, on a small file made here: merges, flags, splits, normalisation, and hostile ones; and
// the documented vectors and the markup rule on every published tokenizer.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <random>
#include <utility>

#include "core/json.h"
#include "core/mapped_file.h"
#include "core/utf8.h"
#include "text/tokenizer.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

fs::path data_folder() {
  const char* named = std::getenv("REDOUBT_TEST_DATA");
  return named != nullptr ? fs::path(named) : fs::path(REDOUBT_SOURCE_DIR) / "../shared/data";
}

// The table of the fact sheet: two independent encoders agree on these.
TEST(TokenizerFile, GivesTheIdsOfTheDocumentedVectors) {
  struct Row {
    const char* text;
    std::vector<int32_t> deepseek, llama, qwen;
  };
  const std::vector<Row> rows{
      {"Hello, world!", {19923, 14, 2058, 3}, {9906, 11, 1917, 0}, {9707, 11, 1879, 0}},
      {"1234567 3.14159",
       {6895, 18009, 25, 223, 21, 16, 9926, 3318},
       {4513, 10961, 22, 220, 18, 13, 9335, 2946},
       {16, 17, 18, 19, 20, 21, 22, 220, 18, 13, 16, 19, 16, 20, 24}},
      {"  leading  spaces\n\n\tx",
       {223, 6646, 223, 13564, 271, 51669},
       {220, 6522, 220, 12908, 271, 10436},
       {220, 6388, 220, 12621, 271, 10225}},
      {"I'm sure they'VE it'll",
       {43, 4571, 3645, 851, 9, 23584, 436, 5922},
       {40, 2846, 2771, 814, 6, 4592, 433, 3358},
       {40, 2776, 2704, 807, 6, 4491, 432, 3278}},
      {"a\r\nb \r\n c", {67, 204, 201, 68, 223, 204, 201, 274}, {64, 319, 65, 2591, 272}, {64, 319, 65, 2529, 272}},
      {"🙂👍🏽 e\u0301 ok",
       {80300, 227, 92526, 40965, 124, 312, 17793, 9109},
       {9468, 19044, 9468, 239, 235, 9468, 237, 121, 384, 54939, 5509},
       {145080, 144349, 145375, 3958, 5394}},
      {"   \n", {14320}, {5996}, {5872}},
  };
  const fs::path folder = data_folder() / "tokenizers";
  if (!fs::exists(folder)) GTEST_SKIP() << "NO TEST DATA at " << folder;
  for (const auto& [name, column] :
       {std::pair{"deepseek_v3", &Row::deepseek}, {"llama3_1", &Row::llama}, {"qwen3", &Row::qwen}}) {
    if (!fs::exists(folder / name)) continue;
    const auto tokenizer = Tokenizer::open(folder / name);
    ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
    for (const Row& row : rows)
      EXPECT_EQ(tokenizer->encode(MarkedText::plain(row.text)), row.*column) << name << row.text;
  }
}

// A user who types a special token sends characters, wherever the template's own bytes stand around them.
TEST(TokenizerFile, SpecialTokensInUserTextAreText) {
  auto paths = std::vector<fs::path>{};
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(data_folder() / "tokenizers", ignored)) paths.push_back(entry.path());
  if (paths.empty()) GTEST_SKIP() << "NO TEST DATA at " << data_folder();
  for (const fs::path& path : paths) {
    SCOPED_TRACE(path);
    const auto tokenizer = Tokenizer::open(path);
    ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
    int specials = 0;
    for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
      const TokenKind kind = tokenizer->kind(id);
      if (kind != TokenKind::control && kind != TokenKind::user_defined) continue;
      ++specials;
      const std::string literal(tokenizer->bytes(id));
      EXPECT_EQ(tokenizer->find(literal), id);
      EXPECT_EQ(tokenizer->encode(MarkedText::all_markup(literal)), std::vector<int32_t>{id});
      for (const MarkedText& text :
           {MarkedText::plain(literal), MarkedText::plain("a " + literal + "b"),
            MarkedText{literal + literal, {{1, literal.size() * 2 - 1}}},
            MarkedText{literal, {{0, literal.size() / 2}, {literal.size() / 2, literal.size()}}}}) {
        const auto ids = tokenizer->encode(text);
        EXPECT_EQ(std::count(ids.begin(), ids.end(), id), 0) << literal;
        EXPECT_EQ(tokenizer->decode(ids), text.text);
      }
    }
    EXPECT_GT(specials, 0);
    EXPECT_EQ(tokenizer->bytes(tokenizer->vocab_size()), "");
    EXPECT_EQ(tokenizer->bytes(-1), "");
    EXPECT_EQ(tokenizer->kind(tokenizer->vocab_size() + 5), TokenKind::unused);
  }
}

TEST(TokenizerFile, RepeatsTheFilesBosAndEos) {
  const fs::path folder = data_folder() / "tokenizers";
  if (!fs::exists(folder / "deepseek_v3")) GTEST_SKIP() << "NO TEST DATA at " << folder;
  const auto deepseek = Tokenizer::open(folder / "deepseek_v3"), llama = Tokenizer::open(folder / "llama3_1"),
             qwen = Tokenizer::open(folder / "qwen3");
  EXPECT_EQ(deepseek->bos(), 0);
  EXPECT_EQ(deepseek->eos(), 1);
  EXPECT_TRUE(deepseek->add_bos());
  EXPECT_EQ(deepseek->vocab_size(), 128815);
  EXPECT_EQ(deepseek->bos_text(), "<｜begin▁of▁sentence｜>");
  EXPECT_EQ(llama->bos(), 128000);
  EXPECT_TRUE(llama->add_bos());  // by its post-processor
  EXPECT_FALSE(qwen->bos().has_value());
  EXPECT_FALSE(qwen->add_bos());
  EXPECT_EQ(qwen->eos_text(), "<|im_end|>");
}

// --- A small tokenizer made here: the 256 bytes, "ab", "abc", and what a case adds. ---

std::string byte_symbol(int byte) {
  static const std::vector<std::string> symbols = [] {
    std::vector<std::string> made;
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad);
      std::string symbol;
      append_utf8(symbol, printable ? static_cast<char32_t>(b) : next++);
      made.push_back(symbol);
    }
    return made;
  }();
  return symbols[static_cast<size_t>(byte)];
}

Json small_tokenizer() {
  Json vocab = Json::object();
  for (int b = 0; b < 256; ++b) vocab[byte_symbol(b)] = b;
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  vocab["bc"] = 258;
  return {{"added_tokens", Json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array({"b c", "a b", "ab c"})}}}};
}

Json added_token(int id, const std::string& content) {
  return {{"id", id}, {"content", content}, {"special", true}, {"normalized", false}};
}

std::vector<int32_t> encode_with(const Json& document, const std::string& text) {
  const auto tokenizer = Tokenizer::from_json(document.dump());
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return tokenizer.has_value() ? tokenizer->encode(MarkedText::all_markup(text)) : std::vector<int32_t>{};
}

TEST(TokenizerFile, MergesByRankUnlessTheFileIgnoresMerges) {
  Json document = small_tokenizer();
  EXPECT_EQ(encode_with(document, "abc"), (std::vector<int32_t>{'a', 258}));
  document["model"]["ignore_merges"] = true;
  EXPECT_EQ(encode_with(document, "abc"), (std::vector<int32_t>{257}));
  EXPECT_EQ(encode_with(document, "abcabc"), (std::vector<int32_t>{'a', 258, 'a', 258}));
  document["model"]["merges"] = Json::array({Json::array({"a", "b"}), Json::array({"ab", "c"})});
  EXPECT_EQ(encode_with(document, "abcabc"), (std::vector<int32_t>{257, 257}));
}

TEST(TokenizerFile, AddedTokensFollowTheirFlags) {
  Json document = small_tokenizer();
  Json plain = added_token(300, "<x>"), longer = added_token(301, "<x>y"), strips = added_token(302, "<s>"),
       word = added_token(303, "cat");
  strips["lstrip"] = strips["rstrip"] = true;
  word["single_word"] = true;
  document["added_tokens"] = {plain, longer, strips, word};
  EXPECT_EQ(encode_with(document, "a<x>yb<x>"), (std::vector<int32_t>{'a', 301, 'b', 300}));  // longest at the leftmost
  EXPECT_EQ(encode_with(document, "a \t<s>\n b"), (std::vector<int32_t>{'a', 302, 'b'}));
  EXPECT_EQ(encode_with(document, "<x> <s><s>"), (std::vector<int32_t>{300, 302, 302}));
  EXPECT_EQ(encode_with(document, "-cat-"), (std::vector<int32_t>{'-', 303, '-'}));
  EXPECT_EQ(encode_with(document, "cats"), (std::vector<int32_t>{'c', 'a', 't', 's'}));

  // White space that the user wrote is not stripped.
  const auto tokenizer = Tokenizer::from_json(document.dump());
  EXPECT_EQ(tokenizer->encode({"<s>  b", {{0, 4}}}), (std::vector<int32_t>{302, ' ', 'b'}));
}

TEST(TokenizerFile, NormalizesBeforeItLooksForNormalizedTokens) {
  Json document = small_tokenizer();
  Json composed = added_token(300, "\u00e9!");
  composed["normalized"] = true;
  document["added_tokens"] = {composed};
  document["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}};
  EXPECT_EQ(encode_with(document, "ae\u0301!b"), (std::vector<int32_t>{'a', 300, 'b'}));
  const auto tokenizer = Tokenizer::from_json(document.dump());
  // The mark is the user's, the letter the template's: what they compose to is not markup.
  EXPECT_EQ(tokenizer->encode({"e\u0301!", {{0, 1}, {3, 4}}}), (std::vector<int32_t>{0xc3, 0xa9, '!'}));
}

TEST(TokenizerFile, SplitsAsTheBehaviorsSay) {
  // Pieces are seen through merges: "ab" merges only inside a piece.
  const auto with = [](const char* behavior, bool invert) {
    Json document = small_tokenizer();
    document["model"]["merges"] = Json::array({"a b"});
    document["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", behavior}, {"invert", invert}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    return encode_with(document, "xaaby");
  };
  EXPECT_EQ(with("Isolated", false), (std::vector<int32_t>{'x', 'a', 'a', 'b', 'y'}));
  EXPECT_EQ(with("Removed", false), (std::vector<int32_t>{'x', 'b', 'y'}));
  EXPECT_EQ(with("Removed", true), (std::vector<int32_t>{'a', 'a'}));
  EXPECT_EQ(with("MergedWithNext", false), (std::vector<int32_t>{'x', 'a', 256, 'y'}));
  EXPECT_EQ(with("MergedWithPrevious", false), (std::vector<int32_t>{'x', 'a', 'a', 'b', 'y'}));
  EXPECT_EQ(with("Contiguous", false), (std::vector<int32_t>{'x', 'a', 'a', 'b', 'y'}));
}

TEST(TokenizerFile, AddsAPrefixSpaceWhereTheFileAsks) {
  Json document = small_tokenizer();
  document["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(encode_with(document, "x"), (std::vector<int32_t>{' ', 'x'}));
  EXPECT_EQ(encode_with(document, " x"), (std::vector<int32_t>{' ', 'x'}));
  EXPECT_EQ(encode_with(document, ""), (std::vector<int32_t>{}));
}

TEST(TokenizerFile, BytesThatAreNoUtf8BecomeReplacementCharacters) {
  const auto tokenizer = Tokenizer::from_json(small_tokenizer().dump());
  const std::string broken =
      "a\xff\xe4\xbd"
      "b\xc3";
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(MarkedText::plain(broken))), repair_utf8(broken));
  EXPECT_EQ(tokenizer->bytes(0xff), "\xff");
  // Ranges that lie outside the text, cross or are upside down are cut to what makes sense.
  EXPECT_EQ(tokenizer->encode({"ab", {{5, 9}, {1, 0}, {0, 9}, {1, 7}}}), (std::vector<int32_t>{256}));
}

TEST(TokenizerStream, HoldsBackWhatMayBecomeACharacter) {
  const auto tokenizer = Tokenizer::from_json(small_tokenizer().dump());
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.push(0xe4), "");
  EXPECT_EQ(stream.push(0xbd), "");
  EXPECT_EQ(stream.push(0xa0), "你");
  EXPECT_EQ(stream.push(0xe4), "");
  EXPECT_EQ(stream.push('a'),
            "\ufffd"
            "a");
  EXPECT_EQ(stream.push(0xf0), "");
  EXPECT_EQ(stream.finish(), "\ufffd");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TokenizerFile, HostileFilesAreErrors) {
  const auto refused = [](const std::function<void(Json&)>& change) {
    Json document = small_tokenizer();
    change(document);
    const auto tokenizer = Tokenizer::from_json(document.dump());
    EXPECT_FALSE(tokenizer.has_value()) << document.dump().substr(0, 200);
  };
  const auto split = [](Json& d, const std::string& regex) {
    d["pre_tokenizer"] = {{"type", "Sequence"},
                          {"pretokenizers",
                           {{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}},
                            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  };
  refused([](Json& d) { d = Json::array(); });
  refused([](Json& d) { d.erase("model"); });
  refused([](Json& d) { d.erase("pre_tokenizer"); });
  refused([](Json& d) { d["model"]["vocab"]["zz"] = 2'000'000'000; });
  refused([](Json& d) { d["model"]["vocab"]["zz"] = -1; });
  refused([](Json& d) { d["model"]["vocab"]["zz"] = "1"; });
  refused([](Json& d) { d["model"]["vocab"]["zz"] = 7; });  // taken
  refused([](Json& d) {
    d["model"]["vocab"] = Json::object();
    d["model"]["merges"] = Json::array();
  });
  refused([](Json& d) { d["model"]["vocab"][std::string(100'000, 'a')] = 300; });
  refused([](Json& d) { d["model"]["merges"].push_back("a zz"); });
  refused([](Json& d) { d["model"]["merges"].push_back("a"); });
  refused([](Json& d) { d["model"]["merges"].push_back(17); });
  refused([](Json& d) { d["model"]["type"] = "Unigram"; });
  refused([](Json& d) { d["model"]["dropout"] = 0.5; });
  refused([](Json& d) { d["model"]["byte_fallback"] = true; });
  refused([](Json& d) { d["normalizer"] = {{"type", "Lowercase"}}; });
  refused([](Json& d) { d["pre_tokenizer"] = {{"type", "Metaspace"}}; });
  refused([](Json& d) { d["added_tokens"] = {added_token(1 << 30, "<x>")}; });
  refused([](Json& d) { d["added_tokens"] = {added_token(300, std::string(5000, 'x'))}; });
  refused([&](Json& d) { split(d, "(unclosed"); });
  refused([&](Json& d) { split(d, "[a[bc]]"); });
  refused([&](Json& d) { split(d, "((a{1,1000}){1,1000}){1,1000}"); });
  EXPECT_FALSE(Tokenizer::from_json("{").has_value());
  EXPECT_FALSE(Tokenizer::from_json("").has_value());
  EXPECT_FALSE(Tokenizer::from_json(small_tokenizer().dump(), "[").has_value());
  EXPECT_FALSE(Tokenizer::open("/nonexistent").has_value());

  // Patterns that explode find nothing more; the text stays whole.
  for (const char* regex : {"(a+)+$b", "(a|a)*b", "((a*)*)*c", "(?:a?){30}a{30}z", "(?=(a+))*b", "\\s*x"}) {
    Json document = small_tokenizer();
    split(document, regex);
    const auto tokenizer = Tokenizer::from_json(document.dump());
    if (!tokenizer.has_value()) continue;
    const std::string text = std::string(20'000, 'a') + std::string(20'000, ' ') + "\n";
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(MarkedText::plain(text))), text) << regex;
  }
}

// A pair at a time, as bpe.h defines it.
std::vector<int32_t> merge_slowly(std::string_view piece,
                                  const std::vector<std::pair<std::string, std::string>>& merges, const Json& vocab) {
  std::vector<std::string> symbols;
  for (const char c : piece) symbols.emplace_back(1, c);
  for (bool merged = true; merged;) {
    merged = false;
    for (const auto& [left, right] : merges) {
      for (size_t i = 0; i + 1 < symbols.size() && !merged; ++i) {
        if (symbols[i] != left || symbols[i + 1] != right) continue;
        symbols[i] += right;
        symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        merged = true;
      }
      if (merged) break;
    }
  }
  std::vector<int32_t> ids;
  for (const std::string& symbol : symbols) ids.push_back(vocab[symbol].get<int32_t>());
  return ids;
}

// Merges in any order of rank, so that a merge may make way for one that comes before it.
TEST(TokenizerFile, LongPiecesMergeAsTheDefinitionSays) {
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    std::vector<std::string> made{"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    Json document = small_tokenizer();
    Json& vocab = document["model"]["vocab"];
    for (int i = 0; i < 12; ++i) {
      const std::string left = made[random() % made.size()], right = made[random() % made.size()];
      if (std::ranges::find(merges, std::pair(left, right)) != merges.end()) continue;
      merges.emplace_back(left, right);
      if (!vocab.contains(left + right)) vocab[left + right] = 400 + i;
      made.push_back(left + right);
    }
    std::ranges::shuffle(merges, random);
    document["model"]["merges"] = Json::array();
    for (const auto& [left, right] : merges) document["model"]["merges"].push_back(Json::array({left, right}));
    const auto tokenizer = Tokenizer::from_json(document.dump());
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    std::string text;                                  // runs and mixtures, beyond what is merged by scanning
    const size_t size = round % 5 == 0 ? 2'200 : 300;  // with queues, with a heap
    while (text.size() < size)
      text += std::string(1 + random() % (round % 2 == 0 ? 30 : 2), static_cast<char>('a' + random() % 3));
    EXPECT_EQ(tokenizer->encode(MarkedText::plain(text)), merge_slowly(text, merges, vocab)) << text;
  }
}

// A bound that counts no text twice: it is never over the truth, and it is there wherever no text is dropped.
TEST(TokenizerFile, KnowsTheFewestTokensOfATextBeforeItIsWorkedThrough) {
  Json document = small_tokenizer();
  const std::string text = "abcabcabcabc";
  EXPECT_EQ(Tokenizer::from_json(document.dump())->fewest_tokens(text), 4);
  EXPECT_EQ(Tokenizer::from_json(document.dump())->most_bytes(4), 12u);
  document["added_tokens"] = {added_token(300, "abcabc")};
  EXPECT_EQ(Tokenizer::from_json(document.dump())->fewest_tokens(text), 2);
  Json strips = added_token(300, "abcabc");
  strips["rstrip"] = true;  // it takes any number of spaces along
  document["added_tokens"] = {strips};
  const auto dropping = Tokenizer::from_json(document.dump());
  EXPECT_EQ(dropping->fewest_tokens(text), 0);
  EXPECT_EQ(dropping->most_bytes(1), std::numeric_limits<size_t>::max());
  EXPECT_EQ(dropping->encode_within(MarkedText::all_markup("abcabc" + std::string(50, ' ')), 1),
            (std::vector<int32_t>{300}));
  EXPECT_EQ(dropping->encode_within(MarkedText::plain("aaaa"), 3), std::nullopt);

  // Normalisation shortens: seven bytes become two.
  document["added_tokens"] = Json::array();
  document["normalizer"] = {{"type", "NFC"}};
  std::string long_form;
  for (int i = 0; i < 100; ++i) long_form += "\u1fbe\u0308\u0301";
  const auto composing = Tokenizer::from_json(document.dump());
  const auto ids = composing->encode(MarkedText::plain(long_form));
  EXPECT_EQ(ids.size(), 200u);
  EXPECT_LE(composing->fewest_tokens(long_form), 200);
  EXPECT_GT(composing->fewest_tokens(long_form), 0);
  EXPECT_EQ(composing->encode_within(MarkedText::plain(long_form), 200), ids);
}

// One piece without a space, a megabyte long: n log n, not n squared.
TEST(TokenizerFile, LongPiecesAreNotQuadratic) {
  const auto tokenizer = Tokenizer::from_json(small_tokenizer().dump());
  std::string text;
  std::mt19937 random(1);
  while (text.size() < (size_t{1} << 20)) text += static_cast<char>('a' + random() % 3);
  const auto ids = tokenizer->encode(MarkedText::plain(text));
  EXPECT_EQ(tokenizer->decode(ids), text);
  // The queues and the scan agree: the same text in pieces short enough to scan gives the same ids where no merge
  // crosses.
  std::string spaced;
  std::vector<int32_t> expected;
  for (size_t i = 0; i < 50; ++i) {
    const auto part = tokenizer->encode(MarkedText::plain("x" + text.substr(i * 40, 40) + "x"));
    expected.insert(expected.end(), part.begin(), part.end());
    spaced += "x" + text.substr(i * 40, 40) + "x";
  }
  EXPECT_EQ(tokenizer->encode(MarkedText::plain(spaced)), expected);
}

TEST(TokenizerFile, OpensAFolderThatHoldsOnlyATokenizer) {
  const fs::path folder = fs::temp_directory_path() / ("redoubt_tokenizer_test_" + std::to_string(::getpid()));
  fs::create_directories(folder);
  std::ofstream(folder / "tokenizer.json") << small_tokenizer().dump();
  const auto tokenizer = Tokenizer::open(folder);
  fs::remove_all(folder);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->vocab_size(), 259);
  EXPECT_FALSE(tokenizer->bos().has_value());
}

}  // namespace
}  // namespace redoubt
