#include "tests/cuda/wrapper_golden.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

namespace tessera::cuda_test {
namespace {

using Json = nlohmann::ordered_json;

bool Near(float a, float b, double relative, double absolute) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return true;
  const double difference = std::fabs(double{a} - double{b});
  return difference <= relative * std::max(std::fabs(double{a}), std::fabs(double{b})) + absolute;
}

}  // namespace

void WrapperGolden::KeepExact(std::string_view word, std::span<const unsigned char> bytes) {
  uint64_t digest = 14695981039346656037u;
  for (const unsigned char byte : bytes) digest = (digest ^ byte) * 1099511628211u;
  words_[std::string(word)].push_back({.size = bytes.size(), .digest = digest});
}

void WrapperGolden::KeepNear(std::string_view word, std::span<const float> values, double relative,
                             double absolute) {
  words_[std::string(word)].push_back({.size = values.size(),
                                       .near = {values.begin(), values.end()},
                                       .relative = relative,
                                       .absolute = absolute});
}

std::string WrapperGolden::ToJson(std::string_view device) const {
  Json words = Json::object();
  for (const auto& [word, outputs] : words_) {
    Json list = Json::array();
    for (const Output& output : outputs) {
      if (output.near.empty()) {
        list.push_back({{"bytes", output.size}, {"fnv1a", fmt::format("{:016x}", output.digest)}});
        continue;
      }
      std::string bits;  // eight digits a number: exact, and one line
      for (const float x : output.near) bits += fmt::format("{:08x}", std::bit_cast<uint32_t>(x));
      list.push_back({{"numbers", output.size}, {"fp32", bits}});
    }
    words[word] = std::move(list);
  }
  return Json{{"device", device}, {"words", std::move(words)}}.dump(1) + "\n";
}

std::vector<std::string> WrapperGolden::DifferencesFrom(const std::string& json) const {
  std::vector<std::string> differences;
  const Json file = Json::parse(json, nullptr, false);
  if (file.is_discarded() || !file.contains("words")) return {"the file is not a golden"};
  const Json& recorded = file["words"];
  for (const auto& [word, list] : recorded.items())
    if (!words_.contains(word)) differences.push_back(word + ": recorded, but did not run");
  for (const auto& [word, outputs] : words_) {
    if (!recorded.contains(word) || recorded[word].size() != outputs.size()) {
      differences.push_back(word + ": recorded with other outputs; record anew");
      continue;
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Output& now = outputs[i];
      const Json& then = recorded[word][i];
      if (now.near.empty()) {
        if (then.value("bytes", uint64_t{0}) != now.size ||
            then.value("fnv1a", "") != fmt::format("{:016x}", now.digest))
          differences.push_back(fmt::format("{}: output {}: other bits", word, i));
        continue;
      }
      const std::string bits = then.value("fp32", "");
      if (bits.size() != now.near.size() * 8) {
        differences.push_back(fmt::format("{}: output {}: another number of numbers", word, i));
        continue;
      }
      for (size_t n = 0; n < now.near.size(); ++n) {
        const auto was = std::bit_cast<float>(
            static_cast<uint32_t>(std::strtoul(bits.substr(n * 8, 8).c_str(), nullptr, 16)));
        if (Near(now.near[n], was, now.relative, now.absolute)) continue;
        differences.push_back(
            fmt::format("{}: output {}, number {}: {} against {}", word, i, n, now.near[n], was));
        break;
      }
    }
  }
  return differences;
}

}  // namespace tessera::cuda_test
