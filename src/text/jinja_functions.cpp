// The names that every template finds defined: range, namespace, dict, joiner, raise_exception, strftime_now; and loop.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <chrono>

#include "core/utf8.h"
#include "text/jinja_eval.h"

namespace redoubt::jinja {
namespace {

constexpr Integer kMaxRange = 100'000;  // as Jinja's sandbox has it

Value make_range(Evaluator& ev, Arguments& arguments) {
  Integer bounds[3] = {0, 0, 1};
  const size_t count = arguments.positional.size();
  if (count < 1 || count > 3 || !arguments.keywords.empty()) return ev.fail("range expected 1 to 3 arguments");
  for (size_t i = 0; i < count; ++i) {
    const Value& bound = arguments.positional[i];
    if (bound.is_undefined()) return ev.attribute(bound, "");
    if (!bound.is_integer() && !bound.is_bool()) {
      return ev.fail(fmt::format("'{}' object cannot be interpreted as an integer", type_name(bound)));
    }
    bounds[count == 1 ? 1 : i] = bound.integer();
  }
  const auto [begin, end, step] = bounds;
  constexpr Integer kFar = Integer{1} << 100;
  if (step == 0) return ev.fail("range() arg 3 must not be zero");
  for (const Integer bound : bounds) {
    if (bound > kFar || bound < -kFar) return ev.fail("an integer is out of range");
  }
  const Integer span = step > 0 ? end - begin : begin - end, stride = step > 0 ? step : -step;
  const Integer size = span <= 0 ? 0 : (span - 1) / stride + 1;
  if (size > kMaxRange) return ev.fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  std::vector<Value> items;
  for (Integer i = 0; i < size; ++i) items.emplace_back(begin + i * step);
  return ev.list(std::move(items));
}

Value make_dict(Evaluator& ev, Arguments& arguments, Container::Kind kind) {
  std::vector<std::pair<Value, Value>> entries;
  for (const Value& source : arguments.positional) {
    if (source.is_dict() || source.is_namespace()) {
      for (size_t i = 0; i < source.container().keys.size(); ++i) {
        entries.emplace_back(source.container().keys[i], source.container().values[i]);
      }
      continue;
    }
    std::vector<Value> pairs;
    if (!ev.iterate(source, pairs)) return {};
    for (const Value& pair : pairs) {
      if (!pair.is_list() || pair.items().size() != 2)
        return ev.fail("dictionary update sequence element has not length 2");
      entries.emplace_back(pair.items()[0], pair.items()[1]);
    }
  }
  for (auto& [name, value] : arguments.keywords) entries.emplace_back(ev.data(name), value);
  return ev.dict(std::move(entries), kind);
}

Value raise_exception(Evaluator& ev, Arguments& arguments) {
  const Bound bound(ev, "raise_exception", arguments, {"message"});
  return ev.fail(bound[0] ? ev.to_text(*bound[0]).bytes() : std::string());
}

Value strftime_now(Evaluator& ev, Arguments& arguments) {
  const Bound bound(ev, "strftime_now", arguments, {"format"});
  const std::string* format = bound.text(0);
  if (!format || format->empty()) return ev.data("");
  if (format->size() > 1024) return ev.fail("strftime_now(): the format is too long");
  const auto& clock = ev.limits().unix_seconds;
  const auto now =
      static_cast<time_t>(clock ? clock() : std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));
  struct tm local {};
  localtime_r(&now, &local);
  std::string buffer(16384, '\0');
  buffer.resize(strftime(buffer.data(), buffer.size(), format->c_str(), &local));
  return ev.data(repair_utf8(buffer));
}

// "" the first time it is called, then its separator.
Value make_joiner(Evaluator& ev, Arguments& arguments) {
  const Bound bound(ev, "joiner", arguments, {"sep"});
  if (bound[0] && !bound[0]->is_text()) return ev.fail("joiner(): expected a string");
  auto joiner = std::make_shared<Callable>();
  joiner->name = "joiner";
  joiner->call = [used = false, separator = bound[0] ? *bound[0] : ev.data(", ")](Evaluator& evaluator,
                                                                                  Arguments&) mutable {
    return std::exchange(used, true) ? separator : evaluator.data("");
  };
  return Value(std::move(joiner));
}

Value callable(std::string_view name, std::function<Value(Evaluator&, Arguments&)> call) {
  auto made = std::make_shared<Callable>();
  made->name = name;
  made->call = std::move(call);
  return Value(std::move(made));
}

}  // namespace

void Evaluator::set_globals() {
  const std::pair<std::string_view, std::function<Value(Evaluator&, Arguments&)>> functions[] = {
      {"range", make_range},
      {"dict", [](Evaluator& ev, Arguments& a) { return make_dict(ev, a, Container::Kind::dict); }},
      {"namespace", [](Evaluator& ev, Arguments& a) { return make_dict(ev, a, Container::Kind::name_space); }},
      {"joiner", make_joiner},
      {"raise_exception", raise_exception},
      {"strftime_now", strftime_now},
  };
  for (const auto& [name, call] : functions) {
    const auto known = std::find(template_.names.begin(), template_.names.end(), name);
    if (known != template_.names.end())
      scope_->set(static_cast<int>(known - template_.names.begin()), callable(name, call));
  }
}

Value Evaluator::loop_attribute(const Value& object, std::string_view name) {
  const Value::LoopPtr loop = std::get<Value::LoopPtr>(object.data);
  const size_t size = loop->items.size(), at = loop->index0;
  if (name == "index") return Value(at + 1);
  if (name == "index0") return Value(at);
  if (name == "revindex") return Value(static_cast<Integer>(size) - static_cast<Integer>(at));
  if (name == "revindex0") return Value(static_cast<Integer>(size) - static_cast<Integer>(at) - 1);
  if (name == "first") return Value(at == 0);
  if (name == "last") return Value(at + 1 >= size);
  if (name == "length") return Value(size);
  if (name == "depth") return Value(loop->depth0 + 1);
  if (name == "depth0") return Value(loop->depth0);
  if (name == "previtem")
    return at == 0 || at > size ? Value::undefined("there is no previous item") : loop->items[at - 1];
  if (name == "nextitem") return at + 1 >= size ? Value::undefined("there is no next item") : loop->items[at + 1];
  if (name == "cycle") {
    return callable("cycle", [at](Evaluator& ev, Arguments& arguments) {
      if (arguments.positional.empty()) return ev.fail("no items for cycling given");
      return arguments.positional[at % arguments.positional.size()];
    });
  }
  if (name == "changed") {
    return callable("changed", [loop](Evaluator& ev, Arguments& arguments) {
      if (loop->over) return ev.fail("loop.changed() after its loop");
      bool same = loop->last_changed.size() == arguments.positional.size() && !arguments.positional.empty();
      for (size_t i = 0; same && i < arguments.positional.size(); ++i)
        same = ev.equals(loop->last_changed[i], arguments.positional[i]);
      loop->last_changed = arguments.positional;
      return Value(!same);
    });
  }
  return Value::undefined(fmt::format("'jinja2.runtime.LoopContext object' has no attribute '{}'", name));
}

}  // namespace redoubt::jinja
