// Keeps the providers' keys: reads their files when they change, fetches them from peers every few minutes, and at once
// when a token names a key that is not known (a provider rotated), though not more often than every ten seconds, so
// that nobody's forged tokens make us a nuisance to the provider. Keys that are there stay when a new set cannot be
// had.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/periodic_thread.h"
#include "governance/oidc.h"

namespace redoubt {

struct JwksKeeperOptions {
  // GET of a provider's jwks_url: the body, at most 256 KB. The connection to a named peer is the caller's affair.
  std::function<Result<std::string>(const OidcProvider& provider)> fetch;
  int look_ms = 1000;      // from one look at files and at unknown keys to the next; 0: no thread (tests)
  int64_t fetch_s = 300;   // from one fetch to the next
  int64_t at_once_s = 10;  // at least so long from one fetch to the next, whatever happens
};

class JwksKeeper {
 public:
  // Looks once before it returns, so that files are loaded; what cannot be had is logged and tried again.
  JwksKeeper(OidcVerifier& verifier, JwksKeeperOptions options, const Clock& clock);
  void look();  // one round, on this thread
  // Since the provider's keys were last known to be its own; -1: they never were. Any thread.
  int64_t age_s(size_t provider) const;

 private:
  struct Source {
    std::string seen;           // a file's time and size when it was read last
    int64_t fetched_s = -1;     // when a fetch was tried last
    uint64_t unknown_keys = 0;  // at that time
    std::string taken;          // the keys' text that the verifier has: what it proved holds on while that is the same
    bool failing = false;
  };
  void look_at_file(size_t provider, Source& source);
  void look_at_url(size_t provider, Source& source);
  void take(size_t provider, Source& source, const Result<std::string>& text);

  OidcVerifier& verifier_;
  JwksKeeperOptions options_;
  const Clock& clock_;
  std::mutex looking_;
  std::map<size_t, Source> sources_;
  std::vector<std::atomic<int64_t>> had_s_;  // of each provider, when its keys were had last; -1: never
  PeriodicThread thread_;                    // last: it uses the rest
};

}  // namespace redoubt
