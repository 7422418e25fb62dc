// One answer, from a prompt's ids to the last character, on the caller's thread: what the terminal shows.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "engine/model_host.h"

namespace redoubt {

struct SpokenAnswer {
  std::vector<int32_t> ids;  // without the stop token
  std::string text;          // all of it, or what follows the thinking where there is some
  std::string reasoning;
  FinishReason finish = FinishReason::none;
  GenerationUsage usage;
};

struct SpokenOptions {
  bool parse_thinking = false;              // tell thinking from answer
  const std::atomic<bool>* stop = nullptr;  // set: the answer ends here (Ctrl-C)
};

// `sink` gets each piece of text as it comes.
using SpokenSink = std::function<void(std::string_view text, bool reasoning)>;
Result<SpokenAnswer> speak(LoadedModel& model, GenerationRequest request, const SpokenOptions& options,
                           const SpokenSink& sink);

std::string_view finish_name(FinishReason finish);  // "stop", "length", …

}  // namespace redoubt
