// Jinja's filters on sequences. map, select and the like give lists where Jinja gives generators: what a template then
// does with them reads the same, and tojson works.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "text/jinja_filters.h"

namespace redoubt::jinja {
namespace {

// value.attribute by a dotted path, as map(attribute=...) takes it; parts of digits are indices.
Value attribute_of(Evaluator& ev, const Value& value, const Value& path) {
  if (path.is_integer()) return ev.item(value, path);
  if (!path.is_text()) return ev.fail("attribute: expected a string or an integer");
  Value current = value;
  for (size_t begin = 0; begin <= path.bytes().size() && !ev.stopped();) {
    const size_t dot = std::min(path.bytes().find('.', begin), path.bytes().size());
    const std::string part = path.bytes().substr(begin, dot - begin);
    const bool is_index = !part.empty() && part.size() < 10 &&
                          std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    current = ev.item(current, is_index ? Value(std::stoi(part)) : ev.data(part));
    begin = dot + 1;
  }
  return current;
}

// Takes `name=` out of the keywords.
std::optional<Value> take_keyword(Arguments& arguments, std::string_view name) {
  for (auto it = arguments.keywords.begin(); it != arguments.keywords.end(); ++it) {
    if (it->first != name) continue;
    Value value = std::move(it->second);
    arguments.keywords.erase(it);
    return value;
  }
  return std::nullopt;
}

Value map(Evaluator& ev, const Value& input, Arguments& arguments) {
  std::vector<Value> items, out;
  if (!ev.iterate(input, items)) return {};
  const std::optional<Value> attribute = take_keyword(arguments, "attribute"),
                             fallback = take_keyword(arguments, "default");
  std::string name;
  if (!attribute) {
    if (arguments.positional.empty() || !arguments.positional[0].is_text())
      return ev.fail("map requires a filter argument");
    name = arguments.positional[0].bytes();
    arguments.positional.erase(arguments.positional.begin());
  }
  for (const Value& item : items) {
    if (!ev.charge(1)) return {};
    if (attribute) {
      Value value = attribute_of(ev, item, *attribute);
      out.push_back(value.is_undefined() && fallback ? *fallback : std::move(value));
    } else {
      Arguments copy = arguments;
      out.push_back(ev.filter(name, item, copy));
    }
    if (ev.stopped()) return {};
  }
  return ev.list(std::move(out));
}

Value select_where(Evaluator& ev, const Value& input, Arguments& arguments, bool by_attribute, bool keep) {
  std::vector<Value> items, out;
  if (!ev.iterate(input, items)) return {};
  Value attribute;
  if (by_attribute) {
    if (arguments.positional.empty()) return ev.fail("Missing parameter for attribute name");
    attribute = arguments.positional[0];
    arguments.positional.erase(arguments.positional.begin());
  }
  std::string name;
  if (!arguments.positional.empty()) {
    if (!arguments.positional[0].is_text()) return ev.fail("select: expected the name of a test");
    name = arguments.positional[0].bytes();
    arguments.positional.erase(arguments.positional.begin());
  }
  for (const Value& item : items) {
    if (!ev.charge(1)) return {};
    const Value subject = by_attribute ? attribute_of(ev, item, attribute) : item;
    if (ev.stopped()) return {};
    const bool passes = name.empty() ? is_true(subject) : ev.test(name, subject, arguments);
    if (ev.stopped()) return {};
    if (passes == keep) out.push_back(item);
  }
  return ev.list(std::move(out));
}

Value join(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "join", arguments, {"d", "attribute"});
  std::vector<Value> items;
  if (!ev.iterate(input, items)) return {};
  const OriginText separator = bound[0] ? ev.to_text(*bound[0]) : OriginText();
  OriginText out;
  for (size_t i = 0; i < items.size() && ev.charge(1); ++i) {
    if (i > 0) out.append(separator);
    const Value part = bound[1] ? attribute_of(ev, items[i], *bound[1]) : items[i];
    if (ev.stopped()) return {};
    out.append(part.is_text() ? part.text() : ev.to_text(part));
    if (out.size() > ev.limits().max_output_bytes) return ev.fail_too_long();
  }
  return ev.text(std::move(out));
}

Value length(Evaluator& ev, const Value& input, Arguments&) {
  if (input.is_undefined()) return Value(0);
  if (input.is_text()) return Value(count_characters(input.bytes()));
  if (input.is_list() || input.is_dict()) return Value(input.container().values.size());
  return ev.fail(fmt::format("object of type '{}' has no len()", type_name(input)));
}

Value end_item(Evaluator& ev, const Value& input, bool last) {
  std::vector<Value> items;
  if (!ev.iterate(input, items)) return {};
  if (items.empty())
    return Value::undefined(last ? "No last item, sequence was empty." : "No first item, sequence was empty.");
  return last ? items.back() : items.front();
}

Value to_list(Evaluator& ev, const Value& input, Arguments&) {
  std::vector<Value> items;
  return ev.iterate(input, items) ? ev.list(std::move(items)) : Value();
}

Value dict_items(Evaluator& ev, const Value& input, Arguments& arguments) {
  if (input.is_undefined()) return ev.list({});
  if (!input.is_dict()) return ev.fail("Can only get item pairs from a mapping.");
  return ev.method(input, "items", arguments);
}

Value reverse(Evaluator& ev, const Value& input, Arguments&) {
  const Value none{None{}};
  if (input.is_text()) return ev.slice(input, none, none, Value(-1));
  std::vector<Value> items;
  if (!ev.iterate(input, items)) return {};
  std::reverse(items.begin(), items.end());
  return ev.list(std::move(items));
}

// What an item is ordered by: its attribute or itself, in lower case unless that matters.
Value sort_key(Evaluator& ev, const Value& item, const Value* attribute, bool case_sensitive) {
  Value key = attribute && !attribute->is_none() ? attribute_of(ev, item, *attribute) : item;
  if (!case_sensitive && key.is_text()) key = ev.text(lower(key.text()));
  return key;
}

Value sorted(Evaluator& ev, const std::vector<Value>& items, const std::vector<Value>& keys, bool reversed) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  // A merge sort: it ends whatever the comparison answers, also after an error.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (ev.stopped() || !ev.charge(1)) return false;
    return reversed ? ev.order(keys[b], keys[a], "<") < 0 : ev.order(keys[a], keys[b], "<") < 0;
  });
  if (ev.stopped()) return {};
  std::vector<Value> out;
  for (const size_t i : order) out.push_back(items[i]);
  return ev.list(std::move(out));
}

Value sort(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "sort", arguments, {"reverse", "case_sensitive", "attribute"});
  std::vector<Value> items, keys;
  if (!ev.iterate(input, items)) return {};
  for (const Value& item : items) {
    keys.push_back(sort_key(ev, item, bound[2], bound.flag(1, false)));
    if (ev.stopped()) return {};
  }
  return sorted(ev, items, keys, bound.flag(0, false));
}

Value dictsort(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "dictsort", arguments, {"case_sensitive", "by", "reverse"});
  if (!input.is_dict()) return ev.fail("dictsort: expected a mapping");
  const std::string* by = bound.text(1);
  const Value position(by && *by == "value" ? 1 : 0);
  Arguments none;
  const Value pairs = ev.method(input, "items", none);
  if (ev.stopped()) return {};
  std::vector<Value> keys;
  for (const Value& pair : pairs.items()) keys.push_back(sort_key(ev, pair, &position, bound.flag(0, false)));
  return ev.stopped() ? Value() : sorted(ev, pairs.items(), keys, bound.flag(2, false));
}

Value unique(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "unique", arguments, {"case_sensitive", "attribute"});
  std::vector<Value> items, out;
  if (!ev.iterate(input, items)) return {};
  std::vector<Value> seen;
  for (const Value& item : items) {
    const Value key = sort_key(ev, item, bound[1], bound.flag(0, false));
    const bool is_new = std::none_of(seen.begin(), seen.end(), [&](const Value& one) {
      return !ev.stopped() && ev.charge(1) && ev.equals(one, key);
    });
    if (ev.stopped()) return {};
    if (!is_new) continue;
    seen.push_back(key);
    out.push_back(item);
  }
  return ev.list(std::move(out));
}

Value extreme(Evaluator& ev, const Value& input, Arguments& arguments, int wanted) {
  const Bound bound(ev, wanted < 0 ? "min" : "max", arguments, {"case_sensitive", "attribute"});
  std::vector<Value> items;
  if (!ev.iterate(input, items)) return {};
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  size_t best = 0;
  Value best_key = sort_key(ev, items[0], bound[1], bound.flag(0, false));
  for (size_t i = 1; i < items.size() && !ev.stopped(); ++i) {
    Value key = sort_key(ev, items[i], bound[1], bound.flag(0, false));
    if (ev.stopped() || ev.order(key, best_key, wanted < 0 ? "<" : ">") != wanted) continue;
    best = i;
    best_key = std::move(key);
  }
  return items[best];
}

Value sum(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "sum", arguments, {"attribute", "start"});
  std::vector<Value> items;
  if (!ev.iterate(input, items)) return {};
  Value total = bound[1] ? *bound[1] : Value(0);
  for (const Value& item : items) {
    const Value term = bound[0] && !bound[0]->is_none() ? attribute_of(ev, item, *bound[0]) : item;
    if (ev.stopped()) return {};
    total = ev.arithmetic(Op::add, total, term);
  }
  return total;
}

Value batch(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "batch", arguments, {"linecount", "fill_with"});
  std::vector<Value> items, rows, row;
  const int64_t width = bound.integer(0, 0);
  if (width < 1) return ev.fail("batch: expected a positive number");
  if (!ev.iterate(input, items)) return {};
  for (Value& item : items) {
    row.push_back(std::move(item));
    if (static_cast<int64_t>(row.size()) == width) rows.push_back(ev.list(std::exchange(row, {})));
  }
  if (!row.empty()) {
    if (bound[1] && !bound[1]->is_none()) {
      if (!ev.charge(static_cast<size_t>(width))) return {};
      row.resize(static_cast<size_t>(width), *bound[1]);
    }
    rows.push_back(ev.list(std::move(row)));
  }
  return ev.list(std::move(rows));
}

Value slices(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "slice", arguments, {"slices", "fill_with"});
  std::vector<Value> items, rows;
  const int64_t count = bound.integer(0, 0);
  if (count < 1 || !ev.charge(static_cast<size_t>(count))) return ev.fail("slice: expected a positive number");
  if (!ev.iterate(input, items)) return {};
  const auto size = static_cast<int64_t>(items.size()), base = size / count, longer = size % count;
  for (int64_t i = 0, begin = 0; i < count; ++i) {
    const int64_t end = begin + base + (i < longer ? 1 : 0);
    std::vector<Value> row(items.begin() + begin, items.begin() + end);
    if (i >= longer && longer > 0 && bound[1] && !bound[1]->is_none()) row.push_back(*bound[1]);
    rows.push_back(ev.list(std::move(row)));
    begin = end;
  }
  return ev.list(std::move(rows));
}

Value groupby(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "groupby", arguments, {"attribute", "default", "case_sensitive"});
  if (!bound[0]) return ev.fail("groupby: expected an attribute");
  Arguments by;
  by.keywords.emplace_back("attribute", *bound[0]);
  const Value ordered = sort(ev, input, by);
  std::vector<Value> groups, members;
  for (size_t i = 0; !ev.stopped() && i < ordered.items().size(); ++i) {
    members.push_back(ordered.items()[i]);
    const Value key = attribute_of(ev, ordered.items()[i], *bound[0]);
    const bool ends =
        i + 1 == ordered.items().size() || !ev.equals(key, attribute_of(ev, ordered.items()[i + 1], *bound[0]));
    if (ends) groups.push_back(ev.tuple({key, ev.list(std::exchange(members, {}))}));
  }
  return ev.stopped() ? Value() : ev.list(std::move(groups));
}

Value attr(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "attr", arguments, {"name"});
  const std::string* name = bound.text(0);
  return name ? ev.attribute(input, *name) : ev.fail("attr: expected a name");
}

}  // namespace

const FilterTable& sequence_filters() {
  static const FilterTable table{
      {"map", map},
      {"select", [](Evaluator& ev, const Value& v, Arguments& a) { return select_where(ev, v, a, false, true); }},
      {"reject", [](Evaluator& ev, const Value& v, Arguments& a) { return select_where(ev, v, a, false, false); }},
      {"selectattr", [](Evaluator& ev, const Value& v, Arguments& a) { return select_where(ev, v, a, true, true); }},
      {"rejectattr", [](Evaluator& ev, const Value& v, Arguments& a) { return select_where(ev, v, a, true, false); }},
      {"join", join},
      {"length", length},
      {"count", length},
      {"first", [](Evaluator& ev, const Value& v, Arguments&) { return end_item(ev, v, false); }},
      {"last", [](Evaluator& ev, const Value& v, Arguments&) { return end_item(ev, v, true); }},
      {"list", to_list},
      {"items", dict_items},
      {"reverse", reverse},
      {"sort", sort},
      {"dictsort", dictsort},
      {"unique", unique},
      {"min", [](Evaluator& ev, const Value& v, Arguments& a) { return extreme(ev, v, a, -1); }},
      {"max", [](Evaluator& ev, const Value& v, Arguments& a) { return extreme(ev, v, a, 1); }},
      {"sum", sum},
      {"batch", batch},
      {"slice", slices},
      {"groupby", groupby},
      {"attr", attr},
  };
  return table;
}

}  // namespace redoubt::jinja
