#include "server/ollama_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/trimmed.h"

namespace redoubt {
namespace {

constexpr int64_t kOllamaWindow = 64;

Status parse_options(ChatRequest& chat, const JsonFields& fields) {
  REDOUBT_TRY(const Json* given, fields.object("options"));
  if (given == nullptr) return ok();
  const JsonFields options(*given, "options");
  REDOUBT_TRY(chat.generation, parse_generation_fields(options));
  if (chat.generation.n != 1) return options.refuse("n", "expected 1");
  // Whoever sets Ollama's penalty means the last 64 tokens, as Ollama does.
  if (options.find("repeat_penalty") != nullptr && !chat.generation.penalty_window)
    chat.generation.penalty_window = kOllamaWindow;
  REDOUBT_TRY(const auto predict, options.integer("num_predict", -2));
  if (predict && *predict > 0) chat.generation.max_tokens = predict;
  chat.generation.max_tokens_field = options.param("num_predict");
  REDOUBT_TRY(const auto context, options.integer("num_ctx", 1));
  chat.context_limit = context.value_or(0);
  return ok();
}

Status parse_format(ChatRequest& chat, const JsonFields& fields) {
  const Json* format = fields.find("format");
  if (format == nullptr || *format == "") return ok();
  if (*format == "json") {
    return set_grammar(chat.generation, {.kind = GrammarSpec::Kind::json_object, .param = "format"});
  }
  if (!format->is_object()) return fields.refuse("format", "expected \"json\" or a JSON schema");
  return set_grammar(chat.generation, {.kind = GrammarSpec::Kind::json_schema, .schema = *format, .param = "format"});
}

Status parse_think(ChatRequest& chat, const JsonFields& fields) {
  const Json* think = fields.find("think");
  if (think == nullptr) return ok();
  if (think->is_boolean()) {
    chat.reasoning_effort = think->get<bool>() ? "high" : "none";
    return ok();
  }
  if (!think->is_string()) return wrong_type("think", "a boolean or a string", *think);
  chat.reasoning_effort = think->get<std::string>();
  REDOUBT_CHECK(effort_budget(*chat.reasoning_effort, "think"));
  return ok();
}

constexpr double kLongestStayS = 100.0 * 365 * 86'400;  // longer is for ever, as negative times are

// Seconds of "1h30m", "300ms", "-1m" (as Go writes durations); a bare number is seconds.
std::optional<double> parse_duration_s(std::string_view text) {
  constexpr std::pair<std::string_view, double> kUnits[] = {{"ns", 1e-9}, {"us", 1e-6}, {"µs", 1e-6}, {"ms", 1e-3},
                                                            {"s", 1.0},   {"m", 60.0},  {"h", 3600.0}};
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  double sum = 0;
  while (!text.empty()) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (error != std::errc() || !std::isfinite(number) || number < 0) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (text.empty() && sum == 0) return is_negative ? -number : number;
    const std::string_view unit = text.substr(0, std::min(text.find_first_of("0123456789."), text.size()));
    const auto known =
        std::find_if(std::begin(kUnits), std::end(kUnits), [&](const auto& u) { return u.first == unit; });
    if (known == std::end(kUnits)) return std::nullopt;
    sum += number * known->second;
    text.remove_prefix(unit.size());
  }
  return is_negative ? -sum : sum;
}

// How long the model stays loaded after this request. Parts of a second count as a whole one.
Result<std::optional<ModelStay>> parse_keep_alive(const JsonFields& fields) {
  const Json* time = fields.find("keep_alive");
  if (time == nullptr) return std::optional<ModelStay>();
  std::optional<double> seconds;
  if (time->is_number()) seconds = time->get<double>();
  if (time->is_string()) seconds = parse_duration_s(time->get_ref<const std::string&>());
  if (!seconds) {
    if (!time->is_string()) return wrong_type("keep_alive", "a number of seconds or a duration such as \"5m\"", *time);
    return fields.refuse("keep_alive", "expected a number of seconds or a duration such as \"5m\"");
  }
  if (*seconds < 0 || *seconds > kLongestStayS) return std::optional(ModelStay{});
  return std::optional(ModelStay{static_cast<int64_t>(std::ceil(*seconds))});
}

Status refuse_images(const JsonFields& fields) {
  return fields.refuse_unless_empty("images", "only text is supported");
}

// Ollama's templates leave a last turn of the assistant open: the answer goes on from it.
void go_on_from_last(ChatRequest& chat) {
  const Json& last = chat.messages.back();
  if (last["role"] != "assistant" || last.contains("tool_calls") || !last["content"].is_string()) return;
  if (trimmed(last["content"].get_ref<const std::string&>()).empty()) return;
  chat.continue_final_message = true;
  chat.add_generation_prompt = false;
}

Status parse_messages(ChatRequest& chat, const Json& list) {
  Json messages = Json::array();
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    if (!list[i].is_object()) return wrong_type(where, "an object", list[i]);
    const JsonFields fields(list[i], where);
    REDOUBT_CHECK(refuse_images(fields));
    Json message = list[i];
    REDOUBT_TRY(const auto thinking, fields.string("thinking"));
    message.erase("images");
    message.erase("thinking");
    if (thinking) message["reasoning_content"] = *thinking;
    REDOUBT_TRY(const auto tool_name, fields.string("tool_name"));
    message.erase("tool_name");
    if (tool_name && fields.find("name") == nullptr) message["name"] = *tool_name;
    if (fields.find("content") == nullptr) message["content"] = "";
    messages.push_back(std::move(message));
  }
  REDOUBT_TRY(chat.messages, parse_chat_messages(messages, "messages"));
  go_on_from_last(chat);
  return ok();
}

}  // namespace

Result<OllamaRequest> parse_ollama_request(const Json& body, OllamaEndpoint endpoint) {
  const JsonFields fields(body);
  OllamaRequest out;
  ChatRequest& chat = out.chat;
  REDOUBT_TRY(const auto model, fields.string("model"));
  chat.model = model.value_or("");
  chat.cap_max_tokens = true;
  REDOUBT_CHECK(parse_options(chat, fields));
  REDOUBT_CHECK(parse_format(chat, fields));
  REDOUBT_CHECK(refuse_structures_of_others(
      fields, {"response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice",
               "guided_grammar", "json_schema", "output_format", "output_config", "text"}));
  REDOUBT_CHECK(parse_think(chat, fields));
  REDOUBT_TRY(const auto stream, fields.boolean("stream"));
  chat.stream = stream.value_or(true);
  REDOUBT_CHECK(fields.refuse_unless_empty("template", "a request may not bring its own template"));
  REDOUBT_CHECK(fields.refuse_unless_empty("context", "is not supported; use /api/chat"));
  REDOUBT_CHECK(fields.refuse_unless_empty("suffix", "is not supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("logprobs", "is not supported; use /v1/chat/completions"));
  REDOUBT_CHECK(fields.refuse_unless_empty("top_logprobs", "is not supported; use /v1/chat/completions"));
  REDOUBT_TRY(out.stay, parse_keep_alive(fields));
  REDOUBT_CHECK(refuse_images(fields));

  if (endpoint == OllamaEndpoint::chat) {
    REDOUBT_TRY(const Json* messages, fields.array("messages"));
    if (messages == nullptr || messages->empty()) {
      out.load_only = true;
      return out;
    }
    REDOUBT_CHECK(parse_messages(chat, *messages));
    REDOUBT_TRY(const Json* tools, fields.array("tools"));
    if (tools != nullptr) {
      REDOUBT_TRY(chat.tools, parse_chat_tools(*tools, "tools"));
    }
    return out;
  }
  chat.messages_param = "prompt";
  REDOUBT_TRY(const auto prompt, fields.string("prompt"));
  REDOUBT_TRY(const auto system, fields.string("system"));
  REDOUBT_TRY(const auto raw, fields.boolean("raw"));
  out.raw = raw.value_or(false);
  out.load_only = !prompt || prompt->empty();
  out.prompt = prompt.value_or("");
  if (system && !system->empty()) {
    if (out.raw) return fields.refuse("system", "cannot be given with raw");
    chat.messages.push_back({{"role", "system"}, {"content", *system}});
  }
  chat.messages.push_back({{"role", "user"}, {"content", out.prompt}});
  return out;
}

}  // namespace redoubt
