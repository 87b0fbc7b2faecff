// Short ways to make nodes of a pattern's tree; for its parser.
#pragma once

#include <utility>
#include <vector>

#include "text/pretokenizer_regex_ast.h"

namespace tessera {

inline RegexNode SetNode(CodePointSet set, bool literal = false) {
  RegexNode node;
  node.kind = RegexNode::Kind::kSet;
  node.set = std::move(set);
  node.literal = literal;
  return node;
}

inline RegexNode AssertNode(std::vector<std::pair<RegexSide, RegexSide>> any_of) {
  RegexNode node;
  node.kind = RegexNode::Kind::kAssert;
  node.assertion.any_of = std::move(any_of);
  return node;
}

inline RegexSide Anything() { return {CodePointSet::All(), true}; }

inline RegexNode List(RegexNode::Kind kind, std::vector<RegexNode> children) {
  if (children.size() == 1) return std::move(children[0]);
  RegexNode node;
  node.kind = children.empty() ? RegexNode::Kind::kEmpty : kind;
  node.children = std::move(children);
  return node;
}

inline RegexNode Repeat(RegexNode child, uint32_t min, uint32_t max, bool greedy) {
  RegexNode node;
  node.kind = RegexNode::Kind::kRepeat;
  node.children.push_back(std::move(child));
  node.min = min;
  node.max = max;
  node.greedy = greedy;
  return node;
}

}  // namespace tessera
