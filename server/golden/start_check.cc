#include "server/golden/start_check.h"

#include <cstdio>
#include <string>
#include <utility>

#include "server/golden/golden_file.h"

namespace tessera::verify {
namespace {

constexpr const char* Word(UnseenRows rows) {
  return rows == UnseenRows::kZero ? "unseen_rows zero" : "unseen_rows attend";
}

}  // namespace

Result<std::filesystem::path> FindGolden(const std::filesystem::path& model,
                                         std::optional<UnseenRows> rows) {
  std::string found;
  for (const std::filesystem::path& directory : {model, model / "zero"}) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(directory / "cases.json", error)) continue;
    TESSERA_TRY(const GoldenFile golden, GoldenFile::Open(directory));
    const UnseenRows made = golden.spec().value("unseen_rows", "attend") == "zero"
                                ? UnseenRows::kZero
                                : UnseenRows::kAttend;
    if (!rows || made == *rows) return directory;
    found += (found.empty() ? "" : ", ") + std::string(Word(made));
  }
  return Fail(ErrorCode::kNotFound, "the model has no golden of the mode that is served",
              {.field = "--verify",
               .limit = found.empty() ? "no cases.json" : "goldens of " + found,
               .value = rows ? Word(*rows) : "text"});
}

Result<void> VerifyBeforeServing(ModelCaseOptions options, std::optional<UnseenRows> rows) {
  if (options.weights == WeightFormat::kInt8 || options.weights == WeightFormat::kInt4) {
    return Fail(ErrorCode::kInvalidArgument, "goldens bound fp32 and half weights, not these",
                {.field = "--verify with --weights",
                 .limit = "auto, fp32, fp16, bf16",
                 .value = std::string(Name(options.weights))});
  }
  TESSERA_TRY(options.golden, FindGolden(options.model, rows));
  Report report;
  TESSERA_RETURN_IF_ERROR(CheckModelCases(options, report));
  std::fprintf(stderr, "%s\n", report.ToText(/*all=*/false).c_str());
  if (report.failures() == 0) return {};
  return Fail(
      ErrorCode::kInternal, "the model does not give what its golden holds",
      {.field = "--verify", .limit = "0 failures", .value = std::to_string(report.failures())});
}

}  // namespace tessera::verify
