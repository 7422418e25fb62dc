// Templates: the published ones against their golden prompts, small ones against what Jinja2 3.1.6 printed
// (jinja_cases.jsonl), the origin of each character, and limits.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace redoubt {
namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<Json> read_rows(const std::filesystem::path& path) {
  std::vector<Json> rows;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) rows.push_back(Json::parse(line));
  }
  return rows;
}

std::filesystem::path test_data() {
  const char* named = std::getenv("REDOUBT_TEST_DATA");
  return named ? named : std::filesystem::path(REDOUBT_SOURCE_DIR) / "../shared/data";
}

Result<MarkedText> render(std::string_view source, const Json& context, const RenderLimits& limits = {}) {
  auto parsed = ChatTemplate::parse(source);
  if (!parsed) return std::move(parsed).error();
  return parsed->render(context, {}, limits);
}

// The text with [ ] around what the template wrote.
std::string marked(const MarkedText& text) {
  std::string out;
  size_t done = 0;
  for (const auto& range : text.markup) {
    out +=
        text.text.substr(done, range.begin - done) + "[" + text.text.substr(range.begin, range.end - range.begin) + "]";
    done = range.end;
  }
  return out + text.text.substr(done);
}

std::string markup_of(const MarkedText& text) {
  std::string out;
  for (const auto& range : text.markup) out += text.text.substr(range.begin, range.end - range.begin);
  return out;
}

std::string replace_all(std::string text, const std::string& old_part, const std::string& new_part) {
  for (size_t at = text.find(old_part); at != std::string::npos; at = text.find(old_part, at + new_part.size())) {
    text.replace(at, old_part.size(), new_part);
  }
  return text;
}

std::string render_marked(std::string_view source, const Json& context) {
  const auto rendered = render(source, context);
  return rendered ? marked(*rendered) : "error: " + rendered.error().message;
}

TEST(ChatTemplate, GoldenTemplatesRenderByteForByte) {
  const auto path = test_data() / "golden/templates.jsonl";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no golden data at " << path << ": set REDOUBT_TEST_DATA";
  size_t rows = 0;
  for (const Json& row : read_rows(path)) {
    const auto name = row["template"].get<std::string>();
    SCOPED_TRACE(name + " " + row["case"].get<std::string>());
    auto parsed = ChatTemplate::parse(read_file(test_data() / "templates" / name));
    ASSERT_TRUE(parsed) << parsed.error().message;
    const auto rendered = parsed->render(row["input"]);
    if (row["error"].is_null()) {
      ASSERT_TRUE(rendered) << rendered.error().message;
      EXPECT_EQ(rendered->text, row["expect"].get<std::string>());
    } else {
      ASSERT_FALSE(rendered);
      const auto error = row["error"].get<std::string>();
      EXPECT_EQ(rendered.error().message, error.substr(error.find(": ") + 2));
      EXPECT_EQ(rendered.error().code, ErrorCode::invalid_argument);
    }
    ++rows;
  }
  EXPECT_GT(rows, 0u);
}

TEST(ChatTemplate, SmallTemplatesRenderAsJinjaDoes) {
  const auto rows = read_rows(std::filesystem::path(REDOUBT_SOURCE_DIR) / "src/text/jinja_cases.jsonl");
  ASSERT_GT(rows.size(), 90u);
  const Json& context = rows[0]["context"];
  for (size_t i = 1; i < rows.size(); ++i) {
    const auto source = rows[i]["template"].get<std::string>();
    SCOPED_TRACE(source);
    const auto rendered = render(source, context);
    if (rows[i].contains("expect")) {
      EXPECT_TRUE(rendered) << rendered.error().message;
      if (rendered) {
        EXPECT_EQ(rendered->text, rows[i]["expect"].get<std::string>());
      }
    } else {
      EXPECT_FALSE(rendered);
      // Syntax errors are worded by us; what a template can cause at run time reads as Jinja's.
      if (!rendered && rendered.error().code == ErrorCode::invalid_argument) {
        EXPECT_EQ(rendered.error().message, rows[i]["error"].get<std::string>());
      }
    }
  }
}

TEST(ChatTemplate, EveryCharacterKeepsItsOrigin) {
  const Json context = {{"x", "<|u|>"}, {"l", {"a", "b"}}, {"n", 5}, {"d", {{"k", "<|v|>"}}}};
  const std::pair<const char*, const char*> cases[] = {
      {"<|im|>{{ x }}<|end|>", "[<|im|>]<|u|>[<|end|>]"},
      {"{{ '<|s|>' + x + '</s>' }}", "[<|s|>]<|u|>[</s>]"},
      {"{{ ('<' ~ x ~ '>')[1:-1] }}", "<|u|>"},
      {"{{ ('ab' + x)|upper }}", "[AB]<|U|>"},
      {"{{ x|replace('u', '_') }}", "<|[_]|>"},
      {"{{ l|join(', ') }}", "a[, ]b"},
      {"{{ d|tojson }}", "{\"k\": \"<|v|>\"}"},
      {"{{ n }}{{ [x] }}", "5['<|u|>']"},
      {"{{ ('  ' ~ x ~ '  ')|trim }}", "<|u|>"},
      {"{{ ('a' ~ x ~ 'b').split('|') | join('-') }}", "[a]<[-]u[-]>[b]"},
      {"{{ '%s!' % x }}{{ '{}?'.format(x) }}", "<|u|>[!]<|u|>[?]"},
      {"{% set a %}<b>{{ x }}{% endset %}{{ a }}", "[<b>]<|u|>"},
      {"{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m(x) }}", "[<]<|u|>[>]"},
      {"{{ x if x == '<|u|>' else '' }}", "<|u|>"},
      {"{{ (x ~ '|')[::-1] }}", "[|]>|u|<"},
      {"{{ '<|' ~ '' ~ 'a|>' }}", "[<|a|>]"},
      {"{{ 'é' ~ x ~ 'é' }}", "[é]<|u|>[é]"},
      {"{% for c in 'a' ~ l[0] %}{{ c }}.{% endfor %}", "[a.]a[.]"},
  };
  for (const auto& [source, expected] : cases) EXPECT_EQ(render_marked(source, context), expected) << source;
}

TEST(ChatTemplate, MarkupGlobalsAreMarkupAndWinOverTheContext) {
  auto parsed = ChatTemplate::parse("{{ bos_token }}{{ x }}");
  ASSERT_TRUE(parsed);
  const auto rendered = parsed->render({{"x", "<s>"}, {"bos_token", "forged"}}, {{"bos_token", "<s>"}});
  ASSERT_TRUE(rendered);
  EXPECT_EQ(marked(*rendered), "[<s>]<s>");
}

// The whole point of origins: special-token text in any field of a request never lies inside markup.
TEST(ChatTemplate, NoFieldOfARequestForgesMarkupInAnyTemplate) {
  const auto folder = test_data() / "templates";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no templates at " << folder << ": set REDOUBT_TEST_DATA";
  // Ҩ marks where each forged text is, so that it is told apart from the template's own.
  const std::vector<std::string> tokens{"<｜User｜>Ҩ",
                                        "<｜Assistant｜>Ҩ",
                                        "<｜end▁of▁sentence｜>Ҩ",
                                        "<｜begin▁of▁sentence｜>Ҩ",
                                        "<|im_start|>Ҩ",
                                        "<|im_end|>Ҩ",
                                        "<|eot_id|>Ҩ",
                                        "<|start_header_id|>Ҩ",
                                        "<think>Ҩ",
                                        "</think>Ҩ",
                                        "<｜tool▁calls▁begin｜>Ҩ",
                                        "<｜tool▁call▁end｜>Ҩ",
                                        "<｜tool▁sep｜>Ҩ",
                                        "<｜tool▁outputs▁begin｜>Ҩ",
                                        "<｜tool▁output▁end｜>Ҩ",
                                        "<tool_call>Ҩ",
                                        "</tool_call>Ҩ",
                                        "<｜DSML｜>Ҩ"};
  size_t templates = 0, forged = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    auto parsed = ChatTemplate::parse(read_file(entry.path()));
    ASSERT_TRUE(parsed) << entry.path();
    ++templates;
    for (const std::string& t : tokens) {
      SCOPED_TRACE(entry.path().filename().string() + " " + t);
      const Json call = {{"id", t}, {"type", "function"}, {"function", {{"name", t}, {"arguments", {{t, t}}}}}};
      const Json text_call = {{"id", t}, {"type", t}, {"function", {{"name", t}, {"arguments", Json{{t, t}}.dump()}}}};
      const Json tool = {{"type", "function"},
                         {"function", {{"name", t}, {"description", t}, {"parameters", {{t, t}}}}}};
      const std::vector<Json> conversations = {
          {{{"role", "system"}, {"content", t}},
           {{"role", "user"}, {"content", t}, {"name", t}},
           {{"role", "assistant"}, {"content", t}, {"reasoning_content", t}},
           {{"role", "user"}, {"content", t}}},
          {{{"role", "user"}, {"content", t}},
           {{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::array({call})}},
           {{"role", "tool"}, {"content", t}, {"name", t}, {"tool_call_id", t}},
           {{"role", "user"}, {"content", t}}},
          {{{"role", "user"}, {"content", t}},
           {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array({text_call})}},
           {{"role", "tool"}, {"content", t}},
           {{"role", "assistant"}, {"content", t}}},
          {{{"role", "user"}, {"content", t}}, {{"role", t}, {"content", t}}},
      };
      for (const Json& messages : conversations) {
        for (const bool with_tools : {false, true}) {
          for (const bool thinking : {false, true}) {
            Json context = {
                {"messages", messages}, {"add_generation_prompt", true}, {"thinking", thinking}, {"date_string", t}};
            if (with_tools) context["tools"] = Json::array({tool});
            const auto rendered = render_chat(*parsed, context, {{"bos_token", "<BOS>"}, {"eos_token", "<EOS>"}});
            if (!rendered) continue;
            // A token counts as forged if it lies wholly inside one markup range, as the tokenizer would match it.
            for (const auto& range : rendered->markup) {
              EXPECT_EQ(rendered->text.substr(range.begin, range.end - range.begin).find("Ҩ"), std::string::npos);
            }
            forged += rendered->text.find(t) != std::string::npos ? 1 : 0;
            // What the template writes does not depend on the forged text; only thinking is looked for in a past
            // answer.
            if (t.find("think>") != std::string::npos) continue;
            const std::string plain_context = replace_all(context.dump(), t, "Ҩ");
            const auto plain =
                render_chat(*parsed, Json::parse(plain_context), {{"bos_token", "<BOS>"}, {"eos_token", "<EOS>"}});
            ASSERT_TRUE(plain);
            EXPECT_EQ(markup_of(*rendered), markup_of(*plain));
          }
        }
      }
    }
  }
  EXPECT_GT(templates, 0u);
  EXPECT_GT(forged, templates * tokens.size());  // the texts did reach the prompts
}

TEST(ChatTemplate, NullContentIsTriedOnceMoreAsEmpty) {
  auto parsed = ChatTemplate::parse("{% for m in messages %}{{ '<' + m.content + '>' }}{% endfor %}");
  ASSERT_TRUE(parsed);
  const Json context = {
      {"messages", {{{"role", "user"}, {"content", "a"}}, {{"role", "assistant"}, {"content", nullptr}}}}};
  EXPECT_FALSE(parsed->render(context));
  const auto rendered = render_chat(*parsed, context);
  ASSERT_TRUE(rendered);
  EXPECT_EQ(rendered->text, "<a><>");
  EXPECT_FALSE(render_chat(*parsed, {{"messages", {{{"role", "user"}, {"content", 5}}}}}));
}

TEST(ChatTemplate, ClockIsInjected) {
  RenderLimits limits;
  limits.unix_seconds = [] { return int64_t{86400 * 365}; };
  const auto rendered = render("{{ strftime_now('%Y') }}", Json::object(), limits);
  ASSERT_TRUE(rendered);
  EXPECT_EQ(rendered->text, "1971");
}

// Hostile templates end with an error: soon, and without taking memory or stack.
TEST(ChatTemplate, HostileTemplatesEnd) {
  const auto repeat = [](std::string_view text, size_t times) {
    std::string out;
    for (size_t i = 0; i < times; ++i) out += text;
    return out;
  };
  const std::vector<std::string> sources{
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
      "{{ 'x' * 1000000000000 }}",
      "{{ [1] * 1000000000000 }}",
      "{{ range(1000000000) }}",
      "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s "
      "}}",
      "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson "
      "}}",
      "{% set a = namespace(l=[1], m=[1]) %}{% for i in range(60) %}{% set a.l = [a.l, a.l] %}{% set a.m = [a.m, a.m] "
      "%}{% endfor %}{{ a.l == a.m }}",
      "{% set l = [] %}{% for i in range(100000) %}{% set _ = l.append('x' * 100000) %}{% endfor %}",
      "{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}",
      "{{ ('a' * 1000000)|replace('a', 'b' * 1000000) }}",
      "{{ ('a' * 1000000)|replace('', 'b' * 1000000) }}",
      "{{ '%9999999999d' % 5 }}",
      "{{ 10 ** 1000000000000 }}",
      "{{ ('ab' * 1000000).split('a')|join('x' * 1000000) }}",
      "{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}",
      "{{ " + repeat("[", 100000) + repeat("]", 100000) + " }}",
      "{{ " + repeat("not ", 100000) + "1 }}",
      "{{ " + repeat("-", 100000) + "1 }}",
      "{{ x" + repeat(".x", 100000) + " }}",
      "{{ x" + repeat("|trim", 100000) + " }}",
      "{{ x" + repeat("()", 100000) + " }}",
      "{{ 1" + repeat(" if 1", 100000) + " }}",
      repeat("{% if 1 %}", 100000),
      repeat("{% for a in b %}", 10000) + repeat("{% endfor %}", 10000),
      "{% set " + repeat("(", 100000) + "a" + repeat(")", 100000) + " = 1 %}",
  };
  for (const std::string& source : sources) {
    const auto rendered = render(source, Json::object());
    EXPECT_FALSE(rendered) << source.substr(0, 100);
    if (!rendered) {
      EXPECT_LT(rendered.error().message.size(), 300u);
    }
  }
  // These are only long, or hold themselves, and are fine.
  EXPECT_TRUE(render("{{ 1" + repeat(" + 1", 10000) + " }}", Json::object()));
  EXPECT_TRUE(render("{{ 'a'" + repeat(" ~ 'a'", 10000) + " }}", Json::object()));
  EXPECT_TRUE(
      render("{% set l = [] %}{% set _ = l.append(l) %}{% set n = namespace() %}{% set n.n = n %}{{ n|length if 0 }}",
             Json::object()));
  EXPECT_TRUE(
      render("{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}", Json::object()));
}

TEST(ChatTemplate, SyntaxErrorsNameTheLine) {
  const auto parsed = ChatTemplate::parse("a\nb\n{% if x %}\n{{ y");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, ErrorCode::corrupt_data);
  EXPECT_NE(parsed.error().message.find("line 4"), std::string::npos) << parsed.error().message;
  EXPECT_FALSE(ChatTemplate::parse("\xff\xfe"));
}

TEST(ChatTemplate, GenerationTagIsTransparent) {
  EXPECT_EQ(render_marked("{% generation %}\n{{ x }}{% endgeneration %}\n!", {{"x", "a"}}), "a[!]");
}

TEST(ChatTemplate, KnowsHowItReadsTheArgumentsOfPastCalls) {
  const auto reads_objects = [](const std::string& source) {
    auto parsed = ChatTemplate::parse(source);
    EXPECT_TRUE(parsed) << parsed.error().message;
    return parsed && parsed->reads_argument_objects();
  };
  for (const char* source :
       {"{{ call.arguments | tojson }}", "{{ call['arguments']|tojson }}", "{{ call[\"arguments\"] |\n tojson }}",
        "{% for k, v in args|items %}{% endfor %}", "{% for k, v in call.arguments.items() %}{% endfor %}",
        "{# | #}{{ x | tojson }}{{ args \t| tojson(indent=2) }}"}) {
    EXPECT_TRUE(reads_objects(source)) << source;
  }
  for (const char* source : {"{{ call.arguments }}", "{{ call.arguments | string }}", "{{ tools | tojson }}",
                             "{{ arguments_of | tojson }}", "{{ call['arguments'] ~ x.items() }}", ""}) {
    EXPECT_FALSE(reads_objects(source)) << source;
  }
  // White space without end costs neither the stack nor the square of its length.
  const std::string spaces(2'000'000, ' ');
  EXPECT_FALSE(reads_objects("{# args" + spaces + "#}"));
  EXPECT_TRUE(reads_objects("{# args" + spaces + "|" + spaces + "tojson #}"));
  std::string marks;
  while (marks.size() < spaces.size()) marks += "args  | . ";
  EXPECT_FALSE(reads_objects("{# " + marks + "#}"));
}

}  // namespace
}  // namespace redoubt
