// Any bytes as a packed file: a header, an index, and every chunk that it names. The header and the index have hashes,
// which mutation would not find: they are set right before the parser sees them.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "formats/chunk_hash.h"
#include "formats/packed_file.h"

namespace {

void read_all(std::span<const std::byte> file) {
  using namespace redoubt;
  const auto index = parse_packed_file(file);
  if (!index) return;
  for (const PackedFileMatrix& m : index->matrices) {
    (void)chunk_hash(file.subspan(static_cast<size_t>(m.offset), static_cast<size_t>(m.bytes())));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace redoubt;
  std::vector<std::byte> file(size);
  if (size > 0) std::memcpy(file.data(), data, size);
  read_all(file);
  if (size < static_cast<size_t>(kPackedHeaderBytes)) return 0;
  uint64_t index_offset = 0;
  std::memcpy(&index_offset, file.data() + 24, 8);
  const auto put = [&](size_t at, uint64_t number) { std::memcpy(file.data() + at, &number, 8); };
  put(16, size);
  if (index_offset <= size) put(32, chunk_hash(std::span(file).subspan(static_cast<size_t>(index_offset))));
  put(64, chunk_hash(std::span(file).first(64)));
  read_all(file);
  return 0;
}
