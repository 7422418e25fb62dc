#include "formats/packed_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/mapped_file.h"
#include "formats/chunk_hash.h"
#include "formats/gguf.h"
#include "formats/model_plan.h"
#include "formats/output_file.h"
#include "formats/packed_file.h"
#include "formats/packing.h"
#include "formats/quantized_matrix.h"
#include "formats/shown.h"
#include "formats/tensor_table.h"

namespace redoubt {
namespace {

constexpr int64_t kTaskRows = 128;  // packed by one thread at a time: whole groups
constexpr size_t kMaxNameBytes = UINT16_MAX;

// Whether a model takes a matrix in the packed form only. Looked-up rows are wanted as stored, and MLA's kv_b is
// multiplied with its rows too. One row may be a norm or a bias of the shape [1, n], which is read as a vector.
bool is_packed_in_file(const TensorView& tensor) {
  const std::string_view name = tensor.name;
  if (tensor.shape.size() < 2 || tensor.elements() == 0 || tensor.elements() == tensor.shape.back()) return false;
  if (!can_pack(tensor.dtype, tensor.shape.back())) return false;
  const TensorRole role = role_of(name, tensor.shape);
  if (role == TensorRole::kept) return false;
  if (tensor.source != nullptr) return true;  // another program's matrix, with the order of its columns
  return role != TensorRole::embedding && !name.ends_with(".kv_b_proj.weight") && !name.ends_with(".k_b_proj.weight") &&
         !name.ends_with(".v_b_proj.weight");
}

// The bytes of one tensor as they will lie in the file, made row by row; threads fill different rows at once.
struct Rows {
  int64_t rows = 0, row_bytes = 0, quantum = 1;  // of the file: a packed matrix has its rows filled up
  std::function<void(int64_t begin, int64_t end, std::byte* out)> fill;
};

Rows packed_rows(const TensorView& tensor) {
  const int64_t cols = tensor.shape.back(), rows = tensor.elements() / cols, stride = row_bytes(tensor.dtype, cols);
  return {.rows = packed_groups(rows) * kPackedRows,
          .row_bytes = stride,
          .quantum = kTaskRows,
          .fill = [&tensor, cols, rows, stride](int64_t begin, int64_t end, std::byte* out) {
            const int64_t last = std::min(end, rows);
            std::vector<std::byte> made;
            const std::byte* from = tensor.data.data() + begin * stride;
            if (tensor.source != nullptr) {
              made.resize(static_cast<size_t>((last - begin) * stride));
              tensor.source->read(begin, last, made.data());
              from = made.data();
            } else {
              populate_pages({from, static_cast<size_t>((last - begin) * stride)});
            }
            for (int64_t row = begin; row < last; row += kPackedRows) {
              pack_group(tensor.dtype, from + (row - begin) * stride, stride, std::min(kPackedRows, last - row), cols,
                         out + (row - begin) * stride);
            }
            if (tensor.source == nullptr) release_pages({from, static_cast<size_t>((last - begin) * stride)});
          }};
}

Rows stored_rows(const TensorView& tensor) {
  const int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
  const int64_t rows = cols == 0 ? 0 : tensor.elements() / cols, stride = row_bytes(tensor.dtype, cols);
  return {.rows = rows,
          .row_bytes = stride,
          .quantum = kTaskRows,
          .fill = [&tensor, stride](int64_t begin, int64_t end, std::byte* out) {
            if (tensor.source != nullptr) return tensor.source->read(begin, end, out);
            const std::span from =
                tensor.data.subspan(static_cast<size_t>(begin * stride), static_cast<size_t>((end - begin) * stride));
            std::memcpy(out, from.data(), from.size());
            release_pages(from);
          }};
}

Rows rows_of_text(std::string_view text) {
  return {.rows = static_cast<int64_t>(text.size()),
          .row_bytes = 1,
          .quantum = kPackedChunkBytes,
          .fill = [text](int64_t begin, int64_t end, std::byte* out) {
            std::memcpy(out, text.data() + begin, static_cast<size_t>(end - begin));
          }};
}

class PackedModelWriter {
 public:
  PackedModelWriter(const Checkpoint& model, OutputFile file, const WriteOptions& options, int64_t window_bytes)
      : model_(model), file_(std::move(file)), options_(options), window_bytes_(window_bytes), progress_{options} {
    index_.kind = PackedKind::whole;
    index_.source = model.source_key();
    for (const TensorView& tensor : model.tensors()) progress_.total_bytes += tensor.stored_bytes();
  }

  Result<ConvertReport> write() {
    REDOUBT_CHECK(file_.write(std::string(kPackedHeaderBytes, '\0')));
    REDOUBT_CHECK(add_files());
    ConvertReport report{.tensors = static_cast<int64_t>(model_.tensors().size()), .bytes_in = model_.weights_bytes()};
    for (const TensorView& tensor : model_.tensors()) {
      REDOUBT_CHECK(add_tensor(tensor));
      report.bytes_out += index_.tensors.back().bytes();
      tensor.release_pages();
      progress_.add(tensor.stored_bytes());
    }
    const int64_t end = file_.position();
    const std::string index = packed_file_index(index_), header = packed_file_header(index_, end, index);
    REDOUBT_CHECK(file_.write(index));
    REDOUBT_CHECK(file_.overwrite(0, header));
    REDOUBT_CHECK(file_.finish());
    note_left_out(report);
    return report;
  }

 private:
  Status add_files() {
    if (model_.gguf() != nullptr) return add_file(kPackedGgufHead, gguf_head(*model_.gguf()));
    REDOUBT_CHECK(copy_file("config.json"));
    for (const std::string_view name : kModelSideFiles) REDOUBT_CHECK(copy_file(name));
    return copy_file("README.md");  // names the licence
  }

  // Files beside the weights of a directory that do not travel.
  void note_left_out(ConvertReport& report) const {
    std::error_code error;
    if (!std::filesystem::is_directory(model_.path(), error)) return;
    std::vector<std::string> names;
    for (std::filesystem::directory_iterator at(model_.path(), error), end; !error && at != end; at.increment(error)) {
      const std::string name = at->path().filename().string();
      const bool is_weights = name.ends_with(".safetensors") || name == "model.safetensors.index.json";
      if (at->is_regular_file(error) && !is_weights && !name.ends_with(kPackedExtension) &&
          std::ranges::none_of(index_.tensors, [&](const PackedFileTensor& tensor) {
            return tensor.form == PackedForm::file && tensor.name == name;
          })) {
        names.push_back(shown(name));
      }
    }
    std::ranges::sort(names);
    if (!names.empty()) report.notes.push_back(fmt::format("Left out: {}.", fmt::join(names, ", ")));
  }

  Status copy_file(std::string_view name) {
    if (!model_.files().has(name)) return ok();
    REDOUBT_TRY(const std::string text, model_.files().read(name));
    return add_file(name, text);
  }

  Status add_file(std::string_view name, std::string_view text) {
    return add({.name = std::string(name),
                .dtype = DType::u8,
                .form = PackedForm::file,
                .shape = {static_cast<int64_t>(text.size())}},
               rows_of_text(text));
  }

  Status add_tensor(const TensorView& tensor) {
    if (tensor.name.size() > kMaxNameBytes)
      return invalid(fmt::format("tensor {}: the name is too long", shown(tensor.name)));
    REDOUBT_CHECK(model_.verify(tensor, options_.pool));
    const bool is_packed = is_packed_in_file(tensor);
    if (tensor.source != nullptr && !tensor.source->columns.empty()) {
      if (!is_packed)
        return unsupported(fmt::format("tensor {}: its columns have an order of their own, and {} is not packed",
                                       shown(tensor.name), info(tensor.dtype).name));
      const std::vector<int32_t>& columns = tensor.source->columns;
      const std::string_view bytes(reinterpret_cast<const char*>(columns.data()), columns.size() * sizeof(int32_t));
      REDOUBT_CHECK(add({.name = std::string(tensor.name),
                         .dtype = DType::i32,
                         .form = PackedForm::columns,
                         .shape = {static_cast<int64_t>(columns.size())}},
                        rows_of_text(bytes)));
    }
    if (tensor.source == nullptr) prefetch_pages(tensor.data);
    return add({.name = std::string(tensor.name),
                .dtype = tensor.dtype,
                .form = is_packed ? PackedForm::packed : PackedForm::stored,
                .shape = tensor.shape},
               is_packed ? packed_rows(tensor) : stored_rows(tensor));
  }

  // A window of rows at a time: filled by all threads, then hashed by all, then written. What is no whole chunk yet
  // goes in front of the next window.
  Status add(PackedFileTensor entry, const Rows& rows) {
    REDOUBT_CHECK(file_.pad_to(entry.alignment()));
    entry.offset = file_.position();
    const int64_t step =
        std::max(rows.quantum, window_bytes_ / std::max<int64_t>(1, rows.row_bytes * rows.quantum) * rows.quantum);
    int64_t held = 0;
    for (int64_t first = 0; first < rows.rows; first += step) {
      REDOUBT_CHECK(progress_.go_on());
      const int64_t last = std::min(rows.rows, first + step), filled = held + (last - first) * rows.row_bytes;
      if (static_cast<int64_t>(buffer_.size()) < filled) buffer_.resize(static_cast<size_t>(filled));
      parallel((last - first + rows.quantum - 1) / rows.quantum, [&](int64_t task) {
        const int64_t begin = first + task * rows.quantum, end = std::min(last, begin + rows.quantum);
        rows.fill(begin, end, buffer_.data() + held + (begin - first) * rows.row_bytes);
      });
      const int64_t ready = last == rows.rows ? filled : filled / kPackedChunkBytes * kPackedChunkBytes;
      REDOUBT_CHECK(write_chunks(entry, ready));
      held = filled - ready;
      std::memmove(buffer_.data(), buffer_.data() + ready, static_cast<size_t>(held));
    }
    index_.tensors.push_back(std::move(entry));
    return ok();
  }

  Status write_chunks(PackedFileTensor& entry, int64_t bytes) {
    const int64_t chunks = (bytes + kPackedChunkBytes - 1) / kPackedChunkBytes;
    const size_t known = entry.chunk_hashes.size();
    entry.chunk_hashes.resize(known + static_cast<size_t>(chunks));
    parallel(chunks, [&](int64_t i) {
      const int64_t at = i * kPackedChunkBytes, size = std::min(kPackedChunkBytes, bytes - at);
      entry.chunk_hashes[known + static_cast<size_t>(i)] = chunk_hash({buffer_.data() + at, static_cast<size_t>(size)});
    });
    return file_.write(std::span<const std::byte>(buffer_).first(static_cast<size_t>(bytes)));
  }

  template <class Body>
  void parallel(int64_t count, const Body& body) {
    if (options_.pool != nullptr && count > 1) {
      options_.pool->parallel_for(count, [&](int64_t i, int) { body(i); });
    } else {
      for (int64_t i = 0; i < count; ++i) body(i);
    }
  }

  const Checkpoint& model_;
  OutputFile file_;
  const WriteOptions& options_;
  const int64_t window_bytes_;  // packed and hashed, then written
  WriteProgress progress_;
  PackedFileIndex index_;
  std::vector<std::byte> buffer_;
};

// A permutation of the columns, as the hashes say it was written and as nothing may rely on before it was looked at.
Result<std::vector<int32_t>> read_columns(const PackedFile& file, const PackedFileTensor& matrix) {
  const PackedFileTensor* entry = file.find(PackedForm::columns, matrix.name);
  if (entry == nullptr) return std::vector<int32_t>();
  REDOUBT_CHECK(file.verify(*entry));
  std::vector<int32_t> columns(static_cast<size_t>(entry->cols()));
  std::memcpy(columns.data(), file.bytes_of(*entry).data(), columns.size() * sizeof(int32_t));
  std::vector<bool> seen(static_cast<size_t>(matrix.cols()));
  bool is_order = entry->cols() == matrix.cols();
  for (const int32_t column : columns) {
    is_order = is_order && column >= 0 && column < matrix.cols() && !seen[static_cast<size_t>(column)];
    if (is_order) seen[static_cast<size_t>(column)] = true;
  }
  if (!is_order) {
    return corrupt(
        fmt::format("tensor {}: expected each of {} columns once in their order", shown(matrix.name), matrix.cols()));
  }
  return columns;
}

}  // namespace

Result<ConvertReport> write_packed_model(const Checkpoint& model, const std::filesystem::path& out,
                                         const WriteOptions& options, int64_t window_bytes) {
  REDOUBT_TRY(OutputFile file, OutputFile::create_new(out));
  return PackedModelWriter(model, std::move(file), options, window_bytes).write();
}

Status load_packed(std::shared_ptr<const PackedFile> file, TensorTable& table) {
  for (const PackedFileTensor& entry : file->index().tensors) {
    if (entry.form != PackedForm::stored && entry.form != PackedForm::packed) continue;
    const std::span<const std::byte> bytes = file->bytes_of(entry);
    const bool is_packed = entry.form == PackedForm::packed;
    REDOUBT_CHECK(table.add(entry.name, entry.dtype, entry.shape, is_packed ? std::span<const std::byte>() : bytes));
    TensorView& tensor = table.tensors.back();
    tensor.packed = &entry;
    if (!is_packed) continue;
    const auto source = std::make_shared<RowSource>();
    REDOUBT_TRY(source->columns, read_columns(*file, entry));
    source->parts = {bytes};
    source->read = [data = bytes.data(), dtype = entry.dtype, cols = entry.cols()](
                       int64_t begin, int64_t end, std::byte* out) { unpack_rows(dtype, data, begin, end, cols, out); };
    tensor.source = source;
    table.weights_bytes += tensor.stored_bytes();
  }
  return check_fp8_scales(table);
}

}  // namespace redoubt
