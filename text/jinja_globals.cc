// Global functions: jinja2's own, and those transformers adds.
#include "text/jinja_builtins.h"
#include "text/jinja_runtime.h"

namespace tessera::jinja {

namespace {

constexpr int64_t kMaxRange = 100000;  // as in jinja2's sandbox

Value Range(Runtime& rt, CallArgs args) {
  if (!args.keywords.empty()) Raise("range() takes no keyword arguments");
  const auto bound = Bind("range", args, {"start", "stop", "step"}, 1);
  const Int a = ToIndex(bound[0]);
  const Int start = bound[1].missing() ? 0 : a;
  const Int stop = bound[1].missing() ? a : ToIndex(bound[1]);
  const Int step = bound[2].missing() ? 1 : ToIndex(bound[2]);
  constexpr Int kFar = Int{1} << 100;
  if (step == 0) Raise("range() arg 3 must not be zero");
  if (start > kFar || start < -kFar || stop > kFar || stop < -kFar || step > kFar || step < -kFar) {
    Raise("range() arguments beyond 100 bits are outside the supported subset");
  }
  Int size = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
  if (step > 0 ? start >= stop : start <= stop) size = 0;
  if (size > kMaxRange)
    Raise("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", kMaxRange);
  auto* range = rt.heap().New<RangeObject>();
  range->start = start;
  range->stop = stop;
  range->step = step;
  range->size = static_cast<int64_t>(size);
  return Value(Kind::kRange, range);
}

DictObject* MakeDict(Runtime& rt, const CallArgs& args) {
  if (args.positional.size() > 1)
    Raise("dict expected at most 1 argument, got {}", args.positional.size());
  auto* dict = rt.heap().New<DictObject>();
  Budget& budget = rt.budget();
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    // Undefined has no .keys that could be asked for: its attribute access is what fails.
    if (source.undefined()) RaiseUndefined(source);
    if (source.is(Kind::kDict)) {
      for (const auto& [key, value] : source.as<DictObject>().items) dict->Set(key, value, budget);
    } else {
      Cursor cursor(rt.heap(), source);
      for (Value pair; cursor.Next(&pair);) {
        const Values parts = ToValues(rt.heap(), pair);
        if (parts.size() != 2)
          Raise("dictionary update sequence element has length {}; 2 is required", parts.size());
        dict->Set(parts[0], parts[1], budget);
      }
    }
  }
  for (const auto& [name, value] : args.keywords) dict->Set(Value(name), value, budget);
  return dict;
}

struct DictClass : CallableObject {
  Value Call(Runtime& rt, CallArgs args) override { return Value(Kind::kDict, MakeDict(rt, args)); }
  Value Attribute(Runtime& rt, std::string_view name) override {
    if (name != "fromkeys") return Value();
    return MakeFunction(
        rt,
        [](Runtime& r, CallArgs args) {
          const auto bound = Bind("fromkeys", args, {"iterable", "value"}, 1);
          auto* dict = r.heap().New<DictObject>();
          Cursor cursor(r.heap(), bound[0]);
          for (Value key; cursor.Next(&key);) {
            dict->Set(std::move(key), bound[1].missing() ? Value::None() : bound[1], r.budget());
          }
          return Value(Kind::kDict, dict);
        },
        "fromkeys");
  }
};

Value Namespace(Runtime& rt, CallArgs args) {
  auto* space = rt.heap().New<NamespaceObject>();
  space->attributes = MakeDict(rt, args);
  for (const auto& [name, value] : space->attributes->items) {
    if (name.string()) CheckNamespaceName(name.str());
  }
  return Value(Kind::kNamespace, space);
}

struct Cycler : CallableObject {
  Values items;
  size_t at = 0;
  bool callable() const override { return false; }
  std::string Describe() const override { return "<Cycler>"; }
  Value Call(Runtime&, CallArgs) override { Raise("'Cycler' object is not callable"); }
  Value Attribute(Runtime& rt, std::string_view name) override {
    if (name == "current") return items[at];
    if (name == "items") return rt.heap().Tuple(items);
    if (name == "pos") return Value::Integer(static_cast<Int>(at));
    if (name == "next") {
      return MakeFunction(
          rt,
          [this](Runtime&, CallArgs args) {
            Bind("next", args, {});
            Value v = items[at];
            at = (at + 1) % items.size();
            return v;
          },
          "next");
    }
    if (name == "reset") {
      return MakeFunction(
          rt,
          [this](Runtime&, CallArgs args) {
            Bind("reset", args, {});
            at = 0;
            return Value::None();
          },
          "reset");
    }
    return Value();
  }
};

struct Joiner : CallableObject {
  Value separator;
  bool used = false;
  std::string Describe() const override { return "<Joiner>"; }
  Value Call(Runtime&, CallArgs args) override {
    Bind("joiner", args, {});
    if (used) return separator;
    used = true;
    return Value(Str());
  }
  Value Attribute(Runtime&, std::string_view name) override {
    if (name == "sep") return separator;
    if (name == "used") return Value::Bool(used);
    return Value();
  }
};

Value MakeCycler(Runtime& rt, CallArgs args) {
  if (!args.keywords.empty()) Raise("cycler() takes no keyword arguments");
  if (args.positional.empty()) Raise("at least one item has to be provided");
  auto* cycler = rt.heap().New<Cycler>();
  cycler->items = std::move(args.positional);
  return Value(Kind::kCallable, cycler);
}

Value MakeJoiner(Runtime& rt, CallArgs args) {
  const auto bound = Bind("joiner", args, {"sep"});
  auto* joiner = rt.heap().New<Joiner>();
  joiner->separator = bound[0].missing() ? Value(Str(", ", Origin::kTemplate)) : bound[0];
  return Value(Kind::kCallable, joiner);
}

Value RaiseException(Runtime& rt, CallArgs args) {
  const auto bound = Bind("raise_exception", args, {"message"}, 1);
  Raise("{}", ToStr(rt, bound[0]).view());
}

Value StrftimeNow(Runtime& rt, CallArgs args) {
  const auto bound = Bind("strftime_now", args, {"format"}, 1);
  if (!bound[0].string()) Raise("strftime() argument 1 must be str, not {}", TypeName(bound[0]));
  if (rt.date_string) return Value(*rt.date_string);
  return Value(FormatTime(rt, bound[0].str(), rt.now()));
}

}  // namespace

void CheckNamespaceName(const Str& name) {
  if (name.view().starts_with("_")) {
    Raise(
        "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '{}'.",
        name.view());
  }
}

Value FindGlobal(Runtime& rt, std::string_view name) {
  if (name == "range") return MakeFunction(rt, Range, "range");
  if (name == "dict") return Value(Kind::kCallable, rt.heap().New<DictClass>());
  if (name == "namespace") return MakeFunction(rt, Namespace, "namespace");
  if (name == "cycler") return MakeFunction(rt, MakeCycler, "cycler");
  if (name == "joiner") return MakeFunction(rt, MakeJoiner, "joiner");
  if (name == "raise_exception") return MakeFunction(rt, RaiseException, "raise_exception");
  if (name == "strftime_now") return MakeFunction(rt, StrftimeNow, "strftime_now");
  return Value();
}

}  // namespace tessera::jinja
