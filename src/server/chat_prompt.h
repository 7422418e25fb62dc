// From a chat to the prompt's text: the model's own template, given the context it expects, or one that the request
// brings.
//
// Strings of the request reach the template as data and come out as unmarked text, so nobody can forge a turn. What the
// server adds itself (schemas of tools for a template that renders none) is data too.
#pragma once

#include <memory>

#include "engine/model_host.h"
#include "server/chat_request.h"
#include "server/routes.h"

namespace redoubt {

struct ChatPrompt {
  MarkedText text;
  ToolSyntax tools = ToolSyntax::none;  // the call format that the prompt taught, if the request offers tools
};

// The model of a chat, as acquire_model. Errors: also denied with param "chat_template", where the request brings a
// template and set_chat_template is not permitted.
Result<std::shared_ptr<LoadedModel>> acquire_chat_model(ServerContext& context, const HttpRequest& http,
                                                        const ChatRequest& request);

// Of the options: force_think appends "<think>\n" where the template does not open it and the model thinks; tool_syntax
// is the one that is taught. Nobody can use more than `most_tokens`.
// Errors: invalid_argument (no template, or the template's own message), context_length.
Result<ChatPrompt> render_chat_prompt(const LoadedModel& model, const ChatRequest& request, const ApiOptions& options,
                                      int64_t most_tokens);

}  // namespace redoubt
