// Writes a NumPy .npy file (format version 1.0): float32, C order, row after row.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>

#include "core/result.h"

namespace redoubt {

class NpyWriter {
 public:
  static Result<NpyWriter> create(const std::filesystem::path& path, int64_t rows, int64_t columns);
  Status write(std::span<const float> values);
  Status close();  // checks that all was written

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Closer> file_;
  int64_t values_left_ = 0;
};

}  // namespace redoubt
