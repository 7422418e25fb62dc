// The methods of Python's str, dict, list and tuple that templates call.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "core/utf8.h"
#include "text/jinja_eval.h"

namespace redoubt::jinja {
namespace {

using Method = Value (*)(Evaluator&, const Value& self, Arguments&);
using MethodTable = std::unordered_map<std::string_view, Method>;

bool is_split_space(const OriginText& text, size_t at, size_t& length) {
  const CodePoint c = decode_utf8(text.bytes(), at);
  length = static_cast<size_t>(c.bytes);
  return is_space(c.value);
}

// Without a separator: at white space, and no empty parts.
std::vector<OriginText> split_words(const OriginText& text, int64_t max_splits) {
  std::vector<OriginText> parts;
  for (size_t i = 0; i < text.size();) {
    size_t length = 0;
    while (i < text.size() && is_split_space(text, i, length)) i += length;
    if (i == text.size()) break;
    if (max_splits >= 0 && static_cast<int64_t>(parts.size()) == max_splits) {
      parts.push_back(text.slice(i, text.size()));
      break;
    }
    const size_t begin = i;
    while (i < text.size() && !is_split_space(text, i, length)) i += length;
    parts.push_back(text.slice(begin, i));
  }
  return parts;
}

std::vector<OriginText> rsplit_words(const OriginText& text, int64_t max_splits) {
  std::vector<OriginText> words = split_words(text, -1);
  if (max_splits < 0 || static_cast<int64_t>(words.size()) <= max_splits + 1) return words;
  // The rest of the text, with the white space inside it, stands in front of the last max_splits words.
  std::vector<OriginText> parts;
  size_t end = text.size();
  for (int64_t i = 0; i < max_splits; ++i) {
    const OriginText rest = strip(text.slice(0, end), Side::right);
    end = rest.size() - words[words.size() - 1 - static_cast<size_t>(i)].size();
    parts.insert(parts.begin(), std::move(words[words.size() - 1 - static_cast<size_t>(i)]));
  }
  parts.insert(parts.begin(), strip(text.slice(0, end), Side::right));
  return parts;
}

std::vector<OriginText> split_at(const OriginText& text, const std::string& separator, int64_t max_splits) {
  std::vector<OriginText> parts;
  size_t begin = 0;
  for (; max_splits != 0; --max_splits) {
    const size_t found = text.bytes().find(separator, begin);
    if (found == std::string::npos) break;
    parts.push_back(text.slice(begin, found));
    begin = found + separator.size();
  }
  parts.push_back(text.slice(begin, text.size()));
  return parts;
}

std::vector<OriginText> rsplit_at(const OriginText& text, const std::string& separator, int64_t max_splits) {
  std::vector<OriginText> parts;
  size_t end = text.size();
  for (; max_splits != 0 && end >= separator.size(); --max_splits) {
    const size_t found = text.bytes().rfind(separator, end - separator.size());
    if (found == std::string::npos) break;
    parts.push_back(text.slice(found + separator.size(), end));
    end = found;
  }
  parts.push_back(text.slice(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Value texts(Evaluator& ev, std::vector<OriginText> parts, Container::Kind kind = Container::Kind::list) {
  std::vector<Value> items;
  if (!ev.charge(parts.size())) return {};
  for (OriginText& part : parts) items.push_back(ev.text(std::move(part)));
  return ev.list(std::move(items), kind);
}

Value split(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "split", arguments, {"sep", "maxsplit"});
  const std::string* separator = bound.text(0);
  if (separator && separator->empty()) return ev.fail("empty separator");
  const int64_t max_splits = bound.integer(1, -1);
  ev.charge(self.text().size() / 16);
  return texts(ev, separator ? split_at(self.text(), *separator, max_splits) : split_words(self.text(), max_splits));
}

Value rsplit(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "rsplit", arguments, {"sep", "maxsplit"});
  const std::string* separator = bound.text(0);
  if (separator && separator->empty()) return ev.fail("empty separator");
  const int64_t max_splits = bound.integer(1, -1);
  // Words in front of the last few are stripped again and again: work in proportion to their number.
  ev.charge(self.text().size() / 16 * static_cast<size_t>(separator ? 1 : std::clamp<int64_t>(max_splits, 1, 1 << 20)));
  if (ev.stopped()) return {};
  return texts(ev, separator ? rsplit_at(self.text(), *separator, max_splits) : rsplit_words(self.text(), max_splits));
}

Value partition_at(Evaluator& ev, const Value& self, Arguments& arguments, bool last) {
  const Bound bound(ev, "partition", arguments, {"sep"});
  const std::string* separator = bound.text(0);
  if (!separator || separator->empty()) return ev.fail("empty separator");
  const OriginText& text = self.text();
  const size_t found = last ? text.bytes().rfind(*separator) : text.bytes().find(*separator);
  std::vector<OriginText> parts(3);
  if (found == std::string::npos) {
    parts[last ? 2 : 0] = text;
  } else {
    parts = {text.slice(0, found), text.slice(found, found + separator->size()),
             text.slice(found + separator->size(), text.size())};
  }
  return texts(ev, std::move(parts), Container::Kind::tuple);
}

Value splitlines(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "splitlines", arguments, {"keepends"});
  const OriginText& text = self.text();
  std::vector<OriginText> lines;
  ev.charge(text.size() / 16);
  for (size_t i = 0, begin = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text.bytes(), i);
    size_t next = i + static_cast<size_t>(c.bytes);
    const bool ends = (c.value >= 10 && c.value <= 13) || (c.value >= 28 && c.value <= 30) || c.value == 0x85 ||
                      c.value == 0x2028 || c.value == 0x2029;
    if (c.value == '\r' && next < text.size() && text.bytes()[next] == '\n') ++next;
    if (ends || next == text.size()) {
      lines.push_back(text.slice(begin, ends && !bound.flag(0, false) ? i : next));
      begin = next;
    }
    i = next;
  }
  return texts(ev, std::move(lines));
}

template <Side side>
Value strip_method(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "strip", arguments, {"chars"});
  return ev.text(strip(self.text(), side, bound.text(0)));
}

bool has_affix(const std::string& text, const std::string& affix, bool at_end) {
  return affix.size() <= text.size() && text.compare(at_end ? text.size() - affix.size() : 0, affix.size(), affix) == 0;
}

template <bool at_end>
Value with_affix(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, at_end ? "endswith" : "startswith", arguments, {"prefix", "start", "end"});
  const Value* affix = bound[0];
  Value part = self;
  if (bound[1] || bound[2]) {
    const Value none{None{}};
    part = ev.slice(self, bound[1] ? *bound[1] : none, bound[2] ? *bound[2] : none, none);
    if (ev.stopped()) return {};
  }
  if (affix && affix->is_text()) return Value(has_affix(part.bytes(), affix->bytes(), at_end));
  if (affix && affix->is_tuple()) {
    for (const Value& one : affix->items()) {
      if (one.is_text() && has_affix(part.bytes(), one.bytes(), at_end)) return Value(true);
    }
    return Value(false);
  }
  return ev.fail(fmt::format("{} first arg must be str or a tuple of str, not {}", at_end ? "endswith" : "startswith",
                             affix ? type_name(*affix) : "NoneType"));
}

template <bool at_end>
Value remove_affix(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, at_end ? "removesuffix" : "removeprefix", arguments, {"affix"});
  const std::string* affix = bound.text(0);
  if (!affix) return ev.fail("removeprefix(): expected a string");
  if (affix->empty() || !has_affix(self.bytes(), *affix, at_end)) return self;
  return ev.text(at_end ? self.text().slice(0, self.text().size() - affix->size())
                        : self.text().slice(affix->size(), self.text().size()));
}

Value replace_method(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "replace", arguments, {"old", "new", "count"});
  const std::string *old_part = bound.text(0), *new_part = bound.text(1);
  if (!old_part || !new_part) return ev.fail("replace() argument must be str");
  return ev.filter("replace", self, arguments);
}

// find, rfind, index, rindex: positions count characters.
Value find_text(Evaluator& ev, const Value& self, Arguments& arguments, bool last, bool must) {
  const Bound bound(ev, "find", arguments, {"sub", "start", "end"});
  const std::string* part = bound.text(0);
  if (!part) return ev.fail("must be str");
  ev.charge(self.text().size() / 64);
  const std::vector<size_t> offsets = character_offsets(self.bytes());
  const auto size = static_cast<int64_t>(offsets.size()) - 1;
  const auto clamp = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size); };
  const int64_t from = bound.integer(1, 0), begin = clamp(from), end = clamp(bound.integer(2, size));
  const std::string_view window = std::string_view(self.bytes()).substr(0, offsets[static_cast<size_t>(end)]);
  const size_t first = offsets[static_cast<size_t>(begin)];
  size_t found = last ? window.rfind(*part) : window.find(*part, first);
  if (found != std::string_view::npos && (found < first || from > size)) found = std::string_view::npos;
  if (found == std::string_view::npos) return must ? ev.fail("substring not found") : Value(-1);
  return Value(count_characters(window.substr(0, found)));
}

Value count_text(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "count", arguments, {"sub"});
  const std::string* part = bound.text(0);
  if (!part) return ev.fail("must be str");
  ev.charge(self.text().size() / 64);
  if (part->empty()) return Value(count_characters(self.bytes()) + 1);
  size_t count = 0;
  for (size_t at = self.bytes().find(*part); at != std::string::npos; at = self.bytes().find(*part, at + part->size()))
    ++count;
  return Value(count);
}

// Whether all characters (at least one) are of a class; for isupper and islower at least one cased and none of the
// other.
template <class Test>
Value all_characters(const Value& self, Test test) {
  const std::string& bytes = self.bytes();
  for (size_t i = 0; i < bytes.size();) {
    const CodePoint c = decode_utf8(bytes, i);
    if (!test(c.value)) return Value(false);
    i += static_cast<size_t>(c.bytes);
  }
  return Value(!bytes.empty());
}

Value is_cased(const Value& self, bool upper_case) {
  bool any = false;
  const Value none_other = all_characters(self, [&](char32_t c) {
    const bool is_upper = to_lower(c) != c, is_lower = to_upper(c) != c;
    any = any || (upper_case ? is_upper : is_lower);
    return upper_case ? !is_lower : !is_upper;
  });
  return Value(any && is_true(none_other));
}

Value pad(Evaluator& ev, const Value& self, Arguments& arguments, double left_share) {
  const Bound bound(ev, "ljust", arguments, {"width", "fillchar"});
  const int64_t missing = bound.integer(0, 0) - static_cast<int64_t>(count_characters(self.bytes()));
  if (missing <= 0) return self;
  if (missing > static_cast<int64_t>(ev.limits().max_output_bytes)) return ev.fail_too_long();
  if (!ev.charge(static_cast<size_t>(missing))) return {};
  const OriginText fill = bound[1] && bound[1]->is_text() ? bound[1]->text() : OriginText::data(" ");
  if (count_characters(fill.bytes()) != 1) return ev.fail("the fill character must be exactly one character long");
  const auto left = static_cast<int64_t>(static_cast<double>(missing) * left_share);
  OriginText padded;
  for (int64_t i = 0; i < left; ++i) padded.append(fill);
  padded.append(self.text());
  for (int64_t i = left; i < missing; ++i) padded.append(fill);
  return ev.text(std::move(padded));
}

// str.format: {}, {0}, {name}, {{ and }}; a conversion or format specification is refused.
Value format_braces(Evaluator& ev, const Value& self, Arguments& arguments) {
  const OriginText& format = self.text();
  OriginText out;
  size_t automatic = 0;
  for (size_t i = 0; i < format.size() && !ev.stopped();) {
    const char c = format.bytes()[i];
    if (c != '{' && c != '}') {
      const size_t next = std::min(format.bytes().find_first_of("{}", i), format.size());
      out.append(format, i, next);
      i = next;
      continue;
    }
    if (i + 1 < format.size() && format.bytes()[i + 1] == c) {
      out.append(format, i, i + 1);
      i += 2;
      continue;
    }
    const size_t end = format.bytes().find('}', i);
    if (c == '}' || end == std::string::npos) return ev.fail("a format string has an unmatched brace");
    const std::string field = format.bytes().substr(i + 1, end - i - 1);
    i = end + 1;
    const bool numbered = std::all_of(field.begin(), field.end(), [](char d) { return d >= '0' && d <= '9'; });
    if (numbered) {
      const size_t index = field.empty() ? automatic++ : std::strtoul(field.substr(0, 9).c_str(), nullptr, 10);
      if (index >= arguments.positional.size())
        return ev.fail("Replacement index out of range for positional args tuple");
      out.append(ev.to_text(arguments.positional[index]));
    } else {
      const auto found = std::find_if(arguments.keywords.begin(), arguments.keywords.end(),
                                      [&](const auto& k) { return k.first == field; });
      if (found == arguments.keywords.end())
        return ev.fail("a format string has a field that is not given or not supported");
      out.append(ev.to_text(found->second));
    }
    ev.charge(1);
    if (out.size() > ev.limits().max_output_bytes) return ev.fail_too_long();
  }
  return ev.text(std::move(out));
}

const MethodTable& text_methods() {
  static const MethodTable table{
      {"split", split},
      {"rsplit", rsplit},
      {"splitlines", splitlines},
      {"partition", [](Evaluator& ev, const Value& s, Arguments& a) { return partition_at(ev, s, a, false); }},
      {"rpartition", [](Evaluator& ev, const Value& s, Arguments& a) { return partition_at(ev, s, a, true); }},
      {"strip", strip_method<Side::both>},
      {"lstrip", strip_method<Side::left>},
      {"rstrip", strip_method<Side::right>},
      {"startswith", with_affix<false>},
      {"endswith", with_affix<true>},
      {"removeprefix", remove_affix<false>},
      {"removesuffix", remove_affix<true>},
      {"replace", replace_method},
      {"upper", [](Evaluator& ev, const Value& s, Arguments&) { return ev.text(upper(s.text())); }},
      {"lower", [](Evaluator& ev, const Value& s, Arguments&) { return ev.text(lower(s.text())); }},
      {"casefold", [](Evaluator& ev, const Value& s, Arguments&) { return ev.text(lower(s.text())); }},
      {"title", [](Evaluator& ev, const Value& s, Arguments&) { return ev.text(title_words(s.text())); }},
      {"capitalize", [](Evaluator& ev, const Value& s, Arguments&) { return ev.text(capitalize(s.text())); }},
      {"find", [](Evaluator& ev, const Value& s, Arguments& a) { return find_text(ev, s, a, false, false); }},
      {"rfind", [](Evaluator& ev, const Value& s, Arguments& a) { return find_text(ev, s, a, true, false); }},
      {"index", [](Evaluator& ev, const Value& s, Arguments& a) { return find_text(ev, s, a, false, true); }},
      {"rindex", [](Evaluator& ev, const Value& s, Arguments& a) { return find_text(ev, s, a, true, true); }},
      {"count", count_text},
      {"join",
       [](Evaluator& ev, const Value& s, Arguments& a) {
         if (a.positional.size() != 1) return ev.fail("join() takes exactly one argument");
         Arguments separator;
         separator.positional.push_back(s);
         return ev.filter("join", a.positional[0], separator);
       }},
      {"format", format_braces},
      {"isdigit", [](Evaluator&, const Value& s,
                     Arguments&) { return all_characters(s, [](char32_t c) { return c >= '0' && c <= '9'; }); }},
      {"isdecimal", [](Evaluator&, const Value& s,
                       Arguments&) { return all_characters(s, [](char32_t c) { return c >= '0' && c <= '9'; }); }},
      {"isnumeric", [](Evaluator&, const Value& s,
                       Arguments&) { return all_characters(s, [](char32_t c) { return c >= '0' && c <= '9'; }); }},
      {"isalpha", [](Evaluator&, const Value& s, Arguments&) { return all_characters(s, is_alpha); }},
      {"isalnum",
       [](Evaluator&, const Value& s, Arguments&) {
         return all_characters(s, [](char32_t c) { return is_alpha(c) || (c >= '0' && c <= '9'); });
       }},
      {"isspace", [](Evaluator&, const Value& s, Arguments&) { return all_characters(s, is_space); }},
      {"isupper", [](Evaluator&, const Value& s, Arguments&) { return is_cased(s, true); }},
      {"islower", [](Evaluator&, const Value& s, Arguments&) { return is_cased(s, false); }},
      {"ljust", [](Evaluator& ev, const Value& s, Arguments& a) { return pad(ev, s, a, 0.0); }},
      {"rjust", [](Evaluator& ev, const Value& s, Arguments& a) { return pad(ev, s, a, 1.0); }},
  };
  return table;
}

Value entries_of(Evaluator& ev, const Value& self) {
  std::vector<Value> pairs;
  const Container& dict = self.container();
  if (!ev.charge(dict.keys.size())) return {};
  for (size_t i = 0; i < dict.keys.size(); ++i) pairs.push_back(ev.tuple({dict.keys[i], dict.values[i]}));
  return ev.list(std::move(pairs));
}

Value get(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "get", arguments, {"key", "default"});
  const Value* found = bound[0] && is_hashable(*bound[0]) ? self.container().find(*bound[0]) : nullptr;
  return found ? *found : bound[1] ? *bound[1] : Value(None{});
}

Value pop_entry(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "pop", arguments, {"key", "default"});
  Container& dict = self.container();
  const size_t at = bound[0] && is_hashable(*bound[0]) ? dict.position(*bound[0]) : dict.keys.size();
  if (at == dict.keys.size()) return bound[1] ? *bound[1] : ev.fail("pop(): the key is absent");
  if (!ev.charge(dict.keys.size() - at)) return {};
  Value value = dict.values[at];
  dict.erase(at);
  return value;
}

Value setdefault(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "setdefault", arguments, {"key", "default"});
  if (!bound[0] || !is_hashable(*bound[0])) return ev.fail("setdefault(): expected a key");
  if (const Value* found = self.container().find(*bound[0])) return *found;
  const Value value = bound[1] ? *bound[1] : Value(None{});
  if (ev.prepare_change(self, 2, ev.depth_of(value))) self.container().set(*bound[0], value);
  return value;
}

Value update(Evaluator& ev, const Value& self, Arguments& arguments) {
  std::vector<std::pair<Value, Value>> entries;
  for (const Value& source : arguments.positional) {
    if (!source.is_dict()) return ev.fail("update(): expected a mapping");
    for (size_t i = 0; i < source.container().keys.size(); ++i)
      entries.emplace_back(source.container().keys[i], source.container().values[i]);
  }
  for (auto& [name, value] : arguments.keywords) entries.emplace_back(ev.data(name), value);
  for (auto& [key, value] : entries) {
    if (!ev.prepare_change(self, 2, ev.depth_of(value))) return {};
    self.container().set(std::move(key), std::move(value));
  }
  return Value(None{});
}

const MethodTable& dict_methods() {
  static const MethodTable table{
      {"items", [](Evaluator& ev, const Value& s, Arguments&) { return entries_of(ev, s); }},
      {"keys", [](Evaluator& ev, const Value& s, Arguments&) { return ev.list(s.container().keys); }},
      {"values", [](Evaluator& ev, const Value& s, Arguments&) { return ev.list(s.container().values); }},
      {"get", get},
      {"pop", pop_entry},
      {"setdefault", setdefault},
      {"update", update},
      {"copy",
       [](Evaluator& ev, const Value& s, Arguments&) {
         std::vector<std::pair<Value, Value>> entries;
         for (size_t i = 0; i < s.container().keys.size(); ++i)
           entries.emplace_back(s.container().keys[i], s.container().values[i]);
         return ev.dict(std::move(entries));
       }},
  };
  return table;
}

Value append(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "append", arguments, {"object"});
  if (!bound[0]) return ev.fail("append() takes exactly one argument");
  if (ev.prepare_change(self, 1, ev.depth_of(*bound[0]))) self.container().values.push_back(*bound[0]);
  return Value(None{});
}

Value extend(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "extend", arguments, {"iterable"});
  std::vector<Value> items;
  if (!bound[0] || !ev.iterate(*bound[0], items)) return ev.fail("extend() takes exactly one iterable");
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, ev.depth_of(item));
  if (ev.prepare_change(self, items.size(), depth)) {
    self.container().values.insert(self.container().values.end(), items.begin(), items.end());
  }
  return Value(None{});
}

// A Python index moved into [0, size].
size_t position_in(int64_t index, size_t size) {
  const auto signed_size = static_cast<int64_t>(size);
  return static_cast<size_t>(std::clamp<int64_t>(index < 0 ? index + signed_size : index, 0, signed_size));
}

Value insert(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "insert", arguments, {"index", "object"});
  if (!bound[1]) return ev.fail("insert() takes exactly two arguments");
  auto& values = self.container().values;
  const size_t at = position_in(bound.integer(0, 0), values.size());
  if (!ev.charge((values.size() - at) / 4) || !ev.prepare_change(self, 1, ev.depth_of(*bound[1]))) return {};
  values.insert(values.begin() + static_cast<std::ptrdiff_t>(at), *bound[1]);
  return Value(None{});
}

Value pop_item(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "pop", arguments, {"index"});
  auto& values = self.container().values;
  int64_t index = bound.integer(0, -1);
  if (index < 0) index += static_cast<int64_t>(values.size());
  if (index < 0 || index >= static_cast<int64_t>(values.size()))
    return ev.fail(values.empty() ? "pop from empty list" : "pop index out of range");
  if (!ev.charge(values.size() - static_cast<size_t>(index))) return {};
  Value value = values[static_cast<size_t>(index)];
  values.erase(values.begin() + index);
  return value;
}

Value index_of(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "index", arguments, {"value"});
  for (size_t i = 0; bound[0] && i < self.items().size(); ++i) {
    if (ev.equals(self.items()[i], *bound[0])) return Value(i);
  }
  return ev.fail("the value is not in the list");
}

Value count_items(Evaluator& ev, const Value& self, Arguments& arguments) {
  const Bound bound(ev, "count", arguments, {"value"});
  size_t count = 0;
  for (const Value& item : self.items()) count += bound[0] && ev.equals(item, *bound[0]) ? 1 : 0;
  return Value(count);
}

const MethodTable& tuple_methods() {
  static const MethodTable table{{"index", index_of}, {"count", count_items}};
  return table;
}

const MethodTable& list_methods() {
  static const MethodTable table{
      {"append", append},
      {"extend", extend},
      {"insert", insert},
      {"pop", pop_item},
      {"index", index_of},
      {"count", count_items},
      {"copy", [](Evaluator& ev, const Value& s, Arguments&) { return ev.list(s.items()); }},
      {"clear", [](Evaluator&, const Value& s, Arguments&) { return s.container().values.clear(), Value(None{}); }},
      {"reverse",
       [](Evaluator& ev, const Value& s, Arguments&) {
         ev.charge(s.items().size());
         std::reverse(s.container().values.begin(), s.container().values.end());
         return Value(None{});
       }},
  };
  return table;
}

const MethodTable* methods_of(const Value& object) {
  if (object.is_text()) return &text_methods();
  if (object.is_dict()) return &dict_methods();
  if (object.is_tuple()) return &tuple_methods();
  return object.is_list() ? &list_methods() : nullptr;
}

}  // namespace

bool has_method(const Value& object, std::string_view name) {
  const MethodTable* table = methods_of(object);
  return table && table->contains(name);
}

Value Evaluator::method(const Value& object, const std::string& name, Arguments& arguments) {
  const MethodTable* table = methods_of(object);
  const auto found = table ? table->find(name) : MethodTable::const_iterator{};
  if (!table || found == table->end())
    return fail(fmt::format("'{}' has no attribute '{}'", object_type_repr(object), name));
  if (object.is_text() && !charge(object.text().size() / 64)) return {};
  return found->second(*this, object, arguments);
}

}  // namespace redoubt::jinja
