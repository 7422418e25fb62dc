// A connection to a SQLite file: write-ahead log, synced at every commit (synchronous=FULL), so that what was committed
// outlives a power cut.
#pragma once

#include <filesystem>
#include <memory>

#include "core/result.h"
#include "storage/connection.h"

namespace redoubt {

struct SqliteFile {
  std::filesystem::path path;
  int64_t max_bytes = 0;  // 0: as the disk allows
  bool create = false;    // make it if it is not there: only at start, so that a file that vanished is an error
};

Result<std::unique_ptr<Connection>> open_sqlite(const SqliteFile& file, Deadline deadline);

}  // namespace redoubt
