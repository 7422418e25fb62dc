#include "engine/model_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <exception>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "core/log.h"
#include "engine/memory_room.h"

namespace redoubt {

std::vector<int32_t> stop_ids_of(const GenerationConfig& generation, const Tokenizer& tokenizer,
                                 const std::string& chat_template) {
  std::vector<int32_t> ids = generation.eos_token_ids;
  if (tokenizer.eos().has_value()) ids.push_back(*tokenizer.eos());
  // Marks that end a turn in the published templates. One that is no token of its own is text and stops nothing.
  constexpr std::array<const char*, 7> kEndMarks{"<｜end▁of▁sentence｜>", "<|im_end|>",    "<|eot_id|>", "<|eom_id|>",
                                                 "<|end_of_text|>",       "<|endoftext|>", "<|EOT|>"};
  for (const char* mark : kEndMarks) {
    if (chat_template.find(mark) == std::string::npos) continue;
    const std::optional<int32_t> id = tokenizer.find(mark);
    if (id.has_value() && tokenizer.kind(*id) != TokenKind::normal) ids.push_back(*id);
  }
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  std::erase_if(ids, [](int32_t id) { return id < 0; });
  return ids;
}

namespace {

// Beside the weights: activations and the cache of one short request.
constexpr int64_t kRoomBesideWeightsBytes = int64_t{64} << 20;

std::string shown_bytes(int64_t bytes) {
  return bytes < 1'000'000'000 ? fmt::format("{:.0f} MB", static_cast<double>(bytes) / 1e6)
                               : fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

class OnDemandHost final : public ModelHost {
 public:
  using LoadResult = ModelWait::Loaded;
  OnDemandHost(ModelHostOptions options, const Clock& clock) : options_(std::move(options)), clock_(clock) {
    slots_.resize(options_.models.size());
    if (!options_.available_memory_bytes)
      options_.available_memory_bytes = [] { return redoubt::available_memory_bytes(); };
    available_at_start_ = options_.available_memory_bytes();
    loader_ = std::thread([this] { load_what_is_asked_for(); });
  }
  ~OnDemandHost() override;

  LoadResult find_loaded(const std::string& name) override;
  void when_loaded(const std::string& name, std::shared_ptr<ModelWait> wait) override;
  LoadResult acquire(const std::string& name) override;
  int64_t num_waiting(const std::string& name) const override;
  bool is_loading() const override;
  std::vector<std::shared_ptr<LoadedModel>> loaded() const override;
  const std::vector<ModelEntry>& entries() const override { return options_.models; }
  EngineStats retired(const std::string& name) const override;
  std::optional<ModelFacts> facts(const std::string& name) override;
  void set_stay(const std::string& name, ModelStay stay) override;
  std::optional<int64_t> unloads_in_s(const std::string& name) const override;
  void unload_idle() override;
  void drain() override;

 private:
  struct Slot {
    std::shared_ptr<LoadedModel> model;
    EngineStats retired;  // of the engines before
    ModelStay stay;
    int64_t last_used_ns = 0;
    bool is_asked_for = false;  // it is loaded, or will be
    std::vector<std::shared_ptr<ModelWait>> waits;
  };
  enum class Bound : uint8_t { queue, none };

  std::optional<size_t> find(const std::string& name) const;
  void wait_for(const std::string& name, std::shared_ptr<ModelWait> wait, Bound bound);
  Status ask_for(size_t index, const std::shared_ptr<ModelWait>& wait, Bound bound);
  void load_what_is_asked_for();
  void end_all_waits(const Error& error);
  LoadResult load(const ModelEntry& entry);
  LoadResult load_and_catch(const ModelEntry& entry);
  void tell_what_is_not_had(const LoadedModel& loaded) const;
  Status make_room(const ModelEntry& entry, int64_t weights_bytes);
  static std::shared_ptr<LoadedModel> take_out(Slot& slot);
  bool unload_least_recent();
  int64_t room_bytes(const LoadedModel* newest = nullptr) const;
  ModelStay usual_stay() const {
    return {options_.unload_idle_s > 0 ? std::optional(options_.unload_idle_s) : std::nullopt};
  }

  ModelHostOptions options_;
  const Clock& clock_;
  int64_t available_at_start_ = 0;
  KnownModelFacts facts_;
  mutable std::mutex mutex_;
  std::condition_variable asked_;
  // All below under the mutex. A slot's model is copied and dropped only under it, so a use count of 1 means idle.
  std::vector<Slot> slots_;       // [options_.models]
  std::deque<size_t> asked_for_;  // slots
  bool is_loading_ = false, is_draining_ = false, is_ending_ = false;
  std::thread loader_;  // one load at a time: two would compete for the same memory and cores
};

constexpr const char* kDraining = "the server is shutting down and loads no more models";

OnDemandHost::~OnDemandHost() {
  {
    const std::lock_guard lock(mutex_);
    is_draining_ = is_ending_ = true;
  }
  asked_.notify_one();
  end_all_waits({ErrorCode::overloaded, kDraining, {}});
  loader_.join();
}

std::optional<size_t> OnDemandHost::find(const std::string& name) const {
  if (name.empty()) return 0;
  for (size_t i = 0; i < options_.models.size(); ++i)
    if (options_.models[i].name == name) return i;
  return std::nullopt;
}

OnDemandHost::LoadResult OnDemandHost::find_loaded(const std::string& name) {
  const std::optional<size_t> index = find(name);
  if (!index.has_value()) {
    Error error = not_found(fmt::format("the model '{}' does not exist", name));
    error.param = "model";
    return error;
  }
  const std::lock_guard lock(mutex_);
  Slot& slot = slots_[*index];
  slot.last_used_ns = clock_.now_ns();
  return slot.model;
}

void OnDemandHost::when_loaded(const std::string& name, std::shared_ptr<ModelWait> wait) {
  wait_for(name, std::move(wait), Bound::queue);
}

OnDemandHost::LoadResult OnDemandHost::acquire(const std::string& name) {
  // Shared: who tells is still at it when the future wakes.
  const auto loaded = std::make_shared<std::promise<LoadResult>>();
  std::future<LoadResult> future = loaded->get_future();
  wait_for(name, std::make_shared<ModelWait>([loaded](LoadResult result) { loaded->set_value(std::move(result)); }),
           Bound::none);
  return future.get();
}

int64_t OnDemandHost::num_waiting(const std::string& name) const {
  const std::optional<size_t> index = find(name);
  if (!index) return 0;
  const std::lock_guard lock(mutex_);
  return std::ranges::count_if(slots_[*index].waits, [](const auto& wait) { return !wait->is_over(); });
}

bool OnDemandHost::is_loading() const {
  const std::lock_guard lock(mutex_);
  return is_loading_;
}

void OnDemandHost::wait_for(const std::string& name, std::shared_ptr<ModelWait> wait, Bound bound) {
  LoadResult found = find_loaded(name);
  if (found && *found == nullptr) {
    const Status asked = ask_for(*find(name), wait, bound);
    if (asked) return;
    found = asked.error();
  }
  wait->end(std::move(found));
}

// Errors: overloaded. Else it is told by the thread that loads, also where the model was loaded meanwhile.
Status OnDemandHost::ask_for(size_t index, const std::shared_ptr<ModelWait>& wait, Bound bound) {
  const std::lock_guard lock(mutex_);
  if (is_draining_) return Error{ErrorCode::overloaded, kDraining, {}};
  Slot& slot = slots_[index];
  const auto is_full = [&] { return std::ssize(slot.waits) >= options_.engine.max_queue; };
  if (bound == Bound::queue && is_full()) {
    std::erase_if(slot.waits, [](const auto& other) { return other->is_over(); });
    if (is_full())
      return Error{ErrorCode::overloaded,
                   fmt::format("the queue is full: {} requests wait until the model '{}' is loaded, expected fewer "
                               "than {}",
                               slot.waits.size(), options_.models[index].name, options_.engine.max_queue),
                   {}};
  }
  slot.waits.push_back(wait);
  if (!std::exchange(slot.is_asked_for, true)) asked_for_.push_back(index);
  asked_.notify_one();
  return ok();
}

void OnDemandHost::load_what_is_asked_for() {
  for (;;) {
    std::unique_lock lock(mutex_);
    asked_.wait(lock, [&] { return is_ending_ || !asked_for_.empty(); });
    if (is_ending_) return;
    const size_t index = asked_for_.front();
    asked_for_.pop_front();
    Slot& slot = slots_[index];
    LoadResult loaded = slot.model;
    const bool is_wanted = std::ranges::any_of(slot.waits, [](const auto& wait) { return !wait->is_over(); });
    if (slot.model == nullptr && is_wanted) {
      is_loading_ = true;
      lock.unlock();
      loaded = load_and_catch(options_.models[index]);
      lock.lock();
      is_loading_ = false;
      slot.last_used_ns = clock_.now_ns();
      if (loaded) {
        slot.model = *loaded;
        slot.stay = usual_stay();
        if (is_draining_) slot.model->engine->drain();
      }
    }
    slot.is_asked_for = false;
    const auto waits = std::exchange(slot.waits, {});
    lock.unlock();
    for (size_t i = 0; i + 1 < waits.size(); ++i) waits[i]->end(loaded);
    if (!waits.empty()) waits.back()->end(std::move(loaded));  // none is held here once everybody was told
  }
}

void OnDemandHost::end_all_waits(const Error& error) {
  std::vector<std::shared_ptr<ModelWait>> ended;
  {
    const std::lock_guard lock(mutex_);
    for (Slot& slot : slots_) {
      for (auto& wait : slot.waits) ended.push_back(std::move(wait));
      slot.waits.clear();
    }
  }
  for (const auto& wait : ended) wait->end(error);
}

// The system may have no memory or no thread for it: that ends the load, not the server.
OnDemandHost::LoadResult OnDemandHost::load_and_catch(const ModelEntry& entry) {
  try {
    return load(entry);
  } catch (const std::exception& e) {
    return Error{ErrorCode::internal, fmt::format("model '{}' could not be loaded: {}", entry.name, e.what()), {}};
  }
}

OnDemandHost::LoadResult OnDemandHost::load(const ModelEntry& entry) {
  const auto named = [&](Error error) { return std::move(error).within("model '" + entry.name + "'"); };
  const int64_t begin_ns = clock_.now_ns();
  auto checkpoint = Checkpoint::open(entry.path);
  if (!checkpoint) return named(std::move(checkpoint).error());
  auto tokenizer = Tokenizer::from_checkpoint(*checkpoint);
  if (!tokenizer) return named(std::move(tokenizer).error());
  if (auto room = make_room(entry, checkpoint->weights_bytes()); !room) return std::move(room).error();

  // Tokenizer and checkpoint get their final address before anything refers to them.
  const auto loaded =
      std::make_shared<LoadedModel>(LoadedModel{.name = entry.name,
                                                .stage = entry.stage,
                                                .created_unix = static_cast<int64_t>(std::time(nullptr)),
                                                .checkpoint = std::move(checkpoint).value(),
                                                .tokenizer = std::move(tokenizer).value()});
  const std::string source = loaded->checkpoint.chat_template();
  loaded->sampling = sampling_defaults(loaded->checkpoint.generation(), source);
  if (!source.empty()) {
    auto chat_template = ChatTemplate::parse(source);
    if (chat_template) {
      loaded->chat_template.emplace(std::move(chat_template).value());
    } else {
      log::warn("model '{}': its chat template cannot be used, completions remain: {}", entry.name,
                chat_template.error().message);
    }
  }
  loaded->output_format = detect_output_format(source, loaded->tokenizer);
  loaded->vocabulary = make_grammar_vocabulary(loaded->tokenizer);
  loaded->grammars = std::make_unique<GrammarCache>(options_.grammar_cache);
  loaded->stop_ids = stop_ids_of(loaded->checkpoint.generation(), loaded->tokenizer, source);

  const int64_t weights_begin_ns = clock_.now_ns();
  auto model = Model::load(loaded->checkpoint, options_.model);
  if (!model) return named(std::move(model).error());
  loaded->model = std::move(model).value();
  loaded->weights_load_s = static_cast<double>(clock_.now_ns() - weights_begin_ns) / 1e9;
  EngineOptions engine_options = options_.engine;
  engine_options.eos_ids = loaded->stop_ids;
  engine_options.vocabulary = loaded->vocabulary;
  if (engine_options.disk_cache != nullptr) engine_options.disk_identity = cache_identity(loaded->checkpoint);
  if (engine_options.cache_bytes == 0) engine_options.cache_bytes = std::max<int64_t>(0, room_bytes(loaded.get())) / 2;
  auto engine = Engine::create(*loaded->model, loaded->tokenizer, engine_options, clock_);
  if (!engine) return named(std::move(engine).error());
  loaded->engine = std::move(engine).value();
  loaded->load_s = static_cast<double>(clock_.now_ns() - begin_ns) / 1e9;

  const int64_t cache_blocks = loaded->model->num_cache_blocks();
  tell_what_is_not_had(*loaded);
  log::info("model '{}' loaded in {:.1f} s: kernels {}, {} threads, weights {}, cache {} for {} tokens, context {}",
            entry.name, loaded->load_s, loaded->model->kernels_name(), loaded->model->threads(),
            shown_bytes(loaded->checkpoint.weights_bytes()),
            shown_bytes(cache_blocks * loaded->model->cache_block_bytes()), cache_blocks * kCacheBlockTokens,
            loaded->engine->max_context());
  return loaded;
}

// Of what the options ask for in numbers. A cache too small for the context is the engine's to tell.
void OnDemandHost::tell_what_is_not_had(const LoadedModel& loaded) const {
  const int64_t context = loaded.checkpoint.config().max_position_embeddings;
  if (options_.engine.max_context > context)
    log::warn("model '{}': a context of {} tokens was asked for, the model's is {}", loaded.name,
              options_.engine.max_context, context);
  const int64_t block_bytes = loaded.model->cache_block_bytes();
  const int64_t cache_bytes = loaded.model->num_cache_blocks() * block_bytes;
  if (options_.engine.cache_bytes >= cache_bytes + block_bytes)
    log::warn("model '{}': a cache of {} was asked for, {} hold all that can run at once at {} tokens each",
              loaded.name, shown_bytes(options_.engine.cache_bytes), shown_bytes(cache_bytes),
              loaded.engine->max_context());
}

// Unloads idle models, the least recently used first, until the new one fits.
Status OnDemandHost::make_room(const ModelEntry& entry, int64_t weights_bytes) {
  const int64_t needed = weights_bytes + kRoomBesideWeightsBytes;
  for (;;) {
    const auto others = static_cast<int64_t>(loaded().size());
    const int64_t available = std::max<int64_t>(0, room_bytes());
    const bool too_many = options_.max_loaded > 0 && others >= options_.max_loaded;
    if (!too_many && available >= needed) return ok();
    if (unload_least_recent()) continue;
    if (too_many)
      return Error{ErrorCode::overloaded,
                   fmt::format("model '{}': {} models are loaded and in use, expected fewer than {}; try again later",
                               entry.name, others, options_.max_loaded),
                   "model"};
    const std::string sizes = fmt::format("model '{}': its weights need {} of memory and {} are available", entry.name,
                                          shown_bytes(needed), shown_bytes(available));
    if (others > 0)
      return Error{ErrorCode::overloaded, sizes + " while other models are in use; try again later", "model"};
    return io_error(sizes + "; take a smaller model or a smaller type (redoubt quantize), or free memory");
  }
}

// What a further model or cache may take beside those loaded and `newest`, which is in no slot yet. Mapped weights and
// cache that nobody has written yet look free to the system; both are promised. Weights in private memory do not.
int64_t OnDemandHost::room_bytes(const LoadedModel* newest) const {
  const int64_t available = options_.available_memory_bytes();
  int64_t weights = 0, mapped = 0, caches = 0;
  const auto count = [&](const LoadedModel& loaded) {
    const int64_t bytes = loaded.checkpoint.weights_bytes();
    weights += bytes;
    mapped += std::max<int64_t>(0, bytes - loaded.model->private_weights_bytes());
    caches += loaded.model->num_cache_blocks() * loaded.model->cache_block_bytes();
  };
  const std::lock_guard lock(mutex_);
  for (const Slot& slot : slots_) {
    if (slot.model != nullptr) count(*slot.model);
  }
  if (newest != nullptr) count(*newest);
  return std::min(available_at_start_ - weights - caches, available - mapped);
}

// Under the mutex. Nobody uses the model, so that its counters are final.
std::shared_ptr<LoadedModel> OnDemandHost::take_out(Slot& slot) {
  slot.retired = counted_together(slot.retired, slot.model->engine->stats());
  return std::exchange(slot.model, nullptr);
}

EngineStats OnDemandHost::retired(const std::string& name) const {
  const std::optional<size_t> index = find(name);
  const std::lock_guard lock(mutex_);
  return index.has_value() ? slots_[*index].retired : EngineStats{};
}

bool OnDemandHost::unload_least_recent() {
  std::shared_ptr<LoadedModel> leaving;
  {
    const std::lock_guard lock(mutex_);
    Slot* least = nullptr;
    for (Slot& slot : slots_)
      if (slot.model.use_count() == 1 && (least == nullptr || slot.last_used_ns < least->last_used_ns)) least = &slot;
    if (least == nullptr) return false;
    leaving = take_out(*least);
  }
  log::info("model '{}' unloaded to make room", leaving->name);
  return true;
}

std::vector<std::shared_ptr<LoadedModel>> OnDemandHost::loaded() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<LoadedModel>> all;
  for (const Slot& slot : slots_)
    if (slot.model != nullptr) all.push_back(slot.model);
  return all;
}

std::optional<ModelFacts> OnDemandHost::facts(const std::string& name) {
  const std::optional<size_t> index = find(name);
  if (!index.has_value()) return std::nullopt;
  auto facts = facts_.find(options_.models[*index].path, clock_.now_ns());
  const int64_t limit = options_.engine.max_context;
  if (facts && limit > 0) facts->context_tokens = std::min(facts->context_tokens, limit);
  return facts;
}

void OnDemandHost::set_stay(const std::string& name, ModelStay stay) {
  const std::optional<size_t> index = find(name);
  const std::lock_guard lock(mutex_);
  if (index.has_value() && slots_[*index].model != nullptr) slots_[*index].stay = stay;
}

std::optional<int64_t> OnDemandHost::unloads_in_s(const std::string& name) const {
  const std::optional<size_t> index = find(name);
  const std::lock_guard lock(mutex_);
  if (!index.has_value()) return std::nullopt;
  const Slot& slot = slots_[*index];
  if (slot.model == nullptr || !slot.stay.idle_s.has_value()) return std::nullopt;
  const int64_t now = clock_.now_ns(), idle_since = slot.model.use_count() > 1 ? now : slot.last_used_ns;
  return std::max<int64_t>(0, *slot.stay.idle_s - (now - idle_since) / 1'000'000'000);
}

void OnDemandHost::unload_idle() {
  std::vector<std::pair<std::shared_ptr<LoadedModel>, int64_t>> leaving;  // joining an engine takes its time: no lock
  {
    const std::lock_guard lock(mutex_);
    const int64_t now = clock_.now_ns();
    for (Slot& slot : slots_) {
      if (slot.model.use_count() > 1) {
        slot.last_used_ns = now;
      } else if (slot.model != nullptr && slot.stay.is_over(slot.last_used_ns, now)) {
        leaving.emplace_back(take_out(slot), (now - slot.last_used_ns) / 1'000'000'000);
      }
    }
  }
  for (const auto& [model, idle_s] : leaving)
    log::info("model '{}' unloaded after {} s without use", model->name, idle_s);
}

void OnDemandHost::drain() {
  {
    const std::lock_guard lock(mutex_);
    is_draining_ = true;
    for (const Slot& slot : slots_)
      if (slot.model != nullptr) slot.model->engine->drain();
  }
  end_all_waits({ErrorCode::overloaded, kDraining, {}});
}

}  // namespace

void ModelHost::stop() {
  for (const auto& model : loaded()) model->engine->stop();
}

Result<std::unique_ptr<ModelHost>> ModelHost::create(ModelHostOptions options, const Clock& clock) {
  if (options.models.empty()) return invalid("models: expected at least one, found none");
  if (options.disk_cache.has_value()) {
    REDOUBT_TRY(options.engine.disk_cache, DiskCache::open(*options.disk_cache));
  }
  for (size_t i = 0; i < options.models.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (options.models[i].name == options.models[j].name)
        return invalid(fmt::format("models: the name '{}' stands twice", options.models[i].name));
  return std::unique_ptr<ModelHost>(std::make_unique<OnDemandHost>(std::move(options), clock));
}

}  // namespace redoubt
