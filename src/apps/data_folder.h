// The folder that holds all state of a server, held by one process at a time.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "core/result.h"

namespace redoubt {

inline constexpr const char* kDatabaseFile = "redoubt.db";  // in it, where no other database is named

// $HOME, or where that is unset or empty what the system's list of users says; "." if it knows nothing either.
std::filesystem::path home_folder();

// `given`, or $XDG_DATA_HOME/redoubt, or ~/.local/share/redoubt.
std::filesystem::path data_folder_path(const std::string& given);

class DataFolder {
 public:
  // Makes the folder (0700) if it is not there and locks it; the lock ends with the process, however it ends. One that
  // another process holds is refused after half a second.
  static Result<DataFolder> open(const std::filesystem::path& path);
  // A sentence if others than its owner and their group may write to the folder, or read its database: whoever may
  // write there can put another key and another database in their place. "" if not, or there is none.
  static std::string open_to_others(const std::filesystem::path& path);
  static bool is_held(const std::filesystem::path& path);  // by a process, this one perhaps
  DataFolder(DataFolder&& other) noexcept
      : path_(std::move(other.path_)), lock_fd_(std::exchange(other.lock_fd_, -1)) {}
  DataFolder& operator=(DataFolder&&) = delete;
  ~DataFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  DataFolder(std::filesystem::path path, int lock_fd) : path_(std::move(path)), lock_fd_(lock_fd) {}
  std::filesystem::path path_;
  int lock_fd_ = -1;
};

}  // namespace redoubt
