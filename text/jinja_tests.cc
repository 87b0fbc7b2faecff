// The tests of `x is name`.
#include <algorithm>

#include "text/jinja_builtins.h"
#include "text/jinja_runtime.h"
#include "text/jinja_text.h"

namespace tessera::jinja {

namespace {

Value Only(const char* name, const CallArgs& args) { return Bind(name, args, {"other"}, 1)[0]; }

template <Kind kind>
bool IsKind(Runtime&, const Value& v, const CallArgs& args) {
  Bind("test", args, {});
  return v.is(kind);
}

template <bool (*is)(const Value&)>
bool Simple(Runtime&, const Value& v, const CallArgs& args) {
  Bind("test", args, {});
  return is(v);
}

bool IsDefined(const Value& v) { return !v.undefined(); }
bool IsTrue(const Value& v) { return v.is(Kind::kBool) && v.boolean(); }
bool IsFalse(const Value& v) { return v.is(Kind::kBool) && !v.boolean(); }
bool IsNumber(const Value& v) { return v.number(); }
bool IsIterable(const Value& v) { return Iterable(v); }
bool IsEscaped(const Value& v) { return v.markup(); }
bool IsCallableValue(const Value& v) { return IsCallable(v); }
bool IsSequence(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange: return true;
    default: return false;
  }
}

bool ModuloIs(Runtime& rt, const Value& v, const Value& by, int rest) {
  return Equal(BinaryOperation(rt, BinaryOp::kMod, v, by), Value::Integer(rest), rt.budget());
}
bool IsOdd(Runtime& rt, const Value& v, const CallArgs& args) {
  Bind("odd", args, {});
  return ModuloIs(rt, v, Value::Integer(2), 1);
}
bool IsEven(Runtime& rt, const Value& v, const CallArgs& args) {
  Bind("even", args, {});
  return ModuloIs(rt, v, Value::Integer(2), 0);
}
bool IsDivisibleBy(Runtime& rt, const Value& v, const CallArgs& args) {
  return ModuloIs(rt, v, Bind("divisibleby", args, {"num"}, 1)[0], 0);
}

bool IsLower(Runtime& rt, const Value& v, const CallArgs& args) {
  Bind("lower", args, {});
  const Str s = ToStr(rt, v);
  rt.budget().Touch(s.size() * 4);
  return IsLowerText(s.view());
}
bool IsUpper(Runtime& rt, const Value& v, const CallArgs& args) {
  Bind("upper", args, {});
  const Str s = ToStr(rt, v);
  rt.budget().Touch(s.size() * 4);
  return IsUpperText(s.view());
}

template <bool equal>
bool IsEqual(Runtime& rt, const Value& v, const CallArgs& args) {
  return Equal(v, Only("eq", args), rt.budget()) == equal;
}
template <Order order>
bool IsOrdered(Runtime& rt, const Value& v, const CallArgs& args) {
  return Compare(v, Only("lt", args), order, rt.budget());
}
bool IsIn(Runtime& rt, const Value& v, const CallArgs& args) {
  return Contains(rt.heap(), v, Bind("in", args, {"seq"}, 1)[0]);
}

// Python's `is`. Of numbers and strings, where identity is an accident, equal ones of one type
// count as the same.
bool IsSameAs(Runtime& rt, const Value& v, const CallArgs& args) {
  const Value other = Only("sameas", args);
  if (v.kind() != other.kind()) return false;
  switch (v.kind()) {
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kString: return Equal(v, other, rt.budget());
    case Kind::kUndefined:
    case Kind::kMissing: return false;
    default: return v.object() == other.object();
  }
}

bool IsFilter(Runtime&, const Value& v, const CallArgs& args) {
  Bind("filter", args, {});
  return v.string() && (FindFilter(v.str().view()) || IsUnsupportedFilter(v.str().view()));
}
bool IsTest(Runtime&, const Value& v, const CallArgs& args) {
  Bind("test", args, {});
  return v.string() && FindTest(v.str().view());
}

struct NamedTest {
  std::string_view name;
  TestFunction function;
};

constexpr NamedTest kTests[] = {
    {"odd", IsOdd},
    {"even", IsEven},
    {"divisibleby", IsDivisibleBy},
    {"defined", Simple<IsDefined>},
    {"undefined", IsKind<Kind::kUndefined>},
    {"filter", IsFilter},
    {"test", IsTest},
    {"none", IsKind<Kind::kNone>},
    {"boolean", IsKind<Kind::kBool>},
    {"false", Simple<IsFalse>},
    {"true", Simple<IsTrue>},
    {"integer", IsKind<Kind::kInt>},
    {"float", IsKind<Kind::kFloat>},
    {"lower", IsLower},
    {"upper", IsUpper},
    {"string", IsKind<Kind::kString>},
    {"mapping", IsKind<Kind::kDict>},
    {"number", Simple<IsNumber>},
    {"sequence", Simple<IsSequence>},
    {"iterable", Simple<IsIterable>},
    {"callable", Simple<IsCallableValue>},
    {"sameas", IsSameAs},
    {"escaped", Simple<IsEscaped>},
    {"in", IsIn},
    {"==", IsEqual<true>},
    {"eq", IsEqual<true>},
    {"equalto", IsEqual<true>},
    {"!=", IsEqual<false>},
    {"ne", IsEqual<false>},
    {">", IsOrdered<Order::kGreater>},
    {"gt", IsOrdered<Order::kGreater>},
    {"greaterthan", IsOrdered<Order::kGreater>},
    {">=", IsOrdered<Order::kGreaterEqual>},
    {"ge", IsOrdered<Order::kGreaterEqual>},
    {"<", IsOrdered<Order::kLess>},
    {"lt", IsOrdered<Order::kLess>},
    {"lessthan", IsOrdered<Order::kLess>},
    {"<=", IsOrdered<Order::kLessEqual>},
    {"le", IsOrdered<Order::kLessEqual>},
};

}  // namespace

TestFunction FindTest(std::string_view name) {
  const auto* it = std::find_if(std::begin(kTests), std::end(kTests),
                                [&](const NamedTest& t) { return t.name == name; });
  return it == std::end(kTests) ? nullptr : it->function;
}

}  // namespace tessera::jinja
