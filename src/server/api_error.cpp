#include "server/http.h"

namespace redoubt {

ApiError api_error(const Error& error) {
  ApiError api{.status = 500, .message = error.message, .type = "server_error", .param = error.param};
  switch (error.code) {
    case ErrorCode::invalid_argument:
      api.status = 400;
      api.type = "invalid_request_error";
      break;
    case ErrorCode::context_length:
      api.status = 400;
      api.type = "invalid_request_error";
      api.code = "context_length_exceeded";
      break;
    case ErrorCode::denied:
      api.status = 403;
      api.type = "permission_error";
      break;
    case ErrorCode::not_found:
      api.status = 404;
      api.type = "not_found_error";
      break;
    case ErrorCode::overloaded:
      api.status = 503;
      api.type = "overloaded_error";
      api.code = "overloaded";
      api.headers = {{"Retry-After", "1"}};
      break;
    case ErrorCode::unsupported:
      api.status = 501;
      api.type = "not_supported_error";
      break;
    case ErrorCode::cancelled:
      api.status = 499;  // nobody reads it; the access log does
      api.type = "cancelled";
      break;
    // What the operating system or a file said stays in the log of whoever met it; the client can act on neither.
    case ErrorCode::corrupt_data:
    case ErrorCode::io:
    case ErrorCode::internal:
      break;
  }
  return api;
}

std::string error_body(const ApiError& error) {
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  Json inner;
  inner["message"] = error.message;
  inner["type"] = error.type;
  inner["param"] = text_or_null(error.param);
  inner["code"] = text_or_null(error.code);
  return dump_json(Json{{"error", std::move(inner)}});
}

void send_error(ResponseWriter& writer, const ApiError& error) {
  writer.send(error.status, "application/json", error_body(error), error.headers);
}

}  // namespace redoubt
