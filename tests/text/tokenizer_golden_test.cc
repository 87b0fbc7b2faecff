// Every committed tokenizer against what the `tokenizers` library says
// (tools/golden/make_tokenizer_cases.py).
#include <gtest/gtest.h>

#include <filesystem>

#include "tools/verify/cases.h"

namespace tessera {
namespace {

const std::filesystem::path kData = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/text/data";

class TokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, EqualsTheLibrary) {
  verify::Report report;
  verify::CheckTokenizerCases(kData / GetParam(), kData / GetParam() / "cases.json", report);
  EXPECT_EQ(report.failures(), 0u) << report.ToText(false).substr(0, 4000);
  // The counts line: a file that lost its cases would pass unseen
  const std::string text = report.ToText(false);
  EXPECT_GE(std::stoul(text.substr(text.rfind('\n', text.size() - 2) + 1)), 1000u) << text;
}

INSTANTIATE_TEST_SUITE_P(Data, TokenizerGolden,
                         testing::Values("llama3", "gpt2", "o200k", "llama2", "metaspace", "clip"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TokenizerGoldenReport, WrongCasesFail) {
  verify::Report report;
  verify::CheckTokenizerCases(kData / "gpt2", kData / "llama3" / "cases.json", report);
  EXPECT_GT(report.failures(), 100u);
  verify::Report missing;
  verify::CheckTokenizerCases(kData / "gpt2", kData / "gpt2" / "nothing.json", missing);
  EXPECT_EQ(missing.failures(), 1u);
}

}  // namespace
}  // namespace tessera
