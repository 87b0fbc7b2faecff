// Arithmetic and concatenation with Python's semantics.
#include <cmath>

#include "text/jinja_runtime.h"

namespace tessera::jinja {

namespace {

const char* Symbol(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd: return "+";
    case BinaryOp::kSub: return "-";
    case BinaryOp::kMul: return "*";
    case BinaryOp::kDiv: return "/";
    case BinaryOp::kFloorDiv: return "//";
    case BinaryOp::kMod: return "%";
    case BinaryOp::kPow: return "** or pow()";
  }
  return "?";
}

[[noreturn]] void RaiseOperands(BinaryOp op, const Value& a, const Value& b) {
  Raise("unsupported operand type(s) for {}: '{}' and '{}'", Symbol(op), TypeName(a), TypeName(b));
}

[[noreturn]] void RaiseTooBig() { Raise("an integer grows beyond 128 bits"); }

Int IntPower(Int base, Int exponent) {
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  Int result = 1;
  for (Int i = 0; i < exponent; ++i) {
    if (__builtin_mul_overflow(result, base, &result)) RaiseTooBig();  // after 127 rounds at most
  }
  return result;
}

Value IntOperation(BinaryOp op, Int a, Int b, Origin origin) {
  Int result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) RaiseTooBig();
      break;
    case BinaryOp::kSub:
      if (__builtin_sub_overflow(a, b, &result)) RaiseTooBig();
      break;
    case BinaryOp::kMul:
      if (__builtin_mul_overflow(a, b, &result)) RaiseTooBig();
      break;
    case BinaryOp::kDiv:
      if (b == 0) Raise("division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b), origin);
    case BinaryOp::kFloorDiv:
    case BinaryOp::kMod: {
      if (b == 0) Raise("integer division or modulo by zero");
      if (b == -1) {  // the one quotient that overflows
        if (op == BinaryOp::kMod) return Value::Integer(0, origin);
        if (__builtin_sub_overflow(Int{0}, a, &result)) RaiseTooBig();
        break;
      }
      Int quotient = a / b, rest = a % b;
      if (rest != 0 && (rest < 0) != (b < 0)) {
        --quotient;
        rest += b;
      }
      result = op == BinaryOp::kMod ? rest : quotient;
      break;
    }
    case BinaryOp::kPow:
      if (b < 0) {
        if (a == 0) Raise("0.0 cannot be raised to a negative power");
        return Value::Float(std::pow(static_cast<double>(a), static_cast<double>(b)), origin);
      }
      result = IntPower(a, b);
      break;
  }
  return Value::Integer(result, origin);
}

double FloatFloorDivide(double a, double b) {
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(0.0, a / b);
  double whole = std::floor(quotient);
  if (quotient - whole > 0.5) whole += 1;
  return whole;
}

double FloatModulo(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (b < 0) != (rest < 0) ? rest + b : rest;
}

Value FloatOperation(BinaryOp op, double a, double b, Origin origin) {
  switch (op) {
    case BinaryOp::kAdd: return Value::Float(a + b, origin);
    case BinaryOp::kSub: return Value::Float(a - b, origin);
    case BinaryOp::kMul: return Value::Float(a * b, origin);
    case BinaryOp::kDiv:
      if (b == 0) Raise("float division by zero");
      return Value::Float(a / b, origin);
    case BinaryOp::kFloorDiv:
      if (b == 0) Raise("float floor division by zero");
      return Value::Float(FloatFloorDivide(a, b), origin);
    case BinaryOp::kMod:
      if (b == 0) Raise("float modulo");
      return Value::Float(FloatModulo(a, b), origin);
    case BinaryOp::kPow: break;
  }
  if (a == 0 && b < 0) Raise("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(b) && b != std::floor(b))
    Raise("complex numbers are outside the supported subset");
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b))
    Raise("Numerical result out of range");
  return Value::Float(result, origin);
}

// What MarkupSafe does to a plain operand.
Str Escaped(Runtime& rt, const Value& v) {
  return v.markup() ? v.str() : EscapeHtml(rt, ToStr(rt, v));
}

Value Add(Runtime& rt, const Value& a, const Value& b) {
  if (a.string() && b.string()) {
    StrBuilder out(rt.budget());
    const bool markup = a.markup() || b.markup();
    out.Append(markup ? Escaped(rt, a) : a.str());
    out.Append(markup ? Escaped(rt, b) : b.str());
    return markup ? Value::Markup(out.Finish()) : Value(out.Finish());
  }
  if (a.kind() == b.kind() && (a.is(Kind::kList) || a.is(Kind::kTuple))) {
    const Values& x = a.as<ListObject>().items;
    const Values& y = b.as<ListObject>().items;
    rt.budget().Step(static_cast<int64_t>(x.size() + y.size()));
    rt.budget().CheckRoom((x.size() + y.size()) * sizeof(Value));
    Values items;
    items.reserve(x.size() + y.size());
    items.insert(items.end(), x.begin(), x.end());
    items.insert(items.end(), y.begin(), y.end());
    return rt.heap().Sequence(a.kind(), std::move(items));
  }
  if (a.string()) Raise("can only concatenate str (not \"{}\") to str", TypeName(b));
  if (a.is(Kind::kList)) Raise("can only concatenate list (not \"{}\") to list", TypeName(b));
  RaiseOperands(BinaryOp::kAdd, a, b);
}

Value Repeat(Runtime& rt, const Value& sequence, Int times) {
  const Int n = times < 0 ? 0 : times;
  if (sequence.string()) {
    const Str& s = sequence.str();
    if (n > 0 && !s.empty()) {
      if (n > (Int{1} << 40)) rt.budget().CheckStringSize(SIZE_MAX / 2);
      rt.budget().CheckStringSize(static_cast<size_t>(n) * s.size());
    }
    StrBuilder out(rt.budget());
    for (Int i = 0; i < n && !s.empty(); ++i) out.Append(s);
    return sequence.markup() ? Value::Markup(out.Finish()) : Value(out.Finish());
  }
  const Values& items = sequence.as<ListObject>().items;
  Values out;
  if (!items.empty()) {
    if (n > (Int{1} << 40)) Raise("a list of the template grows too long");
    rt.budget().Step(static_cast<int64_t>(n) * static_cast<int64_t>(items.size()));
    rt.budget().CheckRoom(static_cast<size_t>(n) * items.size() * sizeof(Value));
    for (Int i = 0; i < n; ++i) out.insert(out.end(), items.begin(), items.end());
  }
  return rt.heap().Sequence(sequence.kind(), std::move(out));
}

bool Repeatable(const Value& v) { return v.string() || v.is(Kind::kList) || v.is(Kind::kTuple); }

}  // namespace

Str EscapeHtml(Runtime& rt, const Str& s) {
  StrBuilder out(rt.budget());
  const std::string_view text = s.view();
  size_t plain = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char* entity = nullptr;
    switch (text[i]) {
      case '&': entity = "&amp;"; break;
      case '<': entity = "&lt;"; break;
      case '>': entity = "&gt;"; break;
      case '"': entity = "&#34;"; break;
      case '\'': entity = "&#39;"; break;
      default: continue;
    }
    out.Append(s, plain, i);
    out.Append(entity, s.OriginAt(i));
    plain = i + 1;
  }
  out.Append(s, plain, text.size());
  return out.Finish();
}

Value BinaryOperation(Runtime& rt, BinaryOp op, const Value& a, const Value& b) {
  rt.budget().Step();
  if (a.undefined()) RaiseUndefined(a);
  if (op == BinaryOp::kMod && a.string()) {
    Str text = PercentFormat(rt, a.str(), b);
    return a.markup() ? Value::Markup(std::move(text)) : Value(std::move(text));
  }
  if (b.undefined()) RaiseUndefined(b);
  if (a.integral() && b.integral()) return IntOperation(op, a.integer(), b.integer(), Both(a, b));
  if (a.number() && b.number()) return FloatOperation(op, a.real(), b.real(), Both(a, b));
  if (op == BinaryOp::kAdd) return Add(rt, a, b);
  if (op == BinaryOp::kMul) {
    if (Repeatable(a) && b.integral()) return Repeat(rt, a, b.integer());
    if (Repeatable(b) && a.integral()) return Repeat(rt, b, a.integer());
  }
  RaiseOperands(op, a, b);
}

Value Negate(Runtime& rt, const Value& v) {
  if (v.undefined()) RaiseUndefined(v);
  if (v.integral()) return IntOperation(BinaryOp::kSub, 0, v.integer(), v.origin());
  if (v.is(Kind::kFloat)) return Value::Float(-v.real(), v.origin());
  rt.budget().Step();
  Raise("bad operand type for unary -: '{}'", TypeName(v));
}

Value Plus(const Value& v) {
  if (v.undefined()) RaiseUndefined(v);
  if (v.integral()) return Value::Integer(v.integer(), v.origin());
  if (v.is(Kind::kFloat)) return v;
  Raise("bad operand type for unary +: '{}'", TypeName(v));
}

}  // namespace tessera::jinja
