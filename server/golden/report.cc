#include "server/golden/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

namespace tessera::verify {
namespace {

std::string_view OutcomeName(Row::Outcome outcome) {
  switch (outcome) {
    case Row::Outcome::kPass: return "pass";
    case Row::Outcome::kFail: return "FAIL";
    case Row::Outcome::kSkipped: return "skip";
  }
  return "FAIL";
}

}  // namespace

void Report::Add(Row row) { rows_.push_back(std::move(row)); }
void Report::Pass(std::string case_id, std::string stage, std::string detail) {
  Add({std::move(case_id), std::move(stage), Row::Outcome::kPass, std::move(detail)});
}
void Report::Fail(std::string case_id, std::string stage, std::string detail) {
  Add({std::move(case_id), std::move(stage), Row::Outcome::kFail, std::move(detail)});
}
void Report::Skip(std::string case_id, std::string stage, std::string detail) {
  Add({std::move(case_id), std::move(stage), Row::Outcome::kSkipped, std::move(detail)});
}

size_t Report::failures() const {
  return std::count_if(rows_.begin(), rows_.end(),
                       [](const Row& row) { return row.outcome == Row::Outcome::kFail; });
}

std::string Report::ToText(bool all) const {
  std::string out;
  size_t passed = 0, skipped = 0;
  for (const Row& row : rows_) {
    passed += row.outcome == Row::Outcome::kPass;
    skipped += row.outcome == Row::Outcome::kSkipped;
    if (row.outcome == Row::Outcome::kPass && !all) continue;
    out += fmt::format("{}  {:<24} {:<20}", OutcomeName(row.outcome), row.case_id, row.stage);
    if (row.max_abs_error >= 0)
      out += fmt::format(" max abs {:.3g}, {:.3g} of std (bound {:.3g})", row.max_abs_error,
                         row.relative_error, row.bound);
    if (!row.detail.empty()) out += "  " + row.detail;
    while (out.ends_with(' ')) out.pop_back();
    out += '\n';
  }
  out += fmt::format("{} passed, {} failed, {} skipped\n", passed, failures(), skipped);
  return out;
}

std::string Report::ToJson() const {
  nlohmann::ordered_json out;
  out["failed"] = failures();
  out["rows"] = nlohmann::ordered_json::array();
  for (const Row& row : rows_) {
    nlohmann::ordered_json item{
        {"case", row.case_id}, {"stage", row.stage}, {"outcome", OutcomeName(row.outcome)}};
    if (row.max_abs_error >= 0) {
      item["max_abs_error"] = row.max_abs_error;
      item["relative_error"] = row.relative_error;
      item["bound"] = row.bound;
    }
    if (!row.detail.empty()) item["detail"] = row.detail;
    out["rows"].push_back(std::move(item));
  }
  return out.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace tessera::verify
