#include "text/jinja_runtime.h"

#include <charconv>
#include <cmath>

#include "text/jinja_builtins.h"
#include "text/jinja_unicode.h"

namespace tessera::jinja {

namespace {

constexpr int kJsonDepth = 200;

int64_t Scaled(int64_t base, int64_t per_byte, size_t bytes) {
  int64_t more = 0;
  if (__builtin_mul_overflow(per_byte, static_cast<int64_t>(bytes), &more)) return INT64_MAX;
  return __builtin_add_overflow(base, more, &more) ? INT64_MAX : more;
}

}  // namespace

Runtime::Runtime(const TemplateLimits& limits, size_t input_bytes)
    : budget_(Scaled(limits.steps, limits.steps_per_input_byte, input_bytes),
              Scaled(limits.output_bytes, limits.output_bytes_per_input_byte, input_bytes),
              Scaled(limits.memory_bytes, limits.memory_bytes_per_input_byte, input_bytes),
              limits.depth),
      heap_(budget_) {}

Value Runtime::Lookup(std::string_view name) {
  if (const auto it = variables_.find(name); it != variables_.end()) return it->second;
  Value global = FindGlobal(*this, name);
  // One object for each, so that `x is sameas range` and Cycler state behave.
  if (!global.missing()) variables_.emplace(std::string(name), global);
  return global;
}

Value Runtime::FromJson(const nlohmann::ordered_json& json, int depth) {
  using Type = nlohmann::ordered_json::value_t;
  budget_.Step();
  if (depth > kJsonDepth) Raise("messages or arguments nest deeper than {} levels", kJsonDepth);
  switch (json.type()) {
    case Type::null: return Value::None(Origin::kUser);
    case Type::boolean: return Value::Bool(json.get<bool>(), Origin::kUser);
    case Type::number_integer: return Value::Integer(json.get<int64_t>(), Origin::kUser);
    case Type::number_unsigned: return Value::Integer(json.get<uint64_t>(), Origin::kUser);
    case Type::number_float: return Value::Float(json.get<double>(), Origin::kUser);
    case Type::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (!IsValidUtf8(text)) Raise("a text of the messages is not UTF-8");
      return Value(MakeStr(text, Origin::kUser));
    }
    case Type::array: {
      Values items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(FromJson(item, depth + 1));
      return heap_.List(std::move(items));
    }
    case Type::object: {
      auto* dict = heap_.New<DictObject>();
      for (const auto& [key, value] : json.items()) {
        if (!IsValidUtf8(key)) Raise("a key of the messages is not UTF-8");
        dict->Set(Value(MakeStr(key, Origin::kUser)), FromJson(value, depth + 1), budget_);
      }
      return Value(Kind::kDict, dict);
    }
    case Type::binary:
    case Type::discarded: break;
  }
  Raise("a value of the messages is not JSON");
}

Str Runtime::MakeStr(std::string_view text, Origin origin) {
  StrBuilder b(budget_);
  b.Append(text, origin);
  return b.Finish();
}

Value Runtime::UndefinedAttribute(const Value& of, const Value& name) {
  const char* type = "object";
  switch (of.kind()) {
    case Kind::kNone: type = "None"; break;
    case Kind::kBool: type = "bool object"; break;
    case Kind::kInt: type = "int object"; break;
    case Kind::kFloat: type = "float object"; break;
    case Kind::kString: type = "str object"; break;
    case Kind::kList: type = "list object"; break;
    case Kind::kTuple: type = "tuple object"; break;
    case Kind::kDict: type = "dict object"; break;
    case Kind::kNamespace: type = "Namespace object"; break;
    case Kind::kLoop: type = "LoopContext object"; break;
    default: break;
  }
  if (name.string()) return Value::Undefined(name.str(), type);
  return Value::Undefined(
      name.number() ? ToStr(*this, name) : Str(std::string(TypeName(name)), Origin::kTemplate),
      type);
}

std::vector<Value> Bind(const char* function, const CallArgs& args,
                        std::initializer_list<std::string_view> names, size_t required) {
  std::vector<Value> bound(names.size());
  if (args.positional.size() > names.size()) {
    Raise("{}() takes at most {} arguments ({} given)", function, names.size(),
          args.positional.size());
  }
  for (size_t i = 0; i < args.positional.size(); ++i) bound[i] = args.positional[i];
  for (const auto& [name, value] : args.keywords) {
    size_t i = 0;
    for (const std::string_view known : names) {
      if (known == name.view()) break;
      ++i;
    }
    if (i == names.size())
      Raise("{}() got an unexpected keyword argument '{}'", function, name.view());
    if (!bound[i].missing())
      Raise("{}() got multiple values for argument '{}'", function, name.view());
    bound[i] = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound[i].missing()) {
      Raise("{}() missing required argument '{}'", function,
            *(names.begin() + static_cast<std::ptrdiff_t>(i)));
    }
  }
  return bound;
}

std::optional<Int> ParseInt(std::string_view text, int base) {
  // Python strips white space, takes one sign, a prefix that fits the base, single underscores
  // between digits, and decimal digits of any script.
  std::u32string chars;
  for (size_t i = 0; i < text.size();) chars.push_back(DecodeUtf8(text, &i));
  size_t begin = 0, end = chars.size();
  while (begin < end && IsSpace(chars[begin])) ++begin;
  while (end > begin && IsSpace(chars[end - 1])) --end;
  bool negative = false;
  if (begin < end && (chars[begin] == '-' || chars[begin] == '+')) negative = chars[begin++] == '-';
  bool prefixed = false;
  if (end - begin > 1 && chars[begin] == '0') {
    const char32_t radix = chars[begin + 1] | 0x20;
    const int of_prefix = radix == 'x' ? 16 : radix == 'o' ? 8 : radix == 'b' ? 2 : 0;
    if (of_prefix && (base == of_prefix || base == 0)) {
      base = of_prefix;
      begin += 2;
      prefixed = true;
    }
  }
  const bool zeros_only = base == 0 && end - begin > 1 && chars[begin] == '0';
  if (base == 0) base = 10;
  Int value = 0;
  bool digit_before = prefixed, any = false;
  for (size_t i = begin; i < end; ++i) {
    if (chars[i] == '_') {
      if (!digit_before || i + 1 == end) return std::nullopt;
      digit_before = false;
      continue;
    }
    int digit = DecimalValue(chars[i]);
    if (digit < 0 && chars[i] < 0x80) {
      const char32_t lower = chars[i] | 0x20;
      if (lower >= 'a' && lower <= 'z') digit = static_cast<int>(lower - 'a') + 10;
    }
    if (digit < 0 || digit >= base || (zeros_only && digit != 0)) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
      Raise("an integer grows beyond 128 bits");
    }
    digit_before = any = true;
  }
  if (!any || !digit_before) return std::nullopt;
  return negative ? -value : value;
}

std::optional<double> ParseFloat(std::string_view text) {
  std::string ascii;
  std::u32string chars;
  for (size_t i = 0; i < text.size();) chars.push_back(DecodeUtf8(text, &i));
  size_t begin = 0, end = chars.size();
  while (begin < end && IsSpace(chars[begin])) ++begin;
  while (end > begin && IsSpace(chars[end - 1])) --end;
  for (size_t i = begin; i < end; ++i) {
    const int digit = DecimalValue(chars[i]);
    if (digit >= 0) {
      ascii += static_cast<char>('0' + digit);
    } else if (chars[i] == '_') {
      if (i == begin || i + 1 == end || DecimalValue(chars[i - 1]) < 0 ||
          DecimalValue(chars[i + 1]) < 0) {
        return std::nullopt;
      }
    } else if (chars[i] < 0x80) {
      ascii += static_cast<char>(chars[i]);
    } else {
      return std::nullopt;
    }
  }
  std::string_view rest = ascii;
  bool negative = false;
  if (!rest.empty() && (rest[0] == '+' || rest[0] == '-')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  std::string lower;
  for (const char c : rest) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  double value = 0;
  if (lower == "inf" || lower == "infinity") {
    value = HUGE_VAL;
  } else if (lower == "nan") {
    value = std::nan("");
  } else {
    if (lower.empty() || (lower[0] != '.' && (lower[0] < '0' || lower[0] > '9')))
      return std::nullopt;
    const auto [p, error] = std::from_chars(lower.data(), lower.data() + lower.size(), value);
    if (p != lower.data() + lower.size()) return std::nullopt;
    // Out of range: strtod tells too large from too small.
    if (error == std::errc::result_out_of_range) {
      value = std::strtod(lower.c_str(), nullptr);
    } else if (error != std::errc()) {
      return std::nullopt;
    }
  }
  return negative ? -value : value;
}

Int FloatToInt(double d) {
  if (std::isnan(d)) Raise("cannot convert float NaN to integer");
  if (std::isinf(d)) Raise("cannot convert float infinity to integer");
  if (std::fabs(d) >= 1.7e38) Raise("an integer grows beyond 128 bits");
  return static_cast<Int>(d);
}

Int ToIndex(const Value& v) {
  if (!v.integral()) Raise("'{}' object cannot be interpreted as an integer", TypeName(v));
  return v.integer();
}

int64_t ToIndex64(const Value& v) {
  const Int i = ToIndex(v);
  return i > INT64_MAX / 2   ? INT64_MAX / 2
         : i < INT64_MIN / 2 ? INT64_MIN / 2
                             : static_cast<int64_t>(i);
}

bool IsCallable(const Value& v) {
  if (v.is(Kind::kCallable)) return v.as<CallableObject>().callable();
  return v.is(Kind::kLoop) || v.undefined();  // Undefined and LoopContext define __call__
}

Value Call(Runtime& rt, const Value& callee, CallArgs args) {
  rt.budget().Step();
  const Budget::Nesting nesting(rt.budget());
  if (callee.undefined()) RaiseUndefined(callee);
  if (callee.is(Kind::kLoop)) {
    const auto bound = Bind("loop", args, {"iterable"}, 1);
    return callee.as<LoopObject>().Recurse(rt, bound[0]);
  }
  if (!callee.is(Kind::kCallable)) Raise("'{}' object is not callable", TypeName(callee));
  return callee.as<CallableObject>().Call(rt, std::move(args));
}

}  // namespace tessera::jinja
