// Methods of Python's str, list, tuple, dict and numbers that templates call.
#include <algorithm>
#include <array>

#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

namespace tessera::jinja {

namespace {

using Method = Value (*)(Runtime&, const Value& self, const CallArgs&);
struct NamedMethod {
  std::string_view name;
  Method method;
};

// A str method's result is of its receiver's type, str or Markup.
Value Same(const Value& self, Str s) {
  return self.markup() ? Value::Markup(std::move(s)) : Value(std::move(s));
}

const Str& StrArg(const Value& v, const char* method) {
  if (!v.string()) Raise("{}() argument must be str, not {}", method, TypeName(v));
  return v.str();
}

Value ListOf(Runtime& rt, const Value& self, std::vector<Str> parts) {
  Values items;
  items.reserve(parts.size());
  for (Str& part : parts) items.push_back(Same(self, std::move(part)));
  return rt.heap().List(std::move(items));
}

bool Absent(const Value& v) { return v.missing() || v.is(Kind::kNone); }

template <Side side>
Value StripMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  if (!args.keywords.empty()) Raise("strip() takes no keyword arguments");
  const auto bound = Bind("strip", args, {"chars"});
  if (Absent(bound[0])) return Same(self, Strip(rt, self.str(), side, nullptr));
  return Same(self, Strip(rt, self.str(), side, &StrArg(bound[0], "strip")));
}

template <bool from_right>
Value SplitMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("split", args, {"sep", "maxsplit"});
  const int64_t most = bound[1].missing() ? -1 : ToIndex64(bound[1]);
  const Str* separator = Absent(bound[0]) ? nullptr : &StrArg(bound[0], "split");
  return ListOf(rt, self, Split(rt, self.str(), separator, most, from_right));
}

Value SplitLinesMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("splitlines", args, {"keepends"});
  return ListOf(rt, self, SplitLines(rt, self.str(), !bound[0].missing() && Truth(bound[0])));
}

template <bool from_right>
Value PartitionMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("partition", args, {"sep"}, 1);
  const std::vector<Str> parts =
      Split(rt, self.str(), &StrArg(bound[0], "partition"), 1, from_right);
  Values items;
  if (parts.size() == 2) {
    items = {Same(self, parts[0]), bound[0], Same(self, parts[1])};
  } else if (from_right) {
    items = {Value(Str()), Value(Str()), self};
  } else {
    items = {self, Value(Str()), Value(Str())};
  }
  return rt.heap().Tuple(std::move(items));
}

// Part [start, end) of a string in bytes, from optional code point indices.
struct Window {
  size_t begin, end;
  bool valid;  // false where start lies behind the end
};
Window WindowOf(Runtime& rt, const Str& s, const Value& start, const Value& end) {
  const int64_t n = s.length();
  auto read = [&](const Value& v, int64_t otherwise) {
    if (Absent(v)) return otherwise;
    if (!v.integral()) Raise("slice indices must be integers or None or have an __index__ method");
    int64_t i = ToIndex64(v);
    if (i < 0) i = std::max<int64_t>(0, i + n);
    return i;
  };
  rt.budget().Touch(s.ascii() ? 0 : s.size());
  const int64_t a = read(start, 0), b = std::min(read(end, n), n);
  if (a > b || a > n) return {0, 0, false};
  return {s.ByteOffset(a), s.ByteOffset(b), true};
}

template <bool at_end>
Value AffixMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind(at_end ? "endswith" : "startswith", args, {"prefix", "start", "end"}, 1);
  const Window w = WindowOf(rt, self.str(), bound[1], bound[2]);
  const std::string_view text = self.str().view().substr(w.begin, w.end - w.begin);
  auto matches = [&](const Value& affix) {
    if (!affix.string()) {
      Raise("{} first arg must be str or a tuple of str, not {}",
            at_end ? "endswith" : "startswith", TypeName(affix));
    }
    const std::string_view a = affix.str().view();
    rt.budget().Touch(a.size());
    return w.valid && (at_end ? text.ends_with(a) : text.starts_with(a));
  };
  if (!bound[0].is(Kind::kTuple)) return Value::Bool(matches(bound[0]));
  bool any = false;
  for (const Value& affix : bound[0].as<ListObject>().items) {
    any = matches(affix);
    if (any) break;
  }
  return Value::Bool(any);
}

enum class Search { kFind, kIndex, kCount };
template <Search what, bool from_right = false>
Value SearchMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("find", args, {"sub", "start", "end"}, 1);
  const Str& needle = StrArg(bound[0], "find");
  const Window w = WindowOf(rt, self.str(), bound[1], bound[2]);
  const std::string_view text = self.str().view().substr(w.begin, w.end - w.begin);
  rt.budget().Touch(text.size() + needle.size());
  if (what == Search::kCount) {
    if (!w.valid) return Value::Integer(0);
    if (needle.empty()) return Value::Integer(CountCodePoints(text) + 1);
    int64_t count = 0;
    for (size_t from = 0;; ++count) {
      const size_t at = FindText(text, needle.view(), from);
      if (at == std::string_view::npos) return Value::Integer(count);
      from = at + needle.size();
    }
  }
  size_t at = std::string_view::npos;
  if (w.valid && from_right) {
    const std::string mirror(text.rbegin(), text.rend());
    const std::string mirrored_needle(needle.view().rbegin(), needle.view().rend());
    at = FindText(mirror, mirrored_needle, 0);
    if (at != std::string_view::npos) at = text.size() - at - needle.size();
  } else if (w.valid) {
    at = FindText(text, needle.view(), 0);
  }
  if (at == std::string_view::npos) {
    if (what == Search::kIndex) Raise("substring not found");
    return Value::Integer(-1);
  }
  return Value::Integer(self.str().IndexOfByte(w.begin + at));
}

Value ReplaceMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  if (!args.keywords.empty()) Raise("replace() takes no keyword arguments");
  const auto bound = Bind("replace", args, {"old", "new", "count"}, 2);
  const int64_t count = bound[2].missing() ? -1 : ToIndex64(bound[2]);
  return Same(self, Replace(rt, self.str(), StrArg(bound[0], "replace"),
                            StrArg(bound[1], "replace"), count));
}

Value JoinMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("join", args, {"iterable"}, 1);
  StrBuilder out(rt.budget());
  Cursor cursor(rt.heap(), bound[0]);
  int64_t i = 0;
  for (Value v; cursor.Next(&v); ++i) {
    if (!v.string()) Raise("sequence item {}: expected str instance, {} found", i, TypeName(v));
    if (i > 0) out.Append(self.str());
    out.Append(v.str());
  }
  return Same(self, out.Finish());
}

Value FormatMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  return Same(self, BraceFormat(rt, self.str(), args));
}

Value FormatMapMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("format_map", args, {"mapping"}, 1);
  if (!bound[0].is(Kind::kDict)) Raise("format_map() needs a mapping");
  CallArgs named;
  for (const auto& [key, value] : bound[0].as<DictObject>().items) {
    if (key.string()) named.keywords.emplace_back(key.str(), value);
  }
  return Same(self, BraceFormat(rt, self.str(), named));
}

template <Side side>
Value PadMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("center", args, {"width", "fillchar"}, 1);
  const Str fill = bound[1].missing() ? Str(" ", Origin::kTemplate) : StrArg(bound[1], "center");
  return Same(self, Pad(rt, self.str(), ToIndex64(bound[0]), fill, side));
}

template <bool suffix>
Value RemoveAffixMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("removeprefix", args, {"affix"}, 1);
  const std::string_view affix = StrArg(bound[0], "removeprefix").view();
  const Str& s = self.str();
  if (suffix && !affix.empty() && s.view().ends_with(affix)) {
    return Same(self, Substring(rt, s, 0, s.size() - affix.size()));
  }
  if (!suffix && s.view().starts_with(affix))
    return Same(self, Substring(rt, s, affix.size(), s.size()));
  return self;
}

Value ZfillMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  return Same(self, PadWithZeros(rt, self.str(), ToIndex64(Bind("zfill", args, {"width"}, 1)[0])));
}

Value ExpandTabsMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("expandtabs", args, {"tabsize"});
  const int64_t size = bound[0].missing() ? 8 : ToIndex64(bound[0]);
  StrBuilder out(rt.budget());
  int64_t column = 0;
  const Str& s = self.str();
  for (size_t i = 0; i < s.size();) {
    const size_t begin = i;
    const char32_t c = DecodeUtf8(s.view(), &i);
    if (c != '\t') {
      out.Append(s, begin, i);
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    } else if (size > 0) {
      const int64_t spaces = size - column % size;
      out.Append(std::string(static_cast<size_t>(std::min<int64_t>(spaces, 1 << 20)), ' '),
                 s.OriginAt(begin));
      column += spaces;
    }
  }
  return Same(self, out.Finish());
}

template <Str (*map)(Runtime&, const Str&)>
Value MapMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  Bind("str method", args, {});
  return Same(self, map(rt, self.str()));
}

template <bool (*is)(char32_t), bool if_empty = false>
Value ClassMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  Bind("str method", args, {});
  rt.budget().Touch(self.str().size() * 4);
  return Value::Bool(self.str().empty() ? if_empty : AllOf(self.str().view(), is));
}

template <bool (*is)(std::string_view)>
Value TextMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  Bind("str method", args, {});
  rt.budget().Touch(self.str().size() * 4);
  return Value::Bool(is(self.str().view()));
}

bool IsAsciiChar(char32_t c) { return c < 0x80; }
bool IsIdentifierText(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const bool first = i == 0;
    const char32_t c = DecodeUtf8(s, &i);
    if (c != '_' && !(first ? IsAlpha(c) : IsAlnum(c) || IsMark(c))) return false;
  }
  return !s.empty();
}

constexpr NamedMethod kStrMethods[] = {
    {"capitalize", MapMethod<Capitalize>},
    {"center", PadMethod<Side::kBoth>},
    {"count", SearchMethod<Search::kCount>},
    {"endswith", AffixMethod<true>},
    {"expandtabs", ExpandTabsMethod},
    {"find", SearchMethod<Search::kFind>},
    {"format", FormatMethod},
    {"format_map", FormatMapMethod},
    {"index", SearchMethod<Search::kIndex>},
    {"isalnum", ClassMethod<IsAlnum>},
    {"isalpha", ClassMethod<IsAlpha>},
    {"isascii", ClassMethod<IsAsciiChar, true>},
    {"isdecimal", ClassMethod<IsDecimal>},
    {"isdigit", ClassMethod<IsDigit>},
    {"isidentifier", TextMethod<IsIdentifierText>},
    {"islower", TextMethod<IsLowerText>},
    {"isnumeric", ClassMethod<IsNumeric>},
    {"isprintable", ClassMethod<IsPrintable, true>},
    {"isspace", ClassMethod<IsSpace>},
    {"istitle", TextMethod<IsTitleText>},
    {"isupper", TextMethod<IsUpperText>},
    {"join", JoinMethod},
    {"ljust", PadMethod<Side::kLeft>},
    {"lower", MapMethod<Lower>},
    {"lstrip", StripMethod<Side::kLeft>},
    {"partition", PartitionMethod<false>},
    {"removeprefix", RemoveAffixMethod<false>},
    {"removesuffix", RemoveAffixMethod<true>},
    {"replace", ReplaceMethod},
    {"rfind", SearchMethod<Search::kFind, true>},
    {"rindex", SearchMethod<Search::kIndex, true>},
    {"rjust", PadMethod<Side::kRight>},
    {"rpartition", PartitionMethod<true>},
    {"rsplit", SplitMethod<true>},
    {"rstrip", StripMethod<Side::kRight>},
    {"split", SplitMethod<false>},
    {"splitlines", SplitLinesMethod},
    {"startswith", AffixMethod<false>},
    {"strip", StripMethod<Side::kBoth>},
    {"swapcase", MapMethod<SwapCase>},
    {"title", MapMethod<TitleWords>},
    {"upper", MapMethod<Upper>},
    {"zfill", ZfillMethod},
};

Value ListIndex(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("index", args, {"value", "start", "stop"}, 1);
  const Values& items = self.as<ListObject>().items;
  const auto n = static_cast<int64_t>(items.size());
  auto read = [&](const Value& v, int64_t otherwise) {
    if (v.missing()) return otherwise;
    const int64_t i = ToIndex64(v);
    return i < 0 ? std::max<int64_t>(0, i + n) : i;
  };
  const int64_t stop = std::min(read(bound[2], n), n);
  for (int64_t i = read(bound[1], 0); i < stop; ++i) {
    if (Equal(items[static_cast<size_t>(i)], bound[0], rt.budget())) return Value::Integer(i);
  }
  Raise("the value is not in the {}", TypeName(self));
}

Value ListCount(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("count", args, {"value"}, 1);
  int64_t count = 0;
  for (const Value& item : self.as<ListObject>().items) count += Equal(item, bound[0], rt.budget());
  return Value::Integer(count);
}

Value ListCopy(Runtime& rt, const Value& self, const CallArgs& args) {
  Bind("copy", args, {});
  return rt.heap().List(self.as<ListObject>().items);
}

template <ViewObject::What what>
Value DictView(Runtime& rt, const Value& self, const CallArgs& args) {
  Bind("dict view", args, {});
  auto* view = rt.heap().New<ViewObject>();
  view->what = what;
  view->dict = &self.as<DictObject>();
  return Value(Kind::kView, view);
}

Value DictGet(Runtime& rt, const Value& self, const CallArgs& args) {
  if (!args.keywords.empty()) Raise("get() takes no keyword arguments");
  const auto bound = Bind("get", args, {"key", "default"}, 1);
  if (const Value* found = self.as<DictObject>().Find(bound[0], rt.budget())) return *found;
  return bound[1].missing() ? Value::None() : bound[1];
}

Value DictCopy(Runtime& rt, const Value& self, const CallArgs& args) {
  Bind("copy", args, {});
  auto* copy = rt.heap().New<DictObject>();
  for (const auto& [key, value] : self.as<DictObject>().items) copy->Set(key, value, rt.budget());
  return Value(Kind::kDict, copy);
}

Value RangeCount(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("count", args, {"value"}, 1);
  return Value::Integer(Contains(rt.heap(), bound[0], self) ? 1 : 0);
}

Value RangeIndex(Runtime& rt, const Value& self, const CallArgs& args) {
  const auto bound = Bind("index", args, {"value"}, 1);
  const auto& range = self.as<RangeObject>();
  for (int64_t i = 0; i < range.size; ++i) {
    if (Equal(range.At(i), bound[0], rt.budget())) return Value::Integer(i);
  }
  Raise("the value is not in range");
}

constexpr NamedMethod kListMethods[] = {
    {"copy", ListCopy}, {"count", ListCount}, {"index", ListIndex}};
constexpr NamedMethod kTupleMethods[] = {{"count", ListCount}, {"index", ListIndex}};
constexpr NamedMethod kRangeMethods[] = {{"count", RangeCount}, {"index", RangeIndex}};
constexpr NamedMethod kDictMethods[] = {{"copy", DictCopy},
                                        {"get", DictGet},
                                        {"items", DictView<ViewObject::What::kItems>},
                                        {"keys", DictView<ViewObject::What::kKeys>},
                                        {"values", DictView<ViewObject::What::kValues>}};

constexpr std::string_view kListMutators[] = {"append", "clear", "pop",    "reverse",
                                              "insert", "sort",  "extend", "remove"};
constexpr std::string_view kDictMutators[] = {"clear", "pop", "popitem", "setdefault", "update"};

struct BoundMethod : CallableObject {
  BoundMethod(Value receiver, const NamedMethod* m) : self(std::move(receiver)), method(m) {}
  Value self;
  const NamedMethod* method;
  Value Call(Runtime& rt, CallArgs args) override { return method->method(rt, self, args); }
  std::string Describe() const override {
    return fmt::format("<built-in method {}>", method->name);
  }
};

template <size_t n>
const NamedMethod* Find(const NamedMethod (&methods)[n], std::string_view name) {
  const auto* it =
      std::find_if(methods, methods + n, [&](const NamedMethod& m) { return m.name == name; });
  return it == methods + n ? nullptr : it;
}

const NamedMethod* FindNamed(const Value& self, std::string_view name) {
  switch (self.kind()) {
    case Kind::kString: return Find(kStrMethods, name);
    case Kind::kList: return Find(kListMethods, name);
    case Kind::kTuple: return Find(kTupleMethods, name);
    case Kind::kDict: return Find(kDictMethods, name);
    case Kind::kRange: return Find(kRangeMethods, name);
    default: return nullptr;
  }
}

}  // namespace

Value FindMethod(Runtime& rt, const Value& self, std::string_view name, bool* unsafe) {
  auto among = [&](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  if (self.is(Kind::kList)) *unsafe = among(kListMutators);
  if (self.is(Kind::kDict)) *unsafe = among(kDictMutators);
  const NamedMethod* method = FindNamed(self, name);
  if (!method) return Value();
  return Value(Kind::kCallable, rt.heap().New<BoundMethod>(self, method));
}

bool HasMethod(const Value& self, std::string_view name) {
  return FindNamed(self, name) != nullptr;
}

Value CallMethod(Runtime& rt, const Value& self, std::string_view name, const CallArgs& args) {
  rt.budget().Step();
  const NamedMethod* method = FindNamed(self, name);
  if (!method) Raise("'{}' object has no method '{}'", TypeName(self), name);
  return method->method(rt, self, args);
}

}  // namespace tessera::jinja
