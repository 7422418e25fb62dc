// redoubt serve: the server, from its configuration to its last answer.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "apps/byte_size.h"
#include "apps/command.h"
#include "apps/data_folder.h"
#include "apps/front_door.h"
#include "apps/isolation.h"
#include "apps/listeners_file.h"
#include "apps/model_flags.h"
#include "apps/private_memory.h"
#include "apps/serve_config.h"
#include "apps/terminal.h"
#include "apps/version.h"
#include "core/clock.h"
#include "core/log.h"
#include "engine/model_host.h"
#include "server/health.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/openapi.h"
#include "server/routes.h"

namespace redoubt {
namespace {

struct ServeFlags {
  std::string config_file;
  std::optional<std::string> model, host, data, cache_bytes, cache_type, kernels, auth, api_key_file, speculation,
      prefix_cache_dir, packed;
  std::optional<int64_t> port, admin_port, threads, context;
  std::string tls_certificate, tls_key;
  bool behind_tls_proxy = false;
};

Result<ServeConfig> read_config(const ServeFlags& flags) {
  ServeConfig config;
  if (!flags.config_file.empty()) {
    REDOUBT_TRY(config, read_serve_config(flags.config_file));
  }
  if (flags.model || config.models.empty()) {
    REDOUBT_TRY(const std::filesystem::path path, resolve_model(flags.model.value_or("")));
    std::filesystem::path named = path;
    if (!named.has_filename()) named = named.parent_path();  // "models/r1/"
    config.models.insert(config.models.begin(), {named.stem().string(), path});
  }
  const auto override_by = [](const auto& flag, auto& value) {
    if (flag) value = *flag;
  };
  override_by(flags.host, config.host);
  override_by(flags.port, config.port);
  if (flags.admin_port) config.admin_port = flags.admin_port;
  if (flags.behind_tls_proxy) config.behind_tls_proxy = true;
  if (!flags.tls_certificate.empty() || !flags.tls_key.empty()) {
    if (!config.tls) config.tls.emplace();
    config.tls->certificate = flags.tls_certificate;
    config.tls->key = flags.tls_key;
  }
  override_by(flags.data, config.data);
  override_by(flags.kernels, config.kernels);
  override_by(flags.cache_type, config.cache_type);
  override_by(flags.speculation, config.speculation);
  override_by(flags.prefix_cache_dir, config.prefix_cache_dir);
  override_by(flags.packed, config.packed);
  override_by(flags.threads, config.threads);
  override_by(flags.context, config.context);
  override_by(flags.auth, config.auth);
  override_by(flags.api_key_file, config.api_key_file);
  if (flags.cache_bytes) {
    REDOUBT_TRY(config.cache_bytes, parse_bytes(*flags.cache_bytes, "--cache-bytes"));
  }
  REDOUBT_CHECK(config.validate());
  return config;
}

Result<ModelHostOptions> host_options(const ServeConfig& config) {
  ModelHostOptions options;
  options.models = config.models;
  const ModelFlags flags{.kernels = config.kernels,
                         .threads = static_cast<int>(config.threads),
                         .cache_type = config.cache_type,
                         .packed = config.packed,
                         .data = config.data};
  REDOUBT_TRY(options.model, flags.options());
  options.model.limits.max_tokens = config.max_batch_tokens;
  options.engine.max_context = config.context;
  options.engine.cache_bytes = config.cache_bytes;
  options.engine.max_queue = config.max_queue;
  options.engine.max_sequences = config.max_sequences;
  options.engine.max_batch_tokens = config.max_batch_tokens;
  options.engine.prefix_cache = config.prefix_cache;
  if (!config.prefix_cache_dir.empty())
    options.disk_cache = {.directory = config.prefix_cache_dir, .max_bytes = config.prefix_cache_bytes};
  REDOUBT_TRY(options.engine.speculation.mode, parse_speculation(config.speculation));
  options.engine.speculation.max_depth = config.speculation_depth;
  options.grammar_cache.max_bytes = static_cast<size_t>(config.grammar_cache_bytes);
  options.unload_idle_s = config.unload_idle_s;
  options.max_loaded = config.max_loaded;
  return options;
}

HttpOptions http_options(const ServeConfig& config) {
  HttpOptions options;
  options.host = config.host;
  options.port = static_cast<uint16_t>(config.port);
  options.limits = config.limits;
  options.cors_origins = config.cors_origins;
  options.host_names = config.host_names;
  options.tls = config.tls;
  options.behind_tls_proxy = config.behind_tls_proxy;
  options.trusted_proxies = config.trusted_proxies;
  options.proxy_protocol = config.proxy_protocol;
  options.admin = AdminListener{.host = config.admin_host,
                                .port = static_cast<uint16_t>(config.first_admin_port()),
                                .or_any_port = !config.admin_port};
  return options;
}

// SIGTERM and SIGINT: the first lets open answers end, the second ends them at once, and so does the first while
// nothing can be answered yet. A model that is being loaded is not waited for: the process ends under it, since the
// operating system releases all that it holds. They are blocked in every thread (call block() before any is made) and
// waited for in one.
class StopSignals {
 public:
  static void block() {
    const sigset_t set = signals();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
  }
  StopSignals(HttpServer& server, ModelHost& host, HealthFlags& health, int drain_s)
      : waiter_([this, &server, &host, &health, drain_s] {
          wait();
          if (ended_) return;
          health.draining = true;
          if (health.default_loading) end_now("stopping; the model was being loaded");
          fmt::print(stderr, "redoubt: stopping; open answers have {} s (again: at once)\n", drain_s);
          host.drain();
          std::thread drain([&] { server.drain(drain_s + kEndS); });
          wait_for(drain_s);
          // Answers that are still open end, and their streams say so before the connections are cut.
          std::thread stop([&] {
            if (!ended_) host.stop();
          });
          if (!ended_) wait_for(kEndS);
          if (!ended_) server.stop();
          if (!ended_) wait_for(kEndS);
          if (!ended_) end_now("not everything ended in time");
          drain.join();
          stop.join();
        }) {}
  ~StopSignals() {
    ended_ = true;
    pthread_kill(waiter_.native_handle(), SIGTERM);
    waiter_.join();
  }
  [[noreturn]] static void end_now(std::string_view why, int status = 0) {
    fmt::print(stderr, "redoubt: {}\n", why);
    std::fflush(nullptr);
    std::_Exit(status);
  }

 private:
  static sigset_t signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
  }
  static void wait() {
    const sigset_t set = signals();
    int which = 0;
    sigwait(&set, &which);
  }
  static void wait_for(int seconds) {
    const sigset_t set = signals();
    const timespec time{seconds, 0};
    while (sigtimedwait(&set, nullptr, &time) < 0 && errno == EINTR) {
    }
  }
  static constexpr int kEndS = 5;  // for what is not an answer
  std::atomic<bool> ended_{false};
  std::thread waiter_;  // last: it uses the rest
};

// At its end no load is waited for: the process ends under it, when all that was made later ended in its order.
class EndUnderLoad {
 public:
  EndUnderLoad(const ModelHost& host, const Status& outcome) : host_(host), outcome_(outcome) {}
  EndUnderLoad(const EndUnderLoad&) = delete;
  EndUnderLoad& operator=(const EndUnderLoad&) = delete;
  ~EndUnderLoad() {
    if (!host_.is_loading()) return;
    if (!outcome_) StopSignals::end_now(outcome_.error().message, 1);
    StopSignals::end_now("stopping; a model was being loaded");
  }

 private:
  const ModelHost& host_;
  const Status& outcome_;  // of the command
};

// Unloads models that nobody asked for in a while, looks at the health, so that the log tells of it though nobody asks,
// and says in the database that this node is there.
class Watch {
 public:
  Watch(ModelHost& host, Health& health, const FrontDoor& door)
      : watcher_([this, &host, &health, &door] {
          std::unique_lock lock(mutex_);
          constexpr int kHealthEvery = 5, kNoteEvery = 3600;  // seconds
          for (int second = 1; !ended_.wait_for(lock, std::chrono::seconds(1), [this] { return end_; }); ++second) {
            host.unload_idle();
            if (second % kHealthEvery == 0) health.look();
            if (second % kNoteEvery == 0) door.note_running();
          }
        }) {}
  ~Watch() {
    {
      const std::lock_guard lock(mutex_);
      end_ = true;
    }
    ended_.notify_one();
    watcher_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool end_ = false;
  std::thread watcher_;
};

void describe(const LoadedModel& loaded) {
  const ModelConfig& config = loaded.checkpoint.config();
  const int64_t blocks = loaded.engine->stats().cache_blocks_total;
  fmt::print("model    {}: {}, {} of weights, kernels {}, {} threads\n", loaded.name, config.model_type,
             human_bytes(loaded.checkpoint.weights_bytes()), loaded.model->kernels_name(), loaded.model->threads());
  fmt::print("cache    {}, room for {} tokens\n", human_bytes(blocks * loaded.model->cache_block_bytes()),
             blocks * kCacheBlockTokens);
  fmt::print(
      "context  {} tokens{}\n", loaded.engine->max_context(),
      loaded.engine->max_context() < config.max_position_embeddings
          ? fmt::format(" (the model's is {}; a larger --cache-bytes gives more)", config.max_position_embeddings)
          : "");
}

Status serve(const ServeFlags& flags) {
  REDOUBT_TRY(const ServeConfig config, read_config(flags));
  StopSignals::block();
  keep_memory_private();
  REDOUBT_TRY(const DataFolder data, DataFolder::open(data_folder_path(config.data)));
  if (const std::string open = DataFolder::open_to_others(data.path()); !open.empty()) log::warn("{}", open);
  const SteadyClock clock;
  const SystemWallClock wall;
  REDOUBT_TRY(ModelHostOptions models, host_options(config));
  REDOUBT_TRY(const std::unique_ptr<ModelHost> host, ModelHost::create(std::move(models), clock));
  Status loaded = ok();
  const EndUnderLoad end(*host, loaded);
  const auto flags_of_health = std::make_shared<HealthFlags>();
  const char* bootstrap = std::getenv("REDOUBT_BOOTSTRAP_KEY");
  REDOUBT_TRY(const std::unique_ptr<FrontDoor> door,
              FrontDoor::open(config, data.path(), bootstrap != nullptr ? bootstrap : "", clock, wall));
  const auto metrics = std::make_shared<ServerMetrics>();
  if (config.deprecated_metrics) metrics->add_deprecated_names();
  metrics->set_host(host.get());
  door->add_metrics(metrics->registry());
  ServerContext context{.models = *host, .metrics = metrics.get(), .options = {.version = std::string(kVersion)}};
  context.limits = door->limits();
  context.options.force_think = config.force_think;
  REDOUBT_TRY(context.options.tool_syntax, parse_tool_syntax(config.tool_syntax));
  REDOUBT_TRY(context.options.reasoning_field, parse_reasoning_field(config.reasoning_field));
  std::vector<Route> routes = make_routes(context);
  door->add_routes(routes);
  routes.push_back(metrics_route(metrics));
  flags_of_health->default_loading = true;
  const auto health = std::make_shared<Health>(
      [usual = health_state_of(*host, flags_of_health), &door] {
        HealthState state = usual();
        door->add_health(state);
        return state;
      },
      clock);
  add_health_metrics(health, metrics->registry());
  for (Route& route : health_routes(health)) routes.push_back(std::move(route));
  for (Route& route : openapi_routes(routes, std::string(kVersion))) routes.push_back(std::move(route));
  count_requests(context, routes);
  HttpOptions http = http_options(config);
  http.gate = door->gate();
  if (!door->administered()) http.admin.reset();
  REDOUBT_TRY(std::unique_ptr<HttpServer> server, HttpServer::listen(std::move(http), std::move(routes)));
  add_http_metrics(*server, metrics->registry());
  for (const std::string& warning : config.warnings()) log::warn("{}", warning);
  if (config.auth == "off")
    log::warn("auth: off: whoever reaches {}:{} may use every model", config.host, server->port());
  fmt::print("redoubt {}\n", kVersion);
  Listeners listeners{
      .clients = config.base_url(config.host, server->port()),
      .administration = server->admin_port() == 0 ? "" : config.base_url(config.admin_host, server->admin_port()),
      .auth = config.auth,
      .isolation = {}};
  listeners.isolation = isolation_of(config, listeners);
  if (!listeners.administration.empty()) fmt::print("admin    {}\n", listeners.administration);
  // Before anything else can fail or end the process: they are made once, and known to nobody until they are told.
  REDOUBT_TRY(
      const std::string keys,
      door->tell_first_keys(isatty(STDOUT_FILENO) != 0 ? Audience::terminal : Audience::file, listeners.clients));
  REDOUBT_TRY(const ListenersFile told, ListenersFile::write(data.path(), listeners));
  fmt::print("{}loading  {}\n", keys, config.models.front().path.string());
  // From here on health answers; the model is loaded beside it.
  std::thread serving([&] { server->run(); });
  std::fflush(stdout);
  {
    const StopSignals stop(*server, *host, *flags_of_health, static_cast<int>(config.drain_s));
    const Watch watch(*host, *health, *door);
    if (auto model = host->acquire(""); model) {
      flags_of_health->default_loading = false;
      describe(**model);
      fmt::print("address  {}/v1\n", listeners.clients);
      std::fflush(stdout);
    } else {
      loaded = std::move(model).error();
      host->drain();
      server->stop();
    }
    serving.join();
  }
  // Answers that were cut are still being computed, and hold their model: those who compute end before what they count
  // and reserve with, and before the models.
  server.reset();
  host->stop();
  return Status(loaded);  // a copy: EndUnderLoad reads it after this
}

}  // namespace

void add_serve(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("serve", "The server");
  auto flags = std::make_shared<ServeFlags>();
  command->add_option("--config", flags->config_file, "YAML file; flags win over it (docs/configuration.md)");
  command->add_option("--model", flags->model, "A directory of safetensors, or a .gguf file; the default model");
  command->add_option("--host", flags->host, "Address to listen on; beyond loopback callers show keys [127.0.0.1]");
  command->add_option("--port", flags->port, "Port; 0: any free one [8000]")->check(CLI::Range(0, 65535));
  command
      ->add_option("--admin-port", flags->admin_port, "Port of administration, on loopback; 0: any free one [port + 1]")
      ->check(CLI::Range(0, 65535));
  command->add_option("--tls-cert", flags->tls_certificate, "PEM certificate chain: TLS 1.3 on both listeners");
  command->add_option("--tls-key", flags->tls_key, "PEM key of that certificate");
  command->add_flag("--behind-tls-proxy", flags->behind_tls_proxy,
                    "Beyond loopback without TLS: a proxy in front ends it");
  command->add_option("--threads", flags->threads, "Threads that compute [the usable cores]")
      ->check(CLI::Range(0, 1024));
  command->add_option("--data", flags->data, "Folder of all state, held by one process [~/.local/share/redoubt]");
  command->add_option("--context", flags->context, "Longest prompt and answer, tokens [the model's]")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command->add_option("--cache-bytes", flags->cache_bytes, "Memory for the cache, such as 8G [half of what is left]");
  command->add_option("--cache-type", flags->cache_type, "f32, bf16 or q8 [bf16]");
  command->add_option("--prefix-cache-dir", flags->prefix_cache_dir,
                      "Keeps prompts' cache blocks there, over restarts");
  command->add_option("--packed", flags->packed, "Weights packed for the CPU: auto (kept in a file), only-memory, off");
  command->add_option("--speculation", flags->speculation,
                      "Drafted tokens: auto, off, ngram or mtp; changes no answer [auto]");
  command->add_option("--kernels", flags->kernels, std::string(kKernelNames) + " [auto]")->check(kernel_names());
  command->add_option("--auth", flags->auth, "keys, or off: nobody is asked for one, on loopback only [keys]")
      ->check(CLI::IsMember({"keys", "off"}));
  command->add_option("--api-key-file", flags->api_key_file, "Keys that clients must show, one a line");
  command->callback([=, &pending] { pending.action = [flags] { return serve(*flags); }; });
}

}  // namespace redoubt
