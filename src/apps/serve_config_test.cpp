#include "apps/serve_config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "apps/byte_size.h"

namespace redoubt {
namespace {

std::string error_of(std::string_view yaml) {
  const auto config = parse_serve_config(yaml, "/etc/redoubt");
  return config ? "" : config.error().message;
}

TEST(ServeConfig, ReadsModelsAndLimits) {
  const auto config = parse_serve_config(
      "host: 0.0.0.0\nport: 9000\nmodels:\n  - {name: r1, path: /models/r1}\n  - path: small.gguf\ncache_bytes: 2G\n"
      "grammar_cache_bytes: 64M\n"
      "cors_origins: [\"https://chat.example\"]\nlimits: {max_headers: 50, max_bodies_bytes: 64M}\n",
      "/etc/redoubt");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->port, 9000);
  ASSERT_EQ(config->models.size(), 2u);
  EXPECT_EQ(config->models[0].name, "r1");
  EXPECT_EQ(config->models[1].name, "small");
  EXPECT_EQ(config->models[1].path, "/etc/redoubt/small.gguf");  // relative to the file's folder
  EXPECT_EQ(config->cache_bytes, int64_t{2} << 30);
  EXPECT_EQ(config->grammar_cache_bytes, int64_t{64} << 20);
  EXPECT_EQ(config->cors_origins, std::vector<std::string>{"https://chat.example"});
  EXPECT_EQ(config->limits.max_headers, 50u);
  EXPECT_EQ(config->limits.max_bodies_bytes, int64_t{64} << 20);
  ServeConfig small = *config;
  EXPECT_TRUE(small.validate());
  small.limits.max_bodies_bytes = int64_t{31} << 20;  // some bodies would never be taken
  EXPECT_FALSE(small.validate());
}

TEST(ServeConfig, AModelHasAStageAndLabels) {
  const auto config =
      parse_serve_config("models: [{path: /m, stage: canary, labels: {label: patient-data, site: north}}]", "/");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->models[0].stage, "canary");
  EXPECT_EQ(config->models[0].labels,
            (std::map<std::string, std::string>{{"label", "patient-data"}, {"site", "north"}}));
  EXPECT_TRUE(config->validate());
  ServeConfig open = *config;
  open.auth = "off";
  ASSERT_FALSE(open.validate());
  EXPECT_NE(open.validate().error().message.find("models: stage, labels: excluded"), std::string::npos);
  EXPECT_NE(error_of("models: [{path: /m, labels: patient-data}]"), "");
  EXPECT_NE(error_of("models: [{path: /m, labels: {label: [a]}}]"), "");
  EXPECT_NE(error_of("models: [{path: /m, labels: {tenant: clinic}}]"), "");
}

TEST(ServeConfig, NamesOfSyntaxesAndFieldsAreKnownOrRefused) {
  EXPECT_EQ(*parse_tool_syntax("auto"), std::nullopt);
  EXPECT_EQ(*parse_tool_syntax("deepseek_v32"), ToolSyntax::deepseek_v32);
  EXPECT_EQ(*parse_reasoning_field("reasoning"), ReasoningField::reasoning);
  const auto config = parse_serve_config(
      "models: [{path: /m}]\nforce_think: true\ntool_syntax: hermes\nreasoning_field: reasoning_content\n"
      "deprecated_metrics: true\n",
      "/");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_TRUE(config->force_think);
  EXPECT_TRUE(config->deprecated_metrics);
  EXPECT_TRUE(config->validate());
  ServeConfig other = *config;
  other.tool_syntax = "hermse";
  ASSERT_FALSE(other.validate());
  EXPECT_NE(other.validate().error().message.find("llama_json"), std::string::npos);
  other = *config;
  other.reasoning_field = "thinking";
  EXPECT_FALSE(other.validate());
}

TEST(ServeConfig, AnUnknownKeyIsAnErrorThatNamesItAndItsLine) {
  const std::string message = error_of("host: a\nprot: 1\n");
  EXPECT_NE(message.find("line 2: unknown key prot"), std::string::npos) << message;
  EXPECT_NE(error_of("limits: {max_header: 1}").find("unknown key max_header"), std::string::npos);
  EXPECT_NE(error_of("models: [{nmae: x, path: y}]").find("unknown key nmae"), std::string::npos);
}

TEST(ServeConfig, WrongTypesAreRefused) {
  for (const char* yaml : {"port: many", "port: -1", "port: [1]", "models: r1", "models: [r1]", "prefix_cache: perhaps",
                           "cache_bytes: lots", "cors_origins: x", "limits: 3", "- 1", "a: [", "port: 1\nport: 2"}) {
    EXPECT_NE(error_of(yaml), "") << yaml;
  }
}

TEST(ServeConfig, AServerHasPlaceForMoreThanOneConnection) {
  EXPECT_EQ(error_of("models: [{path: /m}]\nlimits: {max_connections: 2}"), "");
  const std::string refusal = error_of("models: [{path: /m}]\nlimits: {max_connections: 1}");
  EXPECT_NE(refusal.find("max_connections: expected 2 at least"), std::string::npos) << refusal;
}

TEST(ServeConfig, HostNamesAreForServersThatAskForNoKey) {
  auto config = parse_serve_config("models: [{path: /m}]\nauth: off\nhost_names: [R1.Example]\n", "/");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->host_names, std::vector<std::string>{"r1.example"});
  EXPECT_TRUE(config->validate());
  config->auth = "keys";
  ASSERT_FALSE(config->validate());
  EXPECT_NE(config->validate().error().message.find("host_names"), std::string::npos);
}

TEST(ServeConfig, AModelIsNeededAndNamesDiffer) {
  ServeConfig config;
  EXPECT_FALSE(config.validate());
  config.models = {{"a", "/x"}};
  EXPECT_TRUE(config.validate());
  config.models.push_back({"a", "/y"});
  EXPECT_FALSE(config.validate());
}

TEST(ServeConfig, WhatOnlyADirectoryReadsIsRefusedByNameWhereThereIsNone) {
  const auto refused = [](const std::string& yaml) {
    const auto config = parse_serve_config("models: [{path: /m}]\n" + yaml, "/");
    if (!config) return "unread: " + config.error().message;
    const Status valid = config->validate();
    return valid ? std::string() : valid.error().message;
  };
  const std::string tls = "tls: {certificate: a, key: b, client_ca: c, client_certificates: ";
  const std::string oidc = "oidc: [{name: corp, issuer: \"https://i\", audiences: [r], jwks_file: keys.json}]";
  for (const std::string& word : {std::string("auth: off"), std::string("api_key_file: keys")}) {
    EXPECT_EQ(refused(word), "");
    for (const std::string& setting :
         {std::string("policies: p.cedar"), std::string("database: postgresql://db/r"), oidc, tls + "request}",
          std::string("admin_port: 9"), std::string("admin_host: ::1")}) {
      EXPECT_EQ(refused(setting), "") << "fine where there is a directory";
      const std::string message = refused(word + "\n" + setting);
      EXPECT_EQ(message.find(setting.substr(0, setting.find(':')) + ": "), 0u) << message;
      EXPECT_NE(message.find("excluded by " + word.substr(0, word.find(": k"))), std::string::npos) << message;
    }
  }
  EXPECT_NE(refused("auth: off\napi_key_file: keys").find("api_key_file: excluded by auth: off"), std::string::npos);
  EXPECT_NE(refused("auth: off\n" + tls + "require}").find("client_certificates"), std::string::npos);
  EXPECT_EQ(refused("api_key_file: keys\n" + tls + "require}"), "") << "still verified before a key is asked for";
}

TEST(ServeConfig, KeysOfAProviderAreFetchedByHttpsOrOnLoopback) {
  const auto read = [](const std::string& url) {
    return parse_serve_config(
        "models: [{path: /m}]\noidc: [{name: corp, issuer: \"https://i\", audiences: [r], jwks_url: \"" + url + "\"}]",
        "");
  };
  EXPECT_TRUE(read("https://idp.example/keys"));
  EXPECT_TRUE(read("http://127.0.0.1:9000/keys"));
  EXPECT_TRUE(read("http://localhost:9000/keys"));
  for (const char* url : {"http://idp.example/keys", "http://10.0.0.1/keys", "ftp://idp.example/keys", "keys.json"})
    EXPECT_FALSE(read(url)) << url;
}

TEST(ServeConfig, AdministrationIsBesideTheClientsPort) {
  ServeConfig config;
  EXPECT_EQ(config.first_admin_port(), 8001);
  for (const int64_t any : {0, 65535}) {
    config.port = any;
    EXPECT_EQ(config.first_admin_port(), 0) << any;
  }
  config.admin_port = 9;
  EXPECT_EQ(config.first_admin_port(), 9);
}

TEST(ServeConfig, ABaseUrlHasBracketsAroundIPv6) {
  ServeConfig config;
  EXPECT_EQ(config.base_url(config.host, config.port), "http://127.0.0.1:8000");
  EXPECT_EQ(config.base_url("::1", 9), "http://[::1]:9");
  config.tls.emplace();
  EXPECT_EQ(config.base_url("::1", 65535), "https://[::1]:65535");
  EXPECT_EQ(config.base_url("localhost", 0), "https://localhost:0");
}

TEST(ServeConfig, AProxyWhoseClientsCannotBeToldApartIsWarnedOf) {
  const auto warnings = [](const std::string& yaml) {
    return parse_serve_config("models: [{path: /m}]\n" + yaml, "/").value().warnings();
  };
  EXPECT_TRUE(warnings("").empty());
  ASSERT_EQ(warnings("behind_tls_proxy: true").size(), 1u);
  EXPECT_NE(warnings("behind_tls_proxy: true")[0].find("trusted_proxies"), std::string::npos);
  EXPECT_TRUE(warnings("behind_tls_proxy: true\ntrusted_proxies: [10.0.0.1]").empty());
}

TEST(ServeConfig, AFileWithAPasswordIsPrivate) {
  const auto path = std::filesystem::temp_directory_path() / "redoubt_config_test.yaml";
  const auto read = [&](const std::string& database, unsigned mode) {
    std::ofstream(path) << "database: " << database << "\n";
    std::filesystem::permissions(path, static_cast<std::filesystem::perms>(mode));
    return read_serve_config(path);
  };
  EXPECT_TRUE(read("postgresql://r@127.0.0.1/r", 0644));
  EXPECT_TRUE(read("postgresql://r:secret@127.0.0.1/r", 0640));
  const auto refused = read("postgresql://r:secret@127.0.0.1/r", 0644);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("chmod 600"), std::string::npos) << refused.error().message;
  EXPECT_EQ(refused.error().message.find("secret@"), std::string::npos);
  std::filesystem::remove(path);
}

TEST(ApiKeys, AreLinesOfAPrivateFile) {
  const auto path = std::filesystem::temp_directory_path() / "redoubt_api_keys_test";
  std::ofstream(path) << "# of the chat page\n0123456789abcdef0123\n\nfedcba9876543210\r\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const auto keys = read_api_keys(path);
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_EQ(*keys, (std::vector<std::string>{"0123456789abcdef0123", "fedcba9876543210"}));
  std::filesystem::permissions(path, std::filesystem::perms::others_read, std::filesystem::perm_options::add);
  EXPECT_FALSE(read_api_keys(path));
  std::filesystem::permissions(path, std::filesystem::perms::others_read, std::filesystem::perm_options::remove);
  std::ofstream(path) << "short\n";
  EXPECT_FALSE(read_api_keys(path));
  std::filesystem::remove(path);
}

TEST(Sizes, AreReadAsPeopleWriteThem) {
  EXPECT_EQ(*parse_bytes("512", "--x"), 512);
  EXPECT_EQ(*parse_bytes("1.5G", "--x"), int64_t{3} << 29);
  EXPECT_EQ(*parse_bytes("2GB", "--x"), 2'000'000'000);
  EXPECT_EQ(*parse_bytes("2GiB", "--x"), int64_t{2} << 30);
  for (const char* text : {"", "G", "-1", "1X", "1GG", "nan", "1e300"}) EXPECT_FALSE(parse_bytes(text, "--x")) << text;
}

}  // namespace
}  // namespace redoubt
