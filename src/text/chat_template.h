// A chat template: the Jinja2 subset that models ship, rendered byte for byte as the reference renders it.
//
// Every string of the context came from a request and keeps that origin through each operation (slices, filters,
// concatenation); characters that the template's own literals wrote, and `markup_globals` (bos_token, eos_token), are
// markup. Limits make any template end: steps, output bytes, nesting.
// Errors: invalid_argument with the template's own message where it calls raise_exception, corrupt_data for its syntax,
// context_length for a text beyond max_output_bytes.
// Thread safety: const after parse.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "core/json.h"
#include "core/result.h"
#include "text/tokenizer.h"

namespace redoubt {

struct RenderLimits {
  int64_t max_steps = 5'000'000;               // evaluated nodes
  size_t max_output_bytes = size_t{64} << 20;  // of the prompt, and of any one string on the way
  std::function<int64_t()> unix_seconds;       // the clock of strftime_now (local time); empty: the system's
};

class ChatTemplate {
 public:
  static Result<ChatTemplate> parse(std::string_view source);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  Result<MarkedText> render(const Json& context, const std::map<std::string, std::string>& markup_globals = {},
                            const RenderLimits& limits = {}) const;
  const std::string& source() const;
  // Whether the template reads a past call's arguments as an object (through tojson or items), not as a text. Known
  // from the source alone, at parse.
  bool reads_argument_objects() const;

 private:
  struct State;
  explicit ChatTemplate(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// render; if the template raised and a message has `content: null`, once more with '' in its place.
Result<MarkedText> render_chat(const ChatTemplate& chat_template, const Json& context,
                               const std::map<std::string, std::string>& markup_globals = {},
                               const RenderLimits& limits = {});

}  // namespace redoubt
