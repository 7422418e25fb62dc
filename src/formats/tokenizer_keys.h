// A tokenizer's vocabulary between tokenizer.json (+ tokenizer_config.json) and GGUF's tokenizer.* keys.
// The whole tokenizer.json travels too, under the specification's key tokenizer.huggingface.json, and comes back as it
// was. From a GGUF file without it, one is composed of the keys. Source: docs/formats/gguf.md.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/result.h"
#include "formats/gguf.h"
#include "formats/model_config.h"
#include "formats/model_writer.h"
#include "formats/side_files.h"

namespace redoubt {

// Adds the keys of the files' tokenizer; if there is none, the one key that says so. vocab_size: rows of the
// embedding; ids without a token are filled. A pre-tokenizer that has no GGUF name becomes a note.
Status add_tokenizer_keys(const SideFiles& files, int64_t vocab_size, const GenerationConfig& generation,
                          GgufMetadata& metadata, std::vector<std::string>& notes);

// Writes tokenizer.json and tokenizer_config.json from the keys, if there are any.
Status write_tokenizer_files(const GgufFile& file, const std::filesystem::path& directory,
                             std::vector<std::string>& notes);

}  // namespace redoubt
