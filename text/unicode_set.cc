#include "text/unicode_set.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/check.h"

namespace tessera {
namespace {

// Names of general categories and their groups, each as the table's two-letter names.
struct Alias {
  std::string_view name, members;
};
constexpr Alias kAliases[] = {
    {"l", "lu ll lt lm lo"},
    {"letter", "lu ll lt lm lo"},
    {"lc", "lu ll lt"},
    {"casedletter", "lu ll lt"},
    {"uppercaseletter", "lu"},
    {"lowercaseletter", "ll"},
    {"titlecaseletter", "lt"},
    {"modifierletter", "lm"},
    {"otherletter", "lo"},
    {"m", "mn mc me"},
    {"mark", "mn mc me"},
    {"combiningmark", "mn mc me"},
    {"nonspacingmark", "mn"},
    {"spacingmark", "mc"},
    {"enclosingmark", "me"},
    {"n", "nd nl no"},
    {"number", "nd nl no"},
    {"decimalnumber", "nd"},
    {"digit", "nd"},
    {"letternumber", "nl"},
    {"othernumber", "no"},
    {"p", "pc pd ps pe pi pf po"},
    {"punctuation", "pc pd ps pe pi pf po"},
    {"punct", "pc pd ps pe pi pf po"},
    {"connectorpunctuation", "pc"},
    {"dashpunctuation", "pd"},
    {"openpunctuation", "ps"},
    {"closepunctuation", "pe"},
    {"initialpunctuation", "pi"},
    {"finalpunctuation", "pf"},
    {"otherpunctuation", "po"},
    {"s", "sm sc sk so"},
    {"symbol", "sm sc sk so"},
    {"mathsymbol", "sm"},
    {"currencysymbol", "sc"},
    {"modifiersymbol", "sk"},
    {"othersymbol", "so"},
    {"z", "zs zl zp"},
    {"separator", "zs zl zp"},
    {"spaceseparator", "zs"},
    {"lineseparator", "zl"},
    {"paragraphseparator", "zp"},
    {"c", "cc cf co cn"},
    {"other", "cc cf co cn"},
    {"control", "cc"},
    {"format", "cf"},
    {"privateuse", "co"},
    {"unassigned", "cn"},
    {"whitespace", "space"},
    {"alphabetic", "alpha"},
    {"uppercase", "upper"},
    {"lowercase", "lower"},
};

const NamedCodePointSet* FindTableSet(std::string_view name) {
  for (const NamedCodePointSet& set : UnicodeSets())
    if (set.name == name) return &set;
  return nullptr;
}

}  // namespace

CodePointSet::CodePointSet(std::span<const CodePointRange> ranges) {
  std::vector<CodePointRange> sorted;
  for (const CodePointRange& range : ranges)
    if (range.first <= range.last) sorted.push_back(range);
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const CodePointRange& range : sorted) {
    if (!ranges_.empty() && range.first <= ranges_.back().last + 1)
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    else
      ranges_.push_back(range);
  }
}

bool CodePointSet::Contains(uint32_t c) const {
  const auto it = std::upper_bound(
      ranges_.begin(), ranges_.end(), c,
      [](uint32_t value, const CodePointRange& range) { return value < range.first; });
  return it != ranges_.begin() && c <= std::prev(it)->last;
}

CodePointSet CodePointSet::Complement() const {
  CodePointSet out;
  uint32_t next = 0;
  for (const CodePointRange& range : ranges_) {
    if (range.first > next) out.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kMaxCodePoint) out.ranges_.push_back({next, kMaxCodePoint});
  return out;
}

CodePointSet CodePointSet::Union(const CodePointSet& other) const {
  std::vector<CodePointRange> all = ranges_;
  all.insert(all.end(), other.ranges_.begin(), other.ranges_.end());
  return CodePointSet(all);
}

CodePointSet CodePointSet::Intersection(const CodePointSet& other) const {
  return Complement().Union(other.Complement()).Complement();
}

CodePointSet CodePointSet::CaseClosed() const {
  std::vector<CodePointRange> all = ranges_;
  const std::span<const uint32_t> orbits = CaseOrbits();
  for (size_t begin = 0; begin < orbits.size();) {
    const size_t end = std::find(orbits.begin() + begin, orbits.end(), 0u) - orbits.begin();
    const auto orbit = orbits.subspan(begin, end - begin);
    if (std::any_of(orbit.begin(), orbit.end(), [&](uint32_t c) { return Contains(c); }))
      for (const uint32_t c : orbit) all.push_back({c, c});
    begin = end + 1;
  }
  return CodePointSet(all);
}

CodePointSet TableSet(std::string_view name) {
  const NamedCodePointSet* set = FindTableSet(name);
  TESSERA_CHECK(set != nullptr, "no set named {} in the Unicode table", name);
  return CodePointSet(set->ranges);
}

std::optional<CodePointSet> PropertySet(std::string_view name) {
  std::string key;
  for (const char c : name) {
    if (c == ' ' || c == '-' || c == '_') continue;
    key += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  if (key == "any") return CodePointSet::All();
  if (key == "ascii") return CodePointSet{{0, 0x7F}};
  if (key == "xdigit") return CodePointSet{{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
  if (key == "assigned") return TableSet("cn").Complement();
  for (const Alias& alias : kAliases) {
    if (alias.name != key) continue;
    CodePointSet set;
    for (std::string_view rest = alias.members; !rest.empty();) {
      const std::string_view member = rest.substr(0, rest.find(' '));
      set = set.Union(TableSet(member));
      rest.remove_prefix(std::min(rest.size(), member.size() + 1));
    }
    return set;
  }
  if (key.empty() || key[0] == '#' || key.ends_with("bracket")) return std::nullopt;
  const NamedCodePointSet* set = FindTableSet(key);
  if (set == nullptr) return std::nullopt;
  return CodePointSet(set->ranges);
}

CodePointBits::CodePointBits(const CodePointSet& set) : words_((kMaxCodePoint >> 6) + 1) {
  for (const CodePointRange& range : set.ranges())
    for (uint32_t c = range.first; c <= range.last; ++c) words_[c >> 6] |= uint64_t{1} << (c & 63);
}

}  // namespace tessera
