// How long a token mask takes: grammar_bench [tokenizer directory]
//
// A schema with nested objects, free text, enums, numbers and dates is answered by a fixed list of texts, token by
// token as the tokenizer cuts them; each mask is timed. "prepared": a new grammar, as the
// server uses it, masks prepared outside the step loop (prepare_masks, timed too); "unprepared": the same without,
// where each state is met for the first time (of several such runs the median for each token, so that what else the
// machine does is left out); "again": a sequence whose states another one has met. "patterns" are strings with a length
// or a pattern of their own. Bound: 50 us at a vocabulary of 129,280.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "text/grammar.h"
#include "text/tokenizer.h"

namespace redoubt {
namespace {

using Clock = std::chrono::steady_clock;

double since_us(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

constexpr char kSchema[] = R"({"type":"object","additionalProperties":false,
  "required":["title","summary","author","tags","sections","score","status"],
  "properties":{
    "title":{"type":"string","maxLength":120},
    "summary":{"type":"string"},
    "author":{"type":"object","required":["name","email"],"properties":{"name":{"type":"string"},
      "email":{"type":"string","format":"email"},"born":{"type":"string","format":"date"}}},
    "tags":{"type":"array","items":{"enum":["physics","history","mathematics","music"]},"maxItems":4},
    "sections":{"type":"array","minItems":1,"items":{"type":"object","required":["heading","pages"],
      "properties":{"heading":{"type":"string"},"pages":{"type":"integer","minimum":1,"maximum":2000},
      "notes":{"anyOf":[{"type":"string"},{"type":"null"}]}}}},
    "score":{"type":"number","minimum":0,"maximum":10},
    "ratio":{"type":"number"},
    "status":{"enum":["draft","review","published"]}}})";

// Strings that no two schemas share.
constexpr char kPatterns[] = R"({"type":"object","required":["a","b","c","d","e"],"properties":{
  "a":{"type":"string","maxLength":300},"b":{"type":"string","pattern":"^[a-z0-9-]{1,63}(\\.[a-z0-9-]{1,63})*$"},
  "c":{"type":"string","pattern":"^[A-Z][a-z]+( [A-Z][a-z]+)*$"},"d":{"type":"string","minLength":10,"maxLength":90},
  "e":{"type":"string","pattern":"^[^<>]{1,200}$"}}})";
const std::vector<std::string> kPatternAnswers = {
    "{\"a\": \"One sentence, of some length: with marks; and — naturally — a few words that are longer.\", \"b\": "
    "\"host-12.example.internal\", \"c\": \"Johann Sebastian Bach\", \"d\": \"between ten and ninety letters\", "
    "\"e\": \"no angle brackets (but others) 光\"}"};

const std::vector<std::string> kAnswers = {
    "{\"title\": \"A short history of light\", \"summary\": \"From Newton's \\\"corpuscles\\\" to photons — how 光 was "
    "understood, one experiment at a time.\\nWith figures.\", \"author\": {\"name\": \"Zoë Müller\", \"email\": "
    "\"zoe.mueller@example.org\", \"born\": \"1980-02-29\"}, \"tags\": [\"physics\", \"history\"], \"sections\": "
    "[{\"heading\": \"Before 1700\", \"pages\": 42, \"notes\": null}, {\"heading\": \"Interference (1801)\", "
    "\"pages\": "
    "117, \"notes\": \"see also: Fresnel, Arago\"}], \"score\": 8.75, \"ratio\": -1.25e-3, \"status\": \"published\"}",
    "{\n  \"title\": \"Counterpoint\",\n  \"summary\": \"Rules, and how Bach breaks them.\",\n  \"author\": {\n    "
    "\"name\": "
    "\"A. Reader\",\n    \"email\": \"a@reader.net\"\n  },\n  \"tags\": [\"music\"],\n  \"sections\": [\n    {\n      "
    "\"heading\": \"Two voices\",\n      \"pages\": 9\n    }\n  ],\n  \"score\": 10,\n  \"status\": \"draft\"\n}"};

void report(const char* name, std::vector<double> us) {
  std::sort(us.begin(), us.end());
  const auto at = [&](double p) {
    return us[std::min(us.size() - 1, static_cast<size_t>(p * static_cast<double>(us.size())))];
  };
  fmt::print("{:<22} masks {:>6}  median {:>8.2f} us  p90 {:>8.2f}  p99 {:>8.2f}  max {:>9.2f}\n", name, us.size(),
             at(0.5), at(0.9), at(0.99), us.back());
}

int run(const std::filesystem::path& directory) {
  auto tokenizer = Tokenizer::open(directory);
  if (!tokenizer.has_value()) {
    fmt::print("{}\n", tokenizer.error().message);
    return 1;
  }
  auto start = Clock::now();
  const auto vocabulary = make_grammar_vocabulary(*tokenizer);
  fmt::print("vocabulary of {} tokens arranged in {:.0f} ms\n", vocabulary->vocab_size(), since_us(start) / 1000);
  std::vector<uint32_t> mask((static_cast<size_t>(vocabulary->vocab_size()) + 31) / 32);

  const auto walk = [&](const GrammarPtr& grammar, const std::string& text, std::vector<double>& us,
                        std::vector<double>& accepts) {
    GrammarMatcher matcher(grammar, vocabulary);
    for (const int32_t token : tokenizer->encode(MarkedText::plain(text))) {
      const auto begin = Clock::now();
      matcher.fill_mask(mask);
      us.push_back(since_us(begin));
      if ((mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1) == 0) {
        fmt::print("the mask lacks a token of a right answer\n");
        return false;
      }
      const auto accepting = Clock::now();
      if (!matcher.accept(token)) return false;
      accepts.push_back(since_us(accepting));
    }
    return matcher.can_end();
  };

  // Of each token's mask the median of several runs from nothing.
  const auto first_ever = [&](const char* name, const char* text, const std::vector<std::string>& answers,
                              bool prepared) {
    std::vector<std::vector<double>> runs(7);
    std::vector<double> accepts, preparing;
    size_t masks = 0;
    for (auto& us : runs) {
      const auto grammar = grammar_from_json_schema(*parse_json(text));
      if (!grammar.has_value()) return false;
      start = Clock::now();
      if (prepared) masks = prepare_masks(**grammar, *vocabulary);
      preparing.push_back(since_us(start));
      for (const std::string& answer : answers)
        if (!walk(*grammar, answer, us, accepts)) return false;
    }
    std::vector<double> medians;
    for (size_t token = 0; token < runs[0].size(); ++token) {
      std::vector<double> us;
      for (const auto& one : runs) us.push_back(one[token]);
      std::nth_element(us.begin(), us.begin() + 3, us.end());
      medians.push_back(us[3]);
    }
    report(name, medians);
    std::nth_element(preparing.begin(), preparing.begin() + 3, preparing.end());
    if (prepared) fmt::print("{:<22} masks {:>6}  in {:.1f} ms\n", "  preparing it", masks, preparing[3] / 1000);
    return true;
  };
  for (const bool prepared : {true, false}) {
    if (!first_ever(prepared ? "schema, prepared" : "schema, unprepared", kSchema, kAnswers, prepared)) return 1;
    if (!first_ever(prepared ? "patterns, prepared" : "patterns, unprepared", kPatterns, kPatternAnswers, prepared))
      return 1;
  }

  std::vector<double> again, accepts, compile;
  for (int round = 0; round < 60; ++round) {
    const auto json = parse_json(kSchema);
    start = Clock::now();
    const auto grammar = grammar_from_json_schema(*json);
    compile.push_back(since_us(start));
    if (!grammar.has_value()) {
      fmt::print("{}\n", grammar.error().message);
      return 1;
    }
    std::vector<double> first;
    for (const std::string& answer : kAnswers)
      if (!walk(*grammar, answer, first, accepts)) return 1;
    for (int i = 0; i < 3; ++i)
      for (const std::string& answer : kAnswers)
        if (!walk(*grammar, answer, again, accepts)) return 1;
  }
  report("schema, again", again);
  report("accept", accepts);
  report("compile", compile);

  std::vector<double> object;
  const GrammarPtr any = *grammar_for_json_object();
  for (int round = 0; round < 30; ++round)
    for (const std::string& answer : kAnswers)
      if (!walk(any, answer, object, accepts)) return 1;
  report("any object", object);
  return 0;
}

}  // namespace
}  // namespace redoubt

int main(int argc, char** argv) {
  const char* data = std::getenv("REDOUBT_TEST_DATA");
  const std::filesystem::path root = data != nullptr ? data : REDOUBT_SOURCE_DIR "/../shared/data";
  return redoubt::run(argc > 1 ? std::filesystem::path(argv[1]) : root / "tokenizers" / "deepseek_v3");
}
