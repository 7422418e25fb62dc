#include "engine/disk_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "core/log.h"

namespace redoubt {

namespace {

// Blocks read ahead of who takes them; a reader holds this much memory at most (or one block).
constexpr int64_t kReadAheadBytes = int64_t{32} << 20;

struct KeyHash {
  size_t operator()(const CacheKey& key) const {
    size_t hash = 0;
    std::memcpy(&hash, key.data(), sizeof(hash));
    return hash;
  }
};

std::optional<CacheKey> key_of_name(const std::string& name) {
  CacheKey key{};
  if (name.size() != 67 || !name.ends_with(".kv")) return std::nullopt;
  for (size_t i = 0; i < 64; ++i) {
    const char c = name[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    key[i / 2] = static_cast<uint8_t>(key[i / 2] << 4 | digit);
  }
  return key;
}

class OpenFile {
 public:
  OpenFile(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600)) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  bool write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
      if (n <= 0) return false;
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return true;
  }
  // The whole file; empty if it is not `size` bytes long.
  std::vector<std::byte> read(int64_t size) {
    struct stat info {};
    if (fd_ < 0 || ::fstat(fd_, &info) != 0 || info.st_size != size) return {};
    std::vector<std::byte> bytes(static_cast<size_t>(size));
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t n = ::read(fd_, bytes.data() + at, bytes.size() - at);
      if (n <= 0) return {};
      at += static_cast<size_t>(n);
    }
    return bytes;
  }

 private:
  int fd_;
};

struct Signal {
  std::mutex mutex;
  std::condition_variable wake;
};

struct ReadState {  // under the signal's mutex
  std::vector<CacheKey> keys;
  int64_t block_bytes = 0;
  std::function<void()> on_ready;
  size_t num_read = 0;
  std::deque<std::vector<std::byte>> ready;
  bool over = false, stopped = false;

  bool wants_more() const {
    return !over && !stopped &&
           static_cast<int64_t>(ready.size()) < std::max<int64_t>(1, kReadAheadBytes / block_bytes);
  }
};

class ReadHandle final : public BlockReading {
 public:
  ReadHandle(std::shared_ptr<ReadState> state, std::shared_ptr<Signal> signal)
      : state_(std::move(state)), signal_(std::move(signal)) {}
  ~ReadHandle() override {
    const std::lock_guard lock(signal_->mutex);
    state_->stopped = true;
    signal_->wake.notify_all();
  }
  Next next() override {
    const std::lock_guard lock(signal_->mutex);
    if (state_->ready.empty()) return {{}, state_->over};
    Next next{std::move(state_->ready.front()), false};
    state_->ready.pop_front();
    signal_->wake.notify_all();
    return next;
  }

 private:
  std::shared_ptr<ReadState> state_;
  std::shared_ptr<Signal> signal_;
};

class FileCache final : public DiskCache {
 public:
  explicit FileCache(DiskCacheOptions options) : options_(std::move(options)) {}
  ~FileCache() override {
    {
      const std::lock_guard lock(signal_->mutex);
      stopping_ = true;
      signal_->wake.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }
  Status start();

  bool contains(const CacheKey& key) const override {
    const std::lock_guard lock(signal_->mutex);
    return index_.contains(key);
  }
  bool has_room(int64_t block_bytes) const override {
    const std::lock_guard lock(signal_->mutex);
    return writes_.empty() || stats_queued_ + block_bytes <= options_.max_queued_bytes;
  }
  void write(const CacheKey& key, std::vector<std::byte> block, std::function<void()> on_written) override {
    const std::lock_guard lock(signal_->mutex);
    stats_queued_ += static_cast<int64_t>(block.size());
    writes_.push_back({key, std::move(block), std::move(on_written)});
    signal_->wake.notify_all();
  }
  std::unique_ptr<BlockReading> read(std::vector<CacheKey> keys, int64_t block_bytes,
                                     std::function<void()> on_ready) override {
    auto state = std::make_shared<ReadState>();
    state->keys = std::move(keys);
    state->block_bytes = block_bytes;
    state->on_ready = std::move(on_ready);
    const std::lock_guard lock(signal_->mutex);
    state->over = state->keys.empty();
    readings_.push_back(state);
    signal_->wake.notify_all();
    return std::make_unique<ReadHandle>(std::move(state), signal_);
  }
  DiskCacheStats stats() const override {
    const std::lock_guard lock(signal_->mutex);
    DiskCacheStats stats = stats_;
    stats.records = static_cast<int64_t>(index_.size());
    return stats;
  }

 private:
  struct Entry {
    int64_t bytes = 0;
    std::list<CacheKey>::iterator used_at;
  };
  struct Write {
    CacheKey key{};
    std::vector<std::byte> block;
    std::function<void()> on_written;
  };

  std::string folder_of(const CacheKey& key) const {
    return (options_.directory / hex_text(key).substr(0, 2)).string();
  }
  std::string path_of(const CacheKey& key) const { return folder_of(key) + "/" + hex_text(key) + ".kv"; }
  std::shared_ptr<ReadState> next_reading();
  void run();
  void read_one(ReadState& reading);
  void write_one(const Write& write);
  void mark_used(const ReadState& reading);
  void add(const CacheKey& key, int64_t bytes);
  void remove(const CacheKey& key);

  const DiskCacheOptions options_;
  const std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
  std::thread thread_;
  // All below under the signal's mutex.
  std::unordered_map<CacheKey, Entry, KeyHash> index_;
  std::list<CacheKey> used_;  // the most recently used first
  std::deque<Write> writes_;
  std::list<std::shared_ptr<ReadState>> readings_;
  int64_t stats_queued_ = 0;
  DiskCacheStats stats_;
  bool stopping_ = false, warned_ = false;
};

// Finds what an earlier process left, oldest first, and removes what it did not finish.
Status FileCache::start() {
  std::error_code error;
  if (!std::filesystem::exists(options_.directory, error)) {
    std::filesystem::create_directories(options_.directory, error);
    std::filesystem::permissions(options_.directory, std::filesystem::perms::owner_all, error);
  }
  if (::access(options_.directory.c_str(), R_OK | W_OK | X_OK) != 0)
    return io_error(fmt::format("prefix cache: cannot write in {}", options_.directory.string()));
  struct Found {
    CacheKey key{};
    int64_t bytes = 0;
    std::filesystem::file_time_type used;
  };
  std::vector<Found> found;
  for (int i = 0; i < 256; ++i) {
    const std::filesystem::path folder = options_.directory / fmt::format("{:02x}", i);
    for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
      std::error_code ignored;
      if (at->path().extension() == ".partial") std::filesystem::remove(at->path(), ignored);
      const std::optional<CacheKey> key = key_of_name(at->path().filename().string());
      if (!key.has_value() || at->is_symlink(ignored) || !at->is_regular_file(ignored)) continue;
      const auto bytes = static_cast<int64_t>(at->file_size(ignored));
      found.push_back({*key, bytes, at->last_write_time(ignored)});
    }
    error.clear();
  }
  std::ranges::sort(found, {}, &Found::used);
  {
    const std::lock_guard lock(signal_->mutex);
    for (const Found& each : found) add(each.key, each.bytes);
  }
  thread_ = std::thread([this] { run(); });
  return ok();
}

void FileCache::add(const CacheKey& key, int64_t bytes) {
  const auto [at, is_new] = index_.try_emplace(key);
  if (!is_new) return;
  used_.push_front(key);
  at->second = {bytes, used_.begin()};
  stats_.bytes += bytes;
  while (stats_.bytes > options_.max_bytes && used_.size() > 1) {
    ++stats_.evicted;
    remove(CacheKey(used_.back()));
  }
}

void FileCache::remove(const CacheKey& key) {
  const auto at = index_.find(key);
  if (at == index_.end()) return;
  ::unlink(path_of(key).c_str());
  stats_.bytes -= at->second.bytes;
  used_.erase(at->second.used_at);
  index_.erase(at);
}

std::shared_ptr<ReadState> FileCache::next_reading() {
  std::erase_if(readings_, [](const auto& reading) { return reading->over || reading->stopped; });
  const auto at = std::ranges::find_if(readings_, [](const auto& reading) { return reading->wants_more(); });
  return at != readings_.end() ? *at : nullptr;
}

void FileCache::run() {
  std::unique_lock lock(signal_->mutex);
  for (;;) {
    if (const std::shared_ptr<ReadState> reading = stopping_ ? nullptr : next_reading(); reading != nullptr) {
      lock.unlock();
      read_one(*reading);
      lock.lock();
    } else if (!writes_.empty()) {
      const Write write = std::move(writes_.front());
      writes_.pop_front();
      stats_queued_ -= static_cast<int64_t>(write.block.size());
      lock.unlock();
      write_one(write);
      if (write.on_written) write.on_written();
      lock.lock();
    } else if (stopping_) {
      return;
    } else {
      signal_->wake.wait(lock);
    }
  }
}

void FileCache::read_one(ReadState& reading) {
  const CacheKey key = reading.keys[reading.num_read];
  const std::vector<std::byte> record = OpenFile(path_of(key), O_RDONLY).read(kCacheRecordHead + reading.block_bytes);
  const auto block = parse_cache_record(record, key, reading.block_bytes);
  bool stopped = false;
  {
    const std::lock_guard lock(signal_->mutex);
    if (block) {
      reading.ready.emplace_back(block->begin(), block->end());
      ++reading.num_read;
      ++stats_.read;
    } else if (index_.contains(key)) {
      ++stats_.damaged;
      remove(key);
    }
    reading.over = !block || reading.num_read == reading.keys.size();
    stopped = reading.stopped;
  }
  if (reading.over) mark_used(reading);
  if (!stopped) reading.on_ready();
}

// The last block first: what comes before it is needed by more prompts, and goes later. The time is the clock's own:
// the kernel's for "now" stands still for some milliseconds, in which another file may have been written.
void FileCache::mark_used(const ReadState& reading) {
  for (size_t i = reading.num_read; i > 0; --i) {
    const CacheKey& key = reading.keys[i - 1];
    timespec times[2] = {{0, UTIME_OMIT}, {}};
    ::clock_gettime(CLOCK_REALTIME, &times[1]);
    ::utimensat(AT_FDCWD, path_of(key).c_str(), times, AT_SYMLINK_NOFOLLOW);
    const std::lock_guard lock(signal_->mutex);
    if (const auto at = index_.find(key); at != index_.end()) used_.splice(used_.begin(), used_, at->second.used_at);
  }
}

void FileCache::write_one(const Write& write) {
  const auto bytes = kCacheRecordHead + static_cast<int64_t>(write.block.size());
  if (bytes > options_.max_bytes || contains(write.key)) return;
  ::mkdir(folder_of(write.key).c_str(), 0700);
  const std::string path = path_of(write.key), partial = path + ".partial";
  bool written = false;
  {
    OpenFile file(partial, O_WRONLY | O_CREAT | O_TRUNC);
    written = file.write(cache_record_head(write.key, write.block)) && file.write(write.block);
  }
  written = written && ::rename(partial.c_str(), path.c_str()) == 0;
  const std::lock_guard lock(signal_->mutex);
  if (written) {
    ++stats_.written;
    add(write.key, bytes);
    return;
  }
  ::unlink(partial.c_str());
  if (!std::exchange(warned_, true))
    log::warn("prefix cache: a block could not be written in {}: {}", options_.directory.string(),
              std::strerror(errno));
}

}  // namespace

Result<std::unique_ptr<DiskCache>> DiskCache::open(const DiskCacheOptions& options) {
  auto cache = std::make_unique<FileCache>(options);
  REDOUBT_CHECK(cache->start());
  return std::unique_ptr<DiskCache>(std::move(cache));
}

}  // namespace redoubt
