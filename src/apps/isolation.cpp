#include "apps/isolation.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "server/client_address.h"

namespace redoubt {
namespace {

// Without the user and password of a URL; of what follows "?" only where it leads (libpq: ?host=/run/postgresql).
std::string without_secrets(const std::string& url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string::npos) return url;
  const size_t begin = scheme + 3, slash = std::min(url.find('/', begin), url.size()), at = url.rfind('@', slash);
  const std::string host = at != std::string::npos && at >= begin ? url.substr(at + 1) : url.substr(begin);
  const size_t question = host.find('?');
  std::string shown = url.substr(0, begin) + host.substr(0, question);
  if (question == std::string::npos) return shown;
  char before = '?';
  for (std::string_view rest = std::string_view(host).substr(question + 1); !rest.empty();) {
    const std::string_view one = rest.substr(0, rest.find('&')), name = one.substr(0, one.find('='));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    if (name != "host" && name != "hostaddr" && name != "port") continue;
    shown += std::exchange(before, '&');
    shown += one;
  }
  return shown;
}

std::string transport_of(const ServeConfig& config, const std::string& host) {
  if (config.tls) {
    constexpr const char* kClients[] = {"", ", client certificates asked for", ", client certificates required"};
    return std::string("TLS 1.3") + kClients[static_cast<int>(config.tls->clients)];
  }
  if (const auto loopback = is_loopback_host(host); loopback && *loopback) return "plain, loopback only";
  return config.behind_tls_proxy ? "plain, behind a proxy that ends TLS" : "plain: the server refuses to start";
}

}  // namespace

std::vector<IsolationEntry> isolation_of(const ServeConfig& config, const std::optional<Listeners>& running) {
  std::vector<IsolationEntry> entries;
  const bool off = config.auth == "off";
  entries.push_back({"listener", "clients",
                     address_of(running ? running->clients : config.base_url(config.host, config.port)),
                     transport_of(config, config.host) + (off ? ", auth: off" : ", keys asked for"),
                     off ? "auth: off: whoever reaches it may use every model; leave the word out" : ""});
  if (!off && config.api_key_file.empty()) {
    const int64_t port = config.first_admin_port();
    const std::string configured = address_of(config.base_url(config.admin_host, port)) +
                                   (config.admin_port || port == 0 ? "" : " or, if taken, any free one");
    entries.push_back({"listener", "administration",
                       running && !running->administration.empty() ? address_of(running->administration) : configured,
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
