#include "text/pretokenizer_regex_ast.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <tuple>

#include "text/pretokenizer_regex_nodes.h"
#include "text/utf8.h"

namespace tessera {
namespace {

constexpr int kMaxDepth = 100;
constexpr uint32_t kMaxRepeat = 1000;
constexpr size_t kMaxPattern = 65536;

using Node = RegexNode;

struct Options {
  bool ignore_case = false;
  bool dot_all = false;
};

class Parser {
 public:
  Parser(std::string_view pattern, std::string_view field) : pattern_(pattern), field_(field) {}

  Result<Node> Parse() {
    if (pattern_.size() > kMaxPattern)
      return Unsupported(fmt::format("{} bytes, allowed {}", pattern_.size(), kMaxPattern));
    if (!IsValidUtf8(pattern_)) return Unsupported("invalid UTF-8");
    TESSERA_TRY(Node node, Alternation(Options{}, 0));
    if (!AtEnd()) return Unsupported("unmatched )");
    return node;
  }

 private:
  bool AtEnd() const { return at_ >= pattern_.size(); }
  char Peek(size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  bool Take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  char32_t TakeChar() {
    const DecodedChar c = DecodeUtf8(pattern_.substr(at_));
    at_ += c.length;
    return c.code_point;
  }

  tl::unexpected<Error> Unsupported(std::string what) const {
    return Invalid("unsupported pattern",
                   {.field = std::string(field_),
                    .limit = "the subset that needs no backtracking",
                    .value = fmt::format("{} at byte {} of {}", what, at_, pattern_)});
  }

  Result<Node> Alternation(Options options, int depth) {
    if (depth > kMaxDepth) return Unsupported("nested too deep");
    std::vector<Node> branches;
    do {
      TESSERA_TRY(Node branch, Concat(options, depth));
      branches.push_back(std::move(branch));
    } while (Take("|"));
    return List(Node::Kind::kAlternate, std::move(branches));
  }

  Result<Node> Concat(Options options, int depth) {
    std::vector<Node> items;
    while (!AtEnd() && Peek() != '|' && Peek() != ')') {
      // (?i) without a colon holds to the end of the group, alternatives included
      if (const auto bare = BareOptions(options)) {
        TESSERA_TRY(Node rest, Alternation(*bare, depth + 1));
        items.push_back(std::move(rest));
        continue;
      }
      TESSERA_TRY(Node atom, Atom(options, depth));
      TESSERA_RETURN_IF_ERROR(Quantifiers(atom));
      items.push_back(std::move(atom));
    }
    if (options.ignore_case) TESSERA_RETURN_IF_ERROR(CheckFolds(items));
    return List(Node::Kind::kConcat, std::move(items));
  }

  // Letters like ß match two characters when case does not count, and the reverse.
  Result<void> CheckFolds(const std::vector<Node>& items) {
    for (const MultiFold& fold : MultiFolds()) {
      for (size_t i = 0; i < items.size(); ++i) {
        if (!items[i].literal) continue;
        bool sequence = true;
        for (size_t k = 0; k < 3 && fold.sequence[k] != 0; ++k)
          sequence = sequence && i + k < items.size() && items[i + k].literal &&
                     items[i + k].set.Contains(fold.sequence[k]);
        if (sequence || items[i].set.Contains(fold.code_point))
          return Unsupported("letters that match two characters under (?i)");
      }
    }
    return {};
  }

  // Reads "(?im-x)" if it stands here and has no colon.
  std::optional<Options> BareOptions(Options options) {
    const size_t start = at_;
    if (Take("(?")) {
      if (ReadFlags(options) && at_ > start + 2 && Take(")")) return options;
    }
    at_ = start;
    return std::nullopt;
  }

  bool ReadFlags(Options& options) {
    bool on = true;
    while (true) {
      if (Take("-"))
        on = false;
      else if (Take("i"))
        options.ignore_case = on;
      else if (Take("m"))
        options.dot_all = on;
      else
        return true;
    }
  }

  Result<Node> Atom(Options options, int depth) {
    const char c = Peek();
    if (c == '(') return Group(options, depth);
    if (c == '[') {
      ++at_;
      TESSERA_TRY(CodePointSet set, Class(options, depth));
      return SetNode(std::move(set));
    }
    if (Take(".")) {
      if (options.dot_all) return SetNode(CodePointSet::All());
      return SetNode(CodePointSet{{'\n', '\n'}}.Complement());
    }
    const RegexSide newline{CodePointSet{{'\n', '\n'}}, false}, edge{CodePointSet{}, true};
    if (Take("^")) return AssertNode({{edge, Anything()}, {newline, {CodePointSet::All(), false}}});
    if (Take("$")) return AssertNode({{Anything(), {newline.set, true}}});
    if (c == '*' || c == '+' || c == '?') return Unsupported("a quantifier with nothing before it");
    if (c == '\\') return Escape(options);
    return Literal(TakeChar(), options);
  }

  static Node Literal(char32_t c, Options options) {
    const CodePointSet set{{c, c}};
    return SetNode(options.ignore_case ? set.CaseClosed() : set, true);
  }

  Result<Node> Group(Options options, int depth) {
    const size_t start = at_;
    ++at_;
    enum { kPlain, kAhead, kNotAhead, kBehind, kNotBehind, kAtomic } kind = kPlain;
    if (Take("?")) {
      if (Take("#")) {
        while (!AtEnd() && Peek() != ')') ++at_;
        if (!Take(")")) return Unsupported("a comment without end");
        return Node{};
      }
      if (Take(":"))
        kind = kPlain;
      else if (Take("="))
        kind = kAhead;
      else if (Take("!"))
        kind = kNotAhead;
      else if (Take("<="))
        kind = kBehind;
      else if (Take("<!"))
        kind = kNotBehind;
      else if (Take(">"))
        kind = kAtomic;
      else if (Take("<")) {
        const size_t close = pattern_.find('>', at_);
        if (close == std::string_view::npos) return Unsupported("a group name without end");
        at_ = close + 1;
      } else if (!ReadFlags(options) || !Take(":")) {
        at_ = start;
        return Unsupported("this kind of group");
      }
    }
    TESSERA_TRY(Node body, Alternation(options, depth + 1));
    if (!Take(")")) return Unsupported("a group without end");
    if (kind == kPlain) {
      body.literal = false;
      return body;
    }
    if (kind == kAtomic) {
      if (body.kind == Node::Kind::kSet) return body;
      if (body.kind == Node::Kind::kRepeat && body.greedy) return Possessive(std::move(body));
      return Unsupported("an atomic group over more than a repeated character class");
    }
    RegexSide side;
    const bool ahead = kind == kAhead || kind == kNotAhead;
    if (!OneCharacter(body, ahead, side))
      return Unsupported("a look-around over more than one character");
    if (kind == kNotAhead || kind == kNotBehind) side = {side.set.Complement(), !side.edge};
    if (ahead) return AssertNode({{Anything(), side}});
    return AssertNode({{side, Anything()}});
  }

  // Whether what a look-around holds looks at one character only (or the edge); then which.
  static bool OneCharacter(const Node& node, bool ahead, RegexSide& side) {
    switch (node.kind) {
      case Node::Kind::kSet: side = {side.set.Union(node.set), side.edge}; return true;
      case Node::Kind::kAlternate:
        return std::all_of(node.children.begin(), node.children.end(),
                           [&](const Node& child) { return OneCharacter(child, ahead, side); });
      case Node::Kind::kRepeat:  // X+ looks at no more than X does
        return ahead && node.min == 1 && node.children[0].kind == Node::Kind::kSet &&
               OneCharacter(node.children[0], ahead, side);
      case Node::Kind::kAssert: {  // $ and \z ahead
        const auto& pairs = node.assertion.any_of;
        if (!ahead || pairs.size() != 1 || !pairs[0].first.edge ||
            !pairs[0].first.set.Complement().empty())
          return false;
        side = {side.set.Union(pairs[0].second.set), side.edge || pairs[0].second.edge};
        return true;
      }
      default: return false;
    }
  }

  // X?+ X*+ X++ for one character class X: after it, the next character is not in X (unless the
  // maximum is reached).
  Result<Node> Possessive(Node repeat) {
    const Node& child = repeat.children[0];
    if (child.kind != Node::Kind::kSet)
      return Unsupported("a possessive quantifier over more than a character class");
    Node stop = AssertNode({{Anything(), {child.set.Complement(), true}}});
    if (repeat.max == Node::kNoMaximum) {
      std::vector<Node> items;
      items.push_back(std::move(repeat));
      items.push_back(std::move(stop));
      return List(Node::Kind::kConcat, std::move(items));
    }
    if (repeat.min != 0 || repeat.max != 1)
      return Unsupported("an atomic group with a counted repeat");
    std::vector<Node> branches;
    branches.push_back(child);
    branches.push_back(std::move(stop));
    return List(Node::Kind::kAlternate, std::move(branches));
  }

  std::optional<uint32_t> Number() {
    if (Peek() < '0' || Peek() > '9') return std::nullopt;
    uint32_t value = 0;
    for (; Peek() >= '0' && Peek() <= '9'; ++at_)
      value = std::min<uint32_t>(value * 10 + (Peek() - '0'), 1000000);
    return value;
  }

  // "{n}", "{n,}", "{,m}", "{n,m}"; anything else is a literal brace.
  std::optional<std::pair<uint32_t, uint32_t>> Interval() {
    const size_t start = at_;
    if (!Take("{")) return std::nullopt;
    const auto min = Number();
    auto max = min;
    if (Take(","))
      max = Number();
    else if (!min)
      max.reset();
    const bool open = min && !max;
    if ((!min && !max) || !Take("}")) {
      at_ = start;
      return std::nullopt;
    }
    return std::pair(min.value_or(0), open ? Node::kNoMaximum : *max);
  }

  Result<void> Quantifiers(Node& atom) {
    while (true) {
      uint32_t min, max;
      bool interval = false;
      if (Take("?"))
        min = 0, max = 1;
      else if (Take("*"))
        min = 0, max = Node::kNoMaximum;
      else if (Take("+"))
        min = 1, max = Node::kNoMaximum;
      else if (const auto bounds = Interval()) {
        std::tie(min, max) = *bounds;
        interval = true;
      } else {
        return {};
      }
      if (min > kMaxRepeat || (max != Node::kNoMaximum && (max > kMaxRepeat || max < min)))
        return Unsupported(fmt::format("a repeat count (at most {}, in order)", kMaxRepeat));
      // In this syntax {n}? is "{n} or nothing", and a + after {n,m} is another quantifier
      const bool lazy = !(interval && min == max) && Take("?");
      const bool possessive = !lazy && !interval && Take("+");
      atom.literal = false;
      atom = Repeat(std::move(atom), min, max, !lazy);
      if (possessive) {
        TESSERA_TRY(atom, Possessive(std::move(atom)));
      }
    }
  }

  Result<Node> Escape(Options options) {
    const char c = Peek(1);
    const CodePointSet word = TableSet("word");
    const RegexSide in{word, false}, out{word.Complement(), true};
    const RegexSide edge{CodePointSet{}, true};
    at_ += 2;
    switch (c) {
      case 'b': return AssertNode({{in, out}, {out, in}});
      case 'B': return AssertNode({{in, in}, {out, out}});
      case 'A': return AssertNode({{edge, Anything()}});
      case 'z': return AssertNode({{Anything(), edge}});
      case 'N': return SetNode(CodePointSet{{'\n', '\n'}}.Complement());
      case 'O': return SetNode(CodePointSet::All());
      default: at_ -= 2;
    }
    bool is_class = false;
    TESSERA_TRY(CodePointSet set, EscapedSet(is_class));
    if (!is_class && options.ignore_case) set = set.CaseClosed();
    return SetNode(std::move(set), !is_class);
  }

  // An escape that stands for a set, in a class or outside. (?i) does not change a bare property or
  // shorthand. only.
  Result<CodePointSet> EscapedSet(bool& is_class) {
    const size_t start = at_;
    ++at_;
    if (AtEnd()) return Unsupported("a backslash at the end");
    const char c = Peek();
    const auto shorthand = [&](CodePointSet set, bool negate) {
      ++at_;
      is_class = true;
      return negate ? set.Complement() : set;
    };
    switch (c) {
      case 'd':
      case 'D': return shorthand(TableSet("nd"), c == 'D');
      case 'w':
      case 'W': return shorthand(TableSet("word"), c == 'W');
      case 's':
      case 'S': return shorthand(TableSet("space"), c == 'S');
      case 'h':
      case 'H': return shorthand(*PropertySet("xdigit"), c == 'H');
      case 'p':
      case 'P': {
        ++at_;
        bool negate = c == 'P';
        const size_t close = pattern_.find('}', at_);
        if (Peek() != '{' || close == std::string_view::npos) break;
        std::string_view name = pattern_.substr(at_ + 1, close - at_ - 1);
        if (name.starts_with('^')) {
          negate = !negate;
          name.remove_prefix(1);
        }
        std::optional<CodePointSet> set = PropertySet(name);
        if (!set) return Unsupported(fmt::format("property {}", name));
        at_ = close + 1;
        is_class = true;
        return negate ? set->Complement() : *set;
      }
      case 'x':
      case 'u': {
        ++at_;
        uint32_t value = 0;
        size_t digits = 0;
        const bool braced = c == 'x' && Take("{");
        const size_t most = braced ? 8 : c == 'x' ? 2 : 4;
        for (; digits < most && std::isxdigit(static_cast<unsigned char>(Peek())); ++digits, ++at_)
          value = value * 16 + (Peek() <= '9' ? Peek() - '0' : (Peek() | 32) - 'a' + 10);
        if (digits == 0 || (braced && !Take("}")) || (!braced && c == 'u' && digits != 4) ||
            value > kMaxCodePoint || (!braced && c == 'x' && value >= 0x80))
          break;
        return CodePointSet{{value, value}};
      }
      default: {
        constexpr std::string_view kNames = "tnrfvae", kValues = "\t\n\r\f\v\a\x1b";
        if (const size_t i = kNames.find(c); i != std::string_view::npos) {
          ++at_;
          const uint32_t value = static_cast<uint8_t>(kValues[i]);
          return CodePointSet{{value, value}};
        }
        if (std::isalnum(static_cast<unsigned char>(c))) break;
        const char32_t value = TakeChar();
        return CodePointSet{{value, value}};
      }
    }
    at_ = start;
    return Unsupported("this escape");
  }

  // After the opening bracket.
  Result<CodePointSet> Class(Options options, int depth) {
    if (depth > kMaxDepth) return Unsupported("nested too deep");
    const bool negate = Take("^");
    CodePointSet set, all_of = CodePointSet::All();
    bool first = true;
    while (true) {
      if (AtEnd()) return Unsupported("a character class without end");
      if (Peek() == ']' && !(first && pattern_.find(']', at_ + 1) != std::string_view::npos)) {
        ++at_;
        break;
      }
      first = false;
      if (Take("&&")) {
        all_of = all_of.Intersection(set);
        set = {};
        continue;
      }
      if (Peek() == '[') {
        TESSERA_TRY(const CodePointSet inner, Bracket(options, depth));
        set = set.Union(inner);
        continue;
      }
      bool is_class = false;
      TESSERA_TRY(const CodePointSet from, ClassItem(is_class));
      if (!is_class && Peek() == '-' && Peek(1) != ']' && Peek(1) != '[' &&
          at_ + 1 < pattern_.size() && !(Peek(1) == '&' && Peek(2) == '&')) {
        ++at_;
        TESSERA_TRY(const CodePointSet to, ClassItem(is_class));
        if (is_class || to.ranges()[0].first < from.ranges()[0].first)
          return Unsupported("this range");
        set = set.Union({{from.ranges()[0].first, to.ranges()[0].first}});
      } else {
        set = set.Union(from);
      }
    }
    set = set.Intersection(all_of);
    if (options.ignore_case) set = set.CaseClosed();
    return negate ? set.Complement() : set;
  }

  Result<CodePointSet> ClassItem(bool& is_class) {
    if (Peek() == '\\') {
      if (Peek(1) == 'b') {  // backspace, inside a class
        at_ += 2;
        return CodePointSet{{8, 8}};
      }
      return EscapedSet(is_class);
    }
    const char32_t c = TakeChar();
    return CodePointSet{{c, c}};
  }

  // A nested class or a POSIX bracket.
  Result<CodePointSet> Bracket(Options options, int depth) {
    if (!pattern_.substr(at_).starts_with("[:")) {
      ++at_;
      return Class(options, depth + 1);
    }
    const size_t close = pattern_.find(":]", at_);
    std::string_view name =
        close == std::string_view::npos ? "" : pattern_.substr(at_ + 2, close - at_ - 2);
    const bool negate = name.starts_with('^');
    if (negate) name.remove_prefix(1);
    CodePointSet set;
    if (name == "punct" || name == "word")
      set = TableSet(std::string(name) + "_bracket");
    else if (name == "digit")
      set = TableSet("nd");
    else if (name == "xdigit" || name == "ascii")
      set = *PropertySet(name);
    else if (name == "alpha" || name == "alnum" || name == "upper" || name == "lower" ||
             name == "space" || name == "blank" || name == "cntrl" || name == "graph" ||
             name == "print")
      set = TableSet(name);
    else
      return Unsupported("this POSIX bracket");
    at_ = close + 2;
    return negate ? set.Complement() : set;
  }

  const std::string_view pattern_, field_;
  size_t at_ = 0;
};

}  // namespace

Result<RegexNode> ParseRegex(std::string_view pattern, std::string_view field) {
  return Parser(pattern, field).Parse();
}

}  // namespace tessera
