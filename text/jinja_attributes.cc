// Attribute, item and slice access by the rules of jinja2's immutable sandbox: `a.b` tries Python's
// attribute and then the item, `a['b']` the item and then the attribute; names that begin with "_"
// and methods that would change a list or dict are not given out.
#include <algorithm>
#include <array>
#include <optional>

#include "text/jinja_runtime.h"

namespace tessera::jinja {

namespace {

// Attributes that every Python object has. Only their names matter: the sandbox refuses them.
bool IsDunder(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "__class__",   "__delattr__", "__dir__",           "__doc__",         "__eq__",
      "__format__",  "__ge__",      "__getattribute__",  "__getstate__",    "__gt__",
      "__hash__",    "__init__",    "__init_subclass__", "__le__",          "__lt__",
      "__ne__",      "__new__",     "__reduce__",        "__reduce_ex__",   "__repr__",
      "__setattr__", "__sizeof__",  "__str__",           "__subclasshook__"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

Value Unsafe(Runtime& rt, const Value& object, std::string_view name) {
  return rt.Undefined(
      fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, TypeName(object)));
}

}  // namespace

Value PythonAttribute(Runtime& rt, const Value& object, const Str& name) {
  const std::string_view text = name.view();
  if (object.is(Kind::kNamespace)) {
    const Value* found = object.as<NamespaceObject>().attributes->Find(Value(name), rt.budget());
    return found ? *found : Value();
  }
  if (text.starts_with("_")) return IsDunder(text) ? Unsafe(rt, object, text) : Value();
  switch (object.kind()) {
    case Kind::kLoop: return object.as<LoopObject>().Attribute(rt, text);
    case Kind::kCallable: return object.as<CallableObject>().Attribute(rt, text);
    case Kind::kTuple:
      if (const auto& list = object.as<ListObject>(); list.group) {
        if (text == "grouper") return list.items[0];
        if (text == "list") return list.items[1];
      }
      break;
    default: break;
  }
  bool unsafe = false;
  Value method = FindMethod(rt, object, text, &unsafe);
  return unsafe ? Unsafe(rt, object, text) : method;
}

namespace {

// Python's object[index]; missing: TypeError or LookupError.
Value PythonItem(Runtime& rt, const Value& object, const Value& index) {
  if (object.undefined()) RaiseUndefined(object);
  switch (object.kind()) {
    case Kind::kDict: {
      // Lists and dicts are not hashable: TypeError
      if (index.is(Kind::kList) || index.is(Kind::kDict) || index.is(Kind::kSlice)) return Value();
      const Value* found = object.as<DictObject>().Find(index, rt.budget());
      return found ? *found : Value();
    }
    case Kind::kList:
    case Kind::kTuple: {
      if (!index.integral()) return Value();
      const Values& items = object.as<ListObject>().items;
      const auto size = static_cast<Int>(items.size());
      const Int i = index.integer() < 0 ? index.integer() + size : index.integer();
      return i < 0 || i >= size ? Value() : items[static_cast<size_t>(i)];
    }
    case Kind::kRange: {
      if (!index.integral()) return Value();
      const auto& range = object.as<RangeObject>();
      const Int i = index.integer() < 0 ? index.integer() + range.size : index.integer();
      return i < 0 || i >= range.size ? Value() : range.At(static_cast<int64_t>(i));
    }
    case Kind::kString: {
      if (!index.integral()) return Value();
      const Str& s = object.str();
      const Int i = index.integer() < 0 ? index.integer() + s.length() : index.integer();
      if (i < 0 || i >= s.length()) return Value();
      rt.budget().Touch(s.ascii() ? 0 : s.size());
      const size_t begin = s.ByteOffset(static_cast<int64_t>(i));
      size_t end = begin;
      DecodeUtf8(s.view(), &end);
      StrBuilder b(rt.budget());
      b.Append(s, begin, end);
      return object.markup() ? Value::Markup(b.Finish()) : Value(b.Finish());
    }
    default: return Value();
  }
}

struct Bounds {
  int64_t start, stop, step, count;
};

// Python's slice.indices().
Bounds SliceBounds(const Value& start, const Value& stop, const Value& step, int64_t length) {
  auto read = [](const Value& v) -> std::optional<int64_t> {
    if (v.missing() || v.is(Kind::kNone)) return std::nullopt;
    if (!v.integral()) Raise("slice indices must be integers or None or have an __index__ method");
    return ToIndex64(v);
  };
  Bounds b{};
  b.step = read(step).value_or(1);
  if (b.step == 0) Raise("slice step cannot be zero");
  const int64_t low = b.step < 0 ? -1 : 0, high = b.step < 0 ? length - 1 : length;
  auto clip = [&](std::optional<int64_t> i, int64_t otherwise) {
    if (!i) return otherwise;
    return std::clamp(*i < 0 ? *i + length : *i, low, high);
  };
  b.start = clip(read(start), b.step < 0 ? high : low);
  b.stop = clip(read(stop), b.step < 0 ? low : high);
  if (b.step > 0) {
    b.count = b.start < b.stop ? (b.stop - b.start - 1) / b.step + 1 : 0;
  } else {
    b.count = b.stop < b.start ? (b.start - b.stop - 1) / -b.step + 1 : 0;
  }
  return b;
}

Value SliceString(Runtime& rt, const Value& v, const Bounds& b) {
  const Str& s = v.str();
  StrBuilder out(rt.budget());
  if (b.step == 1 || b.count <= 1) {
    const int64_t end = b.count == 0 ? b.start : b.step == 1 ? b.stop : b.start + 1;
    if (b.count > 0) {
      rt.budget().Touch(s.ascii() ? 0 : s.size());
      out.Append(s, s.ByteOffset(b.start), s.ByteOffset(end));
    }
  } else {
    rt.budget().Step(b.count);
    std::vector<size_t> offsets;
    if (!s.ascii()) {
      rt.budget().CheckRoom(static_cast<size_t>(s.length()) * sizeof(size_t));
      rt.budget().Step(s.length());
      for (size_t i = 0; i < s.size(); DecodeUtf8(s.view(), &i)) offsets.push_back(i);
    }
    for (int64_t k = 0; k < b.count; ++k) {
      const auto at = static_cast<size_t>(b.start + k * b.step);
      const size_t begin = s.ascii() ? at : offsets[at];
      size_t end = begin;
      DecodeUtf8(s.view(), &end);
      out.Append(s, begin, end);
    }
  }
  return v.markup() ? Value::Markup(out.Finish()) : Value(out.Finish());
}

}  // namespace

Value GetAttribute(Runtime& rt, const Value& object, const Str& name) {
  rt.budget().Step();
  if (object.undefined()) {
    if (IsDunder(name.view())) return Unsafe(rt, object, name.view());
    RaiseUndefined(object);
  }
  Value found = PythonAttribute(rt, object, name);
  if (!found.missing()) return found;
  found = PythonItem(rt, object, Value(name));
  return found.missing() ? rt.UndefinedAttribute(object, Value(name)) : found;
}

Value GetItem(Runtime& rt, const Value& object, const Value& index) {
  rt.budget().Step();
  Value found = PythonItem(rt, object, index);
  if (found.missing() && index.string()) found = PythonAttribute(rt, object, index.str());
  return found.missing() ? rt.UndefinedAttribute(object, index) : found;
}

Value GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
               const Value& step) {
  rt.budget().Step();
  switch (object.kind()) {
    case Kind::kUndefined: RaiseUndefined(object);
    case Kind::kString:
      return SliceString(rt, object, SliceBounds(start, stop, step, object.str().length()));
    case Kind::kList:
    case Kind::kTuple: {
      const Values& items = object.as<ListObject>().items;
      const Bounds b = SliceBounds(start, stop, step, static_cast<int64_t>(items.size()));
      rt.budget().Step(b.count);
      rt.budget().CheckRoom(static_cast<size_t>(b.count) * sizeof(Value));
      Values out;
      out.reserve(static_cast<size_t>(b.count));
      for (int64_t k = 0; k < b.count; ++k)
        out.push_back(items[static_cast<size_t>(b.start + k * b.step)]);
      return rt.heap().Sequence(object.kind(), std::move(out));
    }
    case Kind::kRange: {
      const auto& range = object.as<RangeObject>();
      const Bounds b = SliceBounds(start, stop, step, range.size);
      auto* out = rt.heap().New<RangeObject>();
      out->start = range.start + range.step * b.start;
      out->stop = range.start + range.step * b.stop;
      out->step = range.step * b.step;
      out->size = b.count;
      return Value(Kind::kRange, out);
    }
    case Kind::kDict: Raise("unhashable type: 'slice'");
    default: Raise("'{}' object is not subscriptable", TypeName(object));
  }
}

}  // namespace tessera::jinja
