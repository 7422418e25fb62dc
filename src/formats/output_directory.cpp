#include "formats/output_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "formats/side_files.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

bool is_of_a_model(const fs::path& file) {
  const std::string name = file.filename().string();
  return file.extension() == ".safetensors" || name == "model.safetensors.index.json" ||
         std::ranges::find(kModelSideFiles, name) != std::end(kModelSideFiles);
}

}  // namespace

Result<OutputDirectory> OutputDirectory::create(const fs::path& path) {
  std::error_code error;
  const bool is_made = fs::create_directories(path, error);
  if (error) return io_error(fmt::format("cannot make {}: {}", path.string(), error.message()));
  auto config = OutputFile::create_new(path / "config.json");
  if (config) return OutputDirectory(path, is_made, std::move(*config));
  if (is_made) fs::remove(path, error);  // only if it is empty
  return std::move(config.error());
}

Status OutputDirectory::finish(std::string_view config_json) {
  REDOUBT_CHECK(config_->write(config_json));
  REDOUBT_CHECK(config_->finish());
  config_.reset();
  return ok();
}

OutputDirectory::~OutputDirectory() {
  if (config_ == nullptr) return;
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::directory_iterator at(path_, error), end; !error && at != end; at.increment(error)) {
    if (is_of_a_model(at->path())) files.push_back(at->path());
  }
  for (const fs::path& file : files) fs::remove(file, error);
  config_.reset();  // last: until then nobody else writes here
  if (is_made_) fs::remove(path_, error);
}

}  // namespace redoubt
