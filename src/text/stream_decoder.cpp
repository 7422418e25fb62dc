#include "core/utf8.h"
#include "text/tokenizer.h"

namespace redoubt {

std::string StreamDecoder::push(int32_t id) {
  if (skip_control_ && tokenizer_->kind(id) == TokenKind::control) return {};
  pending_ += tokenizer_->bytes(id);
  const size_t complete = complete_utf8_prefix(pending_);
  std::string text = repair_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = repair_utf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace redoubt
