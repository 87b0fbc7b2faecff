// Packed weights from a file: the same model, only faster; rebuilt when stale or damaged in any
// byte; never in the way of loading.
#include "model/weight_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "kernels/factory.h"
#include "model/model.h"
#include "tests/model/golden_data.h"
#include "tests/model/model_driver.h"
#include "tests/model/temp_dir.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(Checksum64, DependsOnEveryByteAndTheLength) {
  std::vector<std::byte> bytes(101);
  const uint64_t plain = Checksum64(bytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = std::byte{1};
    EXPECT_NE(Checksum64(bytes), plain) << i;
    bytes[i] = std::byte{0};
    EXPECT_NE(Checksum64(std::span(bytes).first(i)), plain) << i;
  }
}

class WeightCacheTest : public testing::TestWithParam<WeightFormat> {
 protected:
  WeightCacheTest() {
    for (const auto& entry :
         fs::directory_iterator(fs::path(TESSERA_SOURCE_DIR) / "tests/model/data/mllama-odd"))
      if (entry.is_regular_file()) fs::copy(entry.path(), model_.path());
  }
  // Logits of the first case, and the note.
  std::vector<float> Run() {
    note_.clear();
    DriverOptions options{.backend = {.device = "cpu", .cpu_isa = "reference"}};
    options.load.format = GetParam();
    options.load.cache_dir = cache_.path();
    options.load.note = [this](std::string_view line) { note_ = line; };
    auto driver = ModelDriver::Load(model_.path(), options);
    EXPECT_TRUE(driver) << driver.error().Describe();
    if (!driver) return {};
    bytes_ = (*driver)->model().weight_bytes();
    auto golden = Golden::Open(model_.path());
    EXPECT_TRUE(golden) << golden.error().Describe();
    return golden ? (*driver)->Run((*golden)->cases().front(), 1, 64, 0).logits
                  : std::vector<float>{};
  }
  fs::path File() const {
    for (const auto& entry : fs::directory_iterator(cache_.path())) return entry.path();
    return {};
  }
  size_t Files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(cache_.path()), {}));
  }

  const TempDir model_, cache_;
  std::string note_;
  size_t bytes_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Formats, WeightCacheTest,
                         testing::Values(WeightFormat::kAuto, WeightFormat::kBF16,
                                         WeightFormat::kInt8, WeightFormat::kInt4),
                         [](const auto& info) { return std::string(Name(info.param)); });

TEST_P(WeightCacheTest, SecondStartIsTheSameModel) {
  const std::vector<float> first = Run();
  EXPECT_THAT(note_, HasSubstr("weight cache written"));
  ASSERT_EQ(Files(), 1u);
  const size_t bytes = bytes_;
  const std::vector<float> second = Run();
  EXPECT_THAT(note_, HasSubstr("weight cache used"));
  EXPECT_EQ(first, second);
  EXPECT_EQ(bytes, bytes_);
}

TEST_P(WeightCacheTest, StaleIsRebuilt) {
  Run();
  for (const auto& entry : fs::directory_iterator(model_.path())) {
    if (entry.path().filename().string().starts_with("model") &&
        entry.path().extension() == ".safetensors")
      fs::last_write_time(entry.path(), entry.last_write_time() + std::chrono::seconds(1));
  }
  Run();
  EXPECT_THAT(note_, HasSubstr("weight cache rebuilt, it was stale"));
  std::ofstream(model_.path() / "config.json", std::ios::app) << "\n";
  Run();
  EXPECT_THAT(note_, HasSubstr("weight cache rebuilt, it was stale"));
  Run();
  EXPECT_THAT(note_, HasSubstr("weight cache used"));
  EXPECT_EQ(Files(), 1u);
}

TEST_P(WeightCacheTest, DamagedAnywhereIsRebuilt) {
  const std::vector<float> good = Run();
  // Header, a matrix, the index; 50 places over the whole file, of which gaps do no harm
  for (int64_t i = 0; i < 50; ++i) {
    const auto size = static_cast<int64_t>(fs::file_size(File()));
    const int64_t at = i < 20 ? i * 2 : (size - 1) * (i - 20) / 29;
    char byte = 0;
    {
      std::fstream file(File(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(at);
      file.get(byte);
      file.seekp(at);
      file.put(static_cast<char>(byte ^ 0x10));
    }
    ASSERT_EQ(Run(), good) << at;
    if (i < 6 || i == 49) {
      EXPECT_THAT(note_, HasSubstr("weight cache rebuilt, it was")) << at;
    }
    if (note_.find("used") != std::string::npos) {  // a gap; put it right
      EXPECT_EQ(byte, 0) << at;
      std::fstream file(File(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(at);
      file.put(byte);
    }
  }
  const auto size = static_cast<int64_t>(fs::file_size(File()));
  for (const int64_t length : {size - 1, size / 2, int64_t{64}, int64_t{63}, int64_t{0}}) {
    fs::resize_file(File(), static_cast<uintmax_t>(length));
    ASSERT_EQ(Run(), good) << length;
    EXPECT_THAT(note_, HasSubstr("weight cache rebuilt, it was damaged")) << length;
  }
}

TEST_P(WeightCacheTest, NoRoomAndNoDirectoryAreNoHindrance) {
  // Files may grow to 8 KiB, as on a disk that is full by then
  struct rlimit old {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit low = {8192, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  const std::vector<float> full = Run();
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(note_, HasSubstr("weight cache not written: cannot be used"));
  EXPECT_EQ(Files(), 0u) << "what was begun is removed";
  fs::remove(cache_.path());
  EXPECT_EQ(Run(), full);
  EXPECT_THAT(note_, HasSubstr("weight cache not written"));
  fs::create_directory(cache_.path());
  // What a process that died left behind is taken over
  std::ofstream(cache_.path() / "left").put('x');
  EXPECT_EQ(Run(), full);
  fs::remove(cache_.path() / "left");
  fs::rename(File(), File().string() + ".partial");
  EXPECT_EQ(Run(), full);
  EXPECT_EQ(Files(), 1u);
  EXPECT_THAT(note_, HasSubstr("weight cache written"));
}

}  // namespace
}  // namespace tessera::test
