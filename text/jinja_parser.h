// Recursive-descent parser for the grammar of jinja2.parser (3.1), inside text/jinja_parser*.cc
// only.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace tessera::jinja {

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(Lex(source)) {}
  std::unique_ptr<TemplateTree> Run();

 private:
  // Deeper nesting than this is an error: of blocks, of brackets, and of the tree that is evaluated
  // recursively.
  static constexpr int kMaxNesting = 100;
  static constexpr int kMaxDepth = 200;

  // jinja_parser.cc: statements
  Block ParseBody(std::initializer_list<std::string_view> ends);
  Block ParseStatements(std::initializer_list<std::string_view> ends);
  StmtPtr ParseStatement();
  StmtPtr ParseSet(int line);
  StmtPtr ParseFor(int line);
  StmtPtr ParseIf(int line);
  StmtPtr ParseWith(int line);
  StmtPtr ParseMacro(int line);
  StmtPtr ParseCallBlock(int line);
  StmtPtr ParseFilterBlock(int line);
  StmtPtr ParseGeneration(int line);
  StmtPtr ParsePrint(int line);
  StmtPtr ParseLoopControl(StmtKind kind, int line);
  void ParseSignature(MacroInfo& macro);
  ExprPtr ParseTarget(bool with_namespace, bool name_only, std::string_view end_name = {});
  void MarkStored(Expr& target) const;
  static ExprPtr CloneTarget(const Expr& target);

  // jinja_expression_parser.cc
  ExprPtr ParseExpression(bool conditional = true);
  ExprPtr ParseTuple(bool simplified, bool conditional, std::string_view end_name, bool parentheses,
                     bool with_namespace);
  ExprPtr ParseConditional();
  ExprPtr ParseOr();
  ExprPtr ParseAnd();
  ExprPtr ParseNot();
  ExprPtr ParseCompare();
  ExprPtr ParseSum();
  ExprPtr ParseConcat();
  ExprPtr ParseProduct();
  ExprPtr ParsePower();
  ExprPtr ParseUnary(bool with_filter = true);
  ExprPtr ParsePrimary(bool with_namespace = false);
  ExprPtr ParseList();
  ExprPtr ParseDict();
  ExprPtr ParsePostfix(ExprPtr node);
  ExprPtr ParseSubscript(ExprPtr node);
  ExprPtr ParseSubscribed();
  ExprPtr ParseFilters(ExprPtr node);  // filters, tests and calls after a value
  ExprPtr ParseFilter(ExprPtr node, bool start_inline);
  ExprPtr ParseTest(ExprPtr node);
  ExprPtr ParseCall(ExprPtr node);
  ArgumentExprs ParseArguments();
  ExprPtr ParseNumber(const LexedToken& token);

  const LexedToken& Current() const { return tokens_[pos_]; }
  const LexedToken& Look() const { return tokens_[pos_ + 1 < tokens_.size() ? pos_ + 1 : pos_]; }
  const LexedToken& Next() {
    const LexedToken& token = tokens_[pos_];
    if (pos_ + 1 < tokens_.size()) ++pos_;
    return token;
  }
  bool IsOperator(std::string_view op) const {
    return Current().type == Token::kOperator && Current().text == op;
  }
  bool IsName(std::string_view name) const {
    return Current().type == Token::kName && Current().text == name;
  }
  bool SkipOperator(std::string_view op);
  bool SkipName(std::string_view name);
  void ExpectOperator(std::string_view op);
  void ExpectName(std::string_view name);
  const LexedToken& Expect(Token type, std::string_view what);
  [[noreturn]] void Fail(const std::string& message, int line) const;
  [[noreturn]] void FailToken(std::string_view expected) const;

  ExprPtr Make(ExprKind kind, int line) const;
  ExprPtr Make(ExprKind kind, int line, ExprPtr a, ExprPtr b = nullptr, ExprPtr c = nullptr) const;
  // Sets the node's depth from its parts.
  ExprPtr Finish(ExprPtr node) const;

  struct Nesting {
    explicit Nesting(Parser& parser);
    ~Nesting() { --parser.nesting_; }
    Parser& parser;
  };
  // jinja2 resolves an unknown filter or test when it is reached if it stands directly in an if or
  // an inline if, else at load.
  struct Soft {
    Soft(Parser& parser, bool soft) : parser(parser), before(parser.soft_) { parser.soft_ = soft; }
    ~Soft() { parser.soft_ = before; }
    Parser& parser;
    bool before;
  };
  // Whether break and continue have a loop around them; a macro body starts anew.
  struct InLoop {
    InLoop(Parser& parser, bool in_loop) : parser(parser), before(parser.in_loop_) {
      parser.in_loop_ = in_loop;
    }
    ~InLoop() { parser.in_loop_ = before; }
    Parser& parser;
    bool before;
  };

  std::vector<LexedToken> tokens_;
  size_t pos_ = 0;
  int nesting_ = 0;
  bool soft_ = false;
  std::vector<TemplateError>
      unknown_;  // filters and tests that must not be unknown where they stand
  bool in_loop_ = false;
};

std::string DescribeToken(const LexedToken& token);

}  // namespace tessera::jinja
