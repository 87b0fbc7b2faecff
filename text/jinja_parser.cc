#include "text/jinja_parser.h"

#include <algorithm>

namespace tessera::jinja {

std::string DescribeToken(const LexedToken& token) {
  switch (token.type) {
    case Token::kData: return "template data / text";
    case Token::kVariableBegin: return "begin of print statement";
    case Token::kVariableEnd: return "end of print statement";
    case Token::kBlockBegin: return "begin of statement block";
    case Token::kBlockEnd: return "end of statement block";
    case Token::kString: return "string";
    case Token::kInteger: return "integer";
    case Token::kFloat: return "float";
    case Token::kEnd: return "end of template";
    case Token::kName:
    case Token::kOperator: break;
  }
  return token.text;
}

Parser::Nesting::Nesting(Parser& p) : parser(p) {
  if (++parser.nesting_ > kMaxNesting) {
    --parser.nesting_;
    parser.Fail(fmt::format("nests deeper than {} levels", kMaxNesting), parser.Current().line);
  }
}

void Parser::Fail(const std::string& message, int line) const {
  throw TemplateError(message, line);
}

void Parser::FailToken(std::string_view expected) const {
  if (Current().type == Token::kEnd) {
    Fail(fmt::format("unexpected end of template, expected '{}'", expected), Current().line);
  }
  Fail(fmt::format("expected token '{}', got '{}'", expected, DescribeToken(Current())),
       Current().line);
}

bool Parser::SkipOperator(std::string_view op) {
  if (!IsOperator(op)) return false;
  Next();
  return true;
}

bool Parser::SkipName(std::string_view name) {
  if (!IsName(name)) return false;
  Next();
  return true;
}

void Parser::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) FailToken(op);
}

void Parser::ExpectName(std::string_view name) {
  if (!SkipName(name)) FailToken(name);
}

const LexedToken& Parser::Expect(Token type, std::string_view what) {
  if (Current().type != type) FailToken(what);
  return Next();
}

std::unique_ptr<TemplateTree> Parser::Run() {
  auto tree = std::make_unique<TemplateTree>();
  tree->body = ParseBody({});
  if (!unknown_.empty()) throw unknown_.front();
  return tree;
}

// Statements until a tag of `ends` (which stays the current token), or the end of the template
// where there are none.
Block Parser::ParseBody(std::initializer_list<std::string_view> ends) {
  const Nesting nesting(*this);
  Block body;
  auto output = [&](ExprPtr value) {
    if (body.empty() || body.back()->kind != StmtKind::kOutput) {
      body.push_back(std::make_unique<Stmt>());
      body.back()->line = value->line;
    }
    body.back()->values.push_back(std::move(value));
  };
  for (;;) {
    const LexedToken& token = Current();
    switch (token.type) {
      case Token::kEnd:
        if (ends.size() > 0) {
          Fail(fmt::format("Unexpected end of template, looking for '{}'",
                           fmt::join(ends, "' or '")),
               token.line);
        }
        return body;
      case Token::kData: {
        ExprPtr text = Make(ExprKind::kConstant, token.line);
        text->constant = Value(Str(token.text, Origin::kTemplate));
        output(std::move(text));
        Next();
        break;
      }
      case Token::kVariableBegin:
        Next();
        output(ParseTuple(false, true, {}, false, false));
        Expect(Token::kVariableEnd, "end of print statement");
        break;
      case Token::kBlockBegin:
        Next();
        if (Current().type == Token::kName &&
            std::find(ends.begin(), ends.end(), Current().text) != ends.end()) {
          return body;
        }
        body.push_back(ParseStatement());
        Expect(Token::kBlockEnd, "end of statement block");
        break;
      default: Fail(fmt::format("unexpected '{}'", DescribeToken(token)), token.line);
    }
  }
}

Block Parser::ParseStatements(std::initializer_list<std::string_view> ends) {
  SkipOperator(":");
  Expect(Token::kBlockEnd, "end of statement block");
  return ParseBody(ends);
}

StmtPtr Parser::ParseStatement() {
  const LexedToken& token = Current();
  if (token.type != Token::kName) Fail("tag name expected", token.line);
  Next();
  const int line = token.line;
  const std::string_view tag = token.text;
  if (tag == "set") return ParseSet(line);
  if (tag == "for") return ParseFor(line);
  if (tag == "if") return ParseIf(line);
  if (tag == "with") return ParseWith(line);
  if (tag == "macro") return ParseMacro(line);
  if (tag == "call") return ParseCallBlock(line);
  if (tag == "filter") return ParseFilterBlock(line);
  if (tag == "generation") return ParseGeneration(line);
  if (tag == "print") return ParsePrint(line);
  if (tag == "break") return ParseLoopControl(StmtKind::kBreak, line);
  if (tag == "continue") return ParseLoopControl(StmtKind::kContinue, line);
  for (const std::string_view other :
       {"block", "extends", "include", "import", "from", "autoescape"}) {
    if (tag == other)
      Fail(fmt::format("the tag '{}' is outside the supported subset of Jinja", tag), line);
  }
  Fail(fmt::format("Encountered unknown tag '{}'.", tag), line);
}

namespace {

StmtPtr MakeStmt(StmtKind kind, int line) {
  auto stmt = std::make_unique<Stmt>();
  stmt->kind = kind;
  stmt->line = line;
  return stmt;
}

}  // namespace

void Parser::MarkStored(Expr& target) const {
  switch (target.kind) {
    case ExprKind::kName: target.store = true; return;
    case ExprKind::kNamespaceRef: return;
    case ExprKind::kTuple:
      for (const ExprPtr& item : target.operands) MarkStored(*item);
      return;
    default: Fail("can't assign to this expression", target.line);
  }
}

ExprPtr Parser::CloneTarget(const Expr& target) {
  auto copy = std::make_unique<Expr>();
  copy->kind = target.kind;
  copy->line = target.line;
  copy->store = target.store;
  copy->name = target.name;
  copy->attribute = target.attribute;
  for (const ExprPtr& item : target.operands) copy->operands.push_back(CloneTarget(*item));
  return copy;
}

ExprPtr Parser::ParseTarget(bool with_namespace, bool name_only, std::string_view end_name) {
  ExprPtr target;
  if (name_only) {
    const LexedToken& token = Expect(Token::kName, "name");
    target = Make(ExprKind::kName, token.line);
    target->name = Str(token.text, Origin::kTemplate);
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
      if (token.text == constant) Fail(fmt::format("can't assign to '{}'", constant), token.line);
    }
  } else {
    target = ParseTuple(true, true, end_name, false, with_namespace);
  }
  MarkStored(*target);
  return target;
}

StmtPtr Parser::ParseSet(int line) {
  StmtPtr stmt = MakeStmt(StmtKind::kSet, line);
  stmt->target = ParseTarget(true, false);
  if (SkipOperator("=")) {
    stmt->value = ParseTuple(false, true, {}, false, false);
    return stmt;
  }
  const Soft soft(*this, false);
  stmt->kind = StmtKind::kSetBlock;
  stmt->value = ParseFilter(nullptr, false);
  stmt->body = ParseStatements({"endset"});
  Next();
  return stmt;
}

StmtPtr Parser::ParseFor(int line) {
  StmtPtr stmt = MakeStmt(StmtKind::kFor, line);
  stmt->target = ParseTarget(false, false, "in");
  ExpectName("in");
  stmt->value = ParseTuple(false, false, "recursive", false, false);
  const Soft soft(*this, false);
  if (SkipName("if")) {
    stmt->test = ParseExpression();
    stmt->test_target = CloneTarget(*stmt->target);
  }
  stmt->recursive = SkipName("recursive");
  {
    const InLoop loop(*this, true);
    stmt->body = ParseStatements({"endfor", "else"});
  }
  if (Next().text == "else") {
    // Python's generated code puts the else part after the loop (or, recursive, into the loop's
    // function).
    const InLoop loop(*this, stmt->recursive ? false : in_loop_);
    stmt->else_body = ParseStatements({"endfor"});
    Next();
  }
  return stmt;
}

StmtPtr Parser::ParseIf(int line) {
  StmtPtr first = MakeStmt(StmtKind::kIf, line);
  Stmt* stmt = first.get();
  const Soft soft(*this, true);
  for (;;) {
    stmt->test = ParseTuple(false, false, {}, false, false);
    stmt->body = ParseStatements({"elif", "else", "endif"});
    const LexedToken& end = Next();
    if (end.text == "elif") {
      first->elifs.push_back(MakeStmt(StmtKind::kIf, end.line));
      stmt = first->elifs.back().get();
      continue;
    }
    if (end.text == "else") {
      first->else_body = ParseStatements({"endif"});
      Next();
    }
    return first;
  }
}

StmtPtr Parser::ParseWith(int line) {
  StmtPtr stmt = MakeStmt(StmtKind::kWith, line);
  while (Current().type != Token::kBlockEnd) {
    if (!stmt->targets.empty()) ExpectOperator(",");
    stmt->targets.push_back(ParseTarget(false, false));
    ExpectOperator("=");
    stmt->values.push_back(ParseExpression());
  }
  const Soft soft(*this, false);
  stmt->body = ParseStatements({"endwith"});
  Next();
  return stmt;
}

void Parser::ParseSignature(MacroInfo& macro) {
  ExpectOperator("(");
  while (!IsOperator(")")) {
    if (!macro.parameters.empty()) ExpectOperator(",");
    ExprPtr parameter = ParseTarget(false, true);
    if (parameter->name.view() == "caller") macro.explicit_caller = true;
    for (const ExprPtr& other : macro.parameters) {
      if (other->name.view() == parameter->name.view()) {
        Fail(fmt::format("duplicate argument '{}'", other->name.view()), parameter->line);
      }
    }
    if (SkipOperator("=")) {
      macro.defaults.push_back(ParseExpression());
    } else if (!macro.defaults.empty()) {
      Fail("non-default argument follows default argument", parameter->line);
    }
    macro.parameters.push_back(std::move(parameter));
  }
  ExpectOperator(")");
}

StmtPtr Parser::ParseMacro(int line) {
  const Soft soft(*this, false);
  const InLoop loop(*this, false);
  StmtPtr stmt = MakeStmt(StmtKind::kMacro, line);
  stmt->target = ParseTarget(false, true);
  stmt->macro.name = stmt->target->name;
  ParseSignature(stmt->macro);
  stmt->body = ParseStatements({"endmacro"});
  Next();
  return stmt;
}

StmtPtr Parser::ParseCallBlock(int line) {
  StmtPtr stmt = MakeStmt(StmtKind::kCallBlock, line);
  if (IsOperator("(")) ParseSignature(stmt->macro);
  stmt->value = ParseExpression();
  if (stmt->value->kind != ExprKind::kCall) Fail("expected call", line);
  const Soft soft(*this, false);
  const InLoop loop(*this, false);
  stmt->body = ParseStatements({"endcall"});
  Next();
  return stmt;
}

StmtPtr Parser::ParseFilterBlock(int line) {
  const Soft soft(*this, false);
  StmtPtr stmt = MakeStmt(StmtKind::kFilterBlock, line);
  stmt->value = ParseFilter(nullptr, true);
  stmt->body = ParseStatements({"endfilter"});
  Next();
  return stmt;
}

StmtPtr Parser::ParseGeneration(int line) {
  const Soft soft(*this, false);
  const InLoop loop(*this, false);
  StmtPtr stmt = MakeStmt(StmtKind::kGeneration, line);
  stmt->body = ParseStatements({"endgeneration"});
  Next();
  return stmt;
}

StmtPtr Parser::ParsePrint(int line) {
  StmtPtr stmt = MakeStmt(StmtKind::kOutput, line);
  while (Current().type != Token::kBlockEnd) {
    if (!stmt->values.empty()) ExpectOperator(",");
    stmt->values.push_back(ParseExpression());
  }
  return stmt;
}

StmtPtr Parser::ParseLoopControl(StmtKind kind, int line) {
  if (!in_loop_)
    Fail(kind == StmtKind::kBreak ? "'break' outside loop" : "'continue' not properly in loop",
         line);
  return MakeStmt(kind, line);
}

std::unique_ptr<const TemplateTree> Parse(std::string_view source) {
  auto tree = Parser(source).Run();
  ResolveNames(*tree);
  return tree;
}

}  // namespace tessera::jinja
