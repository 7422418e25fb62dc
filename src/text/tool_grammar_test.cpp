// Answers that may call tools: what the grammar lets through is what the parser reads as calls with right arguments.

#include "text/tool_grammar.h"

#include <gtest/gtest.h>

#include <random>

#include "text/grammar_fixture.h"

namespace redoubt {
namespace {

MarkIds ids_of(std::initializer_list<Mark> marks) {  // as tokens behind those of the bytes
  MarkIds ids;
  for (const Mark mark : marks) ids[static_cast<size_t>(mark)] = 257 + static_cast<int32_t>(mark);
  return ids;
}
const MarkIds kSpelled{};
const MarkIds kTokens = ids_of({Mark::calls_begin, Mark::calls_end, Mark::call_begin, Mark::call_end,
                                Mark::call_separator, Mark::hermes_begin, Mark::hermes_end, Mark::python_tag});

VocabularyPtr vocabulary_with(const MarkIds& ids) {
  std::vector<std::string> all{""};
  for (int b = 0; b < 256; ++b) all.push_back(b == 0xff ? "" : std::string(1, static_cast<char>(b)));
  all.resize(257 + kMarks);
  for (size_t i = 0; i < kMarks; ++i)
    if (ids[i]) all[257 + i] = mark_bytes(static_cast<Mark>(i));
  for (const char* text :
       {"<tool", "_call>", "{\"name\": \"", "weather", "\"city\": \"", "\"}", "}\n", "\n```", "Hello"})
    all.emplace_back(text);
  return std::make_shared<const grammar::Vocabulary>(all);
}

std::vector<ToolSignature> tools() {
  return {{"weather", from_schema(R"({"type":"object","properties":{"city":{"enum":["Paris","Rome"]}},
                                      "required":["city"],"additionalProperties":false})")},
          {"time.now", *grammar_for_json_object()}};
}

struct Syntax {
  ToolSyntax syntax;
  const MarkIds* ids;
  std::string call;          // NAME and ARGS are replaced
  std::string between, end;  // of calls
};
const std::vector<Syntax> kSyntaxes = {
    {ToolSyntax::deepseek_v3, &kTokens,
     "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGS\n```<｜tool▁call▁end｜>", "\n",
     "<｜tool▁calls▁end｜>"},
    {ToolSyntax::deepseek_v3, &kSpelled,
     "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGS\n```<｜tool▁call▁end｜>", "\n",
     "<｜tool▁calls▁end｜>"},
    {ToolSyntax::deepseek_v31, &kTokens, "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGS<｜tool▁call▁end｜>", "",
     "<｜tool▁calls▁end｜>"},
    {ToolSyntax::hermes, &kTokens, "<tool_call>\n{\"name\": \"NAME\", \"arguments\": ARGS}\n</tool_call>", "\n", ""},
    {ToolSyntax::hermes, &kSpelled, "<tool_call>{\"name\":\"NAME\",\"arguments\":ARGS}</tool_call>", "\n", ""},
    {ToolSyntax::llama_json, &kTokens, "{\"name\": \"NAME\", \"parameters\": ARGS}", ";", ""}};

std::string written(const Syntax& syntax, std::vector<std::pair<std::string, std::string>> calls) {
  const bool deepseek = syntax.call.starts_with("<｜");
  std::string out = deepseek ? "<｜tool▁calls▁begin｜>" : "";
  for (size_t i = 0; i < calls.size(); ++i) {
    std::string call = syntax.call;
    call.replace(call.find("NAME"), 4, calls[i].first);
    call.replace(call.find("ARGS"), 4, calls[i].second);
    out += (i > 0 ? syntax.between : "") + call;
  }
  return out + syntax.end;
}

std::vector<int32_t> tokens_of(const MarkIds& ids, std::string_view text) {
  std::vector<int32_t> out;
  for (size_t i = 0; i < text.size();) {
    size_t length = 1;
    int32_t token = 1 + static_cast<uint8_t>(text[i]);
    for (size_t m = 0; m < kMarks; ++m) {
      const std::string_view mark = mark_text(static_cast<Mark>(m));
      if (!ids[m] || !text.substr(i).starts_with(mark)) continue;
      length = mark.size();
      token = *ids[m];
    }
    out.push_back(token);
    i += length;
  }
  return out;
}

bool accepts(const GrammarPtr& grammar, const MarkIds& ids, std::string_view text) {
  const VocabularyPtr vocabulary = vocabulary_with(ids);
  GrammarMatcher matcher(grammar, vocabulary);
  for (const int32_t token : tokens_of(ids, text)) {
    const auto mask = mask_of(matcher, vocabulary->vocab_size());
    const bool taken = matcher.accept(token);
    EXPECT_EQ(taken, allowed(mask, token)) << text;
    if (!taken) return false;
  }
  return matcher.can_end();
}

GrammarPtr grammar_of(const Syntax& syntax, GrammarPtr content = nullptr, bool parallel = true) {
  const auto signatures = tools();
  const auto grammar = grammar_with_tool_calls(
      {.syntax = syntax.syntax, .parallel = parallel, .content = std::move(content)}, signatures, *syntax.ids);
  EXPECT_TRUE(grammar.has_value()) << grammar.error().message;
  return grammar.has_value() ? *grammar : nullptr;
}

TEST(ToolGrammar, BindsFromTheMarkOn) {
  for (const Syntax& syntax : kSyntaxes) {
    SCOPED_TRACE(syntax.call);
    const GrammarPtr grammar = grammar_of(syntax);
    const auto is = [&](std::string_view text) { return accepts(grammar, *syntax.ids, text); };
    const std::string before = syntax.syntax == ToolSyntax::llama_json ? "\n" : "Let me <see> — 日本.\n\n";
    EXPECT_TRUE(is("Hello, {world} <to you>"));
    EXPECT_TRUE(is(""));
    EXPECT_TRUE(is(before + written(syntax, {{"weather", R"({"city": "Paris"})"}})));
    EXPECT_TRUE(
        is(written(syntax, {{"time.now", R"({"zone": [1, {"a": null}]})"}, {"weather", R"({"city":"Rome"})"}})));
    EXPECT_FALSE(is(written(syntax, {{"weather", R"({"city": "Oslo"})"}})));
    EXPECT_FALSE(is(written(syntax, {{"weather", R"({"city": "Paris", "x": 1})"}})));
    EXPECT_FALSE(is(written(syntax, {{"weather", "{}"}})));
    EXPECT_FALSE(is(written(syntax, {{"sunshine", "{}"}})));
    EXPECT_FALSE(is(written(syntax, {{"time.now", "[]"}})));
    EXPECT_FALSE(is(written(syntax, {{"time.now", "{}"}}) + " and more"));
  }
}

TEST(ToolGrammar, OneCallWhereCallsAreNotParallel) {
  for (const Syntax& syntax : kSyntaxes) {
    const GrammarPtr grammar = grammar_of(syntax, nullptr, /*parallel=*/false);
    EXPECT_TRUE(accepts(grammar, *syntax.ids, written(syntax, {{"time.now", "{}"}})));
    EXPECT_FALSE(accepts(grammar, *syntax.ids, written(syntax, {{"time.now", "{}"}, {"time.now", "{}"}})));
  }
}

TEST(ToolGrammar, ContentKeepsItsStructureBesideCalls) {
  for (const Syntax& syntax : kSyntaxes) {
    SCOPED_TRACE(syntax.call);
    const GrammarPtr grammar =
        grammar_of(syntax, from_schema(R"({"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]})"));
    EXPECT_TRUE(accepts(grammar, *syntax.ids, R"({"n": 12})"));
    EXPECT_TRUE(accepts(grammar, *syntax.ids, written(syntax, {{"weather", R"({"city": "Paris"})"}})));
    EXPECT_FALSE(accepts(grammar, *syntax.ids, "Hello"));
    EXPECT_FALSE(accepts(grammar, *syntax.ids, R"({"m": 12})"));
    EXPECT_FALSE(accepts(grammar, *syntax.ids, R"({"n": 1})" + written(syntax, {{"weather", R"({"city": "Paris"})"}})));
  }
}

// A mark that is a token here binds; typed as characters it is text, as it is for the parser.
TEST(ToolGrammar, TypedMarksAreTextWhereTheMarkIsAToken) {
  const auto signatures = tools();
  const auto grammar = grammar_with_tool_calls({.syntax = ToolSyntax::hermes}, signatures, kTokens);
  ASSERT_TRUE(grammar.has_value());
  const VocabularyPtr vocabulary = vocabulary_with(kTokens);
  GrammarMatcher matcher(*grammar, vocabulary);
  for (const char c : std::string("write <tool_call> and go on"))
    EXPECT_TRUE(matcher.accept(1 + static_cast<uint8_t>(c)));
}

// Whatever the masks let through: the parser finds calls of these tools, with arguments as their schemas say, or text.
TEST(ToolGrammar, WhatIsWrittenIsReadBack) {
  for (const Syntax& syntax : kSyntaxes) {
    SCOPED_TRACE(syntax.call);
    const VocabularyPtr vocabulary = vocabulary_with(*syntax.ids);
    const GrammarPtr grammar = grammar_of(syntax);
    int calls = 0;
    for (uint32_t seed = 0; seed < 12; ++seed) {
      std::mt19937 random(seed);
      GrammarMatcher matcher(grammar, vocabulary);
      AnswerParser parser(*syntax.ids, {.format = {.tools = syntax.syntax}, .parse_tools = true});
      std::vector<OutputEvent> events;
      const auto take = [&](int32_t token) {
        ASSERT_TRUE(matcher.accept(token));
        std::string text(texts(vocabulary).text(token));
        for (size_t m = 0; m < kMarks; ++m)
          if (syntax.ids->at(m) == token) text = mark_text(static_cast<Mark>(m));
        for (OutputEvent& event : parser.push(token, text)) events.push_back(std::move(event));
      };
      // To where the grammar binds, then at random.
      const std::string begun = written(syntax, {{"weather", "{}"}});
      for (const int32_t token : tokens_of(*syntax.ids, begun.substr(0, begun.find("weather")))) take(token);
      for (int step = 0; step < 400 && !matcher.must_end(); ++step) {
        const auto mask = mask_of(matcher, vocabulary->vocab_size());
        std::vector<int32_t> open;
        for (int32_t id = 0; id < vocabulary->vocab_size(); ++id)
          if (allowed(mask, id)) open.push_back(id);
        if (matcher.can_end() && (open.empty() || random() % 3 == 0)) break;
        ASSERT_FALSE(open.empty());
        int32_t chosen = open[random() % open.size()];
        for (const char closing : std::string("\"]}"))
          if (step > 60 && allowed(mask, 1 + closing)) chosen = 1 + closing;
        take(chosen);
      }
      if (!matcher.can_end()) continue;
      for (OutputEvent& event : parser.finish()) events.push_back(std::move(event));
      std::string name, arguments;
      for (const OutputEvent& event : events) {
        EXPECT_NE(event.kind, OutputEvent::Kind::content) << event.text;
        if (event.kind == OutputEvent::Kind::tool_begin) name = event.text, arguments.clear();
        if (event.kind == OutputEvent::Kind::tool_arguments) arguments += event.text;
        if (event.kind != OutputEvent::Kind::tool_end) continue;
        ++calls;
        EXPECT_TRUE(name == "weather" || name == "time.now") << name;
        const auto parsed = parse_json(arguments);
        ASSERT_TRUE(parsed.has_value()) << arguments;
        EXPECT_TRUE(parsed->is_object());
        if (name == "weather") {
          EXPECT_TRUE((*parsed)["city"] == "Paris" || (*parsed)["city"] == "Rome") << arguments;
        }
      }
    }
    EXPECT_GE(calls, 6);
  }
}

}  // namespace
}  // namespace redoubt
