#include "server/routes_errors.h"

#include <fmt/format.h>

#include "server/sse.h"

namespace redoubt {
namespace {

std::string_view anthropic_type(int status) {
  switch (status) {
    case 400:
    case 422: return "invalid_request_error";
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503:
    case 529: return "overloaded_error";
    default: return status < 500 ? "invalid_request_error" : "api_error";
  }
}

}  // namespace

std::string styled_error_body(const ApiError& error, ErrorStyle style) {
  if (style == ErrorStyle::openai) return error_body(error);
  std::string body;
  if (style == ErrorStyle::anthropic) {
    body = R"({"type":"error","error":{"type":)";
    append_json_string(body, anthropic_type(error.status));
    body += R"(,"message":)";
    append_json_string(body, error.message);
    body += "}}";
    return body;
  }
  body = R"({"error":)";
  append_json_string(body, error.message);
  body += "}";
  return body;
}

void send_styled_error(ResponseWriter& writer, const ApiError& error, ErrorStyle style) {
  if (style == ErrorStyle::openai) return send_error(writer, error);
  writer.send(error.status, "application/json", styled_error_body(error, style), error.headers);
}

void send_styled_error(ResponseWriter& writer, const Error& error, ErrorStyle style) {
  send_styled_error(writer, request_error(error), style);
}

ApiError request_error(const Error& error) {
  ApiError out = api_error(error);
  if (error.code == ErrorCode::context_length) out.code = "context_length_exceeded";
  if (error.code == ErrorCode::not_found && error.param == "model") out.code = "model_not_found";
  if (out.param.empty()) out.param = error.param;
  return out;
}

ApiError model_not_found(const std::string& name) {
  return {404, fmt::format("model: the server has no model named '{}'", name.substr(0, 128)), "not_found_error", "model",
          "model_not_found", {}};
}

void send_json(ResponseWriter& writer, const Json& body) { writer.send(200, "application/json", dump_json(body)); }

}  // namespace redoubt
