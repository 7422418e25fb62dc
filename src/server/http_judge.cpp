#include "server/http_judge.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/lower_case.h"
#include "server/api_error.h"
#include "server/foreign_page.h"
#include "server/gate.h"
#include "server/http_parse.h"
#include "server/routes_errors.h"

namespace redoubt {
namespace {

// What a page of another origin may read of an answer (governance/limits.h: rate_headers).
constexpr std::string_view kExposedHeaders =
    "x-request-id, request-id, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    "x-ratelimit-reset-requests, "
    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, "
    "x-redoubt-tools-left-out";

// The grammar's corners, the target, and who sent it. Returns the path that routes are found by.
Result<std::string> read_head(const HttpDoor& door, const HttpPeer& peer, const HttpReader& reader,
                              HttpRequest& request) {
  if (reader.version() != 10 && reader.version() != 11) return invalid("request: expected HTTP/1.1");
  REDOUBT_CHECK(check_headers(request.headers, reader.version() == 10));
  if (request.method == "TRACE" || request.method == "CONNECT")
    return invalid("method: TRACE and CONNECT are not served");
  REDOUBT_TRY(RequestTarget target, parse_request_target(reader.target()));
  request.path = std::move(target.path);
  if (!target.authority.empty()) {  // it is the one that counts (RFC 9112, 3.2.2)
    for (auto& [name, value] : request.headers) {
      if (name == "host") value = target.authority;
    }
  }
  request.query = std::move(target.query);
  // Who speaks the PROXY protocol passes bytes on and takes no header out: what stands there the client wrote.
  const bool is_passed_on = door.options.proxy_protocol && door.listener == RouteListener::client;
  std::vector<std::string_view> forwarded;
  for (const auto& [name, value] : request.headers) {
    if (name == "x-forwarded-for" && !is_passed_on) forwarded.push_back(value);
  }
  ClientAddress client = client_address(peer.address, forwarded, door.trusted);
  door.unread_forwarded.tell(peer.address, client);
  request.remote_address = std::move(client.address);
  return std::move(target.routed);
}

void answer_preflight(const HttpRequest& request, const std::string& allow, Incoming& incoming) {
  HttpHeaders& headers = incoming.setup.headers;
  headers.emplace_back("Access-Control-Allow-Methods", allow);
  const std::string names = allowed_cors_headers(request.header("access-control-request-headers"));
  if (!names.empty()) headers.emplace_back("Access-Control-Allow-Headers", names);
  headers.emplace_back("Access-Control-Max-Age", "600");
  incoming.preflight = true;
}

}  // namespace

void Incoming::refuse(int status, std::string message) {
  refusal = status_error(status, std::move(message));
  if (status == 400 || status == 413 || status == 431) setup.keep_alive = false;
}

void judge_header(const HttpDoor& door, const HttpPeer& peer, const HttpReader& reader, Incoming& incoming) {
  HttpExchange::Setup& setup = incoming.setup;
  auto request = std::make_shared<HttpRequest>();
  request->remote_address = peer.address;
  request->tls_peer = peer.tls;
  request->method = reader.method();
  request->headers = reader.headers();
  if (is_sane_request_id(request->header("x-request-id")))
    setup.request_id = std::string(request->header("x-request-id"));
  else if (std::string trace = trace_id_of(request->header("traceparent")); !trace.empty())
    setup.request_id = std::move(trace);
  request->request_id = setup.request_id;
  setup.http_1_0 = reader.version() < 11;
  setup.head = request->method == "HEAD";
  setup.keep_alive = reader.keep_alive() && !door.draining;
  incoming.request = request;

  if (request->headers.size() > door.options.limits.max_headers)
    return incoming.refuse(431, fmt::format("request: expected at most {} headers", door.options.limits.max_headers));
  const Result<std::string> routed = read_head(door, peer, reader, *request);
  if (!routed) return incoming.refuse(400, routed.error().message);

  const std::string_view origin = request->header("origin");
  // A page that may speak with models is not one that may administer.
  const bool origin_ok = door.listener == RouteListener::client && origin_allowed(origin, door.options.cors_origins);
  if (origin_ok) {
    setup.headers = {{"Access-Control-Allow-Origin", std::string(origin)},
                     {"Vary", "Origin"},
                     {"Access-Control-Expose-Headers", std::string(kExposedHeaders)}};
  }
  if (error_style(*routed) == ErrorStyle::anthropic) setup.headers.emplace_back("request-id", setup.request_id);
  Router::Match match = door.router.find(request->method, *routed);
  if (request->method == "OPTIONS" && origin_ok && !request->header("access-control-request-method").empty() &&
      !match.allow.empty()) {
    return answer_preflight(*request, match.allow, incoming);
  }
  // Before paths are told from one another: without a key nobody learns which exist.
  if (match.route == nullptr || !match.route->rule->strangers) {
    if (door.options.gate->open()) {
      incoming.refusal = refuse_foreign_page(request->headers, door.options.host_names, door.options.cors_origins);
      if (incoming.refusal) return;
    }
    auto entered = door.options.gate->enter(*request, match.route);
    if (ApiError* error = std::get_if<ApiError>(&entered)) {
      incoming.refusal = std::move(*error);
      // Who shows no key holds no connection.
      if (incoming.refusal->status == 401 || incoming.refusal->status == 429) setup.keep_alive = false;
      return;
    }
    request->permit = std::get<std::shared_ptr<Permit>>(std::move(entered));
  }
  if (match.allow.empty()) return incoming.refuse(404, "path: no such route");
  if (match.route == nullptr) {
    incoming.refuse(405, "method: expected one of " + match.allow);
    incoming.refusal->headers.emplace_back("Allow", match.allow);
    return;
  }
  const std::string_view expect = request->header("expect");
  if (!expect.empty() && lower_case(expect) != "100-continue")
    return incoming.refuse(417, "expect: only 100-continue is known");
  if (std::ranges::any_of(request->headers, [](const auto& header) {
        return header.first == "content-encoding" && !header.second.empty() && lower_case(header.second) != "identity";
      }))
    return incoming.refuse(415, "content-encoding: expected a body as it is, found one that is packed");
  request->path_params = std::move(match.params);
  request->action = match.route->rule->action;
  request->rate = match.route->rule->rate.value_or(RateClass::none);
  incoming.route = match.route;
}

}  // namespace redoubt
