// For tests of who comes in: a handler that tells a secret as a real one would answer, after it asked for the model
// where the body names one.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "server/http.h"

namespace redoubt {

inline constexpr std::string_view kSecret = "the-answer-of-a-closed-route";

inline Handler telling_handler(const Route& route, std::function<void()> on_call = {}) {
  return [rule = *route.rule, on_call](std::shared_ptr<const HttpRequest> request,
                                       std::shared_ptr<ResponseWriter> writer) {
    if (on_call) on_call();
    if (rule.resource == "Model") {
      const Status status =
          request->permit->check({.action = request->action, .resource_kind = "Model", .resource_id = "tiny"});
      if (!status) return send_error(*writer, api_error(status.error()));
    }
    writer->send(200, "text/plain", std::string(kSecret));
  };
}

}  // namespace redoubt
