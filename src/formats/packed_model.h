// A model whole in one packed file (docs/formats/packing.md): its matrices in the packed form, everything else as it
// was, and the small files. What convert writes and Checkpoint::open reads.
#pragma once

#include <filesystem>

#include "core/result.h"
#include "formats/checkpoint.h"
#include "formats/convert.h"
#include "formats/model_writer.h"

namespace redoubt {

constexpr int64_t kPackedWindowBytes = int64_t{32} << 20;

// Packs and hashes on all threads of the pool, a window of about so many bytes at a time, which the file does not show;
// the pages of the source are given back behind it. Errors: io; corrupt_data where the source is a packed file that is
// damaged.
Result<ConvertReport> write_packed_model(const Checkpoint& model, const std::filesystem::path& out,
                                         const WriteOptions& options, int64_t window_bytes = kPackedWindowBytes);

}  // namespace redoubt
