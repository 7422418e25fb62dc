// What a configuration opens to the world, and whom it lets the server speak to: every listener, and every named peer.
// There is no other outgoing connection (server/peer_client and storage's PostgreSQL are the only files that make any).
#pragma once

#include <optional>
#include <vector>

#include "apps/listeners_file.h"
#include "apps/serve_config.h"

namespace redoubt {

// `running`: where a server of that configuration listens, once it does.
std::vector<IsolationEntry> isolation_of(const ServeConfig& config,
                                         const std::optional<Listeners>& running = std::nullopt);

}  // namespace redoubt
