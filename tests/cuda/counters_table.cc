#include "tests/cuda/counters_table.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

namespace tessera::cuda_test {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kTable = TESSERA_SOURCE_DIR "/tests/cuda/counters.json";

struct Sums {
  double load = 0, load_moved = 0, store = 0, store_moved = 0;
  double wavefronts = 0, ideal_wavefronts = 0, flops = 0;
  void Add(const Moved& m, double times) {
    load += times * static_cast<double>(m.load_bytes);
    load_moved += times * static_cast<double>(m.load_moved);
    store += times * static_cast<double>(m.store_bytes);
    store_moved += times * static_cast<double>(m.store_moved);
    wavefronts += times * static_cast<double>(m.wavefronts);
    ideal_wavefronts += times * static_cast<double>(m.ideal_wavefronts);
    flops += times * static_cast<double>(m.matrix_flops);
  }
};

}  // namespace

void CountersTable::Measure(const std::string& name, const std::string& kernel, const Least& least,
                            const Limits& limits, const std::vector<Part>& parts) {
  SCOPED_TRACE(name);
  Sums sum;
  for (const Part& part : parts) {
    ForSchedules(1, [&](uint64_t) {
      ForgetCounters();
      part.run();
    });
    const Moved moved = TakeCounters(kernel);
    counted_ &= moved.counted;
    sum.Add(moved, part.times);
  }
  if (!counted_) return;
  // Five digits: the file says what is compared.
  const auto ratio = [](double a, double b) { return b > 0 ? std::round(a / b * 1e4) / 1e4 : 1; };
  const double bytes = ratio(sum.load_moved + sum.store_moved, least.bytes),
               flops = ratio(sum.flops, least.flops), loads = ratio(sum.load, sum.load_moved),
               stores = ratio(sum.store, sum.store_moved),
               wavefronts = ratio(sum.wavefronts, sum.ideal_wavefronts);
  EXPECT_GE(bytes, 1.0) << "the least is wrong";
  EXPECT_GE(flops, 1.0) << "the least is wrong";
  EXPECT_LE(bytes, limits.bytes);
  EXPECT_LE(flops, limits.flops);
  EXPECT_GE(loads, limits.loads);
  EXPECT_GE(stores, 0.95);
  EXPECT_LE(wavefronts, limits.wavefronts);
  table_[name] = {
      {"kernel", kernel},        {"megabytes", std::round(sum.load_moved + sum.store_moved) / 1e6},
      {"bytes", bytes},          {"flops", flops},
      {"load_sectors", loads},   {"store_sectors", stores},
      {"wavefronts", wavefronts}};
  fmt::print("{:24} {:18} {:10.3f} {:8.4f} {:8.4f} {:8.4f} {:8.4f} {:8.4f}\n", name, kernel,
             (sum.load_moved + sum.store_moved) / 1e6, bytes, flops, loads, stores, wavefronts);
}

void CountersTable::Compare() const {
  if (std::getenv("TESSERA_RECORD_COUNTERS") != nullptr) {
    // A case a line
    std::ofstream to(kTable);
    to << "{\n \"cases\": {\n";
    size_t left = table_.size();
    for (const auto& [name, now] : table_.items())
      to << "  " << Json(name).dump() << ": " << now.dump() << (--left > 0 ? ",\n" : "\n");
    to << " }\n}\n";
    return;
  }
  std::ifstream file(kTable);
  ASSERT_TRUE(file) << kTable << " is missing: TESSERA_RECORD_COUNTERS=1 writes it";
  const Json recorded = Json::parse(file).at("cases");
  EXPECT_EQ(recorded.size(), table_.size()) << "cases of another test: record anew";
  for (const auto& [name, now] : table_.items()) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(recorded.contains(name)) << "not recorded";
    const Json& then = recorded[name];
    for (const char* key : {"megabytes", "bytes", "flops", "wavefronts"})
      EXPECT_LE(now[key].get<double>(), then.at(key).get<double>()) << key;
    for (const char* key : {"load_sectors", "store_sectors"})
      EXPECT_GE(now[key].get<double>(), then.at(key).get<double>()) << key;
  }
}

}  // namespace tessera::cuda_test
