// A directory of safetensors while it is written. Its config.json is begun first, so that there is one writer, and is
// complete last: a directory with it is complete. One that is never finished is left as it was found: without the files
// of a model, and not there if it was not.
#pragma once

#include <filesystem>
#include <string_view>

#include "formats/output_file.h"

namespace redoubt {

class OutputDirectory {
 public:
  // `path` is not there, or empty but for what ended processes left. Errors: overloaded, conflict, io (OutputFile).
  static Result<OutputDirectory> create(const std::filesystem::path& path);
  OutputDirectory(OutputDirectory&&) = default;
  OutputDirectory& operator=(OutputDirectory&&) = delete;
  ~OutputDirectory();

  Status finish(std::string_view config_json);

 private:
  OutputDirectory(std::filesystem::path path, bool is_made, OutputFile config)
      : path_(std::move(path)), is_made_(is_made), config_(std::make_unique<OutputFile>(std::move(config))) {}

  std::filesystem::path path_;
  bool is_made_;                        // by us
  std::unique_ptr<OutputFile> config_;  // none: finished, or moved from
};

}  // namespace redoubt
