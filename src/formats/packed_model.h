// A model whole in one packed file (docs/formats/packing.md): its matrices in the packed form, everything else as it
// was, and the small files. What convert writes and Checkpoint::open reads.
#pragma once

#include <filesystem>

#include "core/result.h"
#include "formats/checkpoint.h"
#include "formats/convert.h"
#include "formats/model_writer.h"

namespace redoubt {

// Packs and hashes on all threads of the pool, a piece at a time; the pages of the source are given back behind it.
// Errors: io; corrupt_data where the source is a packed file that is damaged.
Result<ConvertReport> write_packed_model(const Checkpoint& model, const std::filesystem::path& out,
                                         const WriteOptions& options);

}  // namespace redoubt
