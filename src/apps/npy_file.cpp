#include "apps/npy_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace redoubt {

Result<NpyWriter> NpyWriter::create(const std::filesystem::path& path, int64_t rows, int64_t columns) {
  NpyWriter writer;
  writer.path_ = path;
  writer.file_.reset(std::fopen(path.c_str(), "wb"));
  if (!writer.file_) return io_error(fmt::format("{}: {}", path.string(), std::strerror(errno)));
  std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  constexpr size_t kPreamble = 10, kAlignment = 64;  // magic, version, header length
  header.append(kAlignment - 1 - (kPreamble + header.size()) % kAlignment, ' ');
  header += '\n';
  std::string preamble("\x93NUMPY\x01\x00", 8);
  preamble += static_cast<char>(header.size() & 0xff);
  preamble += static_cast<char>(header.size() >> 8);
  header = preamble + header;
  if (std::fwrite(header.data(), 1, header.size(), writer.file_.get()) != header.size()) {
    return io_error(path.string() + ": could not be written");
  }
  writer.values_left_ = rows * columns;
  return writer;
}

Status NpyWriter::write(std::span<const float> values) {
  if (std::fwrite(values.data(), sizeof(float), values.size(), file_.get()) != values.size()) {
    return io_error(fmt::format("{}: {}", path_.string(), std::strerror(errno)));
  }
  values_left_ -= static_cast<int64_t>(values.size());
  return ok();
}

Status NpyWriter::close() {
  REDOUBT_ASSERT(values_left_ == 0);
  if (std::fclose(file_.release()) != 0) return io_error(fmt::format("{}: {}", path_.string(), std::strerror(errno)));
  return ok();
}

}  // namespace redoubt
