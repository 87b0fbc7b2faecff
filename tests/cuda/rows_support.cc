#include "tests/cuda/rows_support.h"

#include <fmt/format.h>

#include <cmath>
#include <random>

#include "base/check.h"

namespace tessera::cuda_test {
namespace {

constexpr unsigned char kPattern = 0xA5;

int64_t SizeOfType(RowType type) { return static_cast<int64_t>(SizeOf(DTypeOf(type))); }

// Pinned memory for the length of one copy.
class Pinned {
 public:
  explicit Pinned(size_t bytes) {
    TESSERA_CHECK(cuda::AllocatePinned(std::max<size_t>(bytes, 1), &memory_).ok(), "no memory");
  }
  ~Pinned() { cuda::FreePinned(memory_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

}  // namespace

cuda::Stream TestStream() {
  static const cuda::Stream stream = [] {
    cuda::DeviceProps props;
    TESSERA_CHECK(cuda::OpenDevice(0, props).ok(), "no device");
    cuda::Stream made = nullptr;
    TESSERA_CHECK(cuda::CreateStream(&made).ok(), "no stream");
    return made;
  }();
  return stream;
}

void ExpectRan(const cuda::LaunchStatus& status, const std::string& what) {
  EXPECT_TRUE(status.ok()) << what << ": " << status.message;
  const cuda::LaunchStatus ran = cuda::Synchronize(TestStream());
  EXPECT_TRUE(ran.ok()) << what << ": " << ran.message;
}

DeviceBytes::DeviceBytes(size_t bytes) : bytes_(bytes) {
  (void)TestStream();
  TESSERA_CHECK(cuda::Allocate(std::max<size_t>(bytes, 1), &memory_).ok(), "no device memory");
}
DeviceBytes::~DeviceBytes() { cuda::Free(memory_); }

void DeviceBytes::Write(const void* from) {
  if (bytes_ == 0) return;
  const Pinned pinned(bytes_);
  std::memcpy(pinned.get(), from, bytes_);
  ExpectRan(cuda::CopyToDeviceAsync(memory_, pinned.get(), bytes_, TestStream()), "copy");
}
void DeviceBytes::Read(void* to) const {
  if (bytes_ == 0) return;
  const Pinned pinned(bytes_);
  ExpectRan(cuda::CopyToHostAsync(pinned.get(), memory_, bytes_, TestStream()), "copy");
  std::memcpy(to, pinned.get(), bytes_);
}

Floats Random(int64_t count, uint64_t seed, float scale) {
  std::mt19937_64 bits(seed * 0x9E3779B97F4A7C15u + 1);
  Floats values(static_cast<size_t>(count));
  // Sums of uniforms: near normal, and the same numbers with every standard library.
  for (float& value : values) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<double>(bits() >> 11) * 0x1p-53 - 0.5;
    value = static_cast<float>(sum * 1.7320508) * scale;
  }
  return values;
}

DType DTypeOf(RowType type) {
  return type == RowType::kF32 ? DType::kF32 : type == RowType::kF16 ? DType::kF16 : DType::kBF16;
}
const char* NameOf(RowType type) { return Name(DTypeOf(type)).data(); }

float RoundTo(RowType type, float value) {
  if (type == RowType::kBf16) return BF16ToFloat(FloatToBF16(value));
  if (type == RowType::kF16) return F16ToFloat(FloatToF16(value));
  return value;
}
Floats RoundTo(RowType type, Floats values) {
  for (float& value : values) value = RoundTo(type, value);
  return values;
}

DeviceRows::DeviceRows(RowType type, int64_t rows, int64_t columns, int64_t gap, int64_t lead)
    : type_(type),
      rows_(rows),
      columns_(columns),
      stride_(columns + gap),
      lead_(lead),
      memory_(static_cast<size_t>((lead + rows * stride_) * SizeOfType(type))) {
  const std::vector<unsigned char> pattern(
      static_cast<size_t>((lead + rows * stride_) * SizeOfType(type)), kPattern);
  memory_.Write(pattern.data());
}

void* DeviceRows::data() const {
  return static_cast<char*>(memory_.data()) + lead_ * SizeOfType(type_);
}

std::vector<unsigned char> DeviceRows::Bytes() const {
  std::vector<unsigned char> bytes(
      static_cast<size_t>((lead_ + rows_ * stride_) * SizeOfType(type_)));
  memory_.Read(bytes.data());
  return bytes;
}

void DeviceRows::Set(const Floats& values) {
  TESSERA_CHECK(std::ssize(values) == rows_ * columns_, "test bug");
  std::vector<unsigned char> bytes = Bytes();
  for (int64_t i = 0; i < rows_ * columns_; ++i) {
    unsigned char* to =
        bytes.data() + (lead_ + i / columns_ * stride_ + i % columns_) * SizeOfType(type_);
    const float value = values[static_cast<size_t>(i)];
    if (type_ == RowType::kF32) {
      std::memcpy(to, &value, sizeof value);
    } else {
      const uint16_t half = type_ == RowType::kF16 ? FloatToF16(value) : FloatToBF16(value);
      std::memcpy(to, &half, sizeof half);
    }
  }
  memory_.Write(bytes.data());
}

Floats DeviceRows::Get() const {
  const std::vector<unsigned char> bytes = Bytes();
  Floats values(static_cast<size_t>(rows_ * columns_));
  for (int64_t i = 0; i < rows_ * columns_; ++i) {
    const unsigned char* from =
        bytes.data() + (lead_ + i / columns_ * stride_ + i % columns_) * SizeOfType(type_);
    float& value = values[static_cast<size_t>(i)];
    if (type_ == RowType::kF32) {
      std::memcpy(&value, from, sizeof value);
    } else {
      uint16_t half;
      std::memcpy(&half, from, sizeof half);
      value = type_ == RowType::kF16 ? F16ToFloat(half) : BF16ToFloat(half);
    }
  }
  return values;
}

void DeviceRows::CheckGuards(const std::string& what) const {
  const std::vector<unsigned char> bytes = Bytes();
  for (int64_t i = 0; i < std::ssize(bytes); ++i) {
    const int64_t at = i / SizeOfType(type_) - lead_;
    if ((at < 0 || at % stride_ >= columns_) && bytes[static_cast<size_t>(i)] != kPattern) {
      ADD_FAILURE() << what << ": guard overwritten at element " << at << ", stride " << stride_;
      return;
    }
  }
}

Bounded Stored(RowType type, Bounded y) {
  // Half a unit in the last place: 8 and 11 bits of significand; subnormals of fp16 are 2^-24
  // apart.
  const double most = std::fabs(y.value) + y.bound;
  if (type == RowType::kBf16) y.bound += 0x1p-8 * most + 1e-37;
  if (type == RowType::kF16) y.bound += 0x1p-11 * most + 0x1p-25;
  return y;
}

void ExpectWithin(const Floats& got, const std::vector<Bounded>& want, int64_t columns,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double worst = 0;
  size_t worst_at = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::fabs(got[i] - want[i].value);
    if (error == 0) continue;
    const double ratio = error / want[i].bound;
    if (!(ratio <= worst))
      worst = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio, worst_at = i;
  }
  EXPECT_LE(worst, 1.0) << what << ": worst at [" << static_cast<int64_t>(worst_at) / columns
                        << ", " << static_cast<int64_t>(worst_at) % columns << "]: got "
                        << got[worst_at] << ", want " << want[worst_at].value << " within "
                        << want[worst_at].bound;
}

void ExpectSame(const Floats& got, const Floats& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    if (std::memcmp(&got[i], &want[i], sizeof(float)) != 0) {
      ADD_FAILURE() << what << ": first difference at element " << i << ": " << got[i]
                    << " against " << want[i];
      return;
    }
}

}  // namespace tessera::cuda_test
