#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "text/jinja_builtins.h"
#include "text/jinja_parser.h"

namespace tessera::jinja {

namespace {

// Methods of Python values that a template may call in jinja2 but not here; refused at load.
bool IsUnsupportedMethod(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "encode",    "translate",        "maketrans", "to_bytes", "from_bytes", "bit_length",
      "bit_count", "as_integer_ratio", "fromhex",   "hex",      "is_integer", "conjugate"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

Str Name(const LexedToken& token) { return Str(token.text, Origin::kTemplate); }

}  // namespace

ExprPtr Parser::Make(ExprKind kind, int line) const {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->line = line;
  return node;
}

ExprPtr Parser::Make(ExprKind kind, int line, ExprPtr a, ExprPtr b, ExprPtr c) const {
  ExprPtr node = Make(kind, line);
  const bool three = c != nullptr || kind == ExprKind::kConditional || kind == ExprKind::kSlice;
  node->operands.push_back(std::move(a));
  if (b || three) node->operands.push_back(std::move(b));
  if (three) node->operands.push_back(std::move(c));
  return Finish(std::move(node));
}

ExprPtr Parser::Finish(ExprPtr node) const {
  int deepest = 0;
  auto see = [&](const ExprPtr& child) {
    if (child) deepest = std::max(deepest, child->depth);
  };
  for (const ExprPtr& child : node->operands) see(child);
  for (const ExprPtr& child : node->args.positional) see(child);
  for (const auto& [name, child] : node->args.keywords) see(child);
  see(node->args.star);
  see(node->args.double_star);
  node->depth = deepest + 1;
  if (node->depth > kMaxDepth)
    Fail(fmt::format("an expression nests deeper than {} levels", kMaxDepth), node->line);
  return node;
}

ExprPtr Parser::ParseExpression(bool conditional) {
  const Nesting nesting(*this);
  return conditional ? ParseConditional() : ParseOr();
}

ExprPtr Parser::ParseTuple(bool simplified, bool conditional, std::string_view end_name,
                           bool parentheses, bool with_namespace) {
  const int line = Current().line;
  ExprPtr tuple = Make(ExprKind::kTuple, line);
  bool is_tuple = false;
  for (;;) {
    if (!tuple->operands.empty()) ExpectOperator(",");
    const Token type = Current().type;
    if (type == Token::kVariableEnd || type == Token::kBlockEnd || IsOperator(")") ||
        (!end_name.empty() && IsName(end_name))) {
      break;
    }
    tuple->operands.push_back(simplified ? ParsePrimary(with_namespace)
                                         : ParseExpression(conditional));
    if (!IsOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!tuple->operands.empty()) return std::move(tuple->operands[0]);
    if (!parentheses)
      Fail(fmt::format("Expected an expression, got '{}'", DescribeToken(Current())),
           Current().line);
  }
  return Finish(std::move(tuple));
}

ExprPtr Parser::ParseConditional() {
  int line = Current().line;
  const size_t unknown_before = unknown_.size();
  ExprPtr then = ParseOr();
  while (SkipName("if")) {
    while (unknown_.size() > unknown_before) unknown_.pop_back();
    const Soft soft(*this, true);
    ExprPtr test = ParseOr();
    ExprPtr otherwise;
    if (SkipName("else")) {
      const Nesting nesting(*this);
      otherwise = ParseConditional();
    }
    then =
        Make(ExprKind::kConditional, line, std::move(test), std::move(then), std::move(otherwise));
    line = Current().line;
  }
  return then;
}

ExprPtr Parser::ParseOr() {
  const int line = Current().line;
  ExprPtr left = ParseAnd();
  while (SkipName("or")) left = Make(ExprKind::kOr, line, std::move(left), ParseAnd());
  return left;
}

ExprPtr Parser::ParseAnd() {
  const int line = Current().line;
  ExprPtr left = ParseNot();
  while (SkipName("and")) left = Make(ExprKind::kAnd, line, std::move(left), ParseNot());
  return left;
}

ExprPtr Parser::ParseNot() {
  const int line = Current().line;
  if (!SkipName("not")) return ParseCompare();
  const Nesting nesting(*this);
  return Make(ExprKind::kNot, line, ParseNot());
}

ExprPtr Parser::ParseCompare() {
  static constexpr std::pair<std::string_view, CompareOp> kOps[] = {
      {"==", CompareOp::kEq}, {"!=", CompareOp::kNe}, {"<", CompareOp::kLt},
      {"<=", CompareOp::kLe}, {">", CompareOp::kGt},  {">=", CompareOp::kGe}};
  ExprPtr compare = Make(ExprKind::kCompare, Current().line);
  compare->operands.push_back(ParseSum());
  for (;;) {
    const auto* op = std::find_if(std::begin(kOps), std::end(kOps),
                                  [&](const auto& o) { return IsOperator(o.first); });
    if (op != std::end(kOps)) {
      Next();
      compare->ops.push_back(op->second);
    } else if (SkipName("in")) {
      compare->ops.push_back(CompareOp::kIn);
    } else if (IsName("not") && Look().type == Token::kName && Look().text == "in") {
      Next();
      Next();
      compare->ops.push_back(CompareOp::kNotIn);
    } else {
      break;
    }
    compare->operands.push_back(ParseSum());
  }
  if (compare->ops.empty()) return std::move(compare->operands[0]);
  return Finish(std::move(compare));
}

ExprPtr Parser::ParseSum() {
  ExprPtr left = ParseConcat();
  while (IsOperator("+") || IsOperator("-")) {
    const int line = Current().line;
    const BinaryOp op = Next().text == "+" ? BinaryOp::kAdd : BinaryOp::kSub;
    left = Make(ExprKind::kBinary, line, std::move(left), ParseConcat());
    left->op = op;
  }
  return left;
}

ExprPtr Parser::ParseConcat() {
  ExprPtr concat = Make(ExprKind::kConcat, Current().line);
  concat->operands.push_back(ParseProduct());
  while (SkipOperator("~")) concat->operands.push_back(ParseProduct());
  if (concat->operands.size() == 1) return std::move(concat->operands[0]);
  return Finish(std::move(concat));
}

ExprPtr Parser::ParseProduct() {
  static constexpr std::pair<std::string_view, BinaryOp> kOps[] = {{"*", BinaryOp::kMul},
                                                                   {"/", BinaryOp::kDiv},
                                                                   {"//", BinaryOp::kFloorDiv},
                                                                   {"%", BinaryOp::kMod}};
  ExprPtr left = ParsePower();
  for (;;) {
    const auto* op = std::find_if(std::begin(kOps), std::end(kOps),
                                  [&](const auto& o) { return IsOperator(o.first); });
    if (op == std::end(kOps)) return left;
    const int line = Next().line;
    left = Make(ExprKind::kBinary, line, std::move(left), ParsePower());
    left->op = op->second;
  }
}

ExprPtr Parser::ParsePower() {
  ExprPtr left = ParseUnary();
  while (IsOperator("**")) {
    const int line = Next().line;
    left = Make(ExprKind::kBinary, line, std::move(left), ParseUnary());
    left->op = BinaryOp::kPow;
  }
  return left;
}

ExprPtr Parser::ParseUnary(bool with_filter) {
  const int line = Current().line;
  ExprPtr node;
  if (IsOperator("-") || IsOperator("+")) {
    const Nesting nesting(*this);
    const ExprKind kind = Next().text == "-" ? ExprKind::kNegate : ExprKind::kPlus;
    node = Make(kind, line, ParseUnary(false));
  } else {
    node = ParsePrimary();
  }
  node = ParsePostfix(std::move(node));
  return with_filter ? ParseFilters(std::move(node)) : std::move(node);
}

ExprPtr Parser::ParseNumber(const LexedToken& token) {
  ExprPtr node = Make(ExprKind::kConstant, token.line);
  if (token.type == Token::kFloat) {
    node->constant = Value::Float(std::strtod(token.text.c_str(), nullptr));
    return node;
  }
  int base = 10;
  std::string_view digits = token.text;
  if (digits.size() > 2 && digits[0] == '0') {
    const char radix = static_cast<char>(digits[1] | 0x20);
    base = radix == 'x' ? 16 : radix == 'o' ? 8 : radix == 'b' ? 2 : 10;
    if (base != 10) digits.remove_prefix(2);
  }
  Int value = 0;
  for (const char c : digits) {
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
      Fail("an integer of more than 128 bits is outside the supported subset", token.line);
    }
  }
  node->constant = Value::Integer(value);
  return node;
}

ExprPtr Parser::ParsePrimary(bool with_namespace) {
  const LexedToken& token = Current();
  const int line = token.line;
  switch (token.type) {
    case Token::kName: {
      Next();
      const std::string_view name = token.text;
      if (name == "true" || name == "True" || name == "false" || name == "False") {
        ExprPtr node = Make(ExprKind::kConstant, line);
        node->constant = Value::Bool(name == "true" || name == "True");
        return node;
      }
      if (name == "none" || name == "None") {
        ExprPtr node = Make(ExprKind::kConstant, line);
        node->constant = Value::None();
        return node;
      }
      ExprPtr node = Make(ExprKind::kName, line);
      node->name = Name(token);
      if (with_namespace && SkipOperator(".")) {
        node->kind = ExprKind::kNamespaceRef;
        node->attribute = Name(Expect(Token::kName, "name"));
      }
      return node;
    }
    case Token::kString: {
      std::string text;
      while (Current().type == Token::kString) text += Next().text;
      ExprPtr node = Make(ExprKind::kConstant, line);
      node->constant = Value(Str(std::move(text), Origin::kTemplate));
      return node;
    }
    case Token::kInteger:
    case Token::kFloat: return ParseNumber(Next());
    case Token::kOperator:
      if (SkipOperator("(")) {
        const Nesting nesting(*this);
        ExprPtr node = ParseTuple(false, true, {}, true, false);
        ExpectOperator(")");
        return node;
      }
      if (IsOperator("[")) return ParseList();
      if (IsOperator("{")) return ParseDict();
      break;
    default: break;
  }
  Fail(fmt::format("unexpected '{}'", DescribeToken(token)), line);
}

ExprPtr Parser::ParseList() {
  ExprPtr list = Make(ExprKind::kList, Next().line);
  while (!IsOperator("]")) {
    if (!list->operands.empty()) ExpectOperator(",");
    if (IsOperator("]")) break;
    list->operands.push_back(ParseExpression());
  }
  ExpectOperator("]");
  return Finish(std::move(list));
}

ExprPtr Parser::ParseDict() {
  ExprPtr dict = Make(ExprKind::kDict, Next().line);
  while (!IsOperator("}")) {
    if (!dict->operands.empty()) ExpectOperator(",");
    if (IsOperator("}")) break;
    dict->operands.push_back(ParseExpression());
    ExpectOperator(":");
    dict->operands.push_back(ParseExpression());
  }
  ExpectOperator("}");
  return Finish(std::move(dict));
}

ExprPtr Parser::ParsePostfix(ExprPtr node) {
  for (;;) {
    if (IsOperator(".") || IsOperator("[")) {
      node = ParseSubscript(std::move(node));
    } else if (IsOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::ParseSubscript(ExprPtr node) {
  const LexedToken& token = Next();
  if (token.text == ".") {
    const LexedToken& attribute = Next();
    if (attribute.type == Token::kName) {
      ExprPtr get = Make(ExprKind::kAttribute, token.line, std::move(node));
      get->name = Name(attribute);
      return get;
    }
    if (attribute.type != Token::kInteger) Fail("expected name or number", attribute.line);
    return Make(ExprKind::kItem, token.line, std::move(node), ParseNumber(attribute));
  }
  ExprPtr tuple = Make(ExprKind::kTuple, token.line);
  while (!IsOperator("]")) {
    if (!tuple->operands.empty()) ExpectOperator(",");
    tuple->operands.push_back(ParseSubscribed());
  }
  ExpectOperator("]");
  ExprPtr index =
      tuple->operands.size() == 1 ? std::move(tuple->operands[0]) : Finish(std::move(tuple));
  return Make(ExprKind::kItem, token.line, std::move(node), std::move(index));
}

ExprPtr Parser::ParseSubscribed() {
  const int line = Current().line;
  ExprPtr parts[3];
  if (!IsOperator(":")) {
    ExprPtr node = ParseExpression();
    if (!IsOperator(":")) return node;
    parts[0] = std::move(node);
  }
  Next();
  auto ends = [&] { return IsOperator(":") || IsOperator("]") || IsOperator(","); };
  if (!ends()) parts[1] = ParseExpression();
  if (SkipOperator(":") && !IsOperator("]") && !IsOperator(",")) parts[2] = ParseExpression();
  return Make(ExprKind::kSlice, line, std::move(parts[0]), std::move(parts[1]),
              std::move(parts[2]));
}

ArgumentExprs Parser::ParseArguments() {
  const int line = Current().line;
  ExpectOperator("(");
  ArgumentExprs args;
  auto ensure = [&](bool ok) {
    if (!ok) Fail("invalid syntax for function call expression", line);
  };
  for (bool comma = false; !IsOperator(")"); comma = true) {
    if (comma) {
      ExpectOperator(",");
      if (IsOperator(")")) break;
    }
    if (SkipOperator("*")) {
      ensure(!args.star && !args.double_star);
      args.star = ParseExpression();
    } else if (SkipOperator("**")) {
      ensure(!args.double_star);
      args.double_star = ParseExpression();
    } else if (Current().type == Token::kName && Look().type == Token::kOperator &&
               Look().text == "=") {
      ensure(!args.double_star);
      Str key = Name(Next());
      Next();
      for (const auto& [name, value] : args.keywords) {
        if (name.view() == key.view())
          Fail(fmt::format("keyword argument repeated: {}", key.view()), line);
      }
      args.keywords.emplace_back(std::move(key), ParseExpression());
    } else {
      ensure(!args.star && !args.double_star && args.keywords.empty());
      args.positional.push_back(ParseExpression());
    }
  }
  ExpectOperator(")");
  return args;
}

ExprPtr Parser::ParseCall(ExprPtr node) {
  const int line = Current().line;
  if (node->kind == ExprKind::kAttribute && IsUnsupportedMethod(node->name.view())) {
    Fail(
        fmt::format("the method .{}() is outside the supported subset of Jinja", node->name.view()),
        line);
  }
  ExprPtr call = Make(ExprKind::kCall, line, std::move(node));
  call->args = ParseArguments();
  return Finish(std::move(call));
}

ExprPtr Parser::ParseFilters(ExprPtr node) {
  for (;;) {
    if (IsOperator("|")) {
      node = ParseFilter(std::move(node), false);
    } else if (IsName("is")) {
      node = ParseTest(std::move(node));
    } else if (IsOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::ParseFilter(ExprPtr node, bool start_inline) {
  while (IsOperator("|") || start_inline) {
    if (!start_inline) Next();
    start_inline = false;
    const LexedToken& token = Expect(Token::kName, "name");
    std::string name = token.text;
    while (SkipOperator(".")) name += "." + Expect(Token::kName, "name").text;
    ExprPtr filter = Make(ExprKind::kFilter, token.line);
    filter->operands.push_back(std::move(node));
    filter->filter = FindFilter(name);
    if (!filter->filter) {
      if (IsUnsupportedFilter(name)) {
        Fail(fmt::format("the filter '{}' is outside the supported subset of Jinja", name),
             token.line);
      }
      if (!soft_) unknown_.emplace_back(fmt::format("No filter named '{}'.", name), token.line);
    }
    filter->name = Str(std::move(name), Origin::kTemplate);
    if (IsOperator("(")) filter->args = ParseArguments();
    node = Finish(std::move(filter));
  }
  return node;
}

ExprPtr Parser::ParseTest(ExprPtr node) {
  const int line = Next().line;
  const bool negated = SkipName("not");
  std::string name = Expect(Token::kName, "name").text;
  while (SkipOperator(".")) name += "." + Expect(Token::kName, "name").text;
  ExprPtr test = Make(ExprKind::kTest, line);
  test->operands.push_back(std::move(node));
  const Token type = Current().type;
  if (IsOperator("(")) {
    test->args = ParseArguments();
  } else if ((type == Token::kName && !IsName("else") && !IsName("or") && !IsName("and")) ||
             type == Token::kString || type == Token::kInteger || type == Token::kFloat ||
             IsOperator("[") || IsOperator("{")) {
    if (IsName("is")) Fail("You cannot chain multiple tests with is", line);
    test->args.positional.push_back(ParsePostfix(ParsePrimary()));
  }
  test->test = FindTest(name);
  if (!test->test && !soft_) unknown_.emplace_back(fmt::format("No test named '{}'.", name), line);
  test->name = Str(std::move(name), Origin::kTemplate);
  test = Finish(std::move(test));
  return negated ? Make(ExprKind::kNot, line, std::move(test)) : std::move(test);
}

}  // namespace tessera::jinja
