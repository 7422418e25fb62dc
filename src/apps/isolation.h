// What a configuration opens to the world, and whom it lets the server speak to: every listener, and every named peer.
// There is no other outgoing connection (server/peer_client and storage's PostgreSQL are the only files that make any).
#pragma once

#include <string>
#include <vector>

#include "apps/serve_config.h"

namespace redoubt {

struct IsolationEntry {
  std::string what;  // "listener", "peer"
  std::string name;  // "clients", "administration", "database", "oidc corp"
  std::string where;
  std::string how;     // TLS, who is asked for what
  std::string remedy;  // empty: nothing to do
};

std::vector<IsolationEntry> isolation_of(const ServeConfig& config);

}  // namespace redoubt
