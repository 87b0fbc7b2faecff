// What `tessera-verify` prints: one row per case and stage, then a count. Exit code 0 only if no
// row failed.
#pragma once

#include <filesystem>
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

// Each part checks one kind of golden (docs/fidelity.md) and adds its rows; an unreadable file is a
// failed row.
void CheckTokenizerCases(const std::filesystem::path& tokenizer_dir,
                         const std::filesystem::path& cases, Report& report);
void CheckChatCases(const std::filesystem::path& tokenizer_dir, const std::filesystem::path& cases,
                    Report& report);
void CheckImageCases(const std::filesystem::path& expected_dir,
                     const std::filesystem::path& images_dir, Report& report);

}  // namespace tessera::verify
