// Equality, order, hashing and membership, as Python defines them.
#include <cmath>
#include <functional>

#include "text/jinja_value.h"

namespace tessera::jinja {

namespace {

// Nested lists compare recursively; this is deeper than any JSON that comes in, and less than the
// stack holds.
constexpr int kCompareDepth = 300;

void CheckDepth(int depth) {
  if (depth > kCompareDepth) Raise("maximum recursion depth exceeded in comparison");
}

// a <=> b of an integer and a float without rounding the integer; NaN gives nullopt.
std::optional<int> CompareNumbers(const Value& a, const Value& b) {
  if (a.integral() && b.integral())
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  if (a.integral() || b.integral()) {
    const bool swapped = b.integral();
    const double d = swapped ? a.real() : b.real();
    const Int i = swapped ? b.integer() : a.integer();
    if (std::isnan(d)) return std::nullopt;
    int order;  // of i against d
    if (d >= 1.7e38) {
      order = -1;
    } else if (d <= -1.7e38) {
      order = 1;
    } else {
      const double whole = std::floor(d);
      const Int w = static_cast<Int>(whole);
      order = i < w ? -1 : i > w ? 1 : whole < d ? -1 : 0;
    }
    return swapped ? -order : order;
  }
  if (std::isnan(a.real()) || std::isnan(b.real())) return std::nullopt;
  return a.real() < b.real() ? -1 : a.real() > b.real();
}

bool SameIdentity(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kNone: return true;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kNamespace:
    case Kind::kIterator:
    case Kind::kCallable:
    case Kind::kLoop: return a.object() == b.object();
    default: return false;
  }
}

bool EqualAt(const Value& a, const Value& b, Budget& budget, int depth) {
  budget.Step();
  CheckDepth(depth);
  if (a.number() && b.number()) return CompareNumbers(a, b) == 0;
  if (a.kind() != b.kind()) {
    // Python's keys views and sets compare with each other; ours only with their own kind.
    return false;
  }
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return true;
    case Kind::kString: budget.Touch(a.str().size()); return a.str().view() == b.str().view();
    case Kind::kList:
    case Kind::kTuple: {
      if (a.object() == b.object()) return true;
      const Values& x = a.as<ListObject>().items;
      const Values& y = b.as<ListObject>().items;
      if (x.size() != y.size()) return false;
      for (size_t i = 0; i < x.size(); ++i) {
        if (!SameIdentity(x[i], y[i]) && !EqualAt(x[i], y[i], budget, depth + 1)) return false;
      }
      return true;
    }
    case Kind::kDict: {
      if (a.object() == b.object()) return true;
      auto& x = a.as<DictObject>();
      auto& y = b.as<DictObject>();
      if (x.items.size() != y.items.size()) return false;
      for (const auto& [key, value] : x.items) {
        const Value* other = y.Find(key, budget);
        if (!other || (!SameIdentity(value, *other) && !EqualAt(value, *other, budget, depth + 1)))
          return false;
      }
      return true;
    }
    case Kind::kRange: {
      const auto& x = a.as<RangeObject>();
      const auto& y = b.as<RangeObject>();
      if (x.size != y.size) return false;
      return x.size == 0 || (x.start == y.start && (x.size == 1 || x.step == y.step));
    }
    case Kind::kView: {
      const auto& x = a.as<ViewObject>();
      const auto& y = b.as<ViewObject>();
      if (x.what != y.what || x.what == ViewObject::What::kValues) return a.object() == b.object();
      if (x.dict->items.size() != y.dict->items.size()) return false;
      for (const auto& [key, value] : x.dict->items) {
        const Value* other = y.dict->Find(key, budget);
        if (!other) return false;
        if (x.what == ViewObject::What::kItems && !EqualAt(value, *other, budget, depth + 1))
          return false;
      }
      return true;
    }
    default: return a.object() == b.object();
  }
}

const char* Symbol(Order order) {
  switch (order) {
    case Order::kLess: return "<";
    case Order::kLessEqual: return "<=";
    case Order::kGreater: return ">";
    case Order::kGreaterEqual: return ">=";
  }
  return "<";
}

bool Holds(int order_of_values, Order order) {
  switch (order) {
    case Order::kLess: return order_of_values < 0;
    case Order::kLessEqual: return order_of_values <= 0;
    case Order::kGreater: return order_of_values > 0;
    case Order::kGreaterEqual: return order_of_values >= 0;
  }
  return false;
}

bool CompareAt(const Value& a, const Value& b, Order order, Budget& budget, int depth) {
  budget.Step();
  CheckDepth(depth);
  if (a.undefined()) RaiseUndefined(a);
  if (b.undefined()) RaiseUndefined(b);
  if (a.number() && b.number()) {
    const std::optional<int> sign = CompareNumbers(a, b);
    return sign && Holds(*sign, order);
  }
  if (a.string() && b.string()) {
    budget.Touch(a.str().size());
    // UTF-8 orders as code points do.
    const int sign = a.str().view().compare(b.str().view());
    return Holds(sign, order);
  }
  if (a.kind() == b.kind() && (a.is(Kind::kList) || a.is(Kind::kTuple))) {
    const Values& x = a.as<ListObject>().items;
    const Values& y = b.as<ListObject>().items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!SameIdentity(x[i], y[i]) && !EqualAt(x[i], y[i], budget, depth + 1)) {
        return CompareAt(x[i], y[i], order, budget, depth + 1);
      }
    }
    return Holds(x.size() < y.size() ? -1 : x.size() > y.size(), order);
  }
  Raise("'{}' not supported between instances of '{}' and '{}'", Symbol(order), TypeName(a),
        TypeName(b));
}

}  // namespace

bool Equal(const Value& a, const Value& b, Budget& budget) { return EqualAt(a, b, budget, 0); }

bool Compare(const Value& a, const Value& b, Order order, Budget& budget) {
  return CompareAt(a, b, order, budget, 0);
}

size_t Hash(const Value& v, Budget& budget, int depth) {
  CheckDepth(depth);
  switch (v.kind()) {
    case Kind::kUndefined: return 1;
    case Kind::kNone: return 2;
    case Kind::kBool:
    case Kind::kInt: return std::hash<double>()(static_cast<double>(v.integer()));
    case Kind::kFloat: return std::hash<double>()(v.real());
    case Kind::kString:
      budget.Touch(v.str().size());
      return std::hash<std::string_view>()(v.str().view());
    case Kind::kTuple: {
      size_t hash = 3;
      for (const Value& item : v.as<ListObject>().items) {
        budget.Step();
        hash = hash * 1000003 + Hash(item, budget, depth + 1);
      }
      return hash;
    }
    case Kind::kRange: return static_cast<size_t>(v.as<RangeObject>().size) + 4;
    case Kind::kIterator:
    case Kind::kNamespace:
    case Kind::kLoop:
    case Kind::kCallable: return std::hash<const void*>()(v.object());
    default: Raise("unhashable type: '{}'", TypeName(v));
  }
}

bool Contains(Heap& heap, const Value& item, const Value& container) {
  Budget& budget = heap.budget();
  switch (container.kind()) {
    case Kind::kString: {
      if (!item.string())
        Raise("'in <string>' requires string as left operand, not {}", TypeName(item));
      budget.Touch(container.str().size() + item.str().size());
      return FindText(container.str().view(), item.str().view(), 0) != std::string_view::npos;
    }
    case Kind::kDict: return container.as<DictObject>().Find(item, budget) != nullptr;
    case Kind::kNamespace: Raise("argument of type 'Namespace' is not iterable");
    case Kind::kView: {
      const auto& view = container.as<ViewObject>();
      if (view.what == ViewObject::What::kKeys) return view.dict->Find(item, budget) != nullptr;
      break;
    }
    default: break;
  }
  if (!Iterable(container)) Raise("argument of type '{}' is not iterable", TypeName(container));
  Cursor cursor(heap, container);
  for (Value v; cursor.Next(&v);) {
    if (SameIdentity(v, item) || Equal(v, item, budget)) return true;
  }
  return false;
}

}  // namespace tessera::jinja
