// What holding something to a golden gives: one row per case and stage, then a count.
#pragma once

#include <string>
#include <vector>

namespace tessera::verify {

struct Row {
  std::string case_id;
  std::string stage;  // e.g. "input_ids", "pixel_values", "logits", "rendered"
  enum class Outcome { kPass, kFail, kSkipped } outcome = Outcome::kPass;
  std::string detail;  // for failures: worst index, expected and got; for skips: why
  // Numbers of tensor comparisons, negative where they do not apply.
  double max_abs_error = -1;
  double relative_error = -1;  // max_abs_error over the golden tensor's standard deviation
  double bound = -1;           // in the unit of relative_error
};

class Report {
 public:
  // Thread-compatible. Rows are kept in the order they came.
  void Add(Row row);
  void Pass(std::string case_id, std::string stage, std::string detail = {});
  void Fail(std::string case_id, std::string stage, std::string detail);
  void Skip(std::string case_id, std::string stage, std::string detail);

  size_t failures() const;
  // Human: failures and skips always, passes only when `all`; then "N passed, N failed, N skipped".
  // JSON: everything.
  std::string ToText(bool all) const;
  std::string ToJson() const;

 private:
  std::vector<Row> rows_;
};

}  // namespace tessera::verify
