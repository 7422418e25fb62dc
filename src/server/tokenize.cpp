// POST /tokenize and /detokenize in the shapes of vLLM (prompt or messages) and llama.cpp (content); POST
// /apply-template.
#include <fmt/format.h>

#include "core/utf8.h"
#include "server/chat_generation.h"
#include "server/generation_answer.h"
#include "server/prompt_ids.h"
#include "server/routes.h"
#include "server/routes_schemas.h"

namespace redoubt {
namespace {

// What render and tokenize need of a chat: messages, tools and the template's fields.
Result<ChatRequest> parse_prompt_only(const Json& body) {
  const JsonFields fields(body);
  ChatRequest chat;
  REDOUBT_TRY(const auto model, fields.string("model"));
  chat.model = model.value_or("");
  const Json* messages = fields.find("messages");
  if (messages == nullptr) return fields.refuse("messages", "expected an array of messages, found nothing");
  REDOUBT_TRY(chat.messages, parse_chat_messages(*messages, "messages"));
  REDOUBT_TRY(const Json* tools, fields.array("tools"));
  if (tools != nullptr) {
    REDOUBT_TRY(chat.tools, parse_chat_tools(*tools, "tools"));
  }
  REDOUBT_CHECK(parse_tool_choice(chat, fields));
  REDOUBT_CHECK(parse_reasoning_fields(chat, fields));
  REDOUBT_CHECK(parse_template_fields(chat, fields));
  return chat;
}

void add_bos(std::vector<int32_t>& ids, const Tokenizer& tokenizer, bool add) {
  if (add && tokenizer.bos() && (ids.empty() || ids.front() != *tokenizer.bos())) {
    ids.insert(ids.begin(), *tokenizer.bos());
  }
}

// llama.cpp's shape: a piece is a text, or its bytes where it is no whole text.
Status tokenize_content(const LoadedModel& model, const JsonFields& fields, const std::string& content,
                        ResponseWriter& writer) {
  REDOUBT_TRY(const auto special, fields.boolean("add_special"));
  REDOUBT_TRY(const auto parse, fields.boolean("parse_special"));
  REDOUBT_TRY(const auto pieces, fields.boolean("with_pieces"));
  REDOUBT_TRY(std::vector<int32_t> ids,
              encode_counted(model.tokenizer,
                             parse.value_or(true) ? MarkedText::all_markup(content) : MarkedText::plain(content),
                             model.engine->max_context(), "content"));
  add_bos(ids, model.tokenizer, special.value_or(false));
  Json tokens = Json::array();
  for (const int32_t id : ids) {
    if (!pieces.value_or(false)) {
      tokens.push_back(id);
      continue;
    }
    const std::string_view bytes = model.tokenizer.bytes(id);
    Json piece = Json::array();
    if (is_valid_utf8(bytes))
      piece = std::string(bytes);
    else
      for (const char byte : bytes) piece.push_back(static_cast<unsigned char>(byte));
    tokens.push_back({{"id", id}, {"piece", std::move(piece)}});
  }
  send_json(writer, {{"tokens", std::move(tokens)}});
  return ok();
}

Status tokenize(ServerContext& context, const HttpRequest& http, const Json& body,
                const std::shared_ptr<ResponseWriter>& writer) {
  const JsonFields fields(body);
  REDOUBT_TRY(const auto name, fields.string("model"));
  REDOUBT_TRY(const auto content, fields.string("content"));
  REDOUBT_TRY(const auto prompt, fields.string("prompt"));
  std::optional<ChatRequest> chat;
  if (!content && !prompt) {
    if (fields.find("messages") == nullptr) return fields.refuse("prompt", "expected prompt, messages or content");
    REDOUBT_TRY(chat, parse_prompt_only(body));
  }
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model,
              chat ? acquire_chat_model(context, http, *chat) : acquire_model(context, http, name.value_or("")));
  if (content) return tokenize_content(*model, fields, *content, *writer);
  REDOUBT_TRY(const auto special, fields.boolean("add_special_tokens"));
  REDOUBT_TRY(const auto with_texts, fields.boolean("return_token_strs"));
  std::vector<int32_t> ids;
  if (chat) {
    REDOUBT_TRY(ids, chat_prompt_ids(context, *model, *chat));
  } else {
    REDOUBT_TRY(
        ids, encode_counted(model->tokenizer, MarkedText::all_markup(*prompt), model->engine->max_context(), "prompt"));
  }
  add_bos(ids, model->tokenizer, special.value_or(false));
  Json reply = {{"count", ids.size()}, {"max_model_len", model->engine->max_context()}, {"tokens", ids}};
  reply["token_strs"] = nullptr;
  if (with_texts.value_or(false)) {
    Json texts = Json::array();
    for (const int32_t id : ids) texts.push_back(token_text(model->tokenizer, id));
    reply["token_strs"] = std::move(texts);
  }
  send_json(*writer, reply);
  return ok();
}

Status detokenize(ServerContext& context, const HttpRequest& http, const Json& body,
                  const std::shared_ptr<ResponseWriter>& writer) {
  const JsonFields fields(body);
  REDOUBT_TRY(const auto name, fields.string("model"));
  REDOUBT_TRY(const Json* tokens, fields.array("tokens"));
  if (tokens == nullptr) return fields.refuse("tokens", "expected an array of token ids, found nothing");
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_model(context, http, name.value_or("")));
  std::vector<int32_t> ids;
  for (size_t i = 0; i < tokens->size(); ++i) {
    const Json& id = (*tokens)[i];
    const std::string where = fmt::format("tokens[{}]", i);
    if (!id.is_number_integer()) return wrong_type(where, "a token id", id);
    if (id < 0 || id >= model->tokenizer.vocab_size()) {
      return invalid(fmt::format("{}: expected a token id under {}", where, model->tokenizer.vocab_size()), where);
    }
    ids.push_back(id.get<int32_t>());
  }
  const std::string text = model->tokenizer.decode(ids);
  send_json(*writer, {{"prompt", text}, {"content", text}});
  return ok();
}

Status apply_template(ServerContext& context, const HttpRequest& http, const Json& body,
                      const std::shared_ptr<ResponseWriter>& writer) {
  REDOUBT_TRY(const ChatRequest chat, parse_prompt_only(body));
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_chat_model(context, http, chat));
  REDOUBT_TRY(const ChatPrompt prompt,
              render_chat_prompt(*model, chat, context.options, most_counted_tokens(model->engine->max_context())));
  send_json(*writer, {{"prompt", prompt.text.text}});
  return ok();
}

}  // namespace

void add_tokenize_routes(ServerContext& context, std::vector<Route>& routes) {
  const auto add = [&](const char* path, const char* summary, Json request, Json response, auto handle) {
    routes.push_back(
        {.method = "POST",
         .path = path,
         .rule = tokenize_rule(),
         .summary = summary,
         .request_schema = std::move(request),
         .response_schema = std::move(response),
         .handler = json_handler(context, ErrorStyle::openai,
                                 [&context, handle](const HttpRequest& http, const Json& body, const auto& writer) {
                                   return handle(context, http, body, writer);
                                 })});
  };
  add("/tokenize", "Token ids of a text or a chat", tokenize_request_schema(), object_schema({"tokens"}), tokenize);
  add("/detokenize", "Text of token ids", detokenize_request_schema(), object_schema({"prompt", "content"}),
      detokenize);
  add("/apply-template", "The prompt of a chat", chat_request_schema(), object_schema({"prompt"}), apply_template);
}

}  // namespace redoubt
