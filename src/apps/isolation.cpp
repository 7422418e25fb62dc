#include "apps/isolation.h"

#include <fmt/format.h>

#include "server/client_address.h"

namespace redoubt {
namespace {

bool is_loopback(const std::string& host) {
  const auto address = IpAddress::parse(host);
  return host == "localhost" || (address && address->loopback());
}

// Without the user and password of a URL.
std::string without_secrets(const std::string& url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string::npos) return url;
  const size_t begin = scheme + 3, slash = std::min(url.find('/', begin), url.size()), at = url.rfind('@', slash);
  const std::string host = at != std::string::npos && at >= begin ? url.substr(at + 1) : url.substr(begin);
  return url.substr(0, begin) + host.substr(0, host.find('?'));
}

std::string transport_of(const ServeConfig& config, const std::string& host) {
  if (config.tls) {
    constexpr const char* kClients[] = {"", ", client certificates asked for", ", client certificates required"};
    return std::string("TLS 1.3") + kClients[static_cast<int>(config.tls->clients)];
  }
  if (is_loopback(host)) return "plain, loopback only";
  return config.behind_tls_proxy ? "plain, behind a proxy that ends TLS" : "plain: the server refuses to start";
}

}  // namespace

std::vector<IsolationEntry> isolation_of(const ServeConfig& config) {
  std::vector<IsolationEntry> entries;
  const bool off = config.auth == "off";
  entries.push_back({"listener", "clients", fmt::format("{}:{}", config.host, config.port),
                     transport_of(config, config.host) + (off ? ", auth: off" : ", keys asked for"),
                     off ? "auth: off: whoever reaches it may use every model; leave the word out" : ""});
  if (!off && config.api_key_file.empty()) {
    const std::string port = config.admin_port ? std::to_string(*config.admin_port)
                                               : fmt::format("{} or, if taken, any free one", config.port + 1);
    entries.push_back({"listener", "administration", fmt::format("{}:{}", config.admin_host, port),
                       transport_of(config, config.admin_host) + ", administrators' keys asked for", ""});
  }
  if (config.database.find("://") != std::string::npos)
    entries.push_back({"peer", "database", without_secrets(config.database), "PostgreSQL", ""});
  for (const OidcProvider& provider : config.oidc) {
    if (!provider.jwks_url.empty())
      entries.push_back(
          {"peer", "oidc " + provider.name, without_secrets(provider.jwks_url), "its keys, by HTTPS", ""});
  }
  return entries;
}

}  // namespace redoubt
