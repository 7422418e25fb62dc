#include "governance/jwks_keeper.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "core/log.h"
#include "core/mapped_file.h"

namespace redoubt {

JwksKeeper::JwksKeeper(OidcVerifier& verifier, JwksKeeperOptions options, const Clock& clock)
    : verifier_(verifier), options_(std::move(options)), clock_(clock), had_s_(verifier.providers().size()) {
  for (std::atomic<int64_t>& had : had_s_) had = -1;
  look();
  if (options_.look_ms > 0) thread_.start(std::chrono::milliseconds(options_.look_ms), [this] { look(); });
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

int64_t JwksKeeper::age_s(size_t provider) const {
  const int64_t had_s = had_s_[provider];
  return had_s < 0 ? -1 : clock_.now_ns() / 1'000'000'000 - had_s;
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
  had_s_[provider] = clock_.now_ns() / 1'000'000'000;
  if (*text == source.taken) return;
  source.taken = *text;
  if (keys->keys().empty())
    log::warn("oidc {}: its set holds no key that could verify a token: nobody comes in by it", name);
  verifier_.set_keys(provider, *keys);
}

void JwksKeeper::look_at_file(size_t provider, Source& source) {
  const std::filesystem::path path = verifier_.providers()[provider].jwks_file;
  std::error_code error;
  const auto written = std::filesystem::last_write_time(path, error);
  const auto size = error ? 0 : std::filesystem::file_size(path, error);
  std::string seen = error ? error.message() : fmt::format("{} {}", written.time_since_epoch().count(), size);
  if (seen == source.seen) {
    if (!source.failing) had_s_[provider] = clock_.now_ns() / 1'000'000'000;
    return;
  }
  source.seen = std::move(seen);
  if (error) return take(provider, source, io_error(path.string() + ": " + error.message()));
  take(provider, source, read_text_file(path, JwkSetLimits().max_bytes));
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
  take(provider, source, options_.fetch(verifier_.providers()[provider]));
}

}  // namespace redoubt
