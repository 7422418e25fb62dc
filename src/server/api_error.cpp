#include "server/api_error.h"

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
    case ErrorCode::unauthenticated:
      api.status = 401;
      api.type = "authentication_error";
      break;
    case ErrorCode::denied:
      api.status = 403;
      api.type = "permission_error";
      break;
    case ErrorCode::not_found:
      api.status = 404;
      api.type = "not_found_error";
      break;
    case ErrorCode::conflict:
      api.status = 409;
      api.type = "invalid_request_error";
      api.code = "conflict";
      break;
    case ErrorCode::overloaded:
      api.status = 503;
      api.type = "overloaded_error";
      api.code = "overloaded";
      api.headers = {{"Retry-After", "1"}};
      break;
    case ErrorCode::unavailable:
      api.status = 503;
      api.type = "overloaded_error";
      api.code = "unavailable";
      api.headers = {{"Retry-After", "1"}};
      break;
    case ErrorCode::unsupported:
      api.status = 501;
      api.type = "not_supported_error";
      api.headers = {{"x-should-retry", "false"}};  // clients try every 5xx again
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

std::string anthropic_error_body(const ApiError& error) {
  std::string type = "api_error";
  switch (error.status) {
    case 401:
      type = "authentication_error";
      break;
    case 403:
      type = "permission_error";
      break;
    case 404:
      type = "not_found_error";
      break;
    case 413:
      type = "request_too_large";
      break;
    case 429:
      type = "rate_limit_error";
      break;
    case 503:
    case 529:
      type = "overloaded_error";
      break;
    default:
      if (error.status >= 400 && error.status < 500) type = "invalid_request_error";
  }
  Json body;
  body["type"] = "error";
  body["error"] = Json{{"type", type}, {"message", error.message}};
  return dump_json(body);
}

std::string ollama_error_body(const ApiError& error) { return dump_json(Json{{"error", error.message}}); }

std::string error_body_for_path(std::string_view path, const ApiError& error) {
  if (path == "/v1/messages" || path.starts_with("/v1/messages/")) return anthropic_error_body(error);
  if (path.starts_with("/api/")) return ollama_error_body(error);
  return error_body(error);
}

ApiError status_error(int status, std::string message) {
  ApiError error{.status = status, .message = std::move(message), .type = "invalid_request_error"};
  switch (status) {
    case 401:
      error.type = "authentication_error";
      error.code = "invalid_api_key";
      error.headers = {{"WWW-Authenticate", "Bearer"}};
      break;
    case 404:
      error.type = "not_found_error";
      break;
    case 405:
      error.code = "method_not_allowed";
      break;
    case 408:
      error.code = "request_timeout";
      break;
    case 413:
      error.code = "request_too_large";
      break;
    case 500:
      error.type = "server_error";
      break;
    case 503:
      error.type = "overloaded_error";
      error.code = "overloaded";
      error.headers = {{"Retry-After", "1"}};
      break;
    default:
      break;
  }
  return error;
}

bool is_clients_fault(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::denied:
    case ErrorCode::not_found:
    case ErrorCode::unsupported:
    case ErrorCode::context_length:
      return true;
    default:
      return false;
  }
}

}  // namespace redoubt
