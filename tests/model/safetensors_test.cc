// The safetensors reader on well-formed, hostile and mutated files: one clear error, at once, never
// a crash.
#include "model/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "tests/model/temp_dir.h"
#include "tests/support/thread_time.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

std::string LittleEndian64(uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[static_cast<size_t>(i)] = static_cast<char>(value >> (8 * i));
  return bytes;
}

std::string File(const std::string& header, size_t data_bytes) {
  return LittleEndian64(header.size()) + header + std::string(data_bytes, '\1');
}

Result<std::unique_ptr<SafetensorsFile>> Parse(const std::string& bytes) {
  return SafetensorsFile::FromBytes(std::as_bytes(std::span(bytes)));
}

std::string Refusal(const std::string& bytes) {
  const auto file = Parse(bytes);
  return file ? "accepted" : file.error().Describe();
}

constexpr char kTwo[] =
    R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"__metadata__":{"format":"pt"},)"
    R"("b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}})";

TEST(Safetensors, ReadsWhatTheFormatAllows) {
  const std::string bytes = File(kTwo, 26);
  const auto file = Parse(bytes);
  ASSERT_TRUE(file) << file.error().Describe();
  ASSERT_EQ((*file)->tensors().size(), 2u);
  EXPECT_EQ(ShapeAndType((*file)->tensors()[0]), "[2, 3] F32");
  EXPECT_EQ((*file)->tensors()[1].data - (*file)->tensors()[0].data, 24);
  EXPECT_TRUE(Parse(File("{}", 0)));
  EXPECT_TRUE(Parse(File("{}   ", 0)));  // padded with spaces
  // Empty tensors, and data that is not aligned to its dtype, are legal
  EXPECT_TRUE(Parse(File(R"({"e":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]}})", 0)));
  EXPECT_TRUE(Parse(File(R"({"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                         R"("f":{"dtype":"F32","shape":[1],"data_offsets":[3,7]}})",
                         7)));
}

TEST(Safetensors, RefusesLyingHeaders) {
  EXPECT_THAT(Refusal(""), HasSubstr("too short"));
  EXPECT_THAT(Refusal("1234567"), HasSubstr("too short"));
  for (const uint64_t length : {uint64_t{3}, uint64_t{1} << 24, (uint64_t{1} << 24) + 1,
                                uint64_t{1} << 62, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    EXPECT_THAT(Refusal(LittleEndian64(length) + "{}"), HasSubstr("header length")) << length;
  }
  EXPECT_THAT(Refusal(LittleEndian64(1) + "{}"), HasSubstr("bad header"));
  const std::string whole = File(kTwo, 26);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(Refusal(whole.substr(0, size)), "accepted") << "cut to " << size;
  }
  EXPECT_THAT(Refusal(whole + "x"), HasSubstr("belongs to no tensor"));
}

struct BadHeader {
  const char* name;
  std::string header;
  size_t data;
  const char* says;
};

TEST(Safetensors, RefusesBadTensors) {
  const auto one = [](const std::string& dtype, const std::string& shape,
                      const std::string& offsets) {
    return fmt::format(R"({{"t":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", dtype, shape,
                       offsets);
  };
  const std::string part = R"({"dtype":"U8","shape":[4],"data_offsets":)";
  const BadHeader cases[] = {
      {"size", one("F32", "[2]", "[0,4]"), 4, "8 bytes"},
      {"beyond the file", one("F32", "[2]", "[0,8]"), 4, "within 4 data bytes"},
      {"backwards", one("F32", "[2]", "[8,0]"), 8, "[8, 0]"},
      {"overflow", one("F32", "[4611686018427387904,4]", "[0,0]"), 0, "no overflow"},
      {"overflow to a small size", one("U8", "[4294967296,4294967296]", "[0,0]"), 0, "no overflow"},
      {"extent beyond 63 bits", one("U8", "[9223372036854775808]", "[0,0]"), 0, "2^63"},
      {"extent beyond 64 bits", one("U8", "[99999999999999999999999]", "[0,0]"), 0, "no integer"},
      {"negative extent", one("U8", "[-1]", "[0,0]"), 0, "negative"},
      {"fraction", one("U8", "[1.5]", "[0,1]"), 1, "no integer"},
      {"negative offset", one("U8", "[1]", "[-1,0]"), 1, "negative"},
      {"rank", one("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "rank above 8"},
      {"dtype", one("F31", "[1]", "[0,4]"), 4, "F31"},
      {"half a byte", one("F4", "[3]", "[0,1]"), 1, "no overflow"},
      {"three offsets", one("U8", "[1]", "[0,1,1]"), 1, "two numbers"},
      {"one offset", one("U8", "[1]", "[0]"), 1, "two numbers"},
      {"overlap", R"({"a":)" + part + R"([0,4]},"b":)" + part + "[2,6]}}", 6,
       "without hole or overlap"},
      {"same place", R"({"a":)" + part + R"([0,4]},"b":)" + part + "[0,4]}}", 4,
       "without hole or overlap"},
      {"hole", R"({"a":)" + part + R"([0,4]},"b":)" + part + "[5,9]}}", 9,
       "without hole or overlap"},
      {"hole in front", R"({"a":)" + part + "[1,5]}}", 5, "without hole or overlap"},
      {"same name", R"({"a":)" + part + R"([0,4]},"a":)" + part + "[4,8]}}", 8, "twice"},
      {"key twice", R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
       "twice"},
      {"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", 0, "twice"},
      {"metadata key twice", R"({"__metadata__":{"a":"b","a":"c"}})", 0, "twice"},
      {"metadata number", R"({"__metadata__":{"a":1}})", 0, "number"},
      {"missing shape", R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "missing"},
      {"unknown key", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1,
       "unknown key"},
      {"array", "[]", 0, "array"},
      {"null", "null", 0, "null"},
      {"nothing", "", 0, "bad header"},
      {"tensor is a number", R"({"a":1})", 0, "number"},
      {"invalid utf-8", "{\"\xff\":1}", 0, "bad header"},
      {"deep", "{\"a\":" + std::string(100000, '[') + "}", 0, "array"},
      {"trailing text", "{}{}", 0, "bad header"},
  };
  for (const BadHeader& c : cases)
    EXPECT_THAT(Refusal(File(c.header, c.data)), HasSubstr(c.says)) << c.name;
}

TEST(Safetensors, LimitsTheNumberOfTensors) {
  const auto build = [](size_t count) {
    std::string header = "{";
    for (size_t i = 0; i < count; ++i) {
      header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                            i == 0 ? "" : ",", i);
    }
    return File(header + "}", 0);
  };
  const double begin = test::ThreadSeconds();
  EXPECT_TRUE(Parse(build(kMaxTensors)));
  EXPECT_THAT(Refusal(build(kMaxTensors + 1)), HasSubstr("100000"));
  EXPECT_LT(test::ThreadSeconds() - begin, 20);
}

// Every result is an error, or tensors whose bytes all lie in the file.
TEST(Safetensors, TenThousandMutatedFiles) {
  const std::string whole = File(kTwo, 26);
  std::mt19937 random(7);
  int accepted = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::string bytes = whole;
    for (unsigned edits = 1 + random() % 3; edits > 0 && !bytes.empty(); --edits) {
      const size_t at = random() % bytes.size();
      switch (random() % 5) {
        case 0: bytes[at] = static_cast<char>(random()); break;
        case 1: bytes.erase(at, 1 + random() % 4); break;
        case 2: bytes.insert(at, 1 + random() % 4, "0123456789{}[],:\"-"[random() % 18]); break;
        case 3: bytes[at] = static_cast<char>('0' + random() % 10); break;
        default: bytes.resize(random() % bytes.size()); break;
      }
    }
    // Exactly as large as the file, so that a sanitizer sees any byte read beyond it
    const auto copy = std::make_unique<char[]>(bytes.size());
    if (!bytes.empty()) std::memcpy(copy.get(), bytes.data(), bytes.size());
    const auto file =
        SafetensorsFile::FromBytes(std::as_bytes(std::span(copy.get(), bytes.size())));
    if (!file) {
      EXPECT_FALSE(file.error().Describe().empty());
      continue;
    }
    ++accepted;
    for (const TensorEntry& entry : (*file)->tensors()) {
      const auto* begin = reinterpret_cast<const char*>(entry.data);
      ASSERT_GE(begin, copy.get());
      ASSERT_LE(begin + entry.bytes(), copy.get() + bytes.size());
    }
  }
  EXPECT_LT(accepted, 5000);
}

TEST(Checkpoint, ShardsAndIndexMustAgree) {
  const TempDir dir;
  const auto tensor = [](const char* name) {
    return File(fmt::format(R"({{"{}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}})", name),
                1);
  };
  const auto index = [&](const std::string& map) {
    dir.Write("model.safetensors.index.json", R"({"weight_map":)" + map + "}");
  };
  const auto refusal = [&] {
    const auto checkpoint = Checkpoint::Open(dir.path());
    return checkpoint ? std::string("accepted") : checkpoint.error().Describe();
  };
  EXPECT_THAT(refusal(), HasSubstr("no weights"));
  dir.Write("a.safetensors", tensor("x"));
  dir.Write("b.safetensors", tensor("y"));
  index(R"({"x":"a.safetensors","y":"b.safetensors"})");
  {
    const auto checkpoint = Checkpoint::Open(dir.path());
    ASSERT_TRUE(checkpoint) << checkpoint.error().Describe();
    EXPECT_NE(checkpoint->Find("x"), nullptr);
    EXPECT_NE(checkpoint->Find("y"), nullptr);
    EXPECT_EQ(checkpoint->Find("z"), nullptr);
    checkpoint->Release(*checkpoint->Find("x"));
  }
  index(R"({"x":"a.safetensors","z":"b.safetensors"})");
  EXPECT_THAT(refusal(), HasSubstr("lacks a tensor: z"));
  index(R"({"x":"a.safetensors"})");
  EXPECT_EQ(refusal(), "accepted");
  dir.Write("b.safetensors", tensor("x"));
  index(R"({"x":"b.safetensors"})");
  EXPECT_EQ(refusal(), "accepted");
  index(R"({"x":"a.safetensors","x":"b.safetensors"})");
  EXPECT_THAT(refusal(), HasSubstr("twice"));
  for (const char* outside :
       {"../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "", ".hidden", "a\\u0000b"}) {
    index(fmt::format(R"({{"x":"{}"}})", outside));
    EXPECT_THAT(refusal(), HasSubstr("must be a file name")) << outside;
  }
  index(R"({"x":7})");
  EXPECT_THAT(refusal(), HasSubstr("must be a file name"));
  index("[]");
  EXPECT_THAT(refusal(), HasSubstr("weight_map"));
  index("{}");
  EXPECT_THAT(refusal(), HasSubstr("number of shards"));
  index(R"({"x":"missing.safetensors"})");
  EXPECT_THAT(refusal(), HasSubstr("cannot be opened"));
  dir.Write("model.safetensors", "short");
  EXPECT_THAT(refusal(), HasSubstr("too short"));  // the single file counts first
}

}  // namespace
}  // namespace tessera::test
