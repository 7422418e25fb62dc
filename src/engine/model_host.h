// Several models in one server: loaded on demand, unloaded when idle or when memory is short, chosen by name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "engine/engine.h"
#include "formats/checkpoint.h"
#include "model/model.h"
#include "text/chat_template.h"
#include "text/grammar.h"
#include "text/output_parser.h"
#include "text/tokenizer.h"

namespace redoubt {

struct ModelEntry {
  std::string name;  // what a request's `model` says
  std::filesystem::path path;
};

// Everything one loaded model needs to answer. Members are destroyed bottom up: the engine first.
struct LoadedModel {
  std::string name;
  int64_t created_unix = 0;
  Checkpoint checkpoint;
  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat_template;
  OutputFormat output_format;
  std::shared_ptr<const GrammarVocabulary> vocabulary;
  std::vector<int32_t> stop_ids;  // end-of-sequence ids: generation_config's and the tokenizer's
  std::unique_ptr<Model> model;
  std::unique_ptr<Engine> engine;
};

struct ModelHostOptions {
  std::vector<ModelEntry> models;  // the first is the default
  ModelOptions model;
  EngineOptions engine;
  int64_t unload_idle_s = 0;  // 0: never
  int64_t max_loaded = 0;     // 0: as memory allows
};

class ModelHost {
 public:
  static Result<std::unique_ptr<ModelHost>> create(ModelHostOptions options, const Clock& clock);
  virtual ~ModelHost() = default;

  // Loads the model if it is not loaded (blocks; concurrent callers wait for the same load). "" is the default model.
  // Errors: not_found (unknown name), whatever loading returns. The model stays loaded while the pointer is held.
  virtual Result<std::shared_ptr<LoadedModel>> acquire(const std::string& name) = 0;
  virtual std::vector<std::shared_ptr<LoadedModel>> loaded() const = 0;
  virtual const std::vector<ModelEntry>& entries() const = 0;
  virtual void unload_idle() = 0;  // called now and then by the server
  virtual void drain() = 0;        // refuses new requests in every engine
};

}  // namespace redoubt
