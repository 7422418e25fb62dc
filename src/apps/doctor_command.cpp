// redoubt doctor: what this machine has, and for each thing that will hurt, the remedy.
#include <fmt/ranges.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "apps/ceilings.h"
#include "apps/command.h"
#include "apps/data_folder.h"
#include "apps/identity_store.h"
#include "apps/isolation.h"
#include "apps/listeners_file.h"
#include "apps/machine.h"
#include "apps/terminal.h"
#include "core/json.h"
#include "engine/memory_room.h"

namespace redoubt {
namespace {

struct DoctorFlags {
  std::string data;
  std::optional<int> port;
  std::string config;
  bool json = false, isolation = false;
};

struct Finding {
  std::string what, found;
  bool good = true;
  std::string remedy;
};

bool has(const std::vector<std::string>& features, std::string_view name) {
  return std::find(features.begin(), features.end(), name) != features.end();
}

Finding check_cpu() {
  const std::vector<std::string> features = cpu_features();
  const bool fast = has(features, "avx2") || has(features, "neon");
  return {"processor", fmt::format("{}: {}", cpu_model(), fmt::join(features, " ")), fast,
          fast ? "" : "no AVX2: only the slow reference kernels run; use a processor of 2013 or later"};
}

Finding check_cores(const ThreadPool& pool) {
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  const bool all = pool.num_threads() >= online;
  return {"cores", fmt::format("{} usable of {} online", pool.num_threads(), online), all,
          all ? "" : "affinity or a control group's quota holds cores back; raise it if that is not meant"};
}

Finding check_memory() {
  const int64_t available = available_memory_bytes();
  const bool enough = available > (int64_t{2} << 30);
  return {"memory", fmt::format("{} available of {}", human_bytes(available), human_bytes(total_memory_bytes())),
          enough,
          enough ? "" : "a model needs its file's size and room for its cache; free memory or choose a smaller model"};
}

std::vector<Finding> check_ceilings(ThreadPool& pool) {
  ThreadPool one_thread(1);
  const Ceilings one = CeilingProbe(one_thread).measure(), all = CeilingProbe(pool).measure();
  const auto bandwidth = [](const Ceilings& c) {
    return human_bytes(static_cast<int64_t>(c.read_bandwidth_bytes_per_s)) + " a second";
  };
  const bool quick = all.read_bandwidth_bytes_per_s > 8e9;
  return {{"memory bandwidth", fmt::format("{}; {} on one thread", bandwidth(all), bandwidth(one)), quick,
           quick ? ""
                 : "decoding reads all weights for each token: fill every memory channel, stop what else reads memory"},
          {"int8 arithmetic", fmt::format("{:.0f} Gop/s ({})", all.int8_ops_per_s / 1e9, int8_instruction()), true, ""},
          {"bf16 arithmetic", fmt::format("{:.0f} Gflop/s ({})", all.bf16_flops_per_s / 1e9, bf16_instruction()), true,
           ""}};
}

Finding check_gpu() {
  const bool nvidia = std::filesystem::exists("/proc/driver/nvidia/version");
  return {"GPU", nvidia ? "an NVIDIA driver is loaded" : "none", true,
          nvidia ? "this version computes on the CPU; the GPU stays idle" : ""};
}

// Whether a listener could be opened there: 0, or the reason why not.
int bind_error(const std::string& host, int64_t port) {
  const addrinfo wanted{.ai_flags = AI_PASSIVE | AI_NUMERICHOST,
                        .ai_family = AF_UNSPEC,
                        .ai_socktype = SOCK_STREAM,
                        .ai_protocol = 0,
                        .ai_addrlen = 0,
                        .ai_addr = nullptr,
                        .ai_canonname = nullptr,
                        .ai_next = nullptr};
  addrinfo* found = nullptr;
  const std::string numeric = host == "localhost" ? "127.0.0.1" : host;
  if (getaddrinfo(numeric.c_str(), std::to_string(port).c_str(), &wanted, &found) != 0) return EADDRNOTAVAIL;
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (found->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
  const int error = bind(fd, found->ai_addr, found->ai_addrlen) == 0 ? 0 : errno;
  if (fd >= 0) close(fd);
  freeaddrinfo(found);
  return error;
}

struct ListenerAt {
  std::string what;  // the finding's name
  std::string host;
  int64_t port = 0;
  bool may_move = false;  // to any free port
};

Finding check_listener(const ListenerAt& listener, const std::string& other_port) {
  const std::string where = listener.host + ":" + std::to_string(listener.port);
  if (listener.port == 0) return {listener.what, listener.host + ": any free one", true, ""};
  const int error = bind_error(listener.host, listener.port);
  if (error == 0) return {listener.what, where + " is free", true, ""};
  if (error == EADDRINUSE) {
    if (listener.may_move) return {listener.what, where + " is taken: any free one is used instead", true, ""};
    return {listener.what, where + " is taken", false,
            "another program listens there (ss -ltnp tells which); choose another with " + other_port};
  }
  return {listener.what, fmt::format("{} cannot be listened at ({})", where, std::strerror(error)), false,
          error == EACCES ? "ports under 1024 are the system administrator's; choose another with " + other_port
                          : "name an address of this machine"};
}

Finding check_clock() {
  timex state{};
  const bool synchronised = adjtimex(&state) != TIME_ERROR;
  return {"clock", synchronised ? "synchronised" : "not synchronised", synchronised,
          synchronised ? "" : "timestamps may be wrong: enable systemd-timesyncd or chrony"};
}

// What keeps a server from `folder`, and the way out; "" if nothing does. Nothing is made there, not even the lock.
std::string unusable(const std::filesystem::path& folder, uint64_t free_bytes) {
  constexpr std::string_view kAnother = "choose another folder with --data";
  const bool writable = access(folder.c_str(), W_OK | X_OK) == 0;
  const int reason = errno;
  if (std::error_code ignored; !std::filesystem::is_directory(folder, ignored))
    return fmt::format("{} is no folder; {}", folder.string(), kAnother);
  if (!writable) return fmt::format("{} may not be written ({}); {}", folder.string(), std::strerror(reason), kAnother);
  if (free_bytes == 0) return fmt::format("nothing can be written in {}; {}", folder.string(), kAnother);
  if (DataFolder::is_held(folder)) return fmt::format("another redoubt holds it; stop it, or {}", kAnother);
  return {};
}

Finding check_data(const std::filesystem::path& folder) {
  std::error_code ignored;
  std::filesystem::path there = std::filesystem::absolute(folder, ignored);
  while (!std::filesystem::exists(there, ignored) && there.has_relative_path()) there = there.parent_path();
  const auto space = std::filesystem::space(there, ignored);
  const bool exists = std::filesystem::exists(folder, ignored);
  if (const std::string open = exists ? DataFolder::open_to_others(folder) : ""; !open.empty())
    return {"data folder", open, false, ""};
  const std::string remedy = unusable(there, space.available);
  return {"data folder",
          fmt::format("{}: {}{} free", folder.string(), exists ? "" : "not there yet, made at the first start; ",
                      human_bytes(static_cast<int64_t>(space.available))),
          remedy.empty(), remedy};
}

Result<ServeConfig> configured(const DoctorFlags& flags) {
  if (flags.config.empty()) return ServeConfig{};
  return read_serve_config(flags.config);
}

std::filesystem::path data_of(const DoctorFlags& flags, const ServeConfig& config) {
  return data_folder_path(flags.data.empty() ? config.data : flags.data);
}

// How this connection to PostgreSQL goes, as the server there tells it; "" for SQLite.
std::string encryption_of(Database& database) {
  if (database.kind() != DatabaseKind::postgres) return "";
  const auto told = database.read([](Transaction& tx) {
    return tx.row<std::string>(
        "SELECT CASE WHEN ssl THEN 'encrypted, ' || version ELSE 'not encrypted' END FROM pg_stat_ssl WHERE pid = "
        "pg_backend_pid()");
  });
  return ", " + (told && *told ? std::get<0>(**told) : std::string("encrypted or not is not told"));
}

// Opened as the server does; a SQLite file that is not there yet is not made.
Finding check_database(const ServeConfig& config, const std::filesystem::path& data, const std::string& auth) {
  if (auth == "off" || !config.api_key_file.empty()) return {"database", "none is used", true, ""};
  if (const auto opened = open_present_database(data, config.database); opened) {
    return {"database", fmt::format("{}: opened{}", (*opened)->name(), encryption_of(**opened)), true, ""};
  } else if (opened.error().code == ErrorCode::not_found) {
    return {"database", "a SQLite file in the data folder, made at the first start", true, ""};
  } else {
    return {"database", opened.error().message, false,
            config.database.empty()
                ? "while it cannot be opened nobody comes in; look at the file's rights and its disk"
                : "while it cannot be opened nobody comes in; start PostgreSQL, or mend `database`"};
  }
}

// The running server's word, unless another configuration was asked about.
std::optional<Listeners> running_listeners(const DoctorFlags& flags, const ServeConfig& config) {
  if (!flags.config.empty()) return std::nullopt;
  return read_listeners(data_of(flags, config));
}

std::string source_of(const DoctorFlags& flags, const ServeConfig& config, bool running) {
  if (!flags.config.empty()) return "the file " + flags.config;
  const std::string data = data_of(flags, config).string();
  return running ? "the server that runs on " + data : "the defaults: no server runs on " + data;
}

Status tell_isolation(const DoctorFlags& flags) {
  REDOUBT_TRY(const ServeConfig config, configured(flags));
  const std::optional<Listeners> running = running_listeners(flags, config);
  const std::vector<IsolationEntry> entries = running ? running->isolation : isolation_of(config);
  const std::string source = source_of(flags, config, running.has_value());
  std::string text = "as told by " + source + "\n";
  Json list = Json::array();
  bool peers = false;
  for (const IsolationEntry& e : entries) {
    peers = peers || e.what == "peer";
    text += fmt::format("{:<9} {:<16} {}: {}\n", e.what, e.name, e.where, e.how);
    if (!e.remedy.empty()) text += fmt::format("     look {:<16} {}\n", "", e.remedy);
    list.push_back({{"what", e.what},
                    {"name", e.name},
                    {"where", e.where},
                    {"how", e.how},
                    {"remedy", e.remedy.empty() ? Json(nullptr) : Json(e.remedy)}});
  }
  if (!peers) text += "peer      none: the server makes no outgoing connection\n";
  return write_stdout(flags.json ? dump_json(Json{{"source", source}, {"isolation", list}}) + "\n" : text);
}

std::string port_in(const std::string& url) { return url.substr(url.rfind(':') + 1); }

// Where clients and administrators are, or would be, served. What the server that runs on this data folder holds is no
// other program's.
std::vector<Finding> check_ports(const DoctorFlags& flags, ServeConfig config, const std::filesystem::path& data) {
  const std::optional<Listeners> running = read_listeners(data);
  const auto held = [&](const std::string& what, const std::string& address) {
    return Finding{what, fmt::format("{} is held by the server that runs on {}", address, data.string()), true, ""};
  };
  constexpr const char *kPort = "port", *kAdminPort = "admin port";
  if (running && flags.config.empty() && !flags.port) {
    std::vector<Finding> findings{held(kPort, address_of(running->clients))};
    if (!running->administration.empty()) findings.push_back(held(kAdminPort, address_of(running->administration)));
    return findings;
  }
  if (flags.port) config.port = *flags.port;
  std::vector<ListenerAt> listeners{{kPort, config.host, config.port}};
  if (config.auth != "off" && config.api_key_file.empty())
    listeners.push_back({kAdminPort, config.admin_host, config.first_admin_port(), !config.admin_port});
  std::vector<Finding> findings;
  for (const ListenerAt& listener : listeners) {
    const std::string port = std::to_string(listener.port);
    const bool is_own = running && (port_in(running->clients) == port || port_in(running->administration) == port);
    const std::string other_port = listener.what == kAdminPort ? "`admin_port`" : "--port, or `port`";
    findings.push_back(is_own ? held(listener.what, listener.host + ":" + port) : check_listener(listener, other_port));
  }
  return findings;
}

Finding check_auth(const std::string& auth, const std::string& source) {
  const bool off = auth == "off";
  return {"keys", (off ? "auth: off: nobody is asked for a key" : "asked for") + (", as told by " + source), !off,
          off ? "leave the word out, unless nobody else can reach this machine's loopback" : ""};
}

Status doctor(const DoctorFlags& flags) {
  if (flags.isolation) return tell_isolation(flags);
  REDOUBT_TRY(const ServeConfig config, configured(flags));
  ThreadPool pool(ThreadPool::usable_cores());
  std::vector<Finding> findings{check_cpu(), check_cores(pool), check_memory()};
  for (Finding& finding : check_ceilings(pool)) findings.push_back(std::move(finding));
  const std::filesystem::path data = data_of(flags, config);
  const std::optional<Listeners> running = running_listeners(flags, config);
  const std::string& auth = running ? running->auth : config.auth;
  findings.push_back(check_gpu());
  for (Finding& finding : check_ports(flags, config, data)) findings.push_back(std::move(finding));
  findings.insert(findings.end(), {check_auth(auth, source_of(flags, config, running.has_value())),
                                   check_database(config, data, auth), check_clock(), check_data(data)});
  if (flags.json) {
    Json list = Json::array();
    for (const Finding& f : findings) {
      list.push_back({{"what", f.what},
                      {"found", f.found},
                      {"good", f.good},
                      {"remedy", f.remedy.empty() ? Json(nullptr) : Json(f.remedy)}});
    }
    return write_stdout(dump_json(Json{{"findings", list}}) + "\n");
  }
  std::string text;
  for (const Finding& f : findings) {
    text += fmt::format("{} {:<18} {}\n", f.good ? "ok  " : "look", f.what, f.found);
    if (!f.remedy.empty()) text += fmt::format("     {:<18} {}\n", "", f.remedy);
  }
  return write_stdout(text);
}

}  // namespace

void add_doctor(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("doctor", "What this machine has, and the remedy for what it lacks");
  auto flags = std::make_shared<DoctorFlags>();
  command->add_option("--data", flags->data, "Data folder to look at");
  command->add_option("--port", flags->port, "Port to look at; else the configuration's, the running server's, or 8000")
      ->check(CLI::Range(1, 65535));
  command->add_option("--config", flags->config, "The server's configuration to look at");
  command->add_flag("--isolation", flags->isolation, "Only: the listeners, and the peers that the server may speak to");
  command->add_flag("--json", flags->json, "One JSON object");
  command->callback([=, &pending] { pending.action = [flags] { return doctor(*flags); }; });
}

}  // namespace redoubt
