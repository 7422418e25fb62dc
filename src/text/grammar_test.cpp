// Grammars and their masks: what matches, what is refused, and that a cached mask is what trying each token gives.

#include "text/grammar.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <random>

#include "core/utf8.h"
#include "text/grammar_fixture.h"
#include "text/written_numbers.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace redoubt {
namespace {

TEST(Grammar, ChoiceAllowsJustItsTexts) {
  const std::vector<std::string> choices{"yes", "no", "nothing"};
  const GrammarPtr grammar = *grammar_from_choice(choices);
  for (const std::string& choice : choices) EXPECT_TRUE(bytes_match(grammar, choice));
  for (const char* wrong : {"", "ye", "yess", "noth", "x"}) EXPECT_FALSE(bytes_match(grammar, wrong)) << wrong;
  GrammarMatcher matcher(grammar, make_vocabulary({}));
  for (const char c : std::string("no")) EXPECT_TRUE(matcher.accept(1 + c));
  EXPECT_TRUE(matcher.can_end());
  EXPECT_FALSE(matcher.must_end());
  for (const char c : std::string("thing")) EXPECT_TRUE(matcher.accept(1 + c));
  EXPECT_TRUE(matcher.must_end());
  EXPECT_FALSE(matcher.accept(0));
  EXPECT_FALSE(matcher.accept(-1));
  EXPECT_FALSE(matcher.accept(1'000'000'000));
  EXPECT_FALSE(grammar_from_choice({}).has_value());
}

TEST(Grammar, RegexMatchesWhatPcreMatches) {
  const std::vector<std::string> patterns = {
      "a",     "ab|ba",  "(a|b)*a",     "a{2,3}",   "[^a]",    "[a-b1]+",       "(ab?){1,2}", "a*b+c?",
      "\\d+",  "[\\w]1", "(?:a|bb)*?",  "^ab$|^b$", "a|",      "(a|ab)(c|bcd)", "[b-]+",      "[]a]",
      "\\x61", "(a*)*",  "(a|b){0,2}1", ".",        "\\S\\s?", "é|[à-ê]b",      "(?<n>a)b",   "[^\\d]{2}"};
  const std::string alphabet[] = {"a", "b", "c", "1", "-", "]", " ", "é"};
  for (const std::string& pattern : patterns) {
    const auto grammar = grammar_from_regex(pattern);
    ASSERT_TRUE(grammar.has_value()) << pattern << ": " << grammar.error().message;
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* compiled =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOLLAR_ENDONLY, &code, &offset, nullptr);
    ASSERT_NE(compiled, nullptr) << pattern;
    pcre2_match_data* data = pcre2_match_data_create_from_pattern(compiled, nullptr);
    std::vector<std::string> subjects{""};
    for (size_t i = 0; i < subjects.size() && subjects[i].size() < 5; ++i)
      for (const std::string& c : alphabet)
        if (subjects.size() < 3000) subjects.push_back(subjects[i] + c);
    for (const std::string& s : subjects) {
      const bool expected =
          pcre2_match(compiled, reinterpret_cast<PCRE2_SPTR>(s.data()), s.size(), 0, 0, data, nullptr) >= 0;
      ASSERT_EQ(bytes_match(*grammar, s), expected) << pattern << " on '" << s << "'";
    }
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
  }
}

TEST(Grammar, RegexRefusesByName) {
  for (const auto& [pattern, name] : std::vector<std::pair<std::string, std::string>>{{"(?=a)b", "lookaround"},
                                                                                      {"(?<!a)b", "lookaround"},
                                                                                      {"(a)\\1", "backreference"},
                                                                                      {"a\\b", "boundary"},
                                                                                      {"a^b", "anchor"},
                                                                                      {"\\p{L}", "property"},
                                                                                      {"a++", "possessive"},
                                                                                      {"(?i)a", "group"},
                                                                                      {"[[:alpha:]]", "POSIX"}}) {
    const auto grammar = grammar_from_regex(pattern);
    ASSERT_FALSE(grammar.has_value()) << pattern;
    EXPECT_EQ(grammar.error().code, ErrorCode::unsupported) << pattern;
    EXPECT_NE(grammar.error().message.find(name), std::string::npos) << grammar.error().message;
  }
  for (const char* pattern : {"(", ")", "[", "a{3,2}", "*", "a**", "\\", "[b-a]", "(a{1000}){1000}",
                              "((a{100}){100}){100}", "\xff", "[^\\s\\S]"})
    EXPECT_FALSE(grammar_from_regex(pattern).has_value()) << pattern;
  const std::string deep(5000, '(');
  EXPECT_FALSE(grammar_from_regex(deep).has_value());
}

TEST(Grammar, GbnfFollowsRulesAndRecursion) {
  const auto grammar = grammar_from_gbnf(R"gbnf(# sums
root ::= expr
expr ::= term (("+" | "-") term)*   # left to right
term ::= [0-9]{1,3} | "(" expr ")" |
         "x" "²"?
)gbnf");
  ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
  for (const char* text : {"1", "12+3", "(1-(2+x²))+x", "((((7))))"}) EXPECT_TRUE(bytes_match(*grammar, text)) << text;
  for (const char* text : {"", "+", "1234", "(1", "1)", "x³", "1+"}) EXPECT_FALSE(bytes_match(*grammar, text)) << text;
  for (uint32_t seed = 0; seed < 10; ++seed)
    random_walk(*grammar, make_vocabulary({"1+", "+(", "))", "(((((", "x²+", "²)", "12)"}), seed, true);
}

TEST(Grammar, GbnfRefusesWhatCannotBe) {
  for (const auto& [text, name] : std::vector<std::pair<std::string, std::string>>{
           {"root ::= a", "'a'"},
           {"x ::= \"a\"", "root"},
           {"root ::= root", "match"},
           {"root ::= root \"a\" | \"b\"", "left recursion"},
           {"root ::= b root \"a\" | \"b\"\nb ::= \"\"", "left recursion"},
           {"root ::= \"a\" root", "match"},
           {"root ::= \"a", "literal"},
           {"root ::= [a", "class"},
           {"root ::= (\"a\"", ")"},
           {"root ::= \"a\"\nroot ::= \"b\"", "twice"},
           {"root", "::="},
           {"", "root"},
           {"root ::= \"a\"{10001}", "10,000"},
           {"root ::= a{1000}\na ::= \"abc\"{1000} b\nb ::= ((\"x\"{999}){999}){999}", "large"}}) {
    const auto grammar = grammar_from_gbnf(text);
    ASSERT_FALSE(grammar.has_value()) << text;
    EXPECT_NE(grammar.error().message.find(name), std::string::npos) << text << ": " << grammar.error().message;
  }
}

TEST(Grammar, DepthLimitNeverRunsIntoADeadEnd) {
  const auto grammar =
      grammar_from_gbnf("root ::= \"(\" root \")\" | [xyz] tail \".\"\ntail ::= \"a\" tail \"b\" | \"c\"");
  ASSERT_TRUE(grammar.has_value());
  const VocabularyPtr vocabulary = make_vocabulary({"((((((((", "(((", "aaaa", "))))", "bbbb", "xa"});
  GrammarMatcher matcher(*grammar, vocabulary);
  int depth = 0;
  while (matcher.accept(257)) depth += 8;  // eight parentheses a token
  EXPECT_GT(depth, 100);
  EXPECT_LT(depth, 300);
  // From here to the very limit masks and acceptance agree, and the text can still be ended.
  while (matcher.accept(1 + '(')) ++depth;
  const auto mask = mask_of(matcher, vocabulary->vocab_size());
  for (int32_t id = 0; id < vocabulary->vocab_size(); ++id) {
    GrammarMatcher copy(matcher);
    EXPECT_EQ(copy.accept(id), allowed(mask, id)) << id;
  }
  for (const char c : std::string("xc.")) ASSERT_TRUE(matcher.accept(1 + c)) << c;
  for (int i = 0; i < depth; ++i) ASSERT_TRUE(matcher.accept(1 + ')')) << i;
  EXPECT_TRUE(matcher.must_end());
}

TEST(Grammar, JsonObjectIsAnyJsonObject) {
  const GrammarPtr grammar = *grammar_for_json_object();
  for (const char* text : {"{}", "{\"a\": 1}", "{\"a\":[1,-2.5e+3,{\"b\":null}],\n  \"c\": \"\\u00e9\\ud83d\\ude00é\"}",
                           "{\"\":[]}", "{\"a\":[\n]}"})
    EXPECT_TRUE(bytes_match(grammar, text)) << text;
  for (const char* text : {"", "[]", "1", "{", "{a:1}", "{\"a\":01}", "{\"a\":1,}", "{\"a\":\"\n\"}",
                           "{\"a\":\"\\ud83d\"}", "{\"a\":\"\xff\"}", "{\"a\":  1}", "{\n\n}", "{\"a\":1} ",
                           "{\"a\":1e999}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":.5}", "{\"a\":tru}"})
    EXPECT_FALSE(bytes_match(grammar, text)) << text;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const std::string text = random_walk(grammar, json_vocabulary(), seed, seed < 6);
    const auto json = nlohmann::json::parse(text, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << text;
  }
}

TEST(Grammar, JsonNestsAsDeepAsReadersRead) {
  const GrammarPtr grammar = *grammar_for_json_object();
  GrammarMatcher matcher(grammar, json_vocabulary());
  std::string text = "{\"a\":";
  for (const char c : text) ASSERT_TRUE(matcher.accept(1 + c));
  while (matcher.accept(1 + '[')) text += '[';
  EXPECT_GT(text.size(), 50u);
  ASSERT_TRUE(matcher.accept(1 + ']'));
  text += ']';
  while (matcher.accept(1 + ']')) text += ']';
  ASSERT_TRUE(matcher.accept(1 + '}'));
  text += '}';
  EXPECT_TRUE(parse_json(text).has_value()) << text;
}

TEST(Grammar, CopiesGoSeparateWays) {
  const GrammarPtr grammar = *grammar_for_json_object();
  GrammarMatcher one(grammar, json_vocabulary());
  ASSERT_TRUE(one.accept(1 + '{'));
  GrammarMatcher two(one);
  ASSERT_TRUE(one.accept(1 + '}'));
  EXPECT_TRUE(one.must_end());
  EXPECT_FALSE(two.can_end());
  ASSERT_TRUE(two.accept(1 + '"'));
}

struct SchemaCase {
  std::string schema;
  std::vector<std::string> good, bad;
};

std::vector<SchemaCase> schema_cases() {
  return {
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"],"additionalProperties":false})",
       {"{\"a\":1}", "{\"a\": 1, \"b\": \"x\"}", "{\n  \"a\":1\n}"},
       {"{}", "{\"b\":\"x\"}", "{\"a\":1.5}", "{\"b\":\"\",\"a\":1}", "{\"a\":1,\"c\":1}"}},
      {R"({"type":"object","properties":{"a":{"type":"boolean"},"b":{},"c":{"type":"null"}}})",
       {"{}", "{\"a\":true}", "{\"b\":[1]}", "{\"c\":null}", "{\"a\":false,\"c\":null}"},
       {"{,}", "{\"a\":1}", "{\"c\":null,\"a\":true}"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"string"}})",
       {"{\"a\":1,\"b\":\"x\"}", "{\"aa\":\"x\"}", "{\"\":\"x\"}"},
       {"{\"a\":\"x\"}", "{\"b\":1}", "{\"\\u0061\":\"x\"}"}},
      {R"({"type":["string","null"],"minLength":2,"maxLength":3})",
       {"null", "\"ab\"", "\"日本語\"", "\"\\ud83d\\ude00a\""},
       {"\"a\"", "\"abcd\"", "\"\\ud83d\\ude00\""}},
      {R"({"enum":["red","green",1,null,{"a":[1,2]}]})",
       {"\"red\"", "1", "null", "{\"a\": [1, 2]}", "{\"a\":[1,2]}"},
       {"\"blue\"", "2", "{\"a\":[1]}"}},
      {R"({"const":"x\"y"})", {"\"x\\\"y\""}, {"\"x\""}},
      {R"({"type":"integer","minimum":-12,"maximum":345})",
       {"-12", "0", "345", "99", "-1", "7"},
       {"-13", "346", "1000", "-0", "01", "1.0", "-20"}},
      {R"({"type":"integer","exclusiveMinimum":9})", {"10", "11", "90", "123456789012"}, {"9", "-10", "0"}},
      {R"({"type":"integer","exclusiveMaximum":-9})", {"-10", "-11", "-90"}, {"-9", "9", "0", "-1"}},
      {R"({"type":"integer","minimum":0.5,"maximum":2.5})", {"1", "2"}, {"0", "3"}},
      {R"({"type":"number","minimum":0,"maximum":1})",
       {"0", "1", "0.5", "1.0", "0.000"},
       {"1.01", "-0.1", "2", "1e5", "-0"}},
      {R"({"type":"number","exclusiveMinimum":0.25,"exclusiveMaximum":10.5})",
       {"0.251", "0.3", "1", "10", "10.49"},
       {"0.25", "0.250", "10.5", "10.50", "0", "11", "-1", "0.2"}},
      {R"({"type":"number","maximum":-1.5})", {"-1.5", "-1.50", "-2", "-100.25"}, {"-1.4", "0", "1.5", "-1"}},
      {R"({"type":"number"})", {"0", "-1.5e-10", "123.456"}, {"1.", ".1", "1e999", "+1"}},
      {R"({"type":"number","multipleOf":1})", {"3"}, {"3.5"}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})",
       {"[1]", "[1, 2]", "[1,2,3]"},
       {"[]", "[1,2,3,4]", "[\"a\"]", "[1,]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"null"},"minItems":1})",
       {"[1]", "[1,\"a\"]", "[1,\"a\",null,null]"},
       {"[]", "[\"a\"]", "[1,null]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})",
       {"[]", "[1]", "[1,\"a\"]"},
       {"[1,\"a\",1]", "[null]"}},
      {R"({"type":"array","items":false})", {"[]"}, {"[1]"}},
      {R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}]})", {"1", "\"a\""}, {"\"ab\"", "null"}},
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"v":{"type":"integer"}},"required":["k","v"]},
                    {"type":"object","properties":{"k":{"const":"b"},"v":{"type":"string"}},"required":["k","v"]}]})",
       {"{\"k\":\"a\",\"v\":1}", "{\"k\":\"b\",\"v\":\"\"}"},
       {"{\"k\":\"a\",\"v\":\"\"}", "{\"k\":\"c\",\"v\":1}"}},
      {R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"a":{"minimum":3},"b":{"type":"null"}},"required":["b"]}]})",
       {"{\"a\":3,\"b\":null}"},
       {"{\"a\":2,\"b\":null}", "{\"a\":3}", "{\"b\":null}"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"anyOf":[{"required":["a"]},{"required":["b"]}]})",
       {"{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":2}"},
       {"{}"}},
      {R"({"$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false}},"$ref":"#/$defs/n"})",
       {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
       {"{\"v\":1}", "{\"v\":1,\"next\":1}"}},
      {R"({"discriminator":{"propertyName":"k"},"oneOf":[
           {"type":"object","properties":{"k":{"const":"a"}},"required":["k"]},
           {"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]})",
       {"{\"k\":\"a\"}", "{\"k\":\"b\"}"},
       {"{\"k\":\"c\"}"}},
      {R"({"type":"integer","format":"int32"})",
       {"2147483647", "-2147483648", "0"},
       {"2147483648", "-2147483649", "1.5"}},
      {R"({"type":"integer","format":"int64","minimum":5})",
       {"9223372036854775807", "5"},
       {"9223372036854775808", "4"}},
      {R"({"type":"integer","format":"uint64"})", {"18446744073709551615"}, {"18446744073709551616", "-1"}},
      {R"({"type":"number","format":"double"})", {"1.5"}, {"\"1\""}},
      {R"({"type":["string","integer"],"format":"date"})", {"7", "\"2024-02-29\""}, {"\"x\""}},
      {R"({"type":"string","pattern":"^[a-c]+\\d{2}$"})",
       {"\"a12\"", "\"abc99\""},
       {"\"d12\"", "\"a1\"", "\"\"", "\"xa12\""}},
      {R"({"type":"string","pattern":"b\"|\\\\n"})", {"\"ab\\\"c\"", "\"\\\\n\""}, {"\"b\"", "\"\\n\""}},
      {R"({"type":"string","pattern":"^a","maxLength":2})", {"\"a\"", "\"ab\""}, {"\"b\"", "\"abc\"", "\"\""}},
      {R"({"type":"string","format":"date"})",
       {"\"2024-02-29\"", "\"2023-12-31\"", "\"2000-02-29\""},
       {"\"2023-02-29\"", "\"1900-02-29\"", "\"2024-13-01\"", "\"2024-04-31\""}},
      {R"({"type":"string","format":"date-time"})",
       {"\"2024-02-29T23:59:59Z\"", "\"2024-02-29T00:00:00.123+05:30\""},
       {"\"2024-02-29\"", "\"2024-02-29T24:00:00Z\""}},
      {R"({"type":"string","format":"uuid"})", {"\"123e4567-e89b-12d3-a456-426614174000\""}, {"\"123e4567\""}},
      {R"({"type":"string","format":"ipv4"})",
       {"\"127.0.0.1\"", "\"255.255.255.255\""},
       {"\"256.0.0.1\"", "\"1.2.3\"", "\"01.2.3.4\""}},
      {R"({"type":"object","properties":{}})", {"{}"}, {"{\"a\":1}"}},
      {R"({"type":"integer"})", {"-999999999999999999", "0"}, {"1000000000000000000", "1.5"}},
      {R"({"type":"integer","format":"uint16"})", {"0", "65535"}, {"65536", "-1"}},
      {R"({"type":"string","pattern":"^c\\d+$","format":"cuid"})", {"\"c1\""}, {"\"d\""}},
      {R"({"type":"string","format":"hostname"})",
       {"\"localhost\"", "\"a-b.example.org\""},
       {"\"-a\"", "\"a..b\"", "\"\""}},
      {R"({"type":"string","format":"uri"})",
       {"\"https://example.org\"", "\"http://a-b.example.org:8080/x/y.html?q=1&r=2#top\"", "\"https://x.org/\""},
       {"\"example.org\"", "\"https://\"", "\"https://x y.org\""}},
      {R"({"type":"string","format":"uri","minLength":1,"maxLength":2083})",  // as pydantic's HttpUrl says
       {"\"https://example.org\"", "\"https://x.org/a/b\""},
       {"\"\"", "\"example.org\""}},
      {R"({"type":"string","format":"uri","minLength":12,"maxLength":14})",
       {"\"https://x.org\"", "\"http://x.org\""},
       {"\"http://x.or\"", "\"https://x.org/a\""}},
      {R"({"type":"string","pattern":"^a{2,3}$","minLength":2,"maxLength":3})",
       {"\"aa\"", "\"aaa\""},
       {"\"a\"", "\"aaaa\""}},
      {R"({"type":"string","pattern":"^a{2,5}$","minLength":3,"maxLength":4})",
       {"\"aaa\"", "\"aaaa\""},
       {"\"aa\"", "\"aaaaa\""}},
      {R"({"type":"string","format":"duration"})",
       {"\"P3D\"", "\"PT0S\"", "\"P1DT2H30M\"", "\"PT5M1S\""},
       {"\"P\"", "\"PT\"", "\"3D\"", "\"P1DT\""}},
      {R"({"type":"string","format":"ipv6"})",
       {"\"::\"", "\"::1\"", "\"fe80::1\"", "\"2001:db8::\"", "\"1:2:3:4:5:6:7:8\"", "\"1:2:3:4:5:6::8\"",
        "\"1:2:3:4:5:6:7::\"", "\"1::3:4:5:6:7:8\""},
       {"\"1:2:3\"", "\"1::2::3\"", "\"1:2:3:4:5:6:7:8:9\"", "\"g::\"", "\":1\"", "\"1:2:3:4:5:6:7::8\""}},
      {R"({"type":"string","format":"byte"})", {"\"\"", "\"aGk=\"", "\"aA==\""}, {"\"a\"", "\"aA=\""}},
      {R"({"type":"string","format":"password","writeOnly":true,"x-order":1,"example":"p"})", {"\"p w\""}, {"1"}},
      {R"({"type":"string","nullable":true})", {"null", "\"a\""}, {"1"}},
      {R"({"type":"integer","nullable":false})", {"1"}, {"null"}},
      {R"({"type":"object","propertyNames":{"type":"string"},"additionalProperties":{"type":"integer"}})",
       {"{}", "{\"any\":1}"},
       {"{\"any\":\"x\"}"}},
      {R"({"type":"object","propertyNames":{"enum":["red","blue",7]},"additionalProperties":{"type":"integer"}})",
       {"{}", "{\"red\":1,\"blue\":2}"},
       {"{\"green\":1}", "{7:1}", "{\"7\":1}"}},
      {R"({"propertyNames":{"$ref":"#/$defs/K"},"$defs":{"K":{"pattern":"^k\\d$","maxLength":2}}})",
       {"{\"k1\":[]}"},
       {"{\"a\":1}", "1"}},
      {R"({"type":"string","format":"email"})",
       {"\"a.b+c@x-y.example.org\""},
       {"\"a@b\"", "\"@x.org\"", "\"a@-x.org\""}},
      {R"({"type":"object","minProperties":1,"maxProperties":2,"additionalProperties":{"type":"integer"}})",
       {"{\"a\":1}", "{\"a\":1,\"b\":2}"},
       {"{}", "{\"a\":1,\"b\":2,\"c\":3}"}},
      {R"({"type":"object","properties":{"a":true,"b":true,"c":true},"minProperties":2,"maxProperties":2})",
       {"{\"a\":1,\"c\":2}", "{\"b\":1,\"c\":2}"},
       {"{\"a\":1}", "{\"a\":1,\"b\":1,\"c\":1}"}},
      {R"({"type":"object","patternProperties":{"^s_":{"type":"string"},"^i_":{"type":"integer"}},"additionalProperties":false})",
       {"{}", "{\"s_a\":\"\",\"i_b\":1}"},
       {"{\"s_a\":1}", "{\"x\":1}"}},
      {R"({"type":"string","enum":["a","bb",1],"minLength":2})", {"\"bb\""}, {"\"a\"", "1"}},
      {R"({"properties":{"a":{"type":"string"}},"required":["a","z"]})", {"{\"a\":\"\",\"z\":1}"}, {"{\"a\":\"\"}"}},
      {"true", {"1", "null", "{\"a\":[]}", "\"x\""}, {"", "x"}},
  };
}

TEST(JsonSchema, MatchesInstancesAndNothingElse) {
  for (const SchemaCase& c : schema_cases()) {
    const GrammarPtr grammar = from_schema(c.schema);
    ASSERT_NE(grammar, nullptr);
    for (const std::string& text : c.good)
      EXPECT_TRUE(bytes_match(grammar, text)) << c.schema << " should take " << text;
    for (const std::string& text : c.bad)
      EXPECT_FALSE(bytes_match(grammar, text)) << c.schema << " should not take " << text;
  }
}

TEST(JsonSchema, MasksAreWhatTryingEachTokenGives) {
  uint32_t seed = 1;
  for (const SchemaCase& c : schema_cases()) {
    const GrammarPtr grammar = from_schema(c.schema);
    for (int i = 0; i < 4; ++i) {
      const std::string text = random_walk(grammar, json_vocabulary(), ++seed, i == 0, 25);
      EXPECT_FALSE(nlohmann::json::parse(text, nullptr, false).is_discarded()) << c.schema << " gave " << text;
      EXPECT_TRUE(bytes_match(grammar, text));
    }
  }
}

TEST(JsonSchema, IntegerBoundsAreExact) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    const int span = round < 30 ? 130 : 3000;
    int low = static_cast<int>(random() % (2 * span)) - span, high = low + static_cast<int>(random() % span);
    const GrammarPtr grammar = from_schema("{\"type\":\"integer\",\"minimum\":" + std::to_string(low) +
                                           ",\"maximum\":" + std::to_string(high) + "}");
    for (int value = -span - 50; value<2 * span + 50; value += span> 1000 ? 7 : 1)
      ASSERT_EQ(bytes_match(grammar, std::to_string(value)), low <= value && value <= high)
          << low << ".." << high << ": " << value;
    ASSERT_TRUE(bytes_match(grammar, std::to_string(low)));
    ASSERT_TRUE(bytes_match(grammar, std::to_string(high)));
  }
}

TEST(JsonSchema, NumberBoundsAreExact) {
  std::mt19937 random(8);
  for (int round = 0; round < 60; ++round) {
    const int hundredths = static_cast<int>(random() % 4000) - 2000;
    const double low = hundredths / 100.0, high = (hundredths + static_cast<int>(random() % 900)) / 100.0;
    const bool open = round % 2 == 1;
    if (open && low == high) continue;
    const Json schema = {{"type", "number"},
                         {open ? "exclusiveMinimum" : "minimum", low},
                         {open ? "exclusiveMaximum" : "maximum", high}};
    const auto grammar = grammar_from_json_schema(schema);
    ASSERT_TRUE(grammar.has_value()) << schema << grammar.error().message;
    for (int i = -2500; i < 3500; i += 3) {
      char text[32];
      std::snprintf(text, sizeof text, "%.3f", i / 100.0);
      const double value = std::strtod(text, nullptr);
      const bool expected = open ? low < value && value < high : low <= value && value <= high;
      if (value == 0) continue;
      ASSERT_EQ(bytes_match(*grammar, text), expected) << schema << ": " << text;
    }
  }
}

TEST(JsonSchema, RefusesByNameWhatItDoesNotEnforce) {
  for (
      const auto& [schema, param] : std::vector<std::pair<std::string, std::string>>{
          {R"({"type":"array","uniqueItems":true})", "/uniqueItems"},
          {R"({"not":{"type":"string"}})", "/not"},
          {R"({"if":{},"then":{}})", "/if"},
          {R"({"type":"object","dependentRequired":{"a":["b"]}})", "/dependentRequired"},
          {R"({"type":"number","multipleOf":0.1234})", "/multipleOf"},
          {R"({"type":"string","format":"json-pointer"})", "/format"},
          {R"({"nullable":true,"minLength":1})", "/nullable"},
          {R"({"type":"number","exclusiveMaximum":1e15})", "/exclusiveMaximum"},
          {R"({"type":"integer","format":"int128"})", "/format"},
          {R"x({"type":"string","pattern":"(?=a)"})x", "/pattern"},
          {R"({"$ref":"https://example.org/s"})", "/$ref"},
          {R"({"$ref":"#anchor"})", "/$ref"},
          {R"({"type":"array","contains":{}})", "/contains"},
          {R"({"type":"object","properties":{"a":{}},"propertyNames":{"pattern":"^a"}})", "/propertyNames"},
          {R"({"type":"object","propertyNames":{"not":{}}})", "/propertyNames/not"},
          {R"({"type":"string","frobnicate":1})", "/frobnicate"},
          {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "/oneOf"},
          {R"({"type":"object","properties":{"a":{"type":"object","properties":{"b":{"unevaluatedProperties":false}}}}})",
           "/properties/a/properties/b/unevaluatedProperties"},
          {R"({"type":"string","maxLength":1000000})", "/maxLength"},
          {R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})", "/pattern"},
          {R"({"type":"object","minProperties":3})", "/minProperties"},
          {R"({"type":"number","minimum":1e300})", "/minimum"}}) {
    const Error error = refusal(schema);
    EXPECT_EQ(error.code, ErrorCode::unsupported) << schema << ": " << error.message;
    EXPECT_EQ(error.param, param) << schema << ": " << error.message;
  }
}

// A reader of JSON keeps doubles where a number is no integer of 64 bits: what it keeps may be another number than the
// client wrote, and is not written in its place.
TEST(JsonSchema, NumbersAreWrittenAsTheyCameOrRefused) {
  for (const char* schema : {R"({"enum":[1,123456789012345678901234567890]})", R"({"const":18446744073709551616})",
                             R"({"const":-9223372036854775809})", R"({"enum":[{"a":[0.12345678901234567890]}]})",
                             R"({"const":1e30})", R"({"type":"integer","minimum":123456789012345678901234})"}) {
    const Error error = refusal(schema);
    EXPECT_EQ(error.code, ErrorCode::unsupported) << schema << ": " << error.message;
  }
  for (const char* number : {"18446744073709551615", "-9223372036854775808", "0.1", "123456.789012345", "-2.5"}) {
    const GrammarPtr grammar = from_schema(std::string(R"({"enum":[)") + number + "]}");
    EXPECT_TRUE(bytes_match(grammar, number)) << number;
  }
}

// What Python and JavaScript write is the shortest spelling of a double, of up to 17 digits.
TEST(JsonSchema, NumbersThatAreReadAsTheyAreWrittenAreEnforced) {
  for (const char* same : {"3.141592653589793", "0.1234567890123456", "0.30000000000000004", "1e22", "1.50", "1E+2",
                           "-0.0", "5e-324", "1.7976931348623157e308", "9007199254740993", "18446744073709551615",
                           "-9223372036854775808", R"({"a":"0.12345678901234567890\\","b":[1.25]})"})
    EXPECT_TRUE(numbers_are_as_written(same)) << same;
  for (const char* other : {"0.12345678901234567890", "18446744073709551616", "-9223372036854775809", "1e999",
                            R"({"a":"\"","b":3.14159265358979323846})", "0.1000000000000000000001"})
    EXPECT_FALSE(numbers_are_as_written(other)) << other;
  for (const char* number : {"3.141592653589793", "0.1234567890123456", "0.30000000000000004", "1e+22"}) {
    const auto grammar =
        grammar_from_json_schema(*parse_json(std::string(R"({"const":)") + number + "}"), SchemaNumbers::as_written);
    ASSERT_TRUE(grammar) << number;
    EXPECT_TRUE(bytes_match(*grammar, number)) << number;
  }
}

TEST(JsonSchema, ARefusalSaysWhereInTheSchema) {
  for (const auto& [schema, place] : std::vector<std::pair<std::string, std::string>>{
           {R"x({"properties":{"date":{"type":"string","pattern":"(?=a)"}}})x", "/properties/date/pattern"},
           {R"({"properties":{"a/b~c":{"not":{}}}})", "/properties/a~1b~0c/not"},
           {R"({"properties":{"a":{"/odd":1}}})", "/properties/a/~1odd"},
           {R"({"items":{"anyOf":[{"type":"null"},{"minLength":-1}]}})", "/items/anyOf/1/minLength"},
           {R"({"prefixItems":[{},{"format":"iri"}]})", "/prefixItems/1/format"},
           {R"({"additionalProperties":{"multipleOf":1234}})", "/additionalProperties/multipleOf"},
           {R"({"patternProperties":{"^a":{"contains":{}}}})", "/patternProperties/^a/contains"},
           {R"({"allOf":[{"type":"object"},{"if":{}}]})", "/allOf/1/if"},
           {R"({"$defs":{"d":{"enum":[]}},"properties":{"a":{"$ref":"#/$defs/d"}}})", "/$defs/d/enum"},
           // Two schemas joined stand nowhere: the place is what of it was written.
           {R"({"allOf":[{"properties":{"a":{"minLength":1}}},{"properties":{"a":{"format":"iri"}}}]})", "/format"},
           {R"({"properties":{"a":{"$ref":"#/nowhere"}}})", "/properties/a/$ref"}}) {
    const Error error = refusal(schema);
    EXPECT_EQ(error.param, place) << schema << ": " << error.message;
  }
  std::string deep = R"({"not":{}})";
  for (int i = 0; i < 12; ++i) deep = R"({"properties":{")" + std::string(100, 'k') + R"(":)" + deep + "}}";
  const Error error = refusal(deep);
  EXPECT_LT(error.param.size(), 600u);
  EXPECT_TRUE(error.param.ends_with("kkk/not")) << error.param;
}

TEST(JsonSchema, RefusesWhatNothingMatches) {
  for (const char* schema : {"false",
                             R"({"$ref":"#"})",
                             R"({"type":"integer","minimum":3,"maximum":2})",
                             R"({"allOf":[{"type":"string"},{"type":"null"}]})",
                             R"({"type":"object","required":["a"],"additionalProperties":false})",
                             R"({"type":"array","minItems":2,"maxItems":1})",
                             R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
                             R"({"anyOf":[{"$ref":"#"}]})",
                             R"({"allOf":[{"$ref":"#"}]})",
                             R"({"type":"string","enum":[1]})",
                             R"({"type":"frob"})",
                             R"({"type":1})",
                             R"({"enum":[]})",
                             R"({"enum":3})",
                             R"({"properties":[]})",
                             R"({"required":[1]})",
                             R"({"$ref":"#/nowhere"})",
                             R"({"$ref":3})",
                             R"({"minLength":-1})",
                             "3",
                             "null",
                             R"([])",
                             R"({"type":"integer","minimum":"a"})",
                             R"({"type":"array","prefixItems":{}})",
                             R"({"properties":{"a":3}})"})
    EXPECT_FALSE(refusal(schema).message.empty()) << schema;
  // A part that nothing matches is left out where it may be.
  EXPECT_TRUE(
      bytes_match(from_schema(R"({"type":"object","properties":{"a":false,"b":{"type":"null"}}})"), "{\"b\":null}"));
}

TEST(JsonSchema, HostileSchemasEndSoon) {
  const auto start = std::chrono::steady_clock::now();
  std::string fan = R"({"$defs":{"x0":{"type":"string"})";
  for (int i = 1; i < 60; ++i) {
    const std::string ref = "{\"$ref\":\"#/$defs/x" + std::to_string(i - 1) + "\"}";
    fan += ",\"x" + std::to_string(i) + "\":{\"allOf\":[" + ref + "," + ref + "]}";
  }
  std::string growing = R"({"$defs":{"a":{"properties":{"x":{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}]}}},
    "b":{"properties":{"x":{"allOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/a"},{"minProperties":1}]}}}},"$ref":"#/$defs/a"})";
  std::string wide = R"({"type":"object","properties":{)";
  for (int i = 0; i < 2000; ++i) wide += (i ? ",\"k" : "\"k") + std::to_string(i * 7919 % 2000) + "\":{}";
  std::string counted =
      R"({"type":"array","maxItems":10000,"items":{"type":"array","maxItems":10000,"items":{"type":"string","maxLength":10000}}})";
  std::string patterns = R"x({"type":"string","pattern":"(a|b)*a(a|b){18}c","maxLength":3000})x";
  for (const std::string& schema : {fan + "},\"$ref\":\"#/$defs/x59\"}", growing, wide + "}}", counted, patterns}) {
    const auto json = parse_json(schema);
    ASSERT_TRUE(json.has_value());
    const auto grammar = grammar_from_json_schema(*json);  // compiled or refused, either will do
    if (grammar.has_value()) {
      GrammarMatcher matcher(*grammar, json_vocabulary());
      mask_of(matcher, json_vocabulary()->vocab_size());
    }
  }
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 20);
}

// Twice the names, twice the time: no lookup that goes through all of them for each. Compiled or refused, either will
// do.
TEST(JsonSchema, NamesAreNotSearchedOneForEachOther) {
  const auto seconds = [](int names, const std::string& before, const std::string& after) {
    std::string text = before + R"("properties":{)", required;
    for (int i = 0; i < names; ++i) {
      const std::string name = "\"k" + std::to_string(i) + "\"";
      text += (i > 0 ? "," : "") + name + R"(:{"const":1})";
      required += (i > 0 ? "," : "") + name;
    }
    text += R"(},"required":[)" + required + "]" + after;
    const auto json = parse_json(text);
    EXPECT_TRUE(json) << json.error().message;
    const auto start = std::chrono::steady_clock::now();
    (void)grammar_from_json_schema(*json);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (const auto& [before, after] :
       {std::pair<std::string, std::string>{R"({"type":"object",)", "}"},
        {R"({"$defs":{"a":{"type":"object",)", R"(}},"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]})"}}) {
    EXPECT_LT(seconds(60'000, before, after), 5 * seconds(20'000, before, after) + 0.2) << after;
  }
}

// A place as long as a name, kept for each of many rules, was a thousand times the schema.
TEST(JsonSchema, LongNamesAreNotKeptForEachRule) {
  const std::string name(200'000, 'k');
  std::string schema =
      R"({"$ref":"#/$defs/)" + name + R"(","$defs":{")" + name + R"(":{"type":"object","properties":{)";
  for (int i = 0; i < 6000; ++i)
    schema +=
        (i > 0 ? "," : "") + std::string(R"("a)") + std::to_string(i) + R"(":{"const":)" + std::to_string(i) + "}";
  const auto json = parse_json(schema + "}}}}");
  ASSERT_TRUE(json) << json.error().message;
  const auto start = std::chrono::steady_clock::now();
  (void)grammar_from_json_schema(*json);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // these have memory of their own
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 1000 << 10) << "kilobytes";
#endif
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 10);
}

}  // namespace
}  // namespace redoubt
