// What a configuration opens to the world, and whom it lets the server speak to: every listener, and every named peer.
// There is no other outgoing connection (server/peer_client and storage's PostgreSQL are the only files that make any).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/listeners_file.h"
#include "apps/serve_config.h"

namespace redoubt {

struct IsolationEntry {
  std::string what;  // "listener", "peer"
  std::string name;  // "clients", "administration", "database", "oidc corp"
  std::string where;
  std::string how;     // TLS, who is asked for what
  std::string remedy;  // empty: nothing to do
};

// `running`: where the server that holds the data folder listens, if one does.
std::vector<IsolationEntry> isolation_of(const ServeConfig& config,
                                         const std::optional<Listeners>& running = std::nullopt);

}  // namespace redoubt
