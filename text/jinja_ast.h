// Syntax tree of a template, after parsing and name resolution. Const once a template is compiled.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace tessera::jinja {

class Runtime;
struct CallArgs;
// A filter gets the value it is applied to, a test too.
using FilterFunction = Value (*)(Runtime&, const Value&, const CallArgs&);
using TestFunction = bool (*)(Runtime&, const Value&, const CallArgs&);

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

// Where a name lives: `hops` frames outward, then a slot.
struct SlotRef {
  int hops = -1;
  int slot = -1;
};

enum class ExprKind : uint8_t {
  kConstant,
  kName,
  kNamespaceRef,  // assignment target ns.attr: name, attribute
  kTuple,
  kList,
  kDict,  // operands: key, value, key, value, ...
  kAnd,
  kOr,
  kNot,
  kNegate,
  kPlus,
  kBinary,   // op
  kCompare,  // operands[0] ops[0] operands[1] ...
  kConcat,
  kConditional,  // operands: test, then, else (may be null)
  kAttribute,    // .name
  kItem,         // operands: object, index
  kSlice,        // operands: start, stop, step; each may be null
  kCall,         // operands[0] is called
  kFilter,       // operands[0] may be null: the text of a block
  kTest,
};

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class CompareOp : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct ArgumentExprs {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<Str, ExprPtr>> keywords;
  ExprPtr star, double_star;
};

struct Expr {
  ExprKind kind = ExprKind::kConstant;
  BinaryOp op = BinaryOp::kAdd;
  bool store = false;  // a name that is assigned to
  int line = 0;
  int depth = 1;
  Value constant;
  Str name;       // kName, kNamespaceRef, kAttribute, kFilter, kTest
  Str attribute;  // kNamespaceRef
  SlotRef slot;
  std::vector<ExprPtr> operands;
  std::vector<CompareOp> ops;
  ArgumentExprs args;
  FilterFunction filter = nullptr;  // null: unknown, an error only when it is reached
  TestFunction test = nullptr;
};

// Slots of a frame and how each gets its value on entry (jinja2's symbol loads).
struct ScopeInfo {
  enum class Load : uint8_t {
    kParameter,  // set by the statement itself
    kContext,    // a variable of the render, or undefined
    kAlias,      // the variable of that name further out
    kUndefined,
  };
  struct Slot {
    Str name;
    Load load = Load::kUndefined;
    SlotRef from;  // kAlias
  };
  std::vector<Slot> slots;
  bool captured = false;  // a macro or call block inside may outlive the frame
};

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

enum class StmtKind : uint8_t {
  kOutput,  // values, each printed
  kFor,
  kIf,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kGeneration,
  kBreak,
  kContinue,
};

struct MacroInfo {
  Str name;  // empty: a call block's body
  std::vector<ExprPtr> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  // Slots of the special variables, -1 where the body does not use them.
  int caller_slot = -1, kwargs_slot = -1, varargs_slot = -1;
  bool explicit_caller = false;
};

struct Stmt {
  StmtKind kind = StmtKind::kOutput;
  int line = 0;
  std::vector<ExprPtr> values;   // kOutput; kWith: the values of `targets`
  std::vector<ExprPtr> targets;  // kWith
  ExprPtr target;                // kFor, kSet, kSetBlock
  ExprPtr
      value;  // kFor: iterable; kSet; kCallBlock: the call; kFilterBlock, kSetBlock: filter or null
  ExprPtr test;         // kIf; kFor: filter or null
  ExprPtr test_target;  // kFor with a filter: the target again, in the filter's own scope
  Block body;
  Block else_body;
  std::vector<StmtPtr> elifs;  // kIf, each a kIf with test and body
  bool recursive = false;
  int loop_slot = -1;  // kFor: slot of `loop`, -1 if the body does not use it
  MacroInfo macro;     // kMacro, kCallBlock, kGeneration
  SlotRef macro_slot;  // kMacro: where the macro is stored
  ScopeInfo scope;     // of the body
  ScopeInfo test_scope, else_scope;
};

struct TemplateTree {
  Block body;
  ScopeInfo scope;
};

// Throws TemplateError with a line.
std::unique_ptr<const TemplateTree> Parse(std::string_view source);

// Fills in SlotRefs and ScopeInfos; called by Parse.
void ResolveNames(TemplateTree& tree);

}  // namespace tessera::jinja
