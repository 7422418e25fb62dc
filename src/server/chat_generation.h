// From a chat to the engine's request: prompt, ids, thinking, structure, limits. Every chat protocol goes through here.
#pragma once

#include <memory>

#include "server/chat_prompt.h"
#include "server/chat_request.h"
#include "server/generation_stream.h"
#include "server/routes.h"

namespace redoubt {

struct ChatGeneration {
  GenerationRequest request;
  GenerationOptions options;  // of the stream
};

// Errors: invalid_argument with `param`; context_length with the numbers in the message.
Result<ChatGeneration> prepare_chat(ServerContext& context, const HttpRequest& http,
                                    const std::shared_ptr<LoadedModel>& model, const ChatRequest& chat);

// The prompt's ids alone (count_tokens, tokenize).
Result<std::vector<int32_t>> chat_prompt_ids(ServerContext& context, const LoadedModel& model, const ChatRequest& chat);

// Where the model has think marks and the prompt ends inside the block, the answer begins there: also after a raw
// prompt.
void note_open_thinking(GenerationRequest& request, const LoadedModel& model);
Result<std::optional<int64_t>> thinking_budget(const ChatRequest& chat);  // nullopt: no limit

// Checks prompt + max_tokens against the context; cuts max_tokens where the protocol says so.
// `answer`: the fields that bound the answer, by the protocol's names.
Status fit_context(GenerationRequest& request, int64_t context_tokens, bool cap, const std::string& prompt_param,
                   const GenerationFields& answer);

}  // namespace redoubt
