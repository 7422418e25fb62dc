#include "governance/jwks_keeper.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/log.h"

namespace redoubt {

JwksKeeper::JwksKeeper(OidcVerifier& verifier, JwksKeeperOptions options, const Clock& clock)
    : verifier_(verifier), options_(std::move(options)), clock_(clock) {
  look();
  if (options_.look_ms <= 0) return;
  thread_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (!ended_.wait_for(lock, std::chrono::milliseconds(options_.look_ms), [this] { return end_; })) {
      lock.unlock();
      look();
      lock.lock();
    }
  });
}

JwksKeeper::~JwksKeeper() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  ended_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void JwksKeeper::look() {
  const std::lock_guard lock(looking_);
  for (size_t i = 0; i < verifier_.providers().size(); ++i) {
    if (verifier_.providers()[i].jwks_file.empty()) {
      look_at_url(i, sources_[i]);
    } else {
      look_at_file(i, sources_[i]);
    }
  }
}

void JwksKeeper::take(size_t provider, Source& source, const Result<std::string>& text) {
  const auto keys = text ? JwkSet::parse(*text) : Result<JwkSet>(text.error());
  const std::string& name = verifier_.providers()[provider].name;
  if (!keys) {
    if (!source.failing) log::warn("oidc {}: its keys cannot be had: {}", name, keys.error().message);
    source.failing = true;
    return;
  }
  if (source.failing) log::info("oidc {}: its keys are there again", name);
  source.failing = false;
  verifier_.set_keys(provider, *keys);
}

void JwksKeeper::look_at_file(size_t provider, Source& source) {
  const std::filesystem::path path = verifier_.providers()[provider].jwks_file;
  std::error_code error;
  const auto written = std::filesystem::last_write_time(path, error);
  const auto size = error ? 0 : std::filesystem::file_size(path, error);
  std::string seen = error ? error.message() : fmt::format("{} {}", written.time_since_epoch().count(), size);
  if (seen == source.seen) return;
  source.seen = std::move(seen);
  if (error) return take(provider, source, io_error(path.string() + ": " + error.message()));
  if (size > JwkSetLimits().max_bytes) return take(provider, source, io_error(path.string() + ": too large"));
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (!file.good() && !file.eof()) return take(provider, source, io_error(path.string() + ": cannot be read"));
  take(provider, source, std::move(text));
}

void JwksKeeper::look_at_url(size_t provider, Source& source) {
  const int64_t now_s = clock_.now_ns() / 1'000'000'000;
  const uint64_t unknown_keys = verifier_.unknown_keys(provider);
  if (source.fetched_s >= 0) {
    const int64_t since_s = now_s - source.fetched_s;
    const bool asked = unknown_keys != source.unknown_keys || source.failing;
    if (since_s < (asked ? options_.at_once_s : options_.fetch_s)) return;
  }
  source.fetched_s = now_s;
  source.unknown_keys = unknown_keys;
  if (!options_.fetch) return take(provider, source, unsupported("no peer may be asked"));
  take(provider, source, options_.fetch(verifier_.providers()[provider].jwks_url));
}

}  // namespace redoubt
