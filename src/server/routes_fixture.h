// The routes without sockets and without a model: a byte-level tokenizer made here, an engine that says what a test
// scripts, and a writer that keeps what it is given.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

#include "core/utf8.h"
#include "governance/permit.h"
#include "server/routes.h"

namespace redoubt {

// What one choice says. Marks such as "</think>" in `text` become their tokens.
struct Script {
  std::string text;
  FinishReason finish = FinishReason::stop;
  std::string stop_string = {};
};

class RecordingWriter final : public ResponseWriter {
 public:
  void send(int status, std::string_view content_type, std::string body, HttpHeaders headers = {}) override {
    {
      const std::lock_guard lock(mutex_);
      ADD_FAILURE_IF_TWICE();
      status_ = status;
      type_ = content_type;
      body_ = std::move(body);
      headers_ = std::move(headers);
      ended_ = true;
    }
    close(false);
  }
  void start_stream(int status, std::string_view content_type, HttpHeaders headers, std::string idle_comment) override {
    const std::lock_guard lock(mutex_);
    ADD_FAILURE_IF_TWICE();
    status_ = status;
    type_ = content_type;
    headers_ = std::move(headers);
    idle_comment_ = std::move(idle_comment);
  }
  void write(std::string bytes) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(ended_) << "written after the end";
    EXPECT_TRUE(is_valid_utf8(bytes));
    body_ += bytes;
  }
  void end() override {
    {
      const std::lock_guard lock(mutex_);
      EXPECT_FALSE(ended_) << "ended twice";
      ended_ = true;
    }
    close(false);
  }
  void on_close(std::function<void(bool)> callback) override {
    const std::lock_guard lock(mutex_);
    on_close_ = std::move(callback);
  }
  void on_backpressure(std::function<void(bool)> callback) override {
    const std::lock_guard lock(mutex_);
    on_backpressure_ = std::move(callback);
  }

  // What the socket's loop would do.
  void close(bool client_left) {
    std::function<void(bool)> callback;
    {
      const std::lock_guard lock(mutex_);
      callback.swap(on_close_);
    }
    if (callback) callback(client_left);
  }
  void lag(bool behind) { on_backpressure_(behind); }

  int status() const { return status_; }
  const std::string& type() const { return type_; }
  const std::string& body() const { return body_; }
  bool ended() const { return ended_; }
  const HttpHeaders& headers() const { return headers_; }
  Json json() const { return Json::parse(body_); }
  // The data of each event; "[DONE]" becomes null.
  std::vector<Json> events() const {
    std::vector<Json> out;
    for (size_t at = 0; (at = body_.find("data: ", at)) != std::string::npos;) {
      at += 6;
      const std::string line = body_.substr(at, body_.find('\n', at) - at);
      out.push_back(line == "[DONE]" ? Json() : Json::parse(line));
    }
    return out;
  }
  std::vector<Json> lines() const {
    std::vector<Json> out;
    for (size_t at = 0; at < body_.size();) {
      const size_t end = body_.find('\n', at);
      out.push_back(Json::parse(body_.substr(at, end - at)));
      at = end + 1;
    }
    return out;
  }

 private:
  void ADD_FAILURE_IF_TWICE() const { EXPECT_EQ(status_, 0) << "answered twice"; }

  mutable std::mutex mutex_;
  int status_ = 0;
  std::string type_, body_, idle_comment_;
  HttpHeaders headers_;
  std::atomic<bool> ended_ = false;
  std::function<void(bool)> on_close_, on_backpressure_;
};

struct FakeGeneration final : Generation {
  void cancel() override { ++cancelled; }
  void pause() override { ++paused; }
  void resume() override { ++resumed; }
  std::atomic<int> cancelled = 0, paused = 0, resumed = 0;
};

class FakeEngine final : public Engine {
 public:
  explicit FakeEngine(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  Result<std::shared_ptr<Generation>> submit(GenerationRequest request,
                                             std::shared_ptr<GenerationListener> listener) override {
    if (refuse) return *refuse;
    auto generation = std::make_shared<FakeGeneration>();
    {
      const std::lock_guard lock(mutex_);
      last = request;
      generations.push_back(generation);
    }
    if (hold)
      held.emplace_back(std::move(request), std::move(listener));
    else
      speak(request, *listener);
    return std::shared_ptr<Generation>(generation);
  }
  void speak(const GenerationRequest& request, GenerationListener& listener) const {
    GenerationUsage usage{.prompt_tokens = static_cast<int64_t>(request.prompt.size()),
                          .cached_tokens = 2,
                          .prefill_ns = 1'000'000,
                          .decode_ns = 2'000'000};
    for (int choice = 0; choice < request.n; ++choice) {
      say(request, choice, scripts[static_cast<size_t>(choice) % scripts.size()], listener, usage);
    }
    if (request.prompt_logprobs) {
      for (size_t i = 0; i < request.prompt.size(); ++i) {
        usage.prompt_logprobs.push_back(i == 0 ? std::nullopt : std::optional(logprob_of(request, request.prompt[i])));
      }
    }
    listener.on_done(usage);
  }
  EngineStats stats() const override { return counts; }
  int64_t max_context() const override { return 4096; }
  void drain() override {}

  EngineStats counts;
  std::vector<Script> scripts = {{"Hello"}};
  std::optional<Error> refuse;
  bool hold = false;  // keep requests in `held` instead of answering inside submit
  std::vector<std::pair<GenerationRequest, std::shared_ptr<GenerationListener>>> held;
  std::vector<std::shared_ptr<FakeGeneration>> generations;
  GenerationRequest last;

 private:
  TokenLogprob logprob_of(const GenerationRequest& request, int32_t token) const {
    TokenLogprob logprob{.token = token, .logprob = -0.5f};
    for (int k = 0; k < request.top_logprobs; ++k)
      logprob.top.emplace_back(k == 0 ? token : 64 + k, -0.5f - static_cast<float>(k));
    return logprob;
  }
  void say(const GenerationRequest& request, int choice, const Script& script, GenerationListener& listener,
           GenerationUsage& usage) const {
    StreamDecoder decoder(tokenizer_);
    bool thinking = request.thinking.starts_in_reasoning;
    for (const int32_t id : tokenizer_.encode(MarkedText::all_markup(script.text))) {
      TokenEvent event{.choice = choice, .token = id, .text = decoder.push(id)};
      if (id == tokenizer_.find("<think>")) thinking = true;
      if (id == tokenizer_.find("</think>")) thinking = false;
      event.in_reasoning = thinking;
      usage.reasoning_tokens += thinking ? 1 : 0;
      ++usage.completion_tokens;
      if (request.logprobs) event.logprob = logprob_of(request, id);
      listener.on_token(event);
    }
    TokenEvent end{.choice = choice, .finish = script.finish, .stop_string = script.stop_string};
    if (script.finish == FinishReason::error) end.error = Error{ErrorCode::internal, "a step failed", {}};
    listener.on_token(end);
  }

  const Tokenizer& tokenizer_;
  mutable std::mutex mutex_;
};

class FakeHost final : public ModelHost {
 public:
  Result<std::shared_ptr<LoadedModel>> acquire(const std::string& name) override {
    if (!name.empty() && name != model->name) return not_found("no such model");
    return model;
  }
  Result<std::shared_ptr<LoadedModel>> find_loaded(const std::string& name) override {
    if (name != "other" || !other_is_loadable) return acquire(name);
    const std::lock_guard lock(mutex_);
    return other;
  }
  void when_loaded(const std::string& name, std::shared_ptr<ModelWait> wait) override {
    auto found = find_loaded(name);
    if (!found || *found != nullptr) return wait->end(std::move(found));
    const std::lock_guard lock(mutex_);
    waits_.push_back(std::move(wait));
  }
  void end_load(Result<std::shared_ptr<LoadedModel>> loaded) {
    std::vector<std::shared_ptr<ModelWait>> ended;
    {
      const std::lock_guard lock(mutex_);
      if (loaded) other = *loaded;
      ended.swap(waits_);
    }
    for (const auto& wait : ended) wait->end(loaded);
  }
  int64_t num_waiting(const std::string& name) const override {
    return name == "other" ? static_cast<int64_t>(waiting()) : 0;
  }
  size_t waiting() const {
    const std::lock_guard lock(mutex_);
    return static_cast<size_t>(std::ranges::count_if(waits_, [](const auto& wait) { return !wait->is_over(); }));
  }
  std::vector<std::shared_ptr<LoadedModel>> loaded() const override {
    return is_loaded ? std::vector{model} : std::vector<std::shared_ptr<LoadedModel>>();
  }
  EngineStats retired(const std::string& name) const override { return name == model->name ? gone : EngineStats{}; }
  const std::vector<ModelEntry>& entries() const override { return models; }
  std::optional<ModelFacts> facts(const std::string& name) override {
    if (name != "other" || !other_is_whole) return std::nullopt;
    return ModelFacts{.context_tokens = 512, .weights_bytes = 1000, .modified_unix = 86'400, .model_type = "llama"};
  }
  void set_stay(const std::string& name, ModelStay stay) override { stays.emplace_back(name, stay.idle_s); }
  std::optional<int64_t> unloads_in_s(const std::string&) const override { return unload_in_s; }
  void unload_idle() override { ++unloads; }
  void drain() override {}

  std::shared_ptr<LoadedModel> model;
  std::shared_ptr<LoadedModel> other;  // once end_load said so
  bool other_is_loadable = false;      // else the name is unknown to find_loaded
  bool is_loaded = true, other_is_whole = true;
  std::vector<std::pair<std::string, std::optional<int64_t>>> stays;  // as they were set
  std::optional<int64_t> unload_in_s;
  int unloads = 0;
  EngineStats gone;
  std::vector<ModelEntry> models = {{.name = "tiny", .path = "tiny"}, {.name = "other", .path = "other"}};

 private:
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<ModelWait>> waits_;
};

constexpr const char* kTinyTemplate =
    "{{ bos_token }}{% if tools %}<|system|>{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}<|user|>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<|assistant|>{{ m.content or '' }}"
    "{% if m.tool_calls %}{% for call in m.tool_calls %}<tool_call>{\"name\": \"{{ call.function.name }}\", "
    "\"arguments\": {{ call.function.arguments | tojson }}}</tool_call>{% endfor %}{% endif %}{{ eos_token }}"
    "{% elif m.role == 'tool' %}<|user|>result: {{ m.content }}"
    "{% else %}<|system|>{{ m.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking %}<think>\n{% endif %}{% endif %}";

// Token id = byte, then the marks. Written to a folder because a model is opened from one.
inline std::filesystem::path write_tiny_model() {
  namespace fs = std::filesystem;
  static std::atomic<int> count = 0;
  const fs::path folder =
      fs::temp_directory_path() / ("redoubt-routes-" + std::to_string(getpid()) + "-" + std::to_string(count++));
  fs::create_directories(folder);
  Json vocab = Json::object();
  int next = 256;  // bytes that are no printable characters stand as U+0100 and on
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    std::string symbol;
    append_utf8(symbol, static_cast<char32_t>(printable ? byte : next));
    if (!printable) ++next;
    vocab[symbol] = byte;
  }
  Json added = Json::array();
  int id = 256;
  for (const char* mark : {"<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|system|>", "<think>", "</think>",
                           "<tool_call>", "</tool_call>"}) {
    added.push_back({{"id", id},
                     {"content", mark},
                     {"special", id < 261},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false}});
    ++id;
  }
  const Json tokenizer = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
  std::ofstream(folder / "tokenizer.json") << tokenizer.dump();
  std::ofstream(folder / "tokenizer_config.json")
      << Json{{"bos_token", "<|bos|>"}, {"eos_token", "<|eos|>"}, {"add_bos_token", true}}.dump();
  std::ofstream(folder / "config.json")
      << R"({"model_type":"qwen2","architectures":["Qwen2ForCausalLM"],"vocab_size":265,"hidden_size":8,"intermediate_size":16,)"
         R"("num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":4096,"rms_norm_eps":1e-6})";
  std::ofstream(folder / "generation_config.json")
      << R"({"eos_token_id":257,"do_sample":true,"temperature":0.6,"top_p":0.95})";
  std::string header = R"({"model.norm.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::ofstream weights(folder / "model.safetensors", std::ios::binary);
  const uint64_t size = header.size();
  weights.write(reinterpret_cast<const char*>(&size), 8);
  weights << header << std::string(8, '\0');
  return folder;
}

class Routes : public testing::Test {
 protected:
  void SetUp() override {
    const auto folder = write_tiny_model();
    auto checkpoint = Checkpoint::open(folder);
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    auto tokenizer = Tokenizer::from_directory(folder);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    auto chat_template = ChatTemplate::parse(kTinyTemplate);
    ASSERT_TRUE(chat_template) << chat_template.error().message;
    host.model =
        std::shared_ptr<LoadedModel>(new LoadedModel{.name = "tiny",
                                                     .created_unix = 1'700'000'000,
                                                     .checkpoint = std::move(*checkpoint),
                                                     .tokenizer = std::move(*tokenizer),
                                                     .chat_template = std::move(*chat_template),
                                                     .output_format = {.tools = ToolSyntax::hermes, .thinks = true},
                                                     .vocabulary = nullptr,
                                                     .grammars = std::make_unique<GrammarCache>(),
                                                     .stop_ids = {257},
                                                     .model = nullptr,
                                                     .engine = nullptr});
    host.model->sampling = sampling_defaults(host.model->checkpoint.generation(), kTinyTemplate);
    auto fake = std::make_unique<FakeEngine>(host.model->tokenizer);
    engine = fake.get();
    host.model->engine = std::move(fake);
    routes = make_routes(context);
    count_requests(context, routes);
    std::filesystem::remove_all(folder);
  }

  // Calls the route; a path's last part fills its {parameter}.
  std::shared_ptr<RecordingWriter> call(const std::string& method, const std::string& path,
                                        const std::string& body = "") {
    auto writer = std::make_shared<RecordingWriter>();
    for (const Route& route : routes) {
      auto request = std::make_shared<HttpRequest>();
      if (route.method != method) continue;
      if (const size_t brace = route.path.find('{');
          brace != std::string::npos && route.path.back() == '}' && path.starts_with(route.path.substr(0, brace))) {
        request->path_params[route.path.substr(brace + 1, route.path.size() - brace - 2)] = path.substr(brace);
      } else if (route.path != path) {
        continue;
      }
      request->method = method;
      request->path = path;
      request->body = body;
      request->permit = permit;
      request->action = route.rule->action;
      request->rate = route.rule->rate.value_or(RateClass::none);
      route.handler(request, writer);
      return writer;
    }
    ADD_FAILURE() << "no route " << method << " " << path;
    return writer;
  }
  std::shared_ptr<RecordingWriter> post(const std::string& path, const Json& body) {
    return call("POST", path, body.dump());
  }
  std::string prompt_text() const { return host.model->tokenizer.decode(engine->last.prompt); }

  // Everything a client may do.
  class Permissive final : public Authority {
   public:
    Verdict decide(const Principal&, const AccessQuestion&) const override { return Verdict::permitted; }
    Status still_valid(const Principal&) const override { return ok(); }
    uint64_t version() const override { return 0; }
  };

  std::shared_ptr<Permit> permit =
      std::make_shared<Permit>(std::make_shared<Principal>(Principal{.tenant = "t1"}), std::make_shared<Permissive>());
  FakeHost host;
  FakeEngine* engine = nullptr;
  ServerContext context{host, {}, {}};
  std::vector<Route> routes;
};

inline Json ask(const Json& more = Json::object()) {
  Json body = {{"model", "tiny"}, {"messages", Json::array({{{"role", "user"}, {"content", "hi"}}})}};
  body.update(more);
  return body;
}

}  // namespace redoubt
