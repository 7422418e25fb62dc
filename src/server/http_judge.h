// From a header that was read to a request with its permit and route, or to the refusal it earns: everything that is
// decided before the body. No sockets here.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "server/client_address.h"
#include "server/http.h"
#include "server/http_exchange.h"
#include "server/http_reader.h"
#include "server/router.h"

namespace redoubt {

// A request that was read, or the refusal it earns; neither: the connection is to be closed without a word.
struct Incoming {
  std::shared_ptr<HttpRequest> request;
  const Route* route = nullptr;
  std::optional<ApiError> refusal;
  bool preflight = false;
  HttpExchange::Setup setup;

  void refuse(int status, std::string message);
};

// What a listener judges by.
struct HttpDoor {
  const HttpOptions& options;
  const Router& router;  // of this listener's routes
  const TrustedProxies& trusted;
  UnreadForwarded& unread_forwarded;
  RouteListener listener = RouteListener::client;
  bool draining = false;
};

// Who is at the other end of a connection.
struct HttpPeer {
  std::string address;  // its own, or what a trusted proxy's PROXY header says
  std::optional<TlsPeer> tls;
};

void judge_header(const HttpDoor& door, const HttpPeer& peer, const HttpReader& reader, Incoming& incoming);

}  // namespace redoubt
