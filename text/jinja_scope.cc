// Name resolution. jinja2 decides at compile time in which scope each name lives and what it holds
// when the scope is entered (jinja2.idtracking); templates depend on its rules, so this follows
// them: a frame is first looked through as a whole, ifs included, before anything nested in it, and
// a name stored in a frame starts as the outer variable of that name, or undefined.
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <vector>

#include "text/jinja_ast.h"

namespace tessera::jinja {

namespace {

using Load = ScopeInfo::Load;

struct LoadRule {
  Load load = Load::kUndefined;
  SlotRef from;
};

// The names of one frame. A branch of an if is an overlay over the symbols it stands in: what it
// adds is merged when all branches have been seen.
class Symbols {
 public:
  Symbols(const Symbols* parent, ScopeInfo* info)
      : parent_(parent),
        info_(info),
        own_index_(std::make_unique<SlotIndex>()),
        index_(own_index_.get()) {}
  static Symbols Branch(const Symbols& base) { return Symbols(base, BranchTag{}); }

  SlotRef Find(std::string_view name) const {
    int hops = 0;
    for (const Symbols* s = this; s;) {
      if (const auto it = s->refs_.find(name); it != s->refs_.end()) return {hops, it->second};
      if (s->base_) {
        s = s->base_;
      } else {
        s = s->parent_;
        ++hops;
      }
    }
    return {};
  }

  void LoadName(const Str& name) {
    if (Find(name.view()).slot < 0) Define(name, {Load::kContext, {}});
  }

  void Store(const Str& name) {
    stores_.insert(name.view());
    const SlotRef here = Find(name.view());
    if (here.hops == 0) return;
    Define(name, here.slot >= 0 ? LoadRule{Load::kAlias, here} : LoadRule{});
  }

  int DeclareParameter(const Str& name) {
    stores_.insert(name.view());
    return Define(name, {Load::kParameter, {}});
  }

  void UpdateFromBranches(const std::vector<Symbols>& branches) {
    std::set<std::string_view> stored;
    for (const Symbols& branch : branches) {
      for (const std::string_view name : branch.stores_) {
        if (!StoredInFrame(name)) stored.insert(name);
      }
    }
    for (const Symbols& branch : branches) {
      for (const auto& [name, slot] : branch.refs_) refs_[name] = slot;
      for (const auto& [slot, rule] : branch.loads_) loads_[slot] = rule;
      stores_.insert(branch.stores_.begin(), branch.stores_.end());
    }
    for (const std::string_view name : stored) {
      const SlotRef outer = OuterRef(name);
      const LoadRule rule =
          outer.slot >= 0 ? LoadRule{Load::kAlias, outer} : LoadRule{Load::kContext, {}};
      loads_[Find(name).slot] = rule;
    }
  }

  void Export() const {
    for (const auto& [slot, rule] : loads_) {
      info_->slots[slot].load = rule.load;
      info_->slots[slot].from = rule.from;
    }
  }

  void MarkCaptured() const {
    for (const Symbols* s = this; s; s = s->parent_) s->info_->captured = true;
  }

 private:
  using SlotIndex = std::map<std::string_view, int>;
  struct BranchTag {};
  Symbols(const Symbols& base, BranchTag)
      : parent_(base.parent_), base_(&base), info_(base.info_), index_(base.index_) {}

  // Outside this frame: hops >= 1.
  SlotRef OuterRef(std::string_view name) const {
    if (!parent_) return {};
    SlotRef outer = parent_->Find(name);
    ++outer.hops;
    return outer;
  }

  bool StoredInFrame(std::string_view name) const {
    for (const Symbols* s = this; s; s = s->base_) {
      if (s->stores_.contains(name)) return true;
    }
    return false;
  }

  int Define(const Str& name, LoadRule rule) {
    const auto [it, added] = index_->emplace(name.view(), static_cast<int>(info_->slots.size()));
    if (added) info_->slots.push_back({name, Load::kUndefined, {}});
    refs_[it->first] = it->second;
    loads_[it->second] = rule;
    return it->second;
  }

  const Symbols* parent_;
  const Symbols* base_ = nullptr;
  ScopeInfo* info_;
  std::unique_ptr<SlotIndex> own_index_;
  SlotIndex* index_;
  std::map<std::string_view, int> refs_;
  std::map<int, LoadRule> loads_;
  std::set<std::string_view> stores_;
};

template <typename F>
void ForEachChild(const Expr& e, F f) {
  auto visit = [&](const ExprPtr& child) {
    if (child) f(*child);
  };
  for (const ExprPtr& child : e.operands) visit(child);
  for (const ExprPtr& child : e.args.positional) visit(child);
  for (const auto& [name, child] : e.args.keywords) visit(child);
  visit(e.args.star);
  visit(e.args.double_star);
}

// Which of the special names `wanted` are read in a body without being assigned before.
struct FreeNames {
  std::set<std::string_view> wanted, found;

  void Visit(const Expr& e) {
    if (e.kind == ExprKind::kName && wanted.contains(e.name.view())) {
      if (e.store) {
        wanted.erase(e.name.view());
      } else {
        found.insert(e.name.view());
      }
    }
    ForEachChild(e, [&](const Expr& child) { Visit(child); });
  }
  void Visit(const ExprPtr& e) {
    if (e) Visit(*e);
  }
  void Visit(const std::vector<ExprPtr>& list) {
    for (const ExprPtr& e : list) Visit(e);
  }
  void Visit(const Block& block) {
    for (const StmtPtr& stmt : block) Visit(*stmt);
  }
  void Visit(const Stmt& s) {
    if (s.kind != StmtKind::kMacro) Visit(s.target);
    Visit(s.targets);
    if (s.kind == StmtKind::kIf) Visit(s.test);
    Visit(s.value);
    Visit(s.values);
    Visit(s.macro.parameters);
    Visit(s.macro.defaults);
    Visit(s.body);
    for (const StmtPtr& branch : s.elifs) Visit(*branch);
    Visit(s.else_body);
    if (s.kind == StmtKind::kFor) Visit(s.test);
  }
};

bool Stores(const Expr& e, std::string_view name) {
  if (e.kind == ExprKind::kName && e.store && e.name.view() == name) return true;
  bool found = false;
  ForEachChild(e, [&](const Expr& child) { found = found || Stores(child, name); });
  return found;
}

class Resolver {
 public:
  void Template(TemplateTree& tree) {
    Symbols symbols(nullptr, &tree.scope);
    Analyze(symbols, tree.body);
    symbols.Export();
    Resolve(symbols, tree.body);
  }

 private:
  // First pass over a frame: which names it has. Nested frames are not entered.
  void Analyze(Symbols& symbols, const Expr& e, bool as_parameter = false) {
    if (e.kind == ExprKind::kName) {
      if (as_parameter) {
        symbols.DeclareParameter(e.name);
      } else if (e.store) {
        symbols.Store(e.name);
      } else {
        symbols.LoadName(e.name);
      }
    } else if (e.kind == ExprKind::kNamespaceRef) {
      symbols.LoadName(e.name);
    }
    ForEachChild(e, [&](const Expr& child) { Analyze(symbols, child, as_parameter); });
  }
  void Analyze(Symbols& symbols, const Block& block) {
    for (const StmtPtr& stmt : block) Analyze(symbols, *stmt);
  }
  void Analyze(Symbols& symbols, const Stmt& s) {
    switch (s.kind) {
      case StmtKind::kOutput:
      case StmtKind::kWith:
        for (const ExprPtr& value : s.values) Analyze(symbols, *value);
        break;
      case StmtKind::kFor:
      case StmtKind::kCallBlock:
      case StmtKind::kFilterBlock: Analyze(symbols, *s.value); break;
      case StmtKind::kSet:
        Analyze(symbols, *s.value);
        Analyze(symbols, *s.target);
        break;
      case StmtKind::kSetBlock:
      case StmtKind::kMacro: Analyze(symbols, *s.target); break;
      case StmtKind::kIf: AnalyzeIf(symbols, s); break;
      case StmtKind::kGeneration:
      case StmtKind::kBreak:
      case StmtKind::kContinue: break;
    }
  }
  void AnalyzeIf(Symbols& symbols, const Stmt& s) {
    Analyze(symbols, *s.test);
    std::vector<Symbols> branches;
    for (int i = 0; i < 3; ++i) branches.push_back(Symbols::Branch(symbols));
    Analyze(branches[0], s.body);
    for (const StmtPtr& branch : s.elifs) AnalyzeIf(branches[1], *branch);
    Analyze(branches[2], s.else_body);
    symbols.UpdateFromBranches(branches);
  }

  // Second pass: where each name of the frame is, and the frames inside.
  void Resolve(const Symbols& symbols, Expr& e) {
    if (e.kind == ExprKind::kName || e.kind == ExprKind::kNamespaceRef)
      e.slot = symbols.Find(e.name.view());
    for (ExprPtr& child : e.operands) Resolve(symbols, child);
    for (ExprPtr& child : e.args.positional) Resolve(symbols, child);
    for (auto& [name, child] : e.args.keywords) Resolve(symbols, child);
    Resolve(symbols, e.args.star);
    Resolve(symbols, e.args.double_star);
  }
  void Resolve(const Symbols& symbols, ExprPtr& e) {
    if (e) Resolve(symbols, *e);
  }
  void Resolve(const Symbols& symbols, Block& block) {
    for (StmtPtr& stmt : block) Resolve(symbols, *stmt);
  }
  void Resolve(const Symbols& symbols, Stmt& s) {
    switch (s.kind) {
      case StmtKind::kOutput:
        for (ExprPtr& value : s.values) Resolve(symbols, value);
        break;
      case StmtKind::kIf:
        Resolve(symbols, s.test);
        Resolve(symbols, s.body);
        for (StmtPtr& branch : s.elifs) Resolve(symbols, *branch);
        Resolve(symbols, s.else_body);
        break;
      case StmtKind::kSet:
        Resolve(symbols, s.value);
        Resolve(symbols, s.target);
        break;
      case StmtKind::kFor: ResolveFor(symbols, s); break;
      case StmtKind::kSetBlock:
      case StmtKind::kFilterBlock: ResolveCapture(symbols, s); break;
      case StmtKind::kWith: ResolveWith(symbols, s); break;
      case StmtKind::kMacro:
        s.macro_slot = symbols.Find(s.target->name.view());
        ResolveMacro(symbols, s);
        break;
      case StmtKind::kCallBlock:
        Resolve(symbols, s.value);
        ResolveMacro(symbols, s);
        break;
      case StmtKind::kGeneration: ResolveMacro(symbols, s); break;
      case StmtKind::kBreak:
      case StmtKind::kContinue: break;
    }
  }

  void ResolveFor(const Symbols& outer, Stmt& s) {
    if (Stores(*s.target, "loop") || StoresInBody(s, "loop")) {
      throw TemplateError("Can't assign to special loop variable in for-loop target", s.line);
    }
    Resolve(outer, s.value);
    Symbols body(&outer, &s.scope);
    FreeNames free{{"loop"}, {}};
    free.Visit(s.body);
    if (s.recursive || !free.found.empty()) {
      s.loop_slot = body.DeclareParameter(loop_name_);
    }
    Analyze(body, *s.target, true);
    Analyze(body, s.body);
    body.Export();
    Resolve(body, s.target);
    Resolve(body, s.body);
    if (s.test) {
      Symbols test(&outer, &s.test_scope);
      Analyze(test, *s.test_target, true);
      Analyze(test, *s.test);
      test.Export();
      Resolve(test, s.test_target);
      Resolve(test, s.test);
    }
    Symbols otherwise(&outer, &s.else_scope);
    Analyze(otherwise, s.else_body);
    otherwise.Export();
    Resolve(otherwise, s.else_body);
    if (s.recursive) outer.MarkCaptured();
  }

  static bool StoresInBody(const Stmt& s, std::string_view name) {
    auto in_block = [&](const Block& block) {
      for (const StmtPtr& inner : block) {
        if (inner->kind != StmtKind::kMacro && inner->target && Stores(*inner->target, name))
          return true;
        if (StoresInBody(*inner, name)) return true;
      }
      return false;
    };
    return in_block(s.body) || in_block(s.else_body) || in_block(s.elifs);
  }

  void ResolveCapture(const Symbols& outer, Stmt& s) {
    Symbols body(&outer, &s.scope);
    Analyze(body, s.body);
    if (s.value) Analyze(body, *s.value);
    body.Export();
    Resolve(body, s.body);
    Resolve(body, s.value);
    if (s.target) Resolve(outer, s.target);
  }

  void ResolveWith(const Symbols& outer, Stmt& s) {
    for (ExprPtr& value : s.values) Resolve(outer, value);
    Symbols body(&outer, &s.scope);
    for (const ExprPtr& target : s.targets) Analyze(body, *target, true);
    Analyze(body, s.body);
    body.Export();
    for (ExprPtr& target : s.targets) Resolve(body, target);
    Resolve(body, s.body);
  }

  void ResolveMacro(const Symbols& outer, Stmt& s) {
    outer.MarkCaptured();
    MacroInfo& macro = s.macro;
    Symbols body(&outer, &s.scope);
    auto analyze = [&] {
      for (const ExprPtr& parameter : macro.parameters) Analyze(body, *parameter, true);
      for (const ExprPtr& value : macro.defaults) Analyze(body, *value);
      Analyze(body, s.body);
    };
    analyze();
    FreeNames free{{"caller", "kwargs", "varargs"}, {}};
    free.Visit(s.body);
    auto special = [&](const Str& name) {
      for (const ExprPtr& parameter : macro.parameters) {
        if (parameter->name.view() == name.view()) return -1;
      }
      return free.found.contains(name.view()) ? body.DeclareParameter(name) : -1;
    };
    if (macro.explicit_caller && free.found.contains("caller")) {
      const size_t first_default = macro.parameters.size() - macro.defaults.size();
      for (size_t i = 0; i < first_default; ++i) {
        if (macro.parameters[i]->name.view() == "caller") {
          throw TemplateError(
              "When defining macros or call blocks the special \"caller\" argument must be omitted "
              "or be given a "
              "default.",
              s.line);
        }
      }
    }
    macro.caller_slot = special(caller_name_);
    macro.kwargs_slot = special(kwargs_name_);
    macro.varargs_slot = special(varargs_name_);
    analyze();
    body.Export();
    for (ExprPtr& parameter : macro.parameters) Resolve(body, parameter);
    for (ExprPtr& value : macro.defaults) Resolve(body, value);
    Resolve(body, s.body);
  }

  // Symbols keep views of names: these live as long as the tree, since a scope's slots share them.
  const Str loop_name_{"loop", Origin::kTemplate};
  const Str caller_name_{"caller", Origin::kTemplate};
  const Str kwargs_name_{"kwargs", Origin::kTemplate};
  const Str varargs_name_{"varargs", Origin::kTemplate};
};

}  // namespace

void ResolveNames(TemplateTree& tree) { Resolver().Template(tree); }

}  // namespace tessera::jinja
