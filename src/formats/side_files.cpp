#include "formats/side_files.h"

#include <fmt/format.h>

#include "core/mapped_file.h"
#include "formats/packed_file.h"

namespace redoubt {

SideFiles SideFiles::in_directory(std::filesystem::path directory) {
  SideFiles files;
  files.directory_ = std::move(directory);
  return files;
}

SideFiles SideFiles::in_packed(std::shared_ptr<const PackedFile> file) {
  SideFiles files;
  files.packed_ = std::move(file);
  return files;
}

bool SideFiles::has(std::string_view name) const {
  if (packed_ != nullptr) return packed_->find(PackedForm::file, name) != nullptr;
  std::error_code error;
  return !directory_.empty() && std::filesystem::exists(directory_ / name, error);
}

Result<std::string> SideFiles::read(std::string_view name, size_t max_bytes) const {
  if (packed_ == nullptr) return read_text_file(directory_ / name, max_bytes);
  const PackedFileTensor* file = packed_->find(PackedForm::file, name);
  if (file == nullptr) return not_found(where(name) + ": there is no such file");
  if (static_cast<size_t>(file->bytes()) > max_bytes)
    return invalid(fmt::format("{}: expected at most {} bytes", where(name), max_bytes));
  REDOUBT_CHECK(packed_->verify(*file));
  const std::span<const std::byte> bytes = packed_->bytes_of(*file);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::string SideFiles::where() const {
  return packed_ != nullptr ? packed_->mapped().path().string() : directory_.string();
}

std::string SideFiles::where(std::string_view name) const {
  return packed_ != nullptr ? fmt::format("{}: {}", where(), name) : (directory_ / name).string();
}

}  // namespace redoubt
