// What the tests of the row kernels need: rows of any type on the device with guards between them,
// schedules of the emulated GPU, counters.
//
// Memory and copies go through runtime.h, and what only the emulator has stands in
// rows_support_emulated.cc: on a GPU the rest would run as it is, without schedules and counters.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/rows.h"
#include "kernels/cuda/runtime.h"
#include "kernels/dtype.h"
#include "tests/ops/reference.h"

namespace tessera::cuda_test {

using ops_test::Bounded;
using Floats = std::vector<float>;
using cuda::RowType;

// One open device and a stream for the whole process.
cuda::Stream TestStream();
// Waits, and expects that neither the launch nor what ran failed.
void ExpectRan(const cuda::LaunchStatus& status, const std::string& what);

// body(seed) under several orders of execution, with every detector on. 0 is program order.
void ForSchedules(int schedules, const std::function<void(uint64_t)>& body);

// Sums of the emulator since the last call, of kernels whose name begins so; all 0 on a GPU.
struct Moved {
  bool counted = false;
  uint64_t load_bytes = 0, load_moved = 0, store_bytes = 0, store_moved = 0;
  uint64_t wavefronts = 0, ideal_wavefronts = 0, matrix_flops = 0;
};
bool Counts();  // whether there are counters
void ForgetCounters();
Moved TakeCounters(const std::string& kernel);

// Device memory of exactly these bytes.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes);
  DeviceBytes(const void* from, size_t bytes) : DeviceBytes(bytes) { Write(from); }
  ~DeviceBytes();
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  void Write(const void* from);
  void Read(void* to) const;
  void* data() const { return memory_; }

 private:
  const size_t bytes_;
  void* memory_ = nullptr;
};

template <typename T>
class DeviceArray : public DeviceBytes {
 public:
  explicit DeviceArray(const std::vector<T>& values)
      : DeviceBytes(values.data(), values.size() * sizeof(T)), count_(values.size()) {}
  T* get() const { return count_ == 0 ? nullptr : static_cast<T*>(data()); }
  std::vector<T> Get() const {
    std::vector<T> values(count_);
    Read(values.data());
    return values;
  }

 private:
  const size_t count_;
};

Floats Random(int64_t count, uint64_t seed, float scale = 1.0f);
DType DTypeOf(RowType type);
const char* NameOf(RowType type);
float RoundTo(RowType type, float value);
Floats RoundTo(RowType type, Floats values);

// Rows of a type with `gap` elements of a pattern after each and `lead` before the first.
class DeviceRows {
 public:
  DeviceRows(RowType type, int64_t rows, int64_t columns, int64_t gap = 0, int64_t lead = 0);
  DeviceRows(RowType type, int64_t rows, int64_t columns, int64_t gap, int64_t lead,
             const Floats& values)
      : DeviceRows(type, rows, columns, gap, lead) {
    Set(values);
  }
  void Set(const Floats& values);
  Floats Get() const;
  void CheckGuards(const std::string& what) const;
  void* data() const;
  int64_t stride() const { return stride_; }

 private:
  std::vector<unsigned char> Bytes() const;

  const RowType type_;
  const int64_t rows_, columns_, stride_, lead_;
  DeviceBytes memory_;
};

// The bound of `y` once it is stored as `type`: half a unit in the last place more.
Bounded Stored(RowType type, Bounded y);
void ExpectWithin(const Floats& got, const std::vector<Bounded>& want, int64_t columns,
                  const std::string& what);
void ExpectSame(const Floats& got, const Floats& want, const std::string& what);

}  // namespace tessera::cuda_test
