// What happens to a text before it is cut: bytes that are no UTF-8 become U+FFFD, and NFC where the tokenizer asks for
// it. The markup ranges move along; where a change straddles a boundary the range shrinks, so that no byte that the
// request wrote ever becomes markup.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace redoubt {

// Sorted, without overlap, inside the text: what callers hand over is not trusted to be.
std::vector<MarkedText::Range> ordered_ranges(std::vector<MarkedText::Range> ranges, size_t size);

MarkedText repair_text(std::string_view text, const std::vector<MarkedText::Range>& ranges);

bool is_nfc(std::string_view text);  // true: compose would change nothing
MarkedText compose_nfc(std::string_view text, const std::vector<MarkedText::Range>& ranges);
std::string compose_nfc(std::string_view text);

}  // namespace redoubt
