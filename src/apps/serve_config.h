// What `redoubt serve` is told: by flags, by a YAML file, or by both (a flag wins).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "engine/model_host.h"
#include "governance/oidc.h"
#include "server/http.h"
#include "server/routes.h"

namespace redoubt {

struct ServeConfig {
  std::string host = "127.0.0.1";
  int64_t port = 8000;             // 0: any free one
  std::vector<ModelEntry> models;  // the first is the default
  std::string data;                // "": ~/.local/share/redoubt
  std::string auth = "keys";       // keys: every caller shows one; off: nobody does, loopback only
  std::string api_key_file;        // a key a line: the only ones then, and nothing is administered
  std::string database;            // of PostgreSQL: its URL; "": a SQLite file in `data`
  std::string policies;            // a file in Cedar's language; "": what is in the database, at first the default
  std::vector<OidcProvider> oidc;  // whose tokens are taken
  std::vector<std::string> cors_origins;  // "": closed
  std::vector<std::string> host_names;    // with auth: off, beside loopback's; in lower case
  std::string admin_host = "127.0.0.1";   // of the listener for administration
  std::optional<int64_t> admin_port;      // absent: the one after `port`, or any if that is taken
  std::optional<TlsOptions> tls;
  bool behind_tls_proxy = false;  // somebody else ends TLS in front of us
  std::vector<std::string> trusted_proxies;
  bool proxy_protocol = false;

  std::string kernels = "auto";
  std::string cache_type = "bf16";
  std::string packed = "only-memory";  // auto, only-memory, off
  int64_t threads = 0;                 // 0: the usable cores
  int64_t context = 0;                 // tokens; 0: the model's
  int64_t cache_bytes = 0;             // 0: half of the memory left after the weights
  int64_t max_queue = 4096;            // requests that wait
  int64_t max_sequences = 256;         // that run at once
  int64_t max_batch_tokens = 512;      // of one step
  bool prefix_cache = true;
  std::string prefix_cache_dir;                               // "": no cache on disk
  int64_t prefix_cache_bytes = DiskCacheOptions().max_bytes;  // on disk
  std::string speculation = "auto";                           // auto, off, ngram, mtp
  int64_t speculation_depth = SpeculationOptions().max_depth;
  int64_t grammar_cache_bytes = GrammarCacheLimits().max_bytes;  // compiled grammars, of each model; 0: none are kept
  int64_t unload_idle_s = 0;                                     // 0: never
  int64_t max_loaded = 0;                                        // models at once; 0: as memory allows
  int64_t drain_s = 30;                                          // for open answers after SIGTERM
  HttpLimits limits;

  bool force_think = false;              // append "<think>\n" where a template does not
  std::string tool_syntax = "auto";      // how the models write tool calls; auto: as their templates show
  std::string reasoning_field = "both";  // both, reasoning_content, reasoning
  bool deprecated_metrics = false;

  Status validate() const;
  std::vector<std::string> warnings() const;  // what may be meant, and probably is not: for the log at start
  int64_t first_admin_port() const;           // `admin_port`, or the one after `port`; 0: any free one
  std::string base_url(const std::string& host_of, int64_t port_of) const;  // of a listener: "https://[::1]:8000"
};

// An unknown key, a wrong type and a value out of range are errors that name the key and its line.
Result<ServeConfig> parse_serve_config(std::string_view yaml, const std::filesystem::path& relative_to);
Result<ServeConfig> read_serve_config(const std::filesystem::path& file);

// auto: nullopt. Errors: another name than none, deepseek_v3, deepseek_v31, deepseek_v32, deepseek_v4, hermes,
// llama_json.
Result<std::optional<ToolSyntax>> parse_tool_syntax(std::string_view name);
Result<ReasoningField> parse_reasoning_field(std::string_view name);

// One key a line; empty lines and lines that begin with # are skipped. Errors: a file that others may read, a key under
// 16 characters, no key at all.
Result<std::vector<std::string>> read_api_keys(const std::filesystem::path& file);

}  // namespace redoubt
