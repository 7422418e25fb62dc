// The parser on small answers, each cut into pieces in many ways: however a text comes, the events are the same.
#include "text/output_parser.h"

#include <gtest/gtest.h>

#include <random>

#include "text/output_parser_state.h"

namespace redoubt {
namespace {

// Ids 1, 2, ... for the marks that this vocabulary has; 0 for all other text.
MarkIds ids_of(std::initializer_list<Mark> marks) {
  MarkIds ids;
  for (const Mark mark : marks) ids[static_cast<size_t>(mark)] = static_cast<int32_t>(mark) + 1;
  return ids;
}
const MarkIds kText{};
const MarkIds kAll =
    ids_of({Mark::think_begin, Mark::think_end, Mark::calls_begin, Mark::calls_end, Mark::call_begin, Mark::call_end,
            Mark::call_separator, Mark::hermes_begin, Mark::hermes_end, Mark::python_tag, Mark::dsml});
const MarkIds kThink = ids_of({Mark::think_begin, Mark::think_end});

std::string show(const std::vector<OutputEvent>& events) {
  std::string out;
  OutputEvent::Kind last = OutputEvent::Kind::tool_end;
  for (const OutputEvent& event : events) {
    const bool goes_on =
        event.kind == last && event.kind != OutputEvent::Kind::tool_begin && event.kind != OutputEvent::Kind::tool_end;
    static constexpr const char* kNames[] = {"R:", "C:", "CALL", "ARGS:", "END"};
    if (!goes_on) out += (out.empty() ? "" : "/") + std::string(kNames[static_cast<int>(event.kind)]);
    if (!goes_on && event.kind == OutputEvent::Kind::tool_begin) out += std::to_string(event.tool_index) + ":";
    out += event.text;
    last = event.kind;
  }
  return out;
}

// Cuts the text at token marks and, between them, where `cut` says; feeds it.
std::string parse_with(const MarkIds& ids, const OutputParser::Options& options, std::string_view text,
                       std::mt19937* random, size_t piece) {
  AnswerParser parser(ids, options);
  std::vector<OutputEvent> all;
  const auto feed = [&](int32_t token, std::string_view part) {
    for (OutputEvent& event : parser.push(token, part)) all.push_back(std::move(event));
  };
  std::string plain;
  const auto flush = [&] {
    for (size_t i = 0; i < plain.size();) {
      const size_t length = random ? 1 + (*random)() % 7 : piece;
      feed(0, std::string_view(plain).substr(i, length));
      i += length;
    }
    plain.clear();
  };
  for (size_t i = 0; i < text.size();) {
    bool is_mark = false;
    for (size_t m = 0; m < kMarks && !is_mark; ++m) {
      const std::string_view literal = mark_text(static_cast<Mark>(m));
      if (!ids[m] || text.substr(i, literal.size()) != literal) continue;
      flush();
      feed(*ids[m], literal);
      i += literal.size();
      is_mark = true;
    }
    if (!is_mark) plain += text[i++];
  }
  flush();
  for (OutputEvent& event : parser.finish()) all.push_back(std::move(event));
  return show(all);
}

std::string parse(const MarkIds& ids, const OutputParser::Options& options, std::string_view text) {
  const std::string whole = parse_with(ids, options, text, nullptr, 1 << 20);
  std::mt19937 random(1);
  for (size_t piece : {1, 2, 3, 5, 8, 13})
    EXPECT_EQ(parse_with(ids, options, text, nullptr, piece), whole) << "pieces of " << piece;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(parse_with(ids, options, text, &random, 0), whole);
  return whole;
}

OutputParser::Options options(ToolSyntax tools, bool in_reasoning = false) {
  return {{tools, true}, in_reasoning, tools != ToolSyntax::none};
}

TEST(OutputParser, ReasoningEndsAtItsMark) {
  const auto plain = options(ToolSyntax::none), inside = options(ToolSyntax::none, true);
  for (const MarkIds& ids : {kText, kThink}) {
    EXPECT_EQ(parse(ids, plain, "<think>\nwhy\n</think>\n\nbecause"), "R:why\n/C:\nbecause");
    EXPECT_EQ(parse(ids, inside, "why</think>because"), "R:why/C:because");
    EXPECT_EQ(parse(ids, inside, "\nwhy <b>"), "R:why <b>");  // never closed: all is reasoning
    EXPECT_EQ(parse(ids, plain, "no <think>x</think>"), "C:no <think>x</think>");
    EXPECT_EQ(parse(ids, inside, "a</think>b</think>c"), "R:a/C:b</think>c");
    EXPECT_EQ(parse(ids, plain, ""), "");
    EXPECT_EQ(parse(ids, plain, "<think></think>"), "");
    EXPECT_EQ(parse(ids, plain, "<thi"), "C:<thi");
  }
  EXPECT_EQ(parse(kText, inside, "a</thin"), "R:a</thin");
}

TEST(OutputParser, TypedMarksAreTextWhereTheVocabularyHasThem) {
  AnswerParser parser(kThink, options(ToolSyntax::none, true));
  std::vector<OutputEvent> events = parser.push(0, "a</think>b");  // ordinary characters, not the token
  EXPECT_EQ(show(events), "R:a</think>b");
  EXPECT_TRUE(parser.in_reasoning());
  parser.push(static_cast<int32_t>(Mark::think_end) + 1, "");  // a control token comes without text
  EXPECT_FALSE(parser.in_reasoning());
  EXPECT_EQ(show(parser.push(0, "c")), "C:c");
}

TEST(OutputParser, DeepSeekCalls) {
  const std::string one =
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n```json\n{\"a\": "
      "\"}<｜tool▁call▁en\"}\n```<｜tool▁call▁end｜>";
  const std::string two =
      "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>put\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
  for (const MarkIds& ids : {kText, kThink, kAll}) {
    const auto with = options(ToolSyntax::deepseek_v3);
    EXPECT_EQ(parse(ids, with, "hi\n" + one + two),
              "C:hi\n/CALL0:get/ARGS:{\"a\": \"}<｜tool▁call▁en\"}/END/CALL1:put/ARGS:{}/END");
    EXPECT_EQ(parse(ids, with, one), "CALL0:get/ARGS:{\"a\": \"}<｜tool▁call▁en\"}/END");
    EXPECT_EQ(parse(ids, with, one + two + "bye"),
              "CALL0:get/ARGS:{\"a\": \"}<｜tool▁call▁en\"}/END/CALL1:put/ARGS:{}/END/C:bye");
    const auto v31 = options(ToolSyntax::deepseek_v31, true);
    EXPECT_EQ(parse(ids, v31,
                    "t</"
                    "think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"x\":[1]}<｜tool▁call▁end｜><"
                    "｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"),
              "R:t/CALL0:f/ARGS:{\"x\":[1]}/END/CALL1:g/ARGS:{}/END");
    // No call: nothing is lost.
    for (const std::string text :
         {"<｜tool▁calls▁begin｜>nothing", "<｜tool▁calls▁begin｜>",
          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function", "<｜tool▁call▁begin｜>f<｜tool▁sep｜>x y z {",
          "<｜tool▁call▁begin｜>f<｜tool▁sep｜>g<｜tool▁call▁end｜>", "x<｜tool▁call▁end｜>y",
          "<｜tool▁calls▁begin｜>\n<｜tool▁call▁begin｜>f<｜tool▁sep｜>"}) {
      EXPECT_EQ(parse(ids, with, text), "C:" + text);
    }
    EXPECT_EQ(parse(ids, with, "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1<｜tool▁call▁end｜>"),
              "CALL0:f/ARGS:{\"a\": 1/END");
    EXPECT_EQ(parse(ids, with, "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1"), "CALL0:f/ARGS:{\"a\": 1/END");
    EXPECT_EQ(parse(ids, options(ToolSyntax::none), one), "C:" + one);  // tools were not offered
  }
}

TEST(OutputParser, DsmlCalls) {
  const auto block = [](std::string name, const std::string& inside) {
    return "<｜DSML｜" + name + ">\n" + inside + "</｜DSML｜" + name + ">";
  };
  const std::string one =
      "<｜DSML｜invoke name=\"get\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Pa\"ris\n</｜DSML｜x "
      "é</｜DSML｜parameter>\n"
      "<｜DSML｜parameter name=\"n\" string=\"false\">12</｜DSML｜parameter>\n<｜DSML｜parameter name=\"o\" "
      "string=\"false\">{\"a\": [1]}</｜DSML｜parameter>\n</｜DSML｜invoke>\n";
  const std::string two = "<｜DSML｜invoke name=\"put\">\n\n</｜DSML｜invoke>\n";
  const std::string first = R"(CALL0:get/ARGS:{"city": "Pa\"ris\n</｜DSML｜x é", "n": 12, "o": {"a": [1]}}/END)";
  for (const MarkIds& ids : {kText, kThink, kAll}) {
    for (const ToolSyntax syntax : {ToolSyntax::deepseek_v32, ToolSyntax::deepseek_v4}) {
      const auto with = options(syntax);
      EXPECT_EQ(parse(ids, with, "hi\n\n" + block("function_calls", one + two)),
                "C:hi/" + first + "/CALL1:put/ARGS:{}/END");
      EXPECT_EQ(parse(ids, with, block("tool_calls", one)), first);
      EXPECT_EQ(parse(ids, with, "\n\n" + block("tool_calls", one) + "\nbye"), first + "/C:\nbye");
      EXPECT_EQ(parse(ids, options(syntax, true), "t</think>\n\n" + block("tool_calls", two)),
                "R:t/CALL0:put/ARGS:{}/END");
      // What is said to be JSON and is none is a string; a tag without `string` holds either.
      EXPECT_EQ(
          parse(ids, with,
                "<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"a\" string=\"false\">tru"
                "</｜DSML｜parameter><｜DSML｜parameter name=\"b\">null</｜DSML｜parameter></｜DSML｜invoke>"),
          "CALL0:f/ARGS:{\"a\": \"tru\", \"b\": null}/END");
      // Cut in the middle of a value; in the middle of a tag.
      EXPECT_EQ(parse(ids, with,
                      "<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"a\" "
                      "string=\"true\">half</｜DS"),
                "CALL0:f/ARGS:{\"a\": \"half</｜DS/END");
      EXPECT_EQ(parse(ids, with, block("tool_calls", two).substr(0, block("tool_calls", two).size() - 4)),
                "CALL0:put/ARGS:{}/END");
      for (const std::string text :
           {"a <｜DSML｜ b", "<｜DSML｜tool_calls>nothing", "\n\n<｜DSML｜tool_calls>", "x\n\ny\n",
            "<｜DSML｜tool_calls><｜DSML｜invoke name=\"\">", "<｜DSML｜invoke name=\"f\">",
            "\n\n<｜DSML｜tool_calls>\n</｜DSML｜tool_calls>"}) {
        EXPECT_EQ(parse(ids, with, text), "C:" + text);
      }
      EXPECT_EQ(parse(ids, options(ToolSyntax::none), block("tool_calls", two)), "C:" + block("tool_calls", two));
    }
  }
  // Typed as characters it is text, where the vocabulary has the token.
  AnswerParser typed(kAll, options(ToolSyntax::deepseek_v4));
  EXPECT_EQ(show(typed.push(0, "<｜DSML｜tool_calls>x")), "C:<｜DSML｜tool_calls>x");
}

TEST(OutputParser, HermesCalls) {
  for (const MarkIds& ids : {kText, kThink, kAll}) {
    const auto with = options(ToolSyntax::hermes);
    EXPECT_EQ(parse(ids, with,
                    "ok\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"q\": \"</tool_call>{\", \"n\": [1, "
                    "{}]}}\n</tool_call>\n<tool_call>\n{\"arguments\": {}, \"name\": \"g\"}\n</tool_call>"),
              ids[static_cast<size_t>(Mark::hermes_end)]
                  ? "C:ok\n/CALL0:f/ARGS:{\"q\": \"/END/C:{\", \"n\": [1, {}]}}\n</tool_call>\n/CALL1:g/ARGS:{}/END"
                  : "C:ok\n/CALL0:f/ARGS:{\"q\": \"</tool_call>{\", \"n\": [1, {}]}/END/CALL1:g/ARGS:{}/END");
    EXPECT_EQ(parse(ids, with, "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call> done"),
              "CALL0:f/ARGS:{\"a\": 1}/END/C: done");
    EXPECT_EQ(parse(ids, with, "<tool_call>{\"name\": \"f\"}</tool_call>"), "CALL0:f/ARGS:{}/END");
    for (const std::string text : {"<tool_call>hello</tool_call>", "<tool_call>{\"nam\": 5}</tool_call>", "<tool_call>",
                                   "<tool_call>\n{\"name\": \"f\"", "a <tool_cal", "<tool_call>{\"name\": 5}"}) {
      EXPECT_EQ(parse(ids, with, text), "C:" + text);
    }
    EXPECT_EQ(parse(ids, with, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1</tool_call>x"),
              "CALL0:f/ARGS:{\"a\": 1/END/C:x");
    EXPECT_EQ(parse(ids, with, "<tool_call>{\"name\": \"f\", \"arguments\": {]}"), "CALL0:f/ARGS:{/END/C:]}");
    EXPECT_EQ(parse(ids, with, "<tool_call>{\"name\": \"f\", \"arguments\": {} oops"), "CALL0:f/ARGS:{}/END/C: oops");
  }
}

TEST(OutputParser, LlamaCalls) {
  for (const MarkIds& ids : {kText, kAll}) {
    const auto with = options(ToolSyntax::llama_json);
    EXPECT_EQ(parse(ids, with, "{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}"), "CALL0:f/ARGS:{\"a\": \"b\"}/END");
    EXPECT_EQ(parse(ids, with, "<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}"),
              "CALL0:f/ARGS:{}/END");
    EXPECT_EQ(parse(ids, with, "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"arguments\": {}}\n"),
              "CALL0:f/ARGS:{}/END/CALL1:g/ARGS:{}/END");
    for (const std::string text : {"{\"name\": \"Bob\", \"age\": 5}", "{\"name\": \"Bob\"}", "{}",
                                   "plain {\"name\": \"f\", \"parameters\": {}}", " {", "[1]", "\n hi"}) {
      EXPECT_EQ(parse(ids, with, text), "C:" + text);
    }
  }
}

// Random mixtures of everything that means something: no crash, and the same events for every way of cutting.
TEST(OutputParser, EveryCuttingGivesTheSameEvents) {
  std::mt19937 random(7);
  const std::vector<std::string> parts{"{",
                                       "}",
                                       "\"name\": \"f\"",
                                       "\"arguments\": ",
                                       "\"parameters\": ",
                                       ", ",
                                       "\n",
                                       "```json\n",
                                       "```",
                                       "x",
                                       "\"",
                                       "\\",
                                       "[",
                                       "]",
                                       " ",
                                       "<",
                                       "f",
                                       ";",
                                       "5"};
  for (int round = 0; round < 1500; ++round) {
    std::string text;
    for (size_t n = random() % 20; n > 0; --n) {
      const size_t pick = random() % (parts.size() + kMarks);
      text += pick < parts.size() ? parts[pick] : std::string(mark_text(static_cast<Mark>(pick - parts.size())));
    }
    SCOPED_TRACE(text);
    const auto tools = static_cast<ToolSyntax>(random() % 5);
    const OutputParser::Options chosen{{tools, random() % 2 == 0}, random() % 2 == 0, random() % 4 != 0};
    const MarkIds& ids = round % 3 == 0 ? kText : round % 3 == 1 ? kThink : kAll;
    const std::string whole = parse_with(ids, chosen, text, nullptr, 1 << 20);
    EXPECT_EQ(parse_with(ids, chosen, text, nullptr, 1), whole);
    EXPECT_EQ(parse_with(ids, chosen, text, &random, 0), whole);
  }
}

}  // namespace
}  // namespace redoubt
