// What lists tell of a model that is not loaded: read from its files' headers, no weight among them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "core/clock.h"
#include "core/result.h"

namespace redoubt {

struct ModelFacts {
  int64_t context_tokens = 0;  // what the model was made for
  int64_t weights_bytes = 0;
  int64_t modified_unix = 0;  // the latest of its files
  std::string model_type;
  bool is_gguf = false;
};

Result<ModelFacts> read_model_facts(const std::filesystem::path& model);

// Facts by path, read once. Files that cannot be read are tried again after a minute: they may be on their way.
// Thread safety: all of it; who asks while a model is read waits.
class KnownModelFacts {
 public:
  std::optional<ModelFacts> find(const std::filesystem::path& model, int64_t now_ns);

 private:
  struct Known {
    std::optional<ModelFacts> facts;
    int64_t asked_ns = 0;
  };
  std::mutex mutex_;
  std::map<std::filesystem::path, Known> known_;
};

}  // namespace redoubt
