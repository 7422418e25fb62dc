#include "text/chat_template.h"

#include "text/jinja_eval.h"
#include "text/jinja_parser.h"

namespace redoubt {

struct ChatTemplate::State {
  std::string source;
  jinja::Template parsed;
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
  return ChatTemplate(std::move(state));
}

Result<MarkedText> ChatTemplate::render(const Json& context, const std::map<std::string, std::string>& markup_globals,
                                        const RenderLimits& limits) const {
  jinja::Evaluator evaluator(state_->parsed, limits);
  REDOUBT_TRY(jinja::OriginText text, evaluator.run(context, markup_globals));
  return std::move(text).release();
}

const std::string& ChatTemplate::source() const { return state_->source; }

Result<MarkedText> render_chat(const ChatTemplate& chat_template, const Json& context,
                               const std::map<std::string, std::string>& markup_globals) {
  auto rendered = chat_template.render(context, markup_globals);
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
  return changed ? chat_template.render(filled, markup_globals) : std::move(rendered);
}

}  // namespace redoubt
