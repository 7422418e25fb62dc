#include "server/chat_generation.h"

#include <algorithm>

#include "server/prompt_ids.h"
#include "server/routes_errors.h"

namespace redoubt {

void note_open_thinking(GenerationRequest& request, const LoadedModel& model) {
  request.thinking.starts_in_reasoning =
      model.output_format.thinks && prompt_opens_reasoning(model.tokenizer, request.prompt);
}

Result<std::optional<int64_t>> thinking_budget(const ChatRequest& chat) {
  std::optional<int64_t> budget;
  if (chat.reasoning_effort) {
    REDOUBT_TRY(budget, effort_budget(*chat.reasoning_effort, "reasoning_effort"));
  }
  if (chat.thinking_budget) {
    budget = *chat.thinking_budget < 0 ? std::nullopt : chat.thinking_budget;
  } else if (!chat.reasoning_effort) {
    // What the template was told holds for the answer too, also where the template does not look at it.
    for (const char* key : {"enable_thinking", "thinking"}) {
      if (chat.template_kwargs.value(key, Json()) == false) budget = 0;
    }
  }
  return budget;
}

Status fit_context(GenerationRequest& request, int64_t context_tokens, bool cap, const std::string& prompt_param,
                   const GenerationFields& answer) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) return invalid(prompt_param + ": expected at least one token, found an empty prompt", prompt_param);
  const int64_t room = context_tokens - prompt;
  if (room < 1)
    return context_error(prompt_param, {prompt}, std::max<int64_t>(request.stop.max_tokens, 1), context_tokens);
  if (request.stop.max_tokens > room) {
    if (!cap) return context_error(answer.max_tokens_field, {prompt}, request.stop.max_tokens, context_tokens);
    request.stop.max_tokens = room;
  }
  if (cap && request.stop.max_tokens == 0) request.stop.max_tokens = room;
  if (request.stop.min_tokens > room) {
    return context_error(answer.within + "min_tokens", {prompt}, request.stop.min_tokens, context_tokens);
  }
  return ok();
}

Result<std::vector<int32_t>> chat_prompt_ids(ServerContext& context, const LoadedModel& model,
                                             const ChatRequest& chat) {
  const int64_t limit = model.engine->max_context();
  REDOUBT_TRY(const ChatPrompt prompt, render_chat_prompt(model, chat, context.options, most_counted_tokens(limit)));
  return encode_counted(model.tokenizer, prompt.text, limit, chat.messages_param);
}

Result<ChatGeneration> prepare_chat(ServerContext& context, const HttpRequest& http,
                                    const std::shared_ptr<LoadedModel>& model, const ChatRequest& chat) {
  const int64_t limit = chat.context_limit > 0 ? std::min(chat.context_limit, model->engine->max_context())
                                               : model->engine->max_context();
  REDOUBT_TRY(const ChatPrompt prompt, render_chat_prompt(*model, chat, context.options, limit));
  ChatGeneration out;
  const CompiledGrammars grammars(http, *model);
  REDOUBT_TRY(out.request, lower_generation(chat.generation, grammars));
  GenerationRequest& request = out.request;
  request.id = random_id("gen-");
  REDOUBT_TRY(request.prompt, encode_prompt(model->tokenizer, prompt.text, limit, chat.messages_param));
  REDOUBT_CHECK(fit_context(request, limit, chat.cap_max_tokens, chat.messages_param, chat.generation));
  note_open_thinking(request, *model);
  REDOUBT_TRY(request.thinking.budget_tokens, thinking_budget(chat));
  request.logprobs = chat.logprobs;
  request.top_logprobs = chat.top_logprobs;

  OutputFormat format = model->output_format;
  format.tools = prompt.tools;
  const bool forced = chat.tool_choice == ToolChoice::required;
  if (forced) {
    REDOUBT_TRY(request.grammar, forced_call_grammar(chat, grammars));
    out.options.forced = forced_call(chat);
  } else if (prompt.tools != ToolSyntax::none && (request.grammar != nullptr || binds_calls(chat, format.tools))) {
    REDOUBT_TRY(request.grammar, free_call_grammar(chat, format.tools, grammars));
  }
  if (request.grammar_param.empty()) request.grammar_param = chat.tools_param;
  REDOUBT_CHECK(refuse_bound_minimum(request));
  OutputParser::Options parser{.format = format,
                               .starts_in_reasoning = request.thinking.starts_in_reasoning,
                               .parse_tools = prompt.tools != ToolSyntax::none && !forced};
  if (!chat.separate_reasoning && !forced) {
    parser.format.thinks = false;
    parser.starts_in_reasoning = false;
  }
  out.options.model = model;
  out.options.parser = parser;
  out.options.parallel_tool_calls = chat.parallel_tool_calls;
  out.options.return_token_ids = chat.generation.return_token_ids;
  out.options.metrics = context.metrics;
  out.options.limits = context.limits;
  return out;
}

}  // namespace redoubt
