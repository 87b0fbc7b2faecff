#include "text/pretokenizer_regex.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "base/check.h"

namespace tessera {
namespace {

constexpr size_t kMaxProgram = 20000;  // instructions
constexpr size_t kMaxClasses = 250;
constexpr size_t kMaxSteps = size_t{4} << 20;  // entries of the automaton
constexpr size_t kMaxWork = size_t{64} << 20;  // threads looked at while it is built

struct Instruction {
  enum class Op : uint8_t { kSet, kSplit, kJump, kAssert, kMatch };
  Op op;
  uint32_t x = 0,
           y = 0;  // kSplit: first and second choice; kJump: x; kSet: set x; kAssert: assertion x
};
using Op = Instruction::Op;

using Bits = std::vector<bool>;

struct SideIds {
  uint32_t set;
  bool edge;
};

class Compiler {
 public:
  bool Emit(const RegexNode& node) {
    if (program.size() > kMaxProgram) return false;
    switch (node.kind) {
      case RegexNode::Kind::kEmpty: return true;
      case RegexNode::Kind::kSet: program.push_back({Op::kSet, AddSet(node.set)}); return true;
      case RegexNode::Kind::kConcat:
        return std::all_of(node.children.begin(), node.children.end(),
                           [&](const RegexNode& child) { return Emit(child); });
      case RegexNode::Kind::kAlternate: {
        std::vector<size_t> ends;
        for (size_t i = 0; i < node.children.size(); ++i) {
          const bool last = i + 1 == node.children.size();
          const size_t split = program.size();
          if (!last) program.push_back({Op::kSplit, Here() + 1});
          if (!Emit(node.children[i])) return false;
          if (last) break;
          ends.push_back(program.size());
          program.push_back({Op::kJump});
          program[split].y = Here();
        }
        for (const size_t end : ends) program[end].x = Here();
        return true;
      }
      case RegexNode::Kind::kRepeat: return EmitRepeat(node);
      case RegexNode::Kind::kAssert: {
        std::vector<std::pair<SideIds, SideIds>> pairs;
        for (const auto& [before, after] : node.assertion.any_of)
          pairs.push_back({{AddSet(before.set), before.edge}, {AddSet(after.set), after.edge}});
        program.push_back({Op::kAssert, static_cast<uint32_t>(assertions.size())});
        assertions.push_back(std::move(pairs));
        return true;
      }
    }
    return false;
  }

  std::vector<Instruction> program;
  std::vector<CodePointSet> sets;
  std::vector<std::vector<std::pair<SideIds, SideIds>>> assertions;

 private:
  uint32_t Here() const { return static_cast<uint32_t>(program.size()); }

  bool EmitRepeat(const RegexNode& node) {
    const RegexNode& child = node.children[0];
    for (uint32_t i = 0; i < node.min; ++i)
      if (!Emit(child)) return false;
    // A choice between one more and going on; `y` or, if lazy, `x` is filled in when the end is
    // known
    const auto choice = [&] {
      program.push_back({Op::kSplit, Here() + 1, Here() + 1});
      return program.size() - 1;
    };
    const auto leave = [&](size_t split) {
      (node.greedy ? program[split].y : program[split].x) = Here();
    };
    if (node.max == RegexNode::kNoMaximum) {
      const size_t split = choice();
      if (!Emit(child)) return false;
      program.push_back({Op::kJump, static_cast<uint32_t>(split)});
      leave(split);
      return true;
    }
    std::vector<size_t> splits;
    for (uint32_t i = node.min; i < node.max; ++i) {
      splits.push_back(choice());
      if (!Emit(child)) return false;
    }
    for (const size_t split : splits) leave(split);
    return true;
  }

  uint32_t AddSet(const CodePointSet& set) {
    std::string key;
    for (const CodePointRange& range : set.ranges())
      key += fmt::format("{},{};", range.first, range.last);
    const auto [it, added] = ids_.try_emplace(std::move(key), static_cast<uint32_t>(sets.size()));
    if (added) sets.push_back(set);
    return it->second;
  }

  std::unordered_map<std::string, uint32_t> ids_;
};

// Code points that no set of the pattern tells apart share a class.
struct Classes {
  std::vector<CodePointRange> ranges;  // cover everything, in order
  std::vector<uint32_t> class_of;      // of each range
  std::vector<Bits> in_set;            // [class][set]
};

Classes Partition(const std::vector<CodePointSet>& sets) {
  std::vector<uint32_t> starts{0};
  for (const CodePointSet& set : sets)
    for (const CodePointRange& range : set.ranges()) {
      starts.push_back(range.first);
      if (range.last < kMaxCodePoint) starts.push_back(range.last + 1);
    }
  std::sort(starts.begin(), starts.end());
  starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
  Classes classes;
  std::map<Bits, uint32_t> ids;
  std::vector<size_t> cursor(sets.size());
  for (size_t i = 0; i < starts.size(); ++i) {
    Bits signature(sets.size());
    for (size_t s = 0; s < sets.size(); ++s) {
      const auto ranges = sets[s].ranges();
      while (cursor[s] < ranges.size() && ranges[cursor[s]].last < starts[i]) ++cursor[s];
      signature[s] = cursor[s] < ranges.size() && ranges[cursor[s]].first <= starts[i];
    }
    const auto [it, added] =
        ids.try_emplace(signature, static_cast<uint32_t>(classes.in_set.size()));
    if (added) classes.in_set.push_back(signature);
    classes.ranges.push_back(
        {starts[i], i + 1 < starts.size() ? starts[i + 1] - 1 : kMaxCodePoint});
    classes.class_of.push_back(it->second);
  }
  return classes;
}

// Builds the automaton. A state is the list of threads, best first, before they look at the next
// character, with the class before it where the pattern asks for that.
class Builder {
 public:
  Builder(const Compiler& compiled, const Classes& classes)
      : compiled_(compiled),
        classes_(classes),
        edge_(static_cast<uint32_t>(classes.in_set.size())),
        seen_(compiled.program.size()) {
    for (const auto& pairs : compiled.assertions)
      for (const auto& [before, after] : pairs)
        looks_behind_ |= !before.edge || !compiled.sets[before.set].Complement().empty();
  }

  bool Run() {
    steps.resize(edge_ + 1);  // state 0: no threads
    for (uint32_t before = 0; before <= edge_; ++before) start.push_back(StateOf(Key{{0}, before}));
    for (size_t state = 1; state < keys_.size(); ++state) {
      if ((keys_.size() + 1) * (edge_ + 1) > kMaxSteps) return false;
      const Key key = *keys_[state];
      for (uint32_t next = 0; next <= edge_; ++next) {
        const uint32_t step = Step(key, next);
        steps[state * (edge_ + 1) + next] = step;
        if (work_ > kMaxWork) return false;
      }
    }
    return true;
  }

  std::vector<uint32_t> start, steps;

 private:
  struct Key {
    std::vector<uint32_t> threads;
    uint32_t before;
    bool operator<(const Key& other) const {
      return std::tie(before, threads) < std::tie(other.before, other.threads);
    }
  };

  uint32_t StateOf(Key key) {
    if (key.threads.empty()) return 0;
    if (!looks_behind_) key.before = 0;
    const auto [it, added] =
        states_.try_emplace(std::move(key), static_cast<uint32_t>(keys_.size()));
    if (added) {
      keys_.push_back(&it->first);
      steps.resize(keys_.size() * (edge_ + 1));
    }
    return it->second;
  }

  bool Holds(const SideIds& side, uint32_t c) const {
    return c == edge_ ? side.edge : classes_.in_set[c][side.set];
  }

  uint32_t Step(const Key& key, uint32_t next) {
    ++generation_;
    Key after{{}, next};
    bool matched = false;
    for (const uint32_t thread : key.threads)
      if (Follow(thread, key.before, next, after.threads)) {
        matched = true;  // whatever ranks lower is cut
        break;
      }
    return StateOf(std::move(after)) << 1 | matched;
  }

  // Runs one thread up to the next character, choices in order. True if it reaches a match.
  bool Follow(uint32_t thread, uint32_t before, uint32_t next, std::vector<uint32_t>& out) {
    stack_.assign(1, thread);
    while (!stack_.empty()) {
      const uint32_t pc = stack_.back();
      stack_.pop_back();
      if (seen_[pc] == generation_) continue;
      seen_[pc] = generation_;
      ++work_;
      const Instruction& instruction = compiled_.program[pc];
      switch (instruction.op) {
        case Op::kMatch: return true;
        case Op::kJump: stack_.push_back(instruction.x); break;
        case Op::kSplit:
          stack_.push_back(instruction.y);
          stack_.push_back(instruction.x);
          break;
        case Op::kAssert:
          for (const auto& [left, right] : compiled_.assertions[instruction.x])
            if (Holds(left, before) && Holds(right, next)) {
              stack_.push_back(pc + 1);
              break;
            }
          break;
        case Op::kSet:
          // Threads are kept by where they go on, once each: the best-ranked counts
          if (next != edge_ && classes_.in_set[next][instruction.x]) {
            if (std::find(out.begin(), out.end(), pc + 1) == out.end()) out.push_back(pc + 1);
            work_ += out.size();
          }
          break;
      }
    }
    return false;
  }

  const Compiler& compiled_;
  const Classes& classes_;
  const uint32_t edge_;
  bool looks_behind_ = false;
  std::map<Key, uint32_t> states_;
  std::vector<const Key*> keys_{nullptr};
  std::vector<uint32_t> seen_, stack_;
  uint32_t generation_ = 0;
  size_t work_ = 0;
};

}  // namespace

Result<std::shared_ptr<const TokenRegex>> TokenRegex::Build(const RegexNode& root,
                                                            std::string_view field) {
  const auto too_big = [&](std::string_view part, size_t limit) {
    return Invalid(
        "pattern too complex",
        {.field = std::string(field), .limit = fmt::format("{} {}", limit, part), .value = "more"});
  };
  Compiler compiler;
  if (!compiler.Emit(root) || compiler.program.size() > kMaxProgram)
    return too_big("instructions", kMaxProgram);
  compiler.program.push_back({Op::kMatch});
  const Classes classes = Partition(compiler.sets);
  if (classes.in_set.size() > kMaxClasses) return too_big("classes of characters", kMaxClasses);

  auto regex = std::make_shared<TokenRegex>();
  regex->edge_ = static_cast<uint32_t>(classes.in_set.size());
  Builder builder(compiler, classes);
  if (!builder.Run()) return too_big("steps of the automaton", kMaxSteps);
  regex->start_ = std::move(builder.start);
  regex->steps_ = std::move(builder.steps);

  // Two levels: 256 code points a page, equal pages shared
  std::map<std::array<uint8_t, 256>, uint16_t> pages;
  size_t range = 0;
  for (uint32_t page = 0; page <= kMaxCodePoint >> 8; ++page) {
    std::array<uint8_t, 256> content;
    for (uint32_t i = 0; i < 256; ++i) {
      const uint32_t c = page << 8 | i;
      while (classes.ranges[range].last < c) ++range;
      content[i] = static_cast<uint8_t>(classes.class_of[range]);
    }
    if (page == 0) std::copy_n(content.begin(), 128, regex->ascii_.begin());
    const auto [it, added] = pages.try_emplace(content, static_cast<uint16_t>(pages.size()));
    if (added) regex->pages_.insert(regex->pages_.end(), it->first.begin(), it->first.end());
    regex->page_of_.push_back(it->second);
  }
  return regex;
}

Result<std::shared_ptr<const TokenRegex>> TokenRegex::Compile(std::string_view pattern,
                                                              std::string_view field) {
  TESSERA_TRY(const RegexNode root, ParseRegex(pattern, field));
  return Build(root, field);
}

Result<std::shared_ptr<const TokenRegex>> TokenRegex::CompileLiteral(std::string_view text,
                                                                     std::string_view field) {
  if (!IsValidUtf8(text))
    return Invalid("not valid UTF-8",
                   {.field = std::string(field), .limit = "UTF-8", .value = std::string(text)});
  RegexNode root;
  root.kind = text.empty() ? RegexNode::Kind::kEmpty : RegexNode::Kind::kConcat;
  for (size_t i = 0; i < text.size();) {
    const DecodedChar c = DecodeUtf8(text.substr(i));
    RegexNode node;
    node.kind = RegexNode::Kind::kSet;
    node.set = {{c.code_point, c.code_point}};
    root.children.push_back(std::move(node));
    i += c.length;
  }
  return Build(root, field);
}

}  // namespace tessera
