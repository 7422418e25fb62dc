#include "model/packed_writer.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/log.h"
#include "core/low_priority.h"
#include "formats/chunk_hash.h"

namespace redoubt {
namespace {

constexpr int64_t kRoomLeftBytes = int64_t{1} << 30;  // of the disk, for everybody else

Error failed(const std::filesystem::path& path, int reason) {
  return io_error(fmt::format("{}: {}", path.string(), std::strerror(reason)));
}

Error whole_there(const std::filesystem::path& path) {
  return invalid(path.string() + ": is a model of its own and is not replaced");
}

Status write_at(const NewFile& file, std::span<const std::byte> bytes, int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::pwrite(file.fd(), bytes.data(), bytes.size(), offset);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return failed(file.path(), wrote < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(wrote));
    offset += wrote;
  }
  return ok();
}

}  // namespace

Result<std::unique_ptr<PackedWriter>> PackedWriter::create(const std::filesystem::path& path, const SourceKey& source,
                                                           int64_t bytes) {
  if (is_whole_packed_file(path)) return whole_there(path);
  REDOUBT_TRY(NewFile file, NewFile::create(path));
  struct statvfs disk {};
  if (::fstatvfs(file.fd(), &disk) != 0) return failed(path, errno);
  const int64_t room = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  if (room < bytes + kRoomLeftBytes) {
    return io_error(fmt::format("{}: needs {} bytes and leaves {} free, the disk has {}", path.string(), bytes,
                                kRoomLeftBytes, room));
  }
  return std::unique_ptr<PackedWriter>(new PackedWriter(std::move(file), source));
}

PackedWriter::PackedWriter(NewFile file, const SourceKey& source) : file_(std::move(file)), end_(kPackedHeaderBytes) {
  index_.source = source;
  thread_ = std::thread([this] { run(); });
}

PackedWriter::~PackedWriter() {
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void PackedWriter::add(PackedPart part) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(part));
  changed_.notify_all();
}

void PackedWriter::finish() {
  const std::lock_guard lock(mutex_);
  finished_ = true;
  changed_.notify_all();
}

void PackedWriter::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return over_; });
}

void PackedWriter::run() {
  lower_thread_priority();
  Status status = ok();
  std::unique_lock lock(mutex_);
  while (status.has_value()) {
    changed_.wait(lock, [&] { return !queue_.empty() || finished_ || abandoned_; });
    if (abandoned_ || queue_.empty()) break;
    const PackedPart part = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    status = write(part);
    lock.lock();
  }
  const bool complete_it = status.has_value() && !abandoned_;
  lock.unlock();
  if (complete_it) status = complete();
  if (!complete_it && status.has_value())
    log::info("{}: the packed weights are not kept: the model went before they were written", file_.path().string());
  if (!status.has_value()) log::warn("the packed weights are not kept: {}", status.error().message);
  lock.lock();
  over_ = true;
  changed_.notify_all();
}

Status PackedWriter::write(const PackedPart& part) {
  PackedFileTensor matrix{.name = part.name + ".weight", .dtype = part.dtype, .shape = {part.rows, part.cols}};
  matrix.offset = (end_ + kPackedFileAlignment - 1) / kPackedFileAlignment * kPackedFileAlignment;
  for (int64_t at = 0; at < matrix.bytes(); at += kPackedChunkBytes) {
    const std::span chunk(part.data + at, static_cast<size_t>(std::min(kPackedChunkBytes, matrix.bytes() - at)));
    matrix.chunk_hashes.push_back(chunk_hash(chunk));
    REDOUBT_CHECK(write_at(file_, chunk, matrix.offset + at));
    const std::lock_guard lock(mutex_);
    if (abandoned_) return ok();
  }
  end_ = matrix.offset + matrix.bytes();
  index_.tensors.push_back(std::move(matrix));
  return ok();
}

Status PackedWriter::complete() {
  const std::string index = packed_file_index(index_), header = packed_file_header(index_, end_, index);
  REDOUBT_CHECK(write_at(file_, std::as_bytes(std::span(index)), end_));
  REDOUBT_CHECK(write_at(file_, std::as_bytes(std::span(header)), 0));
  if (is_whole_packed_file(file_.path())) return whole_there(file_.path());  // made meanwhile
  REDOUBT_CHECK(file_.take_name());
  log::info("{}: the packed weights are kept here for the next start", file_.path().string());
  return ok();
}

}  // namespace redoubt
