// Several models in one server: loaded on demand, unloaded when idle or when memory is short, chosen by name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "engine/disk_cache.h"
#include "engine/engine.h"
#include "engine/model_facts.h"
#include "engine/model_stay.h"
#include "engine/model_wait.h"
#include "engine/sampling_defaults.h"
#include "formats/checkpoint.h"
#include "model/model.h"
#include "text/chat_template.h"
#include "text/grammar.h"
#include "text/grammar_cache.h"
#include "text/output_parser.h"
#include "text/tokenizer.h"

namespace redoubt {

struct ModelEntry {
  std::string name;  // what a request's `model` says
  std::filesystem::path path;
  std::string stage = {};                          // of its release, "canary"; policies read it (docs/policies.md)
  std::map<std::string, std::string> labels = {};  // what policies read as its attributes
};

// Everything one loaded model needs to answer. Members are destroyed bottom up: the engine first.
struct LoadedModel {
  std::string name;
  std::string stage = {};  // the entry's
  int64_t created_unix = 0;
  Checkpoint checkpoint;
  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat_template;
  SamplingDefaults sampling;
  OutputFormat output_format;
  std::shared_ptr<const GrammarVocabulary> vocabulary;
  std::unique_ptr<GrammarCache> grammars;  // compiled for requests, and kept; null: none is
  double weights_load_s = 0, load_s = 0;   // how long the weights, and all of it, took to load
  std::vector<int32_t> stop_ids;           // end-of-sequence ids: generation_config's and the tokenizer's
  std::unique_ptr<Model> model;
  std::unique_ptr<Engine> engine;
};

struct ModelHostOptions {
  std::vector<ModelEntry> models;  // the first is the default
  ModelOptions model;
  EngineOptions engine;
  std::optional<DiskCacheOptions> disk_cache;       // shared by all models; nullopt: none
  GrammarCacheLimits grammar_cache;                 // of each model
  int64_t unload_idle_s = 0;                        // 0: never
  int64_t max_loaded = 0;                           // 0: as memory allows
  std::function<int64_t()> available_memory_bytes;  // null: what the machine says (memory_room.h)
};

class ModelHost {
 public:
  static Result<std::unique_ptr<ModelHost>> create(ModelHostOptions options, const Clock& clock);
  virtual ~ModelHost() = default;

  // "" is the default model. A model stays loaded while its pointer is held.
  // Null: it is not loaded. Errors: not_found (unknown name).
  virtual Result<std::shared_ptr<LoadedModel>> find_loaded(const std::string& name) = 0;
  // Has it loaded if it is not. `wait` is told on this thread, if nothing has to be loaded, else on the one that loads
  // or drains. One model is loaded at a time, in the order they were asked for; one that nobody waits for any more is
  // passed over. Errors that `wait` is told: not_found, io (the weights are larger than the memory), overloaded (other
  // models are in use and leave no room, as many wait for it as the engine's queue holds, or draining), whatever
  // loading returns.
  virtual void when_loaded(const std::string& name, std::shared_ptr<ModelWait> wait) = 0;
  // Waits for it here, however many do.
  virtual Result<std::shared_ptr<LoadedModel>> acquire(const std::string& name) = 0;
  virtual int64_t num_waiting(const std::string& /*name*/) const { return 0; }  // for its load
  virtual bool is_loading() const { return false; }                             // its destructor waits for that
  virtual std::vector<std::shared_ptr<LoadedModel>> loaded() const = 0;
  virtual const std::vector<ModelEntry>& entries() const = 0;
  // The counters of those engines of the name that are gone. Together with the counters of a model in loaded(), asked
  // before and still held, nothing is missing and nothing counted twice.
  virtual EngineStats retired(const std::string& /*name*/) const { return {}; }
  // Of a model that may never have been loaded; nullopt: an unknown name, or its files cannot be read.
  virtual std::optional<ModelFacts> facts(const std::string& /*name*/) { return {}; }
  // How long this model stays loaded once nobody uses it, from now until it is unloaded; then the server's time holds
  // again. Memory that another model needs is taken from it all the same. Nothing if it is not loaded.
  virtual void set_stay(const std::string& /*name*/, ModelStay /*stay*/) {}
  // Seconds until it is unloaded if nobody asks for it any more; nullopt: never, or it is not loaded.
  virtual std::optional<int64_t> unloads_in_s(const std::string& /*name*/) const { return {}; }
  virtual void unload_idle() = 0;  // called now and then by the server
  virtual void drain() = 0;        // refuses new requests in every engine, and all that wait for a load
  // After that: ends what still runs, and tells its listeners so. Returns when every engine's step has ended.
  void stop();
};

// What tells the cache blocks of this checkpoint, computed by this program, from all others: the files' names, sizes
// and times, the tensors' names and shapes.
std::string cache_identity(const Checkpoint& checkpoint);

// End-of-sequence ids: generation_config's, the tokenizer's, and the end-of-turn marks that the chat template writes.
std::vector<int32_t> stop_ids_of(const GenerationConfig& generation, const Tokenizer& tokenizer,
                                 const std::string& chat_template);

}  // namespace redoubt
