// Any bytes as a packed file: a header, an index, every chunk that it names, and the model that it says to be, a row of
// every tensor. The hashes, which mutation would not find, are set right before the parser sees them.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "formats/blocks.h"
#include "formats/checkpoint.h"
#include "formats/chunk_hash.h"
#include "formats/packed_file.h"
#include "formats/tensor_rows.h"

namespace {

using namespace redoubt;

void open_model(const std::string& file) {
  const int fd = ::memfd_create("packed", MFD_CLOEXEC);
  if (fd < 0) return;
  if (::write(fd, file.data(), file.size()) == static_cast<ssize_t>(file.size())) {
    const auto model = Checkpoint::open("/proc/self/fd/" + std::to_string(fd));
    if (model) {
      for (const TensorView& tensor : model->tensors()) {
        const TensorRows rows = rows_of(*model, tensor);
        if (rows.rows == 0 || rows.cols == 0 || rows.cols > 4096) continue;
        std::vector<std::byte> row(static_cast<size_t>(row_bytes(tensor.dtype, rows.cols)));
        if (rows.raw) rows.raw(rows.rows - 1, rows.rows, row.data());
        std::vector<float> values(static_cast<size_t>(rows.cols));
        if (can_decode(tensor.dtype)) rows.read(rows.rows - 1, rows.rows, values.data());
      }
    }
  }
  ::close(fd);
}

void read_all(std::span<const std::byte> file) {
  auto index = parse_packed_file(file);
  if (!index) return;
  int64_t end = kPackedHeaderBytes;
  for (PackedFileTensor& tensor : index->tensors) {
    for (int64_t i = 0; i < tensor.chunks(); ++i) {
      tensor.chunk_hashes[static_cast<size_t>(i)] = chunk_hash(tensor.chunk(file, i));
    }
    end = tensor.offset + tensor.bytes();
  }
  const std::string tail = packed_file_index(*index);
  std::string whole(reinterpret_cast<const char*>(file.data()), static_cast<size_t>(end));
  whole.replace(0, static_cast<size_t>(kPackedHeaderBytes), packed_file_header(*index, end, tail));
  open_model(whole + tail);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> file(size);
  if (size > 0) std::memcpy(file.data(), data, size);
  (void)parse_packed_file(file);
  if (size < static_cast<size_t>(kPackedHeaderBytes)) return 0;
  uint64_t index_offset = 0;
  std::memcpy(&index_offset, file.data() + 24, 8);
  const auto put = [&](size_t at, uint64_t number) { std::memcpy(file.data() + at, &number, 8); };
  put(16, size);
  if (index_offset <= size) put(32, chunk_hash(std::span(file).subspan(static_cast<size_t>(index_offset))));
  put(72, chunk_hash(std::span(file).first(72)));
  read_all(file);
  return 0;
}
