// Knows yaml-cpp, as yaml_json.cpp does; its exceptions end here.
#include "apps/serve_config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <set>

#include "apps/byte_size.h"
#include "core/lower_case.h"
#include "core/mapped_file.h"
#include "core/private_file.h"
#include "server/client_address.h"
#include "server/peer_client.h"
#include "storage/postgres_connection.h"

namespace redoubt {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;

Error wrong(const YAML::Node& node, std::string_view key, std::string_view expected) {
  return invalid(fmt::format("line {}: {}: expected {}", node.Mark().line + 1, key, expected));
}

Status read(const YAML::Node& node, std::string_view key, std::string& out) {
  if (!node.IsScalar()) return wrong(node, key, "a text");
  out = node.Scalar();
  return ok();
}
Status read(const YAML::Node& node, std::string_view key, int64_t& out) {
  if (!node.IsScalar() || !YAML::convert<int64_t>::decode(node, out) || out < 0)
    return wrong(node, key, "a whole number, 0 or more");
  return ok();
}
Status read(const YAML::Node& node, std::string_view key, bool& out) {
  if (!node.IsScalar() || !YAML::convert<bool>::decode(node, out)) return wrong(node, key, "true or false");
  return ok();
}
Status read(const YAML::Node& node, std::string_view key, std::vector<std::string>& out) {
  if (!node.IsSequence()) return wrong(node, key, "a list of texts");
  for (const YAML::Node& item : node) {
    std::string text;
    REDOUBT_CHECK(read(item, key, text));
    out.push_back(std::move(text));
  }
  return ok();
}
template <class Small>
Status read_small(const YAML::Node& node, std::string_view key, Small& out) {
  int64_t value = 0;
  REDOUBT_CHECK(read(node, key, value));
  if (value > int64_t{1} << 30) return wrong(node, key, "at most 1073741824");
  out = static_cast<Small>(value);
  return ok();
}
Status read_size(const YAML::Node& node, std::string_view key, int64_t& out) {
  std::string text;
  REDOUBT_CHECK(read(node, key, text));
  auto bytes = parse_bytes(text, key);
  if (!bytes) return wrong(node, key, "a size such as 512M or 8G");
  out = *bytes;
  return ok();
}

// A bare off is a boolean to YAML; it is taken for the word.
Status read_auth(const YAML::Node& node, std::string& out) {
  REDOUBT_CHECK(read(node, "auth", out));
  if (out == "false") out = "off";
  if (out != "keys" && out != "off") return wrong(node, "auth", "keys or off");
  return ok();
}

struct Field {
  std::string_view key;
  std::function<Status(const YAML::Node&)> read;
};

Status read_fields(const YAML::Node& map, std::string_view where, const std::vector<Field>& fields) {
  if (!map.IsMap()) return invalid(fmt::format("line {}: {}: expected keys and values", map.Mark().line + 1, where));
  std::set<std::string> seen;
  for (const auto& entry : map) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const auto field = std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.key == key; });
    if (field == fields.end()) {
      std::string known;
      for (const Field& f : fields) known += fmt::format("{}{}", known.empty() ? "" : ", ", f.key);
      return invalid(
          fmt::format("line {}: unknown key {} in {}; known: {}", entry.first.Mark().line + 1, key, where, known));
    }
    if (!seen.insert(key).second)
      return invalid(fmt::format("line {}: {} is given twice", entry.first.Mark().line + 1, key));
    REDOUBT_CHECK(field->read(entry.second));
  }
  return ok();
}

Status read_labels(const YAML::Node& map, std::map<std::string, std::string>& out) {
  if (!map.IsMap()) return wrong(map, "labels", "names and texts");
  for (const auto& label : map) {
    std::string name, text;
    REDOUBT_CHECK(read(label.first, "labels", name));
    REDOUBT_CHECK(read(label.second, name, text));
    // An entity, and what keeps tenants apart: it is described with the policies.
    if (name == "tenant") return wrong(label.first, "labels", "no tenant: a model's tenant is told to the policies");
    if (!out.emplace(name, text).second) return wrong(label.first, "labels", "each name once");
  }
  return ok();
}

Status read_models(const YAML::Node& list, const std::filesystem::path& relative_to, std::vector<ModelEntry>& out) {
  if (!list.IsSequence()) return wrong(list, "models", "a list of name and path");
  for (const YAML::Node& item : list) {
    ModelEntry entry;
    std::string path;
    REDOUBT_CHECK(read_fields(item, "models",
                              {{"name", [&](const YAML::Node& n) { return read(n, "name", entry.name); }},
                               {"path", [&](const YAML::Node& n) { return read(n, "path", path); }},
                               {"stage", [&](const YAML::Node& n) { return read(n, "stage", entry.stage); }},
                               {"labels", [&](const YAML::Node& n) { return read_labels(n, entry.labels); }}}));
    if (path.empty()) return wrong(item, "models", "a path for each model");
    entry.path = std::filesystem::path(path).is_absolute() ? std::filesystem::path(path) : relative_to / path;
    if (entry.name.empty()) entry.name = entry.path.stem().string();
    out.push_back(std::move(entry));
  }
  return ok();
}

Status read_port(const YAML::Node& node, std::optional<int64_t>& out) {
  int64_t port = 0;
  REDOUBT_CHECK(read(node, "admin_port", port));
  out = port;
  return ok();
}

Status read_tls(const YAML::Node& map, const std::filesystem::path& relative_to, std::optional<TlsOptions>& out) {
  TlsOptions tls;
  const auto file = [&](std::string_view key, std::filesystem::path& to) {
    return Field{key, [key, &to, &relative_to](const YAML::Node& n) -> Status {
                   std::string text;
                   REDOUBT_CHECK(read(n, key, text));
                   if (!text.empty()) to = relative_to / text;  // an absolute one stays what it is
                   return ok();
                 }};
  };
  const auto clients = [&](const YAML::Node& n) -> Status {
    std::string word;
    REDOUBT_CHECK(read(n, "client_certificates", word));
    if (word == "none")
      tls.clients = ClientCertificates::none;
    else if (word == "request")
      tls.clients = ClientCertificates::request;
    else if (word == "require")
      tls.clients = ClientCertificates::require;
    else
      return wrong(n, "client_certificates", "none, request or require");
    return ok();
  };
  REDOUBT_CHECK(read_fields(map, "tls",
                            {file("certificate", tls.certificate),
                             file("key", tls.key),
                             file("client_ca", tls.client_ca),
                             file("client_crl", tls.client_crl),
                             {"client_certificates", clients}}));
  if (const Status valid = tls.validate(); !valid) return wrong(map, "tls", valid.error().message);
  out = std::move(tls);
  return ok();
}

Status read(const YAML::Node& node, std::string_view key, std::map<std::string, std::string>& out) {
  if (!node.IsMap()) return wrong(node, key, "names and what they become");
  for (const auto& entry : node) {
    std::string from, to;
    REDOUBT_CHECK(read(entry.first, key, from));
    REDOUBT_CHECK(read(entry.second, key, to));
    out[from] = to;
  }
  return ok();
}

Status read_algorithms(const YAML::Node& node, std::vector<SignatureAlgorithm>& out) {
  std::vector<std::string> names;
  REDOUBT_CHECK(read(node, "algorithms", names));
  out.clear();
  for (const std::string& name : names) {
    const auto algorithm = parse_algorithm(name);
    if (!algorithm) return wrong(node, "algorithms", "names as RS256, PS256, ES256, EdDSA");
    out.push_back(*algorithm);
  }
  return ok();
}

// What a request for the keys would refuse at every try is refused at once.
Status check_jwks_url(const std::string& text) {
  if (text.empty()) return ok();
  auto url = parse_peer_url(text);
  if (!url) return std::move(url).error().within("jwks_url");
  if (url->tls) return ok();
  const auto is_loopback = is_loopback_host(url->host);
  if (is_loopback && *is_loopback) return ok();
  return invalid("jwks_url: expected https://, since whoever is between could put keys of their own there");
}

Status read_oidc(const YAML::Node& list, const std::filesystem::path& relative_to, std::vector<OidcProvider>& out) {
  if (!list.IsSequence()) return wrong(list, "oidc", "a list of identity providers");
  for (const YAML::Node& item : list) {
    OidcProvider provider;
    const auto field = [](std::string_view key, auto& to) {
      return Field{key, [key, &to](const YAML::Node& n) { return read(n, key, to); }};
    };
    REDOUBT_CHECK(
        read_fields(item, "oidc",
                    {field("name", provider.name),
                     field("issuer", provider.issuer),
                     field("audiences", provider.audiences),
                     {"algorithms", [&](const YAML::Node& n) { return read_algorithms(n, provider.algorithms); }},
                     field("jwks_file", provider.jwks_file),
                     field("jwks_url", provider.jwks_url),
                     field("jwks_ca", provider.jwks_ca),
                     field("clock_skew_s", provider.clock_skew_s),
                     field("id_claim", provider.id_claim),
                     field("groups_claim", provider.groups_claim),
                     field("tenant", provider.tenant),
                     field("admit_unknown", provider.admit_unknown),
                     field("group_teams", provider.group_teams),
                     field("group_roles", provider.group_roles)}));
    if (!provider.jwks_file.empty()) provider.jwks_file = relative_to / provider.jwks_file;
    if (!provider.jwks_ca.empty()) provider.jwks_ca = relative_to / provider.jwks_ca;
    if (const Status valid = provider.validate(); !valid) return wrong(item, "oidc", valid.error().message);
    if (const Status valid = check_jwks_url(provider.jwks_url); !valid)
      return wrong(item, "oidc", valid.error().message);
    out.push_back(std::move(provider));
  }
  return ok();
}

Status read_limits(const YAML::Node& map, HttpLimits& limits) {
  const auto small = [](std::string_view key, auto& out) {
    return Field{key, [key, &out](const YAML::Node& n) { return read_small(n, key, out); }};
  };
  REDOUBT_CHECK(
      read_fields(map, "limits",
                  {small("max_header_bytes", limits.max_header_bytes),
                   small("max_headers", limits.max_headers),
                   small("header_timeout_s", limits.header_timeout_s),
                   small("body_timeout_s", limits.body_timeout_s),
                   small("idle_timeout_s", limits.idle_timeout_s),
                   small("max_connections", limits.max_connections),
                   small("max_strangers_per_address", limits.max_strangers_per_address),
                   {"max_bodies_bytes",
                    [&](const YAML::Node& n) { return read_size(n, "max_bodies_bytes", limits.max_bodies_bytes); }},
                   small("stream_buffer_bytes", limits.stream_buffer_bytes),
                   small("slow_reader_timeout_s", limits.slow_reader_timeout_s)}));
  if (limits.max_connections >= 2) return ok();
  return wrong(map, "max_connections", "2 at least, one for who has still to show a key");
}

// Where there is no directory, what only it reads would be ignored in silence: each such setting is refused by name.
Status check_without_directory(const ServeConfig& config) {
  const bool off = config.auth == "off";
  if (!off && !config.host_names.empty())
    return invalid("host_names: only with auth: off; who shows a key may use any name of this server");
  if (!off && config.api_key_file.empty()) return ok();
  const std::string_view word = off ? "auth: off" : "api_key_file";
  const ClientCertificates clients = config.tls ? config.tls->clients : ClientCertificates::none;
  const auto is_told_to_policies = [](const ModelEntry& model) {
    return !model.stage.empty() || !model.labels.empty();
  };
  const struct {
    bool given;
    std::string_view key, why;
  } unread[] = {
      {off && !config.api_key_file.empty(), "api_key_file", "asks nobody for a key"},
      {!config.policies.empty(), "policies", "consults no policy"},
      {std::ranges::any_of(config.models, is_told_to_policies), "models: stage, labels", "consults no policy"},
      {!config.database.empty(), "database", "keeps nothing in a database"},
      {!config.oidc.empty(), "oidc", "takes no tokens"},
      // Required ones are still verified before a key is asked for; requested ones would be nobody's.
      {clients == ClientCertificates::request || (off && clients != ClientCertificates::none),
       "tls: client_certificates", "ties no certificate to anybody"},
      {config.admin_port.has_value(), "admin_port", "leaves nothing to administer"},
      {config.admin_host != ServeConfig().admin_host, "admin_host", "leaves nothing to administer"},
  };
  for (const auto& setting : unread) {
    if (setting.given)
      return invalid(fmt::format("{}: excluded by {}, which {}; leave one of them out", setting.key, word, setting.why),
                     off ? "--auth" : "--api-key-file");
  }
  return ok();
}

}  // namespace

Status ServeConfig::validate() const {
  if (port < 0 || port > 65535) return invalid("port: expected 0 to 65535", "--port");
  if (admin_port && *admin_port > 65535) return invalid("admin_port: expected 0 to 65535", "--admin-port");
  if (models.empty()) return invalid("models: name at least one, with --model or in the file", "--model");
  std::set<std::string_view> names;
  for (const ModelEntry& entry : models) {
    if (!names.insert(entry.name).second) return invalid("models: two are named " + entry.name);
  }
  if (threads > 1024) return invalid("threads: at most 1024", "--threads");
  if (max_queue < 1 || max_sequences < 1 || max_batch_tokens < 1) {
    return invalid("max_queue, max_sequences, max_batch_tokens: expected at least 1");
  }
  REDOUBT_CHECK(check_without_directory(*this));
  REDOUBT_CHECK(parse_tool_syntax(tool_syntax));
  REDOUBT_CHECK(parse_reasoning_field(reasoning_field));
  if (limits.max_bodies_bytes < static_cast<int64_t>(Route().max_body_bytes))
    return invalid("limits: max_bodies_bytes: expected at least 32M, the largest body that a route takes");
  if (speculation_depth > 1024) return invalid("speculation_depth: at most 1024");
  return ok();
}

int64_t ServeConfig::first_admin_port() const { return admin_port.value_or(port == 0 ? 0 : (port + 1) % 65536); }

std::vector<std::string> ServeConfig::warnings() const {
  std::vector<std::string> warnings;
  if (behind_tls_proxy && trusted_proxies.empty())
    warnings.emplace_back(
        "behind_tls_proxy without trusted_proxies: every client has the proxy's address, so that one who guesses keys "
        "makes all wait whose tokens are new here, and policies and records see one address; name the proxy's");
  return warnings;
}

std::string ServeConfig::base_url(const std::string& host_of, int64_t port_of) const {
  const bool v6 = host_of.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", tls ? "https" : "http", v6 ? "[" : "", host_of, v6 ? "]" : "", port_of);
}

Result<std::optional<ToolSyntax>> parse_tool_syntax(std::string_view name) {
  if (name == "auto") return std::optional<ToolSyntax>();
  std::string known = "auto";
  for (const auto& [text, syntax] : {std::pair<std::string_view, ToolSyntax>{"none", ToolSyntax::none},
                                     {"deepseek_v3", ToolSyntax::deepseek_v3},
                                     {"deepseek_v31", ToolSyntax::deepseek_v31},
                                     {"deepseek_v32", ToolSyntax::deepseek_v32},
                                     {"deepseek_v4", ToolSyntax::deepseek_v4},
                                     {"hermes", ToolSyntax::hermes},
                                     {"llama_json", ToolSyntax::llama_json}}) {
    if (name == text) return std::optional(syntax);
    known += fmt::format(", {}", text);
  }
  return invalid(fmt::format("tool_syntax: expected one of {}", known));
}

Result<ReasoningField> parse_reasoning_field(std::string_view name) {
  if (name == "both") return ReasoningField::both;
  if (name == "reasoning_content") return ReasoningField::reasoning_content;
  if (name == "reasoning") return ReasoningField::reasoning;
  return invalid("reasoning_field: expected both, reasoning_content or reasoning");
}

Result<ServeConfig> parse_serve_config(std::string_view yaml, const std::filesystem::path& relative_to) try {
  ServeConfig config;
  if (yaml.size() > kMaxConfigBytes) return invalid(fmt::format("at most {} bytes", kMaxConfigBytes));
  const YAML::Node root = YAML::Load(std::string(yaml));
  if (root.IsNull()) return config;
  const auto field = [](std::string_view key, auto& out) {
    return Field{key, [key, &out](const YAML::Node& n) { return read(n, key, out); }};
  };
  REDOUBT_CHECK(read_fields(
      root, "the configuration",
      {field("host", config.host),
       field("port", config.port),
       {"models", [&](const YAML::Node& n) { return read_models(n, relative_to, config.models); }},
       field("data", config.data),
       {"auth", [&](const YAML::Node& n) { return read_auth(n, config.auth); }},
       field("api_key_file", config.api_key_file),
       field("database", config.database),
       {"policies",
        [&](const YAML::Node& n) -> Status {
          REDOUBT_CHECK(read(n, "policies", config.policies));
          if (!config.policies.empty()) config.policies = relative_to / config.policies;
          return ok();
        }},
       {"oidc", [&](const YAML::Node& n) { return read_oidc(n, relative_to, config.oidc); }},
       field("cors_origins", config.cors_origins),
       {"host_names",
        [&](const YAML::Node& n) -> Status {
          REDOUBT_CHECK(read(n, "host_names", config.host_names));
          for (std::string& name : config.host_names) name = lower_case(name);
          return ok();
        }},
       field("admin_host", config.admin_host),
       {"admin_port", [&](const YAML::Node& n) { return read_port(n, config.admin_port); }},
       {"tls", [&](const YAML::Node& n) { return read_tls(n, relative_to, config.tls); }},
       field("behind_tls_proxy", config.behind_tls_proxy),
       field("trusted_proxies", config.trusted_proxies),
       field("proxy_protocol", config.proxy_protocol),
       field("kernels", config.kernels),
       field("cache_type", config.cache_type),
       field("packed", config.packed),
       field("threads", config.threads),
       field("context", config.context),
       {"cache_bytes", [&](const YAML::Node& n) { return read_size(n, "cache_bytes", config.cache_bytes); }},
       field("max_queue", config.max_queue),
       field("max_sequences", config.max_sequences),
       field("max_batch_tokens", config.max_batch_tokens),
       field("prefix_cache", config.prefix_cache),
       {"prefix_cache_dir",
        [&](const YAML::Node& n) -> Status {
          REDOUBT_CHECK(read(n, "prefix_cache_dir", config.prefix_cache_dir));
          if (!config.prefix_cache_dir.empty()) config.prefix_cache_dir = relative_to / config.prefix_cache_dir;
          return ok();
        }},
       {"grammar_cache_bytes",
        [&](const YAML::Node& n) { return read_size(n, "grammar_cache_bytes", config.grammar_cache_bytes); }},
       {"prefix_cache_bytes",
        [&](const YAML::Node& n) { return read_size(n, "prefix_cache_bytes", config.prefix_cache_bytes); }},
       field("speculation", config.speculation),
       field("speculation_depth", config.speculation_depth),
       field("unload_idle_s", config.unload_idle_s),
       field("max_loaded", config.max_loaded),
       field("drain_s", config.drain_s),
       field("force_think", config.force_think),
       field("tool_syntax", config.tool_syntax),
       field("reasoning_field", config.reasoning_field),
       field("deprecated_metrics", config.deprecated_metrics),
       {"limits", [&](const YAML::Node& n) { return read_limits(n, config.limits); }}}));
  return config;
} catch (const YAML::Exception& error) {
  return invalid(fmt::format("line {}: {}", error.mark.line + 1, error.msg));
}

Result<ServeConfig> read_serve_config(const std::filesystem::path& file) {
  REDOUBT_TRY(const std::string text, read_text_file(file, kMaxConfigBytes));
  Result<ServeConfig> config = parse_serve_config(text, file.parent_path());
  if (!config) return std::move(config).error().within(file.string());
  if (holds_password(config->database) && everyone_may_read(file))
    return invalid(
        fmt::format("{}: everyone may read it, and `database` holds a password; chmod 600 it first, or keep "
                    "the password in ~/.pgpass",
                    file.string()));
  return config;
}

Result<std::vector<std::string>> read_api_keys(const std::filesystem::path& file) {
  constexpr size_t kMinKeyLength = 16;
  if (everyone_may_read(file)) {
    return invalid(file.string() + ": everyone may read it; chmod 600 it first", "--api-key-file");
  }
  REDOUBT_TRY(const std::string text, read_text_file(file, 1 << 20));
  std::vector<std::string> keys;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string key = text.substr(begin, end - begin);
    while (!key.empty() && (key.back() == '\r' || key.back() == ' ')) key.pop_back();
    begin = end + 1;
    if (key.empty() || key.front() == '#') continue;
    if (key.size() < kMinKeyLength) {
      return invalid(
          fmt::format("{}: a key of {} characters, at least {} are asked", file.string(), key.size(), kMinKeyLength),
          "--api-key-file");
    }
    keys.push_back(std::move(key));
  }
  if (keys.empty()) return invalid(file.string() + ": holds no key", "--api-key-file");
  return keys;
}

}  // namespace redoubt
