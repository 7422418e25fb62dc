// What a running server opens, told to commands on the same machine: DATA/listeners, while it runs. Flags, and a port
// that was taken or is 0, make it another thing than its configuration says.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"

namespace redoubt {

struct IsolationEntry {
  std::string what;  // "listener", "peer"
  std::string name;  // "clients", "administration", "database", "oidc corp"
  std::string where;
  std::string how;     // TLS, who is asked for what
  std::string remedy;  // empty: nothing to do
};

struct Listeners {
  std::string clients, administration;    // "http://127.0.0.1:8000"; "": there is none
  std::string auth;                       // ServeConfig::auth
  std::vector<IsolationEntry> isolation;  // isolation_of() what it runs with: no secrets
};

// Writes the file, and removes it when it goes.
class ListenersFile {
 public:
  static Result<ListenersFile> write(const std::filesystem::path& data, const Listeners& listeners);
  ListenersFile(ListenersFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ListenersFile& operator=(ListenersFile&&) = delete;
  ~ListenersFile();

 private:
  explicit ListenersFile(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

// "127.0.0.1:8000" of "http://127.0.0.1:8000".
inline std::string address_of(const std::string& url) { return url.substr(url.find("://") + 3); }

// Nothing, if no server runs in that data folder, or what the file says is no listeners.
std::optional<Listeners> read_listeners(const std::filesystem::path& data);

}  // namespace redoubt
