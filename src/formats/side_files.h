// The small files beside a model's weights (config.json, tokenizer.json, ...): in its directory, or inside a packed
// file (docs/formats/packing.md), whose hashes are compared when they are read. Thread safety: const.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "core/result.h"

namespace redoubt {

class PackedFile;

class SideFiles {
 public:
  SideFiles() = default;  // none
  static SideFiles in_directory(std::filesystem::path directory);
  static SideFiles in_packed(std::shared_ptr<const PackedFile> file);

  bool has(std::string_view name) const;
  // Errors: not_found, invalid_argument for a larger one, io, corrupt_data; all say where.
  Result<std::string> read(std::string_view name, size_t max_bytes = size_t{256} << 20) const;
  std::string where(std::string_view name) const;  // for errors: "DIR/config.json", "FILE: config.json"
  std::string where() const;                       // "DIR", "FILE"

 private:
  std::filesystem::path directory_;           // if there is no packed file
  std::shared_ptr<const PackedFile> packed_;  // null: in the directory, or nowhere
};

// Those that a model of its own takes along, whatever it becomes.
constexpr std::string_view kModelSideFiles[] = {"tokenizer.json",          "tokenizer_config.json",
                                                "generation_config.json",  "chat_template.jinja",
                                                "special_tokens_map.json", "LICENSE"};

}  // namespace redoubt
