#include "text/chat_template.h"

#include <algorithm>

#include "text/jinja_eval.h"
#include "text/jinja_parser.h"

namespace redoubt {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";

bool ends_with_arguments(std::string_view text) {
  text = text.substr(0, text.find_last_not_of(kWhiteSpace) + 1);
  for (const std::string_view name : {"arguments", "arguments']", "arguments\"]", "args"}) {
    if (text.ends_with(name)) return true;
  }
  return false;
}

bool begins_with_object_filter(std::string_view text) {
  text = text.substr(std::min(text.find_first_not_of(kWhiteSpace), text.size()));
  return text.starts_with("tojson") || text.starts_with("items");
}

// `arguments | tojson`, `args.items()` and their like, anywhere in the source. Linear: white space is walked over only
// beside a mark, and between two marks twice at most.
bool finds_argument_objects(std::string_view source) {
  constexpr std::string_view kItems = ".items()";
  for (size_t at = 0; (at = source.find_first_of("|.", at)) != std::string_view::npos; ++at) {
    const std::string_view rest = source.substr(at);
    const bool is_mark = rest.front() == '|' ? begins_with_object_filter(rest.substr(1)) : rest.starts_with(kItems);
    if (is_mark && ends_with_arguments(source.substr(0, at))) return true;
  }
  return false;
}

}  // namespace

struct ChatTemplate::State {
  std::string source;
  jinja::Template parsed;
  bool reads_argument_objects = false;
};

ChatTemplate::ChatTemplate(std::unique_ptr<State> state) : state_(std::move(state)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  constexpr size_t kMaxSourceBytes = size_t{4} << 20;  // published templates stay under 100 KB
  if (source.size() > kMaxSourceBytes) return corrupt("chat template: expected at most 4 MiB");
  REDOUBT_TRY(jinja::Template parsed, jinja::parse_template(source));
  auto state = std::make_unique<State>();
  state->source = std::string(source);
  state->parsed = std::move(parsed);
  state->reads_argument_objects = finds_argument_objects(source);
  return ChatTemplate(std::move(state));
}

Result<MarkedText> ChatTemplate::render(const Json& context, const std::map<std::string, std::string>& markup_globals,
                                        const RenderLimits& limits) const {
  jinja::Evaluator evaluator(state_->parsed, limits);
  REDOUBT_TRY(jinja::OriginText text, evaluator.run(context, markup_globals));
  return std::move(text).release();
}

const std::string& ChatTemplate::source() const { return state_->source; }
bool ChatTemplate::reads_argument_objects() const { return state_->reads_argument_objects; }

Result<MarkedText> render_chat(const ChatTemplate& chat_template, const Json& context,
                               const std::map<std::string, std::string>& markup_globals, const RenderLimits& limits) {
  auto rendered = chat_template.render(context, markup_globals, limits);
  if (rendered.has_value() || !context.is_object() || !context.contains("messages") ||
      !context["messages"].is_array()) {
    return rendered;
  }
  Json filled = context;
  bool changed = false;
  for (Json& message : filled["messages"]) {
    if (!message.is_object()) continue;
    const auto content = message.find("content");
    if (content == message.end() || !content->is_null()) continue;
    *content = "";
    changed = true;
  }
  return changed ? chat_template.render(filled, markup_globals, limits) : std::move(rendered);
}

}  // namespace redoubt
