#include "text/pretokenizer.h"

#include <fmt/format.h>

namespace redoubt {
namespace {

struct Part {
  size_t begin, end;
  bool match = false;
};

// Matches and the gaps between them, in order; empty ones separate and vanish later.
template <class ForEachMatch>
void cut(std::string_view piece, const ForEachMatch& for_each_match, std::vector<Part>& parts) {
  parts.clear();
  size_t position = 0;
  for_each_match([&](size_t begin, size_t end) {
    if (begin > position) parts.push_back({position, begin, false});
    parts.push_back({begin, end, true});
    position = end;
  });
  if (position < piece.size()) parts.push_back({position, piece.size(), false});
}

void apply(SplitBehavior behavior, std::vector<Part>& parts) {
  std::vector<Part> joined;
  const auto extend_or_push = [&](const Part& part, bool extend) {
    if (extend && !joined.empty()) {
      joined.back().end = part.end;
    } else {
      joined.push_back(part);
    }
  };
  bool previous_match = false;
  switch (behavior) {
    case SplitBehavior::isolated:
      return;
    case SplitBehavior::removed:
      std::erase_if(parts, [](const Part& part) { return part.match; });
      return;
    case SplitBehavior::contiguous:
      for (const Part& part : parts) {
        extend_or_push(part, part.match == previous_match);
        previous_match = part.match;
      }
      break;
    case SplitBehavior::merged_with_previous:
      for (const Part& part : parts) {
        extend_or_push(part, part.match && !previous_match);
        previous_match = part.match;
      }
      break;
    case SplitBehavior::merged_with_next:
      for (const Part& part : parts) {
        extend_or_push(part, previous_match && !part.match);
        previous_match = part.match;
      }
      break;
  }
  parts = std::move(joined);
}

}  // namespace

Result<Pretokenizer> Pretokenizer::make(std::vector<SplitRule> splits, Speed speed) {
  Pretokenizer made;
  for (const SplitRule& rule : splits) {
    made.keeps_all_ =
        made.keeps_all_ && (rule.kind == SplitRule::Kind::prefix_space || rule.behavior != SplitBehavior::removed);
  }
  if (speed == Speed::fast) made.known_ = known_splitter(splits);
  if (made.known_ != nullptr) return made;
  for (size_t i = 0; i < splits.size(); ++i) {
    Step step{std::move(splits[i]), {}};
    if (step.rule.kind == SplitRule::Kind::regex) {
      auto pattern = Pattern::compile(step.rule.pattern);
      if (!pattern.has_value()) return std::move(pattern).error().within(fmt::format("pre-tokenizer split {}", i));
      step.pattern.push_back(std::move(pattern).value());
    }
    made.steps_.push_back(std::move(step));
  }
  return made;
}

void Pretokenizer::split(std::string_view text, Pieces& pieces) const {
  pieces.text = text;
  pieces.ends.clear();
  pieces.begins.clear();
  if (text.empty()) return;
  if (known_ != nullptr) return known_(text, pieces.ends);

  std::vector<size_t> begins{0}, ends{text.size()}, next_begins, next_ends;
  std::vector<Part> parts;
  for (const Step& step : steps_) {
    next_begins.clear();
    next_ends.clear();
    std::string rewritten;
    for (size_t i = 0; i < begins.size(); ++i) {
      const std::string_view piece = pieces.text.substr(begins[i], ends[i] - begins[i]);
      if (step.rule.kind == SplitRule::Kind::prefix_space) {
        next_begins.push_back(rewritten.size());
        if (piece.front() != ' ') rewritten += ' ';
        rewritten += piece;
        next_ends.push_back(rewritten.size());
        continue;
      }
      if (step.rule.kind == SplitRule::Kind::regex) {
        cut(
            piece, [&](const auto& on_match) { step.pattern.front().for_each_match(piece, on_match); }, parts);
      } else {
        const std::string& literal = step.rule.pattern;
        cut(
            piece,
            [&](const auto& on_match) {
              if (literal.empty()) return;
              for (size_t at = 0; (at = piece.find(literal, at)) != std::string_view::npos; at += literal.size()) {
                on_match(at, at + literal.size());
              }
            },
            parts);
      }
      if (step.rule.invert) {
        for (Part& part : parts) part.match = !part.match;
      }
      apply(step.rule.behavior, parts);
      for (const Part& part : parts) {
        if (part.begin == part.end) continue;
        next_begins.push_back(begins[i] + part.begin);
        next_ends.push_back(begins[i] + part.end);
      }
    }
    if (step.rule.kind == SplitRule::Kind::prefix_space) {
      pieces.rewritten = std::move(rewritten);
      pieces.text = pieces.rewritten;
    }
    begins.swap(next_begins);
    ends.swap(next_ends);
  }
  pieces.begins = std::move(begins);
  pieces.ends = std::move(ends);
}

}  // namespace redoubt
