// Where a running server listens, told to commands on the same machine: DATA/listeners, while it runs. A port that was
// taken, or 0, becomes another one at start, so the configuration alone does not tell.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "core/result.h"

namespace redoubt {

struct Listeners {
  std::string clients, administration;  // "http://127.0.0.1:8000"; "": there is none
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

// Nothing, if no server runs in that data folder, or what the file says is no listeners.
std::optional<Listeners> read_listeners(const std::filesystem::path& data);

}  // namespace redoubt
