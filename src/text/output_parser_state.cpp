#include "text/output_parser_state.h"

#include <algorithm>
#include <utility>

#include "core/trimmed.h"

namespace redoubt {
namespace {

using Kind = OutputEvent::Kind;

constexpr std::array<std::string_view, kMarks> kMarkTexts{"<think>",
                                                          "</think>",
                                                          "<｜tool▁calls▁begin｜>",
                                                          "<｜tool▁calls▁end｜>",
                                                          "<｜tool▁call▁begin｜>",
                                                          "<｜tool▁call▁end｜>",
                                                          "<｜tool▁sep｜>",
                                                          "<tool_call>",
                                                          "</tool_call>",
                                                          "<|python_tag|>",
                                                          "｜DSML｜"};
constexpr size_t kMaxHeaderBytes = 1024;  // of a call's type, name and fence: longer is no call

bool is_blank(char c) { return kBlanks.find(c) != std::string_view::npos; }

// White space and the opening of a code fence: ```json
bool is_fence(std::string_view text) {
  text = trimmed(text);
  return text.empty() || text == "```" || text == "```json";
}

bool is_deepseek(ToolSyntax syntax) { return syntax == ToolSyntax::deepseek_v3 || syntax == ToolSyntax::deepseek_v31; }

bool is_dsml(ToolSyntax syntax) { return syntax == ToolSyntax::deepseek_v32 || syntax == ToolSyntax::deepseek_v4; }

constexpr std::string_view kDsmlToken = "\xff";

}  // namespace

std::string_view mark_text(Mark mark) { return kMarkTexts[static_cast<size_t>(mark)]; }

std::string mark_bytes(Mark mark) { return {'\xff', static_cast<char>(1 + static_cast<int>(mark))}; }

AnswerParser::AnswerParser(const MarkIds& ids, const OutputParser::Options& options) : ids_(ids), options_(options) {
  if (options.starts_in_reasoning) {
    place_ = Place::reasoning;
    trim_newline_ = true;
  }
}

std::string_view AnswerParser::dsml_mark() const {
  return ids_[static_cast<size_t>(Mark::dsml)] ? kDsmlToken : mark_text(Mark::dsml);
}

void AnswerParser::emit(Kind kind, std::string_view text) {
  std::string spelled;
  if (ids_[static_cast<size_t>(Mark::dsml)] && text.find(kDsmlToken) != std::string_view::npos) {
    for (const char c : text) spelled += c == kDsmlToken[0] ? mark_text(Mark::dsml) : std::string_view(&c, 1);
    text = spelled;
  }
  if (trim_newline_ && !text.empty() && (kind == Kind::reasoning || kind == Kind::content)) {
    if (text.front() == '\n') text.remove_prefix(1);
    trim_newline_ = false;
  }
  if (text.empty() && (kind != Kind::tool_begin && kind != Kind::tool_end)) return;
  const int index = std::max(calls_ - 1, 0);
  if (!events_.empty() && events_.back().kind == kind && kind != Kind::tool_begin && kind != Kind::tool_end) {
    events_.back().text += text;
  } else {
    events_.push_back({kind, std::string(text), kind == Kind::reasoning || kind == Kind::content ? 0 : index});
  }
}

void AnswerParser::enter_content() {
  const bool may_be_object = options_.parse_tools && options_.format.tools == ToolSyntax::llama_json;
  place_ = may_be_object ? Place::answer_start : Place::content;
}

void AnswerParser::begin_call(std::string name) {
  ++calls_;
  in_call_ = true;
  raw_.clear();
  emit(Kind::tool_begin, name);
}

void AnswerParser::end_call(Place next) {
  if (in_call_) emit(Kind::tool_end, {});
  in_call_ = false;
  raw_.clear();
  place_ = next;
}

void AnswerParser::give_back() {
  emit(Kind::content, std::exchange(raw_, {}));
  place_ = Place::content;
}

AnswerParser::Found AnswerParser::find(std::initializer_list<Mark> marks, bool final) const {
  Found found{held_.size(), std::nullopt};
  for (const Mark mark : marks) {
    if (ids_[static_cast<size_t>(mark)]) continue;  // only its token counts
    const size_t at = held_.find(mark_text(mark));
    if (at < found.position) found = {at, mark};
  }
  if (found.mark || final) return found;
  for (const Mark mark : marks) {  // the longest end that may be the beginning of a mark
    if (ids_[static_cast<size_t>(mark)]) continue;
    const std::string_view text = mark_text(mark);
    for (size_t length = std::min(text.size() - 1, held_.size()); length > 0; --length) {
      if (held_.compare(held_.size() - length, length, text.substr(0, length)) != 0) continue;
      found.position = std::min(found.position, held_.size() - length);
      break;
    }
  }
  return found;
}

bool AnswerParser::begins_with(Mark mark, bool final, bool& undecided) const {
  if (ids_[static_cast<size_t>(mark)]) return false;
  const std::string_view text = mark_text(mark);
  if (held_.size() < text.size()) {
    undecided = undecided || (!final && text.substr(0, held_.size()) == held_);
    return false;
  }
  return std::string_view(held_).substr(0, text.size()) == text;
}

bool AnswerParser::accepts(Mark mark) const {
  const ToolSyntax tools = options_.parse_tools ? options_.format.tools : ToolSyntax::none;
  const bool in_answer = place_ == Place::content || place_ == Place::answer_start || place_ == Place::start ||
                         place_ == Place::after || place_ == Place::between;
  switch (mark) {
    case Mark::think_begin:
      return options_.format.thinks && place_ == Place::start;
    case Mark::think_end:
      return place_ == Place::reasoning;
    case Mark::calls_begin:
      return is_deepseek(tools) && in_answer;
    case Mark::call_begin:
      return is_deepseek(tools) && in_answer;
    case Mark::call_separator:
      return place_ == Place::header && !before_separator_;
    case Mark::call_end:
      return is_deepseek(tools) &&
             (place_ == Place::header || place_ == Place::after ||
              (place_ == Place::arguments && (ids_[static_cast<size_t>(mark)] || !nesting_.in_string())));
    case Mark::calls_end:
      return is_deepseek(tools) && place_ != Place::reasoning && place_ != Place::content && place_ != Place::start;
    case Mark::hermes_begin:
      return tools == ToolSyntax::hermes && in_answer;
    case Mark::hermes_end:
      return tools == ToolSyntax::hermes && (place_ == Place::object || place_ == Place::after);
    case Mark::python_tag:
      return tools == ToolSyntax::llama_json && in_answer;
    case Mark::dsml:
      break;  // no mark by itself
  }
  return false;
}

void AnswerParser::take(Mark mark) {
  switch (mark) {
    case Mark::think_begin:
      place_ = Place::reasoning;
      trim_newline_ = true;
      break;
    case Mark::think_end:
      enter_content();
      trim_newline_ = true;
      break;
    case Mark::calls_begin:
    case Mark::call_begin:
      if (place_ == Place::after) end_call(Place::between);
      raw_ += mark_text(mark);
      place_ = mark == Mark::calls_begin ? Place::between : Place::header;
      header_.clear();
      before_separator_.reset();
      break;
    case Mark::call_separator:
      raw_ += mark_text(mark);
      before_separator_ = std::exchange(header_, {});
      break;
    case Mark::call_end:
    case Mark::calls_end:
      if (place_ == Place::header) {  // a call without arguments is none
        raw_ += mark_text(mark);
        give_back();
      } else if (!raw_.empty()) {  // between, and no call came
        raw_ += mark_text(mark);
        give_back();
      } else {
        end_call(mark == Mark::call_end ? Place::between : Place::content);
      }
      break;
    case Mark::hermes_begin:
    case Mark::python_tag:
      if (place_ == Place::after) end_call(Place::content);
      raw_ += mark_text(mark);
      place_ = Place::object;
      object_ = CallObject(mark == Mark::python_tag);
      object_begun_ = false;
      break;
    case Mark::hermes_end:
      if (place_ == Place::object && !in_call_) {
        raw_ += mark_text(mark);
        give_back();
      } else {
        end_call(Place::after);
      }
      break;
    case Mark::dsml:
      break;
  }
}

std::vector<OutputEvent> AnswerParser::push(int32_t token, std::string_view text) {
  for (size_t i = 0; i < kMarks; ++i) {
    if (ids_[i] != token) continue;
    const Mark mark = static_cast<Mark>(i);
    // The decoder may release the end of earlier text together with the mark; a control token has no text at all.
    const std::string_view literal = text.ends_with(mark_text(mark)) ? mark_text(mark) : std::string_view();
    held_ += text.substr(0, text.size() - literal.size());
    if (mark == Mark::dsml) {
      held_ += kDsmlToken;
      break;
    }
    while (step(/*final=*/true)) {  // nothing spelled goes on across a token
    }
    if (accepts(mark)) {
      // White space may still wait here: part of what is given back if no call comes, else of no text.
      if (place_ == Place::answer_start || (place_ == Place::between && !raw_.empty())) raw_ += held_;
      held_.clear();
      take(mark);
    } else {
      held_ += literal;
      while (step(false)) {
      }
    }
    return std::exchange(events_, {});
  }
  if (token != ids_[static_cast<size_t>(Mark::dsml)]) held_ += text;
  while (step(false)) {
  }
  return std::exchange(events_, {});
}

std::vector<OutputEvent> AnswerParser::finish() {
  while (step(true)) {
  }
  if (place_ == Place::between && raw_.empty()) held_.clear();         // white space after the last call
  if (place_ == Place::dsml && calls_ > calls_before_) held_.clear();  // a tag that was cut
  raw_ += std::exchange(held_, {});
  if (in_call_ || place_ == Place::after) {
    end_call(Place::content);
  } else if (!raw_.empty()) {
    give_back();
  }
  return std::exchange(events_, {});
}

bool AnswerParser::step(bool final) {
  if (held_.empty()) return false;
  switch (place_) {
    case Place::start:
      return step_start(final);
    case Place::reasoning:
      return step_text(Kind::reasoning, {Mark::think_end}, final);
    case Place::content:
      if (!options_.parse_tools) return step_text(Kind::content, {}, final);
      if (is_dsml(options_.format.tools)) return step_before_dsml(final);
      if (is_deepseek(options_.format.tools))
        return step_text(Kind::content, {Mark::calls_begin, Mark::call_begin}, final);
      if (options_.format.tools == ToolSyntax::hermes) return step_text(Kind::content, {Mark::hermes_begin}, final);
      if (options_.format.tools == ToolSyntax::llama_json) return step_text(Kind::content, {Mark::python_tag}, final);
      return step_text(Kind::content, {}, final);
    case Place::answer_start:
      return step_answer_start(final);
    case Place::between:
      return step_between(final);
    case Place::header:
      return step_header(final);
    case Place::arguments:
      return step_arguments(final);
    case Place::after:
      return step_after(final);
    case Place::object:
      return step_object(final);
    case Place::dsml:
      return step_dsml(final);
  }
  return false;
}

bool AnswerParser::step_start(bool final) {
  bool undecided = false;
  if (options_.format.thinks && begins_with(Mark::think_begin, final, undecided)) {
    held_.erase(0, mark_text(Mark::think_begin).size());
    take(Mark::think_begin);
    return true;
  }
  if (options_.format.thinks && undecided) return false;
  enter_content();
  return true;
}

bool AnswerParser::step_text(Kind kind, std::initializer_list<Mark> marks, bool final) {
  const Found found = find(marks, final);
  emit(kind, std::string_view(held_).substr(0, found.position));
  held_.erase(0, found.position + (found.mark ? mark_text(*found.mark).size() : 0));
  if (found.mark) take(*found.mark);
  return found.mark.has_value();
}

// llama_json: white space, then an object that may be a call; anything else is content.
bool AnswerParser::step_answer_start(bool final) {
  const size_t first = held_.find_first_not_of(kBlanks);
  if (first == std::string::npos) return false;
  bool undecided = false;
  const std::string blanks = held_.substr(0, first);
  held_.erase(0, first);
  const bool tagged = begins_with(Mark::python_tag, final, undecided);
  if (undecided) {
    held_.insert(0, blanks);
    return false;
  }
  raw_ += blanks;
  if (tagged) {
    held_.erase(0, mark_text(Mark::python_tag).size());
    take(Mark::python_tag);
  } else if (held_.front() == '{') {
    place_ = Place::object;
    object_ = CallObject(/*strict=*/true);
    object_begun_ = false;
  } else {
    give_back();
  }
  return true;
}

// DeepSeek, outside a call: white space waits for the next call or the end of calls; other text is content.
bool AnswerParser::step_between(bool final) {
  const size_t first = held_.find_first_not_of(kBlanks);
  if (first == std::string::npos) return false;
  bool undecided = false;
  const std::string blanks = held_.substr(0, first);
  held_.erase(0, first);
  for (const Mark mark : {Mark::call_begin, Mark::calls_end, Mark::calls_begin}) {
    if (!begins_with(mark, final, undecided)) continue;
    held_.erase(0, mark_text(mark).size());
    if (!raw_.empty()) raw_ += blanks;
    take(mark);
    return true;
  }
  if (undecided) {
    held_.insert(0, blanks);
    return false;
  }
  raw_ += blanks;
  give_back();
  return true;
}

// TYPE sep NAME newline fence {   or   NAME sep {
bool AnswerParser::step_header(bool final) {
  while (!held_.empty()) {
    if (held_.front() == '<') {
      bool undecided = false;
      for (const Mark mark : {Mark::call_separator, Mark::call_end, Mark::calls_end, Mark::call_begin}) {
        if (!begins_with(mark, final, undecided) || !(accepts(mark) || mark == Mark::call_begin)) continue;
        held_.erase(0, mark_text(mark).size());
        if (mark == Mark::call_begin) give_back();  // a call that never went on
        take(mark);
        return true;
      }
      if (undecided) return false;
    }
    if (held_.front() == '{' && before_separator_) {
      if (open_call()) return true;
      give_back();
      return true;
    }
    header_ += held_.front();
    raw_ += held_.front();
    held_.erase(0, 1);
    if (header_.size() > kMaxHeaderBytes) {
      give_back();
      return true;
    }
  }
  return false;
}

bool AnswerParser::open_call() {
  const std::string_view header = header_;
  std::string_view name, rest = header;
  if (is_fence(header)) {  // NAME sep {
    name = trimmed(*before_separator_);
  } else {
    const size_t begin = header.find_first_not_of(kBlanks), newline = std::min(header.find('\n', begin), header.size());
    name = trimmed(header.substr(begin, newline - begin));
    rest = header.substr(newline);
  }
  if (name.empty() || name.find_first_of(" \t\r\n{}\"") != std::string_view::npos || !is_fence(rest)) return false;
  begin_call(std::string(name));
  nesting_ = JsonNesting();
  place_ = Place::arguments;
  return true;
}

bool AnswerParser::step_arguments(bool final) {
  for (size_t i = 0; i < held_.size(); ++i) {
    if (held_[i] == '<' && !nesting_.in_string()) {  // no JSON: perhaps the end of a call that is not whole
      emit(Kind::tool_arguments, std::string_view(held_).substr(0, i));
      held_.erase(0, i);
      i = 0;
      bool undecided = false;
      for (const Mark mark : {Mark::call_end, Mark::calls_end}) {
        if (!begins_with(mark, final, undecided)) continue;
        held_.erase(0, mark_text(mark).size());
        take(mark);
        return true;
      }
      if (undecided) return false;
    }
    const JsonNesting::State state = nesting_.push(held_[i]);
    if (state == JsonNesting::State::inside) continue;
    const bool complete = state == JsonNesting::State::complete;
    emit(Kind::tool_arguments, std::string_view(held_).substr(0, i + (complete ? 1 : 0)));
    held_.erase(0, i + (complete ? 1 : 0));
    end_call(complete ? Place::after : Place::content);
    return true;
  }
  emit(Kind::tool_arguments, held_);
  held_.clear();
  return false;
}

// Behind a whole call: white space, the end of its fence and its closing mark are no text.
bool AnswerParser::step_after(bool final) {
  const size_t first = held_.find_first_not_of(is_deepseek(options_.format.tools) ? " \n\r\t`" : kBlanks);
  if (first == std::string::npos) return false;
  const std::string blanks = held_.substr(0, first);
  held_.erase(0, first);
  bool undecided = false;
  for (const Mark mark :
       {Mark::call_end, Mark::calls_end, Mark::call_begin, Mark::hermes_end, Mark::hermes_begin, Mark::python_tag}) {
    if (!accepts(mark) || !begins_with(mark, final, undecided)) continue;
    held_.erase(0, mark_text(mark).size());
    take(mark);
    return true;
  }
  if (undecided) {
    held_.insert(0, blanks);
    return false;
  }
  if (options_.format.tools == ToolSyntax::llama_json && (held_.front() == ';' || held_.front() == '{')) {
    if (held_.front() == ';') {
      held_.erase(0, 1);
    } else {
      place_ = Place::object;
      object_ = CallObject(/*strict=*/true);
      object_begun_ = false;
    }
    return true;
  }
  raw_ = blanks;
  give_back();
  return true;
}

bool AnswerParser::step_object(bool final) {
  for (size_t i = 0; i < held_.size(); ++i) {
    const char c = held_[i];
    if (c == '<' && !object_.in_string() && options_.format.tools == ToolSyntax::hermes) {
      held_.erase(0, i);
      i = 0;
      bool undecided = false;
      if (begins_with(Mark::hermes_end, final, undecided)) {  // the call was not whole
        held_.erase(0, mark_text(Mark::hermes_end).size());
        take(Mark::hermes_end);
        return true;
      }
      if (undecided) return false;
    }
    raw_ += c;
    if (!object_begun_ && is_blank(c)) continue;
    object_begun_ = true;
    const CallObject::State state = object_.push(c);
    if (!in_call_ && object_.has_name() && object_.has_arguments() && state != CallObject::State::broken) {
      begin_call(object_.name());
    }
    if (in_call_) {
      const std::string arguments = object_.take_arguments();
      if (!arguments.empty()) raw_.clear();
      emit(Kind::tool_arguments, arguments);
    }
    if (state == CallObject::State::open) continue;
    held_.erase(0, i + 1);
    if (state == CallObject::State::broken) {
      const std::string rest = std::exchange(raw_, {});  // what is no part of the arguments
      if (in_call_) end_call(Place::content);
      raw_ = rest;
      give_back();
      return true;
    }
    if (!in_call_) {  // a call without arguments
      begin_call(object_.name());
      emit(Kind::tool_arguments, "{}");
    }
    end_call(Place::after);
    return true;
  }
  held_.clear();
  return false;
}

// Content, up to where a block of calls begins; the blank lines before one are no text.
bool AnswerParser::step_before_dsml(bool final) {
  size_t at = held_.size(), length = 0;
  const auto beginnings = DsmlReader(dsml_mark()).beginnings();
  for (const std::string& beginning : beginnings) {
    const size_t found = held_.find(beginning);
    if (found < at) at = found, length = beginning.size();
  }
  if (length == 0 && !final) {
    for (const std::string& beginning : beginnings) {
      for (size_t n = std::min(beginning.size() - 1, held_.size()); n > 0; --n) {
        if (held_.compare(held_.size() - n, n, beginning, 0, n) != 0) continue;
        at = std::min(at, held_.size() - n);
        break;
      }
    }
  }
  emit(Kind::content, std::string_view(held_).substr(0, at));
  raw_ += held_.substr(at, length);
  held_.erase(0, at + length);
  if (length == 0) return false;
  place_ = Place::dsml;
  dsml_.emplace(dsml_mark());
  calls_before_ = calls_;
  return true;
}

bool AnswerParser::step_dsml(bool final) {
  const std::string before = held_;
  const DsmlReader::State state = dsml_->read(held_, final);
  raw_ += before.substr(0, before.size() - held_.size());
  for (DsmlReader::Step& step : dsml_->take_steps()) {
    if (step.kind == Kind::tool_begin) {
      begin_call(std::move(step.text));
    } else if (step.kind == Kind::tool_end) {
      end_call(Place::dsml);
    } else {
      emit(step.kind, step.text);
    }
  }
  const bool called = calls_ > calls_before_;
  if (called) raw_.clear();
  if (state == DsmlReader::State::open) return false;
  if (called)
    place_ = state == DsmlReader::State::ended ? Place::after : Place::content;
  else
    give_back();
  return true;
}

}  // namespace redoubt
