#include "text/jinja_filters.h"

#include <algorithm>
#include <cmath>

namespace tessera::jinja {

namespace {

bool IsSet(const Value& v) { return !v.missing() && Truth(v); }

TESSERA_FILTER(Abs) {
  Bind("abs", args, {});
  if (value.integral()) {
    return value.integer() < 0 ? Negate(rt, value)
                               : Value::Integer(value.integer(), value.origin());
  }
  if (value.is(Kind::kFloat)) return Value::Float(std::fabs(value.real()), value.origin());
  Raise("bad operand type for abs(): '{}'", TypeName(value));
}

TESSERA_FILTER(Attr) {
  const auto bound = Bind("attr", args, {"name"}, 1);
  if (!bound[0].string()) Raise("attribute name must be string, not '{}'", TypeName(bound[0]));
  if (value.undefined()) RaiseUndefined(value);
  const Value found = PythonAttribute(rt, value, bound[0].str());
  return found.missing() ? rt.UndefinedAttribute(value, bound[0]) : found;
}

TESSERA_FILTER(Default) {
  const auto bound = Bind("default", args, {"default_value", "boolean"});
  rt.budget().Step();
  if (!value.undefined() && !(IsSet(bound[1]) && !Truth(value))) return value;
  return bound[0].missing() ? Value(Str()) : bound[0];
}

TESSERA_FILTER(Float) {
  const auto bound = Bind("float", args, {"default"});
  if (value.undefined()) RaiseUndefined(value);
  if (value.number()) return Value::Float(value.real(), value.origin());
  if (value.string()) {
    rt.budget().Touch(value.str().size() * 8);
    if (const std::optional<double> d = ParseFloat(value.str().view()))
      return Value::Float(*d, value.origin());
  }
  return bound[0].missing() ? Value::Float(0) : bound[0];
}

TESSERA_FILTER(Int) {
  const auto bound = Bind("int", args, {"default", "base"});
  const Value otherwise = bound[0].missing() ? Value::Integer(0) : bound[0];
  const int64_t base = bound[1].missing() ? 10 : ToIndex64(bound[1]);
  if (value.undefined()) RaiseUndefined(value);
  if (value.integral()) return Value::Integer(value.integer(), value.origin());
  if (value.is(Kind::kFloat)) {
    if (std::isnan(value.real())) return otherwise;
    return Value::Integer(FloatToInt(value.real()), value.origin());
  }
  if (!value.string()) return otherwise;
  rt.budget().Touch(value.str().size() * 8);
  if (base == 0 || (base >= 2 && base <= 36)) {
    if (const auto i = ParseInt(value.str().view(), static_cast<int>(base)))
      return Value::Integer(*i, value.origin());
  }
  const std::optional<double> d = ParseFloat(value.str().view());
  if (!d || !std::isfinite(*d)) return otherwise;
  return Value::Integer(FloatToInt(*d), value.origin());
}

TESSERA_FILTER(Length) {
  Bind("length", args, {});
  rt.budget().Step();
  if (value.is(Kind::kLoop)) return Value::Integer(value.as<LoopObject>().Length());
  return Value::Integer(Length(value));
}

// round(value, precision) of Python: to the nearest decimal of the exact value, ties to even.
double RoundFloat(double d, int64_t precision) {
  if (!std::isfinite(d) || precision > 323) return d;
  if (precision < -308) return std::copysign(0.0, d);
  if (precision >= 0) return std::strtod(fmt::format("{:.{}f}", d, precision).c_str(), nullptr);
  // Left of the point: round the exact decimal text by hand.
  std::string text = fmt::format("{:.0f}", std::floor(std::fabs(d)));
  const auto cut = static_cast<size_t>(-precision);
  if (cut > text.size()) return std::copysign(0.0, d);
  const bool fraction = std::floor(d) != d;
  std::string head = text.substr(0, text.size() - cut);
  const std::string tail = text.substr(text.size() - cut);
  std::string half(cut, '0');
  half[0] = '5';
  const bool odd = !head.empty() && (head.back() - '0') % 2 == 1;
  const bool up = tail > half || (tail == half && (fraction || odd));
  double rounded =
      std::strtod(fmt::format("{}e{}", head.empty() ? "0" : head, cut).c_str(), nullptr);
  if (up) rounded += std::strtod(fmt::format("1e{}", cut).c_str(), nullptr);
  return std::copysign(rounded, d);
}

Value RoundInteger(Runtime& rt, const Value& value, int64_t precision) {
  if (precision >= 0) return Value::Integer(value.integer(), value.origin());
  if (precision < -38) return Value::Integer(0, value.origin());
  Int unit = 1;
  for (int64_t i = 0; i < -precision; ++i) unit *= 10;
  const Value step = Value::Integer(unit);
  const Int rest = BinaryOperation(rt, BinaryOp::kMod, value, step).integer();
  const Int quotient = BinaryOperation(rt, BinaryOp::kFloorDiv, value, step).integer();
  const bool up = rest > unit / 2 || (rest == unit / 2 && quotient % 2 != 0);
  return BinaryOperation(rt, BinaryOp::kMul, Value::Integer(quotient + up, value.origin()), step);
}

TESSERA_FILTER(Round) {
  const auto bound = Bind("round", args, {"precision", "method"});
  const std::string_view method = bound[1].missing()  ? "common"
                                  : bound[1].string() ? bound[1].str().view()
                                                      : "";
  if (method != "common" && method != "ceil" && method != "floor")
    Raise("method must be common, ceil or floor");
  const Value precision = bound[0].missing() ? Value::Integer(0) : bound[0];
  if (value.undefined()) RaiseUndefined(value);
  if (!value.number()) Raise("type {} doesn't define __round__ method", TypeName(value));
  if (method == "common") {
    if (precision.is(Kind::kNone)) {
      return Value::Integer(
          value.integral() ? value.integer() : FloatToInt(std::nearbyint(value.real())),
          value.origin());
    }
    const int64_t digits = ToIndex64(precision);
    if (value.integral()) return RoundInteger(rt, value, digits);
    const double rounded = RoundFloat(value.real(), digits);
    if (std::isinf(rounded) && std::isfinite(value.real()))
      Raise("rounded value too large to represent");
    return Value::Float(rounded, value.origin());
  }
  const Value scale = BinaryOperation(rt, BinaryOp::kPow, Value::Integer(10), precision);
  const Value scaled = BinaryOperation(rt, BinaryOp::kMul, value, scale);
  Value whole = scaled;
  if (scaled.is(Kind::kFloat)) {
    whole = Value::Integer(
        FloatToInt(method == "ceil" ? std::ceil(scaled.real()) : std::floor(scaled.real())),
        value.origin());
  }
  return BinaryOperation(rt, BinaryOp::kDiv, whole, scale);
}

struct NamedFilter {
  std::string_view name;
  FilterFunction function;
};

// Sorted by name.
constexpr NamedFilter kFilters[] = {
    {"abs", AbsFilter},
    {"attr", AttrFilter},
    {"batch", BatchFilter},
    {"capitalize", CapitalizeFilter},
    {"center", CenterFilter},
    {"count", LengthFilter},
    {"d", DefaultFilter},
    {"default", DefaultFilter},
    {"dictsort", DictSortFilter},
    {"e", EscapeFilter},
    {"escape", EscapeFilter},
    {"first", FirstFilter},
    {"float", FloatFilter},
    {"forceescape", ForceEscapeFilter},
    {"format", FormatFilter},
    {"groupby", GroupByFilter},
    {"indent", IndentFilter},
    {"int", IntFilter},
    {"items", ItemsFilter},
    {"join", JoinFilter},
    {"last", LastFilter},
    {"length", LengthFilter},
    {"list", ListFilter},
    {"lower", LowerFilter},
    {"map", MapFilter},
    {"max", MaxFilter},
    {"min", MinFilter},
    {"reject", RejectFilter},
    {"rejectattr", RejectAttrFilter},
    {"replace", ReplaceFilter},
    {"reverse", ReverseFilter},
    {"round", RoundFilter},
    {"safe", SafeFilter},
    {"select", SelectFilter},
    {"selectattr", SelectAttrFilter},
    {"slice", SliceFilter},
    {"sort", SortFilter},
    {"string", StringFilter},
    {"sum", SumFilter},
    {"title", TitleFilter},
    {"tojson", ToJsonFilter},
    {"trim", TrimFilter},
    {"truncate", TruncateFilter},
    {"unique", UniqueFilter},
    {"upper", UpperFilter},
    {"wordcount", WordCountFilter},
};

constexpr std::string_view kUnsupported[] = {"filesizeformat", "pprint", "random",   "striptags",
                                             "urlencode",      "urlize", "wordwrap", "xmlattr"};

}  // namespace

FilterFunction FindFilter(std::string_view name) {
  const auto* it =
      std::lower_bound(std::begin(kFilters), std::end(kFilters), name,
                       [](const NamedFilter& f, std::string_view n) { return f.name < n; });
  return it != std::end(kFilters) && it->name == name ? it->function : nullptr;
}

bool IsUnsupportedFilter(std::string_view name) {
  return std::find(std::begin(kUnsupported), std::end(kUnsupported), name) !=
         std::end(kUnsupported);
}

}  // namespace tessera::jinja
