// Filters over sequences. Those that are generators in Python are run at once here, and what
// stopped one early is raised where a reader comes to that place, so that `|map('int')|first` fails
// only if Python's does.
#include <algorithm>
#include <unordered_map>

#include "text/jinja_filters.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

namespace tessera::jinja {

namespace {

bool Given(const Value& v) { return !v.missing() && !v.is(Kind::kNone); }
bool IsSet(const Value& v) { return !v.missing() && Truth(v); }

Value IgnoreCase(Runtime& rt, Value v) { return v.string() ? Value(Lower(rt, v.str())) : v; }

template <typename F>
Value Generate(Runtime& rt, F produce) {
  Value v = rt.heap().Iterator("generator", {});
  auto& iterator = v.as<IteratorObject>();
  try {
    produce([&](Value item) {
      rt.heap().HoldValues(1);
      iterator.items.push_back(std::move(item));
    });
  } catch (const TemplateError& error) {
    iterator.error = error;
  }
  return v;
}

// Stable; `less` on keys.
Values SortedBy(Runtime& rt, Values items, const Values& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return reverse ? Less(keys[b], keys[a], rt.budget()) : Less(keys[a], keys[b], rt.budget());
  });
  Values out;
  out.reserve(items.size());
  for (const size_t i : order) out.push_back(std::move(items[i]));
  return out;
}

Value MinOrMax(Runtime& rt, const Value& value, const CallArgs& args, Order better) {
  const auto bound = Bind("min", args, {"case_sensitive", "attribute"});
  const AttributeGetter get(rt, bound[1], Value(), !IsSet(bound[0]));
  Cursor cursor(rt.heap(), value);
  Value best;
  if (!cursor.Next(&best)) return rt.Undefined("No aggregated item, sequence was empty.");
  Value best_key = get(best);
  for (Value v; cursor.Next(&v);) {
    Value key = get(v);
    if (Compare(key, best_key, better, rt.budget())) {
      best = std::move(v);
      best_key = std::move(key);
    }
  }
  return best;
}

CallArgs From(const CallArgs& args, size_t first) {
  CallArgs rest = args;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() +
                            static_cast<std::ptrdiff_t>(std::min(first, rest.positional.size())));
  return rest;
}

Value SelectOrReject(Runtime& rt, const Value& value, const CallArgs& args, bool keep,
                     bool by_attribute) {
  return Generate(rt, [&](auto yield) {
    if (!Truth(value)) return;
    if (by_attribute && args.positional.empty()) Raise("Missing parameter for attribute name");
    const AttributeGetter get(rt, by_attribute ? args.positional[0] : Value());
    const size_t at = by_attribute ? 1 : 0;
    const bool has_test = args.positional.size() > at;
    const CallArgs rest = From(args, at + 1);
    TestFunction test = nullptr;
    if (has_test) {
      const Value& name = args.positional[at];
      test = name.string() ? FindTest(name.str().view()) : nullptr;
    }
    Cursor cursor(rt.heap(), value);
    for (Value v; cursor.Next(&v);) {
      const Value subject = get(v);
      if (has_test && !test) Raise("No test named {}.", Repr(rt, args.positional[at]).view());
      if ((has_test ? test(rt, subject, rest) : Truth(subject)) == keep) yield(std::move(v));
    }
  });
}

}  // namespace

AttributeGetter::AttributeGetter(Runtime& rt, const Value& attribute, Value default_value,
                                 bool ignore_case)
    : rt_(rt), default_(std::move(default_value)), ignore_case_(ignore_case) {
  if (!Given(attribute)) return;
  if (!attribute.string()) {
    parts_.push_back(attribute);
    return;
  }
  const Str dot(".", Origin::kTemplate);
  for (Str& part : Split(rt, attribute.str(), &dot, -1, false)) {
    std::optional<Int> index;
    if (AllOf(part.view(), IsDigit)) {
      index = ParseInt(part.view(), 10);
      if (!index) Raise("invalid literal for int() with base 10");
    }
    parts_.push_back(index ? Value::Integer(*index) : Value(std::move(part)));
  }
}

Value AttributeGetter::operator()(Value item) const {
  for (const Value& part : parts_) {
    item = GetItem(rt_, item, part);
    if (Given(default_) && item.undefined()) item = default_;
  }
  return ignore_case_ ? IgnoreCase(rt_, std::move(item)) : item;
}

Value BatchFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("batch", args, {"linecount", "fill_with"}, 1);
  return Generate(rt, [&](auto yield) {
    const int64_t count = ToIndex64(bound[0]);
    Values row;
    Cursor cursor(rt.heap(), value);
    for (Value v; cursor.Next(&v);) {
      if (static_cast<int64_t>(row.size()) == count) {
        yield(rt.heap().List(std::move(row)));
        row = {};
      }
      row.push_back(std::move(v));
    }
    if (row.empty()) return;
    if (Given(bound[1])) {
      rt.budget().Step(std::max<int64_t>(0, count));
      while (static_cast<int64_t>(row.size()) < count) row.push_back(bound[1]);
    }
    yield(rt.heap().List(std::move(row)));
  });
}

Value SliceFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("slice", args, {"slices", "fill_with"}, 1);
  return Generate(rt, [&](auto yield) {
    const Values all = ToValues(rt.heap(), value);
    const int64_t slices = ToIndex64(bound[0]);
    if (slices == 0) Raise("integer division or modulo by zero");
    const auto length = static_cast<int64_t>(all.size());
    int64_t offset = 0;
    for (int64_t k = 0; k < slices; ++k) {
      rt.budget().Step();
      const int64_t start = offset + k * (length / slices);
      const bool extra = k < length % slices;
      offset += extra;
      const int64_t end = offset + (k + 1) * (length / slices);
      Values row(all.begin() + start, all.begin() + end);
      if (Given(bound[1]) && !extra) row.push_back(bound[1]);
      yield(rt.heap().List(std::move(row)));
    }
  });
}

Value DictSortFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string_view by = bound[1].missing()  ? "key"
                              : bound[1].string() ? bound[1].str().view()
                                                  : "";
  if (by != "key" && by != "value") Raise("You can only sort by either \"key\" or \"value\"");
  if (value.undefined()) RaiseUndefined(value);
  if (!value.is(Kind::kDict)) Raise("'{}' object has no attribute 'items'", TypeName(value));
  Values items, keys;
  for (const auto& [k, v] : value.as<DictObject>().items) {
    items.push_back(rt.heap().Tuple({k, v}));
    const Value& key = by == "key" ? k : v;
    keys.push_back(IsSet(bound[0]) ? key : IgnoreCase(rt, key));
  }
  return rt.heap().List(SortedBy(rt, std::move(items), keys, IsSet(bound[2])));
}

Value FirstFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("first", args, {});
  Cursor cursor(rt.heap(), value);
  Value first;
  return cursor.Next(&first) ? first : rt.Undefined("No first item, sequence was empty.");
}

Value LastFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("last", args, {});
  const int64_t length =
      value.is(Kind::kIterator) || value.is(Kind::kLoop) ? -1 : LengthOrMinusOne(value);
  if (length < 0) Raise("'{}' object is not reversible", TypeName(value));
  if (length == 0) return rt.Undefined("No last item, sequence was empty.");
  switch (value.kind()) {
    case Kind::kDict: return value.as<DictObject>().items.back().first;
    case Kind::kView: return ToValues(rt.heap(), value).back();
    default: return GetItem(rt, value, Value::Integer(length - 1));
  }
}

Value GroupByFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = IsSet(bound[2]);
  const AttributeGetter get(rt, bound[0], bound[1], !case_sensitive);
  const AttributeGetter get_exact(rt, bound[0], bound[1], false);
  Values items = ToValues(rt.heap(), value);
  Values keys;
  for (const Value& item : items) keys.push_back(get(item));
  items = SortedBy(rt, std::move(items), keys, false);
  Values groups;
  for (size_t i = 0; i < items.size();) {
    const Value key = get(items[i]);
    Values members;
    const size_t first = i;
    while (i < items.size() && Equal(get(items[i]), key, rt.budget()))
      members.push_back(items[i++]);
    if (i == first) members.push_back(items[i++]);  // NaN equals nothing, itself included
    Value group =
        rt.heap().Tuple({case_sensitive ? key : get_exact(members[0]), rt.heap().List(members)});
    group.as<ListObject>().group = true;
    groups.push_back(std::move(group));
  }
  return rt.heap().List(std::move(groups));
}

Value ItemsFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("items", args, {});
  return Generate(rt, [&](auto yield) {
    if (value.undefined()) return;
    if (!value.is(Kind::kDict)) Raise("Can only get item pairs from a mapping.");
    for (const auto& [k, v] : value.as<DictObject>().items) yield(rt.heap().Tuple({k, v}));
  });
}

Value ListFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("list", args, {});
  return rt.heap().List(ToValues(rt.heap(), value));
}

Value MapFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  return Generate(rt, [&](auto yield) {
    if (!Truth(value)) return;
    bool by_attribute = false;
    for (const auto& [name, v] : args.keywords)
      by_attribute = by_attribute || name.view() == "attribute";
    Cursor cursor(rt.heap(), value);
    if (args.positional.empty() && by_attribute) {
      const auto bound = Bind("map", args, {"attribute", "default"});
      const AttributeGetter get(rt, bound[0], bound[1]);
      for (Value v; cursor.Next(&v);) yield(get(std::move(v)));
      return;
    }
    if (args.positional.empty()) Raise("map requires a filter argument");
    const Value& name = args.positional[0];
    const FilterFunction filter = name.string() ? FindFilter(name.str().view()) : nullptr;
    const CallArgs rest = From(args, 1);
    for (Value v; cursor.Next(&v);) {
      if (!filter) Raise("No filter named {}.", Repr(rt, name).view());
      const Budget::Nesting nesting(rt.budget());
      yield(filter(rt, v, rest));
    }
  });
}

Value MaxFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  return MinOrMax(rt, value, args, Order::kGreater);
}
Value MinFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  return MinOrMax(rt, value, args, Order::kLess);
}

Value SelectFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  return SelectOrReject(rt, value, args, true, false);
}
Value RejectFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  return SelectOrReject(rt, value, args, false, false);
}
Value SelectAttrFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  return SelectOrReject(rt, value, args, true, true);
}
Value RejectAttrFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  return SelectOrReject(rt, value, args, false, true);
}

Value ReverseFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("reverse", args, {});
  if (value.string()) return GetSlice(rt, value, Value(), Value(), Value::Integer(-1));
  if (!Iterable(value) || value.is(Kind::kLoop)) Raise("argument must be iterable");
  Values items = ToValues(rt.heap(), value);
  std::reverse(items.begin(), items.end());
  // reversed() of a sequence is an iterator; a generator is gathered in a list first.
  return value.is(Kind::kIterator) ? rt.heap().List(std::move(items))
                                   : rt.heap().Iterator("list_reverseiterator", std::move(items));
}

Value SortFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<AttributeGetter> getters;
  const bool ignore_case = !IsSet(bound[1]);
  if (bound[2].string()) {
    const Str comma(",", Origin::kTemplate);
    for (const Str& path : Split(rt, bound[2].str(), &comma, -1, false)) {
      getters.emplace_back(rt, Value(path), Value(), ignore_case);
    }
  } else {
    getters.emplace_back(rt, bound[2], Value(), ignore_case);
  }
  Values items = ToValues(rt.heap(), value);
  Values keys;
  for (const Value& item : items) {
    Values key;
    for (const AttributeGetter& get : getters) key.push_back(get(item));
    keys.push_back(rt.heap().List(std::move(key)));
  }
  return rt.heap().List(SortedBy(rt, std::move(items), keys, IsSet(bound[0])));
}

Value SumFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("sum", args, {"attribute", "start"});
  if (bound[1].string()) Raise("sum() can't sum strings [use ''.join(seq) instead]");
  const AttributeGetter get(rt, bound[0]);
  Value sum = bound[1].missing() ? Value::Integer(0) : bound[1];
  Cursor cursor(rt.heap(), value);
  for (Value v; cursor.Next(&v);) sum = BinaryOperation(rt, BinaryOp::kAdd, sum, get(std::move(v)));
  return sum;
}

Value UniqueFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("unique", args, {"case_sensitive", "attribute"});
  return Generate(rt, [&](auto yield) {
    const AttributeGetter get(rt, bound[1], Value(), !IsSet(bound[0]));
    auto* seen = rt.heap().New<DictObject>();
    Cursor cursor(rt.heap(), value);
    for (Value v; cursor.Next(&v);) {
      const Value key = get(v);
      if (seen->Find(key, rt.budget())) continue;
      seen->Set(key, Value::None(), rt.budget());
      yield(std::move(v));
    }
  });
}

}  // namespace tessera::jinja
