#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/model_host.h"

namespace redoubt {

namespace {

void add_text(Sha256& hash, std::string_view text) { hash.add_number(text.size()).add(text); }

void add_file(Sha256& hash, const std::filesystem::path& file) {
  std::error_code error;
  add_text(hash, file.filename().string());
  hash.add_number(static_cast<uint64_t>(std::filesystem::file_size(file, error)));
  hash.add_number(static_cast<uint64_t>(std::filesystem::last_write_time(file, error).time_since_epoch().count()));
}

}  // namespace

std::string cache_identity(const Checkpoint& checkpoint) {
  Sha256 hash;
  // Another build may add in another order: its blocks would be right, but not the same to the bit.
  add_file(hash, std::filesystem::read_symlink("/proc/self/exe"));
  const std::filesystem::path& path = checkpoint.path();
  std::error_code error;
  std::vector<std::filesystem::path> files;
  // A split GGUF lies in several files beside each other; a packed file may have any name.
  const auto folder = std::filesystem::is_directory(path, error) ? path : std::filesystem::absolute(path).parent_path();
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string kind = at->path().extension().string();
    if (kind == ".safetensors" || kind == ".json" || kind == ".gguf" || at->path().filename() == path.filename())
      files.push_back(at->path());
  }
  std::ranges::sort(files);
  add_text(hash, path.filename().string());
  for (const auto& file : files) add_file(hash, file);
  for (const TensorView& tensor : checkpoint.tensors()) {
    add_text(hash, tensor.name);
    hash.add_number(static_cast<uint64_t>(tensor.dtype));
    for (const int64_t extent : tensor.shape) hash.add_number(static_cast<uint64_t>(extent));
  }
  return hex_text(hash.finish());
}

}  // namespace redoubt
