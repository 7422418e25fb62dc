#include "formats/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>

#include "formats/blocks.h"

namespace redoubt {
namespace {

constexpr int64_t kChunkBytes = 1 << 20;   // computed by one thread at a time
constexpr int64_t kBatchBytes = 32 << 20;  // computed, then written; more only if the threads need it

Error cannot_write(const std::filesystem::path& path, int why = errno) {
  if (why == EFBIG)
    return io_error(fmt::format("cannot write {}: larger than the file system or the process may write (ulimit -f)",
                                path.string()));
  return io_error(fmt::format("cannot write {}: {}", path.string(), std::strerror(why)));
}

// So that the name outlives a power failure as the bytes do. Not every file system syncs folders (EINVAL).
Status sync_folder_of(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return cannot_write(path);
  const int why = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return why == 0 || why == EINVAL ? ok() : Status(cannot_write(path, why));
}

}  // namespace

int64_t OutputTensor::rows() const {
  int64_t count = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) count *= shape[i];
  return count;
}

OutputTensor output_tensor(std::string name, DType dtype, std::vector<int64_t> shape, TensorRows rows) {
  OutputTensor output{std::move(name), dtype, std::move(shape), rows.quantum, {}, rows.verify, rows.release};
  const int64_t cols = rows.cols;
  if (rows.raw && rows.dtype == dtype) {
    output.fill = [rows](int64_t begin, int64_t end, std::byte* out) { rows.raw(begin, end, out); };
    return output;
  }
  output.fill = [rows, dtype, cols](int64_t begin, int64_t end, std::byte* out) {
    std::vector<float> values(static_cast<size_t>((end - begin) * cols));
    rows.read(begin, end, values.data());
    encode_row(dtype, values, out);
  };
  return output;
}

// Of a path that stands for a descriptor of this process: /dev/stdout may lead to a file that others have open too.
static std::optional<int> descriptor_of(const std::filesystem::path& path) {
  if (path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  if (path.parent_path() != "/dev/fd" && path.parent_path() != "/proc/self/fd") return std::nullopt;
  const std::string name = path.filename().string();
  int fd = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), fd);
  return error == std::errc() && end == name.data() + name.size() ? std::optional(fd) : std::nullopt;
}

Result<OutputFile> OutputFile::create(const std::filesystem::path& path) {
  OutputFile file;
  file.path_ = path;
  if (const std::optional<int> open = descriptor_of(path)) {
    const int fd = ::fcntl(*open, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) file.stream_.reset(::fdopen(fd, "wb"));
    if (file.stream_ == nullptr) return cannot_write(path);
    return file;
  }
  std::error_code error;
  const std::filesystem::file_status there = std::filesystem::status(path, error);
  if (std::filesystem::is_fifo(there) || std::filesystem::is_character_file(there)) {
    file.stream_.reset(std::fopen(path.c_str(), "wbe"));
    if (file.stream_ == nullptr) return cannot_write(path);
    return file;
  }
  REDOUBT_TRY(file.file_, NewFile::create(path, Links::followed));
  const int fd = ::fcntl(file.file_.fd(), F_DUPFD_CLOEXEC, 0);
  if (fd >= 0) file.stream_.reset(::fdopen(fd, "wb"));
  if (file.stream_ == nullptr) return cannot_write(path);
  return file;
}

Result<OutputFile> OutputFile::create_new(const std::filesystem::path& path) {
  REDOUBT_TRY(OutputFile file, create(path));
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return file;
  return Error{ErrorCode::conflict, path.string() + ": expected a new file, found one that exists", {}};
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), stream_.get()) != bytes.size())
    return cannot_write(path_);
  position_ += static_cast<int64_t>(bytes.size());
  return ok();
}

Status OutputFile::pad_to(int64_t alignment) {
  static constexpr std::array<std::byte, 64> kZeros{};
  while (position_ % alignment != 0) {
    const int64_t count = std::min<int64_t>(alignment - position_ % alignment, kZeros.size());
    REDOUBT_CHECK(write(std::span(kZeros).first(static_cast<size_t>(count))));
  }
  return ok();
}

Status OutputFile::overwrite(int64_t offset, std::string_view text) {
  const bool wrote = std::fseek(stream_.get(), static_cast<long>(offset), SEEK_SET) == 0 &&
                     std::fwrite(text.data(), 1, text.size(), stream_.get()) == text.size() &&
                     std::fseek(stream_.get(), static_cast<long>(position_), SEEK_SET) == 0;
  return wrote ? ok() : cannot_write(path_);
}

Status OutputFile::finish() {
  std::FILE* stream = stream_.release();
  int why = 0;  // the first reason, if anything fails
  if (std::fflush(stream) != 0 || (file_.is_open() && ::fsync(::fileno(stream)) != 0)) why = errno;
  if (std::fclose(stream) != 0 && why == 0) why = errno;
  if (why != 0) return cannot_write(path_, why);
  if (!file_.is_open()) return ok();
  REDOUBT_CHECK(file_.take_name());
  return sync_folder_of(file_.path());
}

Status write_tensor(OutputFile& file, const OutputTensor& tensor, WriteProgress& progress) {
  const int64_t rows = tensor.rows(), stride = row_bytes(tensor.dtype, tensor.cols());
  if (rows == 0 || stride == 0) return ok();
  if (tensor.verify) REDOUBT_CHECK(tensor.verify(progress.options.pool));
  const int64_t quanta = std::max<int64_t>(1, kChunkBytes / (stride * tensor.quantum));
  const int64_t chunk_rows = std::min(rows, quanta * tensor.quantum);
  const int64_t threads = progress.options.pool == nullptr ? 1 : progress.options.pool->num_threads();
  const int64_t batch_rows = chunk_rows * std::max(threads, kBatchBytes / (chunk_rows * stride));
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(rows, batch_rows) * stride));
  for (int64_t first = 0; first < rows; first += batch_rows) {
    REDOUBT_CHECK(progress.go_on());
    const int64_t last = std::min(rows, first + batch_rows);
    const int64_t chunks = (last - first + chunk_rows - 1) / chunk_rows;
    const auto fill = [&](int64_t chunk, int) {
      const int64_t begin = first + chunk * chunk_rows, end = std::min(last, begin + chunk_rows);
      tensor.fill(begin, end, buffer.data() + (begin - first) * stride);
    };
    if (progress.options.pool != nullptr) {
      progress.options.pool->parallel_for(chunks, fill);
    } else {
      for (int64_t chunk = 0; chunk < chunks; ++chunk) fill(chunk, 0);
    }
    const auto bytes = static_cast<size_t>((last - first) * stride);
    REDOUBT_CHECK(file.write(std::span(buffer).first(bytes)));
    progress.add(static_cast<int64_t>(bytes));
    if (tensor.release) tensor.release();
  }
  return ok();
}

Status write_text_file(const std::filesystem::path& path, std::string_view text) {
  REDOUBT_TRY(OutputFile file, OutputFile::create(path));
  REDOUBT_CHECK(file.write(text));
  return file.finish();
}

}  // namespace redoubt
