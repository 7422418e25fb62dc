#include "formats/npy.h"

#include <fmt/format.h>

#include "formats/output_file.h"

namespace redoubt {

Status write_npy(const std::filesystem::path& path, std::span<const float> values, std::span<const int64_t> shape) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  for (const int64_t extent : shape) header += fmt::format("{}, ", extent);
  header += "), }";
  constexpr size_t kBefore = 10;  // magic, version, header length; the data begins at a multiple of 64
  header.append(63 - (kBefore + header.size()) % 64, ' ');
  header += '\n';
  REDOUBT_TRY(OutputFile file, OutputFile::create(path));
  REDOUBT_CHECK(file.write(std::string_view("\x93NUMPY\x01\x00", 8)));
  const auto length = static_cast<uint16_t>(header.size());
  REDOUBT_CHECK(file.write(std::as_bytes(std::span(&length, 1))));
  REDOUBT_CHECK(file.write(header));
  REDOUBT_CHECK(file.write(std::as_bytes(values)));
  return file.finish();
}

}  // namespace redoubt
