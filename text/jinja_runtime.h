// One render: budget, heap, variables, and what filters, tests and methods need from them.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "text/chat_template.h"
#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace tessera::jinja {

struct CallArgs {
  Values positional;
  std::vector<std::pair<Str, Value>> keywords;
};

class Runtime {
 public:
  Runtime(const TemplateLimits& limits, size_t input_bytes);

  Budget& budget() { return budget_; }
  Heap& heap() { return heap_; }

  // Variables of the render, then jinja2's globals; missing if there is none.
  Value Lookup(std::string_view name);
  void SetVariable(std::string_view name, Value value) {
    variables_[std::string(name)] = std::move(value);
  }

  // JSON as Python's json.load makes it, all of Origin::kUser. nlohmann keeps the order of keys.
  Value FromJson(const nlohmann::ordered_json& json, int depth = 0);

  Value Undefined(std::string_view hint) {
    return Value::Undefined(Str(std::string(hint), Origin::kTemplate), nullptr, true);
  }
  // "'dict object' has no attribute 'x'".
  Value UndefinedAttribute(const Value& of, const Value& name);
  Str MakeStr(std::string_view text, Origin origin);

  // What strftime_now gives.
  std::function<CalendarTime()> now;
  std::optional<Str> date_string;
  // The template line being evaluated, for errors.
  int line = 0;

 private:
  Budget budget_;
  Heap heap_;
  std::map<std::string, Value, std::less<>> variables_;
};

// Arguments by position or name, as a Python signature binds them. Missing ones keep
// Kind::kMissing. Raises for too many, unknown or doubled arguments, and for fewer than `required`.
std::vector<Value> Bind(const char* function, const CallArgs& args,
                        std::initializer_list<std::string_view> names, size_t required = 0);

// str(v) and repr(v).
Str ToStr(Runtime& rt, const Value& v);
Str Repr(Runtime& rt, const Value& v);
void AppendStr(Runtime& rt, const Value& v, StrBuilder& out);
void AppendRepr(Runtime& rt, const Value& v, StrBuilder& out, int depth = 0);
std::string FloatRepr(double d);
std::string IntToString(Int i);

// json.dumps(v, ensure_ascii, indent, separators, sort_keys).
struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<Str> indent;
  std::optional<Str> item_separator, key_separator;
  bool sort_keys = false;
};
Str ToJson(Runtime& rt, const Value& v, const JsonStyle& style);

// MarkupSafe's escape().
Str EscapeHtml(Runtime& rt, const Str& s);

// Operators.
Value BinaryOperation(Runtime& rt, BinaryOp op, const Value& a, const Value& b);
Value Negate(Runtime& rt, const Value& v);
Value Plus(const Value& v);
// `format % values` and format.format(...).
Str PercentFormat(Runtime& rt, const Str& format, const Value& values);
Str BraceFormat(Runtime& rt, const Str& format, const CallArgs& args);
// format(value, spec).
Str FormatValue(Runtime& rt, const Value& value, const Str& spec);

// datetime.strftime in the C locale; the directives of Python's documentation and glibc's "%-d"
// without padding.
Str FormatTime(Runtime& rt, const Str& format, const CalendarTime& time);

// Attribute and item access by the rules of the immutable sandbox.
Value GetAttribute(Runtime& rt, const Value& object, const Str& name);
Value GetItem(Runtime& rt, const Value& object, const Value& index);
// The attribute alone, never the item; missing if there is none.
Value PythonAttribute(Runtime& rt, const Value& object, const Str& name);
Value GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
               const Value& step);

// Calls functions, bound methods, macros, loop, joiner. `rt` is the render that owns the callable.
Value Call(Runtime& rt, const Value& callee, CallArgs args);
bool IsCallable(const Value& v);

struct CallableObject : Object {
  virtual Value Call(Runtime& rt, CallArgs args) = 0;
  virtual Value Attribute(Runtime&, std::string_view) { return Value(); }  // missing: there is none
  virtual std::string Describe() const { return "<function>"; }            // its repr
  virtual bool callable() const { return true; }
};

// The `loop` variable.
struct LoopObject : Object {
  virtual Value Attribute(Runtime& rt, std::string_view name) = 0;
  virtual Value Recurse(Runtime& rt, const Value& iterable) = 0;
  virtual int64_t Length() = 0;
};

template <typename F>
Value MakeFunction(Runtime& rt, F function, const char* name) {
  struct Function : CallableObject {
    explicit Function(F f) : f(std::move(f)) {}
    F f;
    const char* name = "";
    Value Call(Runtime& rt, CallArgs args) override { return f(rt, std::move(args)); }
    std::string Describe() const override { return fmt::format("<function {}>", name); }
  };
  auto* object = rt.heap().template New<Function>(std::move(function));
  object->name = name;
  return Value(Kind::kCallable, object);
}

// Methods of Python's str, list, tuple, dict; missing if the type has none of that name. `unsafe`
// is set for the mutating ones, which the immutable sandbox does not give out.
Value FindMethod(Runtime& rt, const Value& self, std::string_view name, bool* unsafe);
// The same without making a method object.
bool HasMethod(const Value& self, std::string_view name);
Value CallMethod(Runtime& rt, const Value& self, std::string_view name, const CallArgs& args);

// Numbers as Python's int() and float() read them; nullopt: ValueError.
std::optional<Int> ParseInt(std::string_view text, int base);
std::optional<double> ParseFloat(std::string_view text);
// int(value) of a float; raises where Python does.
Int FloatToInt(double d);
// An integer argument; raises "'str' object cannot be interpreted as an integer".
Int ToIndex(const Value& v);
int64_t ToIndex64(const Value& v);  // clipped to 64 bits

}  // namespace tessera::jinja
