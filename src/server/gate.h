// Who may come in: asked on the socket's loop once the header of a request was read, before its body is.
//
// A gate answers from memory and never waits. What it returns is the permit that goes with the request, or the error
// that refuses it. It is asked for unknown paths too (route: null), so that a stranger does not learn which exist.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "governance/permit.h"
#include "server/http.h"

namespace redoubt {

class Gate {
 public:
  virtual ~Gate() = default;
  // `head` is the request without its body. A route that answers strangers is never asked about.
  virtual std::variant<std::shared_ptr<Permit>, ApiError> enter(const HttpRequest& head, const Route* route) = 0;
  // Asks nobody for anything: only for a listener on loopback.
  virtual bool open() const { return false; }
};

// The id of a route as a resource of policies: "POST /v1/chat/completions".
std::string route_id(const Route& route);

// The scope and the policies of a route, for a caller who was recognised.
std::variant<std::shared_ptr<Permit>, ApiError> enter_route(std::shared_ptr<Permit> permit, const HttpRequest& head,
                                                            const Route* route);

// Keys of a file, each of which may use every client route. They belong to one tenant, have no name and no end.
std::shared_ptr<Gate> make_key_file_gate(std::vector<std::string> keys);

// `auth: off`: everybody may use every client route, and nobody administers.
std::shared_ptr<Gate> make_open_gate();

}  // namespace redoubt
