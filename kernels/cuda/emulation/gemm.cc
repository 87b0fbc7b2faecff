// Stand-in for cuBLASLt. Sums are fp32 in an order that changes with the shape on purpose: K is cut
// into as many interleaved strands as rows and columns say, so that whoever leans on the order is
// found out.
#include "kernels/cuda/gemm.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "kernels/cuda/emulation/runtime_controls.h"

namespace tessera::cuda {
namespace {

#if defined(__x86_64__)
#define TESSERA_TARGET_WIDE __attribute__((target("avx2,fma")))
#endif

float Widen(DType dtype, const void* data, int64_t index) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(data)[index];
  return dtype == DType::kBF16 ? BF16ToFloat(bits) : F16ToFloat(bits);
}

void Store(DType dtype, void* data, int64_t index, float value) {
  if (dtype == DType::kF32) {
    static_cast<float*>(data)[index] = value;
  } else {
    static_cast<uint16_t*>(data)[index] =
        dtype == DType::kBF16 ? FloatToBF16(value) : FloatToF16(value);
  }
}

constexpr int64_t kLanes = 16;
constexpr int64_t kTile = 4;

// Rows and columns of floats, padded with zeros to whole lanes: 4 x 4 sums at a time, each in
// kLanes partial sums that are added up in pairs.
[[gnu::always_inline]] inline void DotBlock(const float* x, int64_t x_step, const float* w,
                                            int64_t w_step, int64_t k, float* sums) {
  float partial[kTile][kTile][kLanes] = {};
  for (int64_t i = 0; i < k; i += kLanes) {
    for (int64_t r = 0; r < kTile; ++r) {
      for (int64_t c = 0; c < kTile; ++c) {
        for (int64_t lane = 0; lane < kLanes; ++lane)
          partial[r][c][lane] += x[r * x_step + i + lane] * w[c * w_step + i + lane];
      }
    }
  }
  for (int64_t r = 0; r < kTile; ++r) {
    for (int64_t c = 0; c < kTile; ++c) {
      float* part = partial[r][c];
      for (int64_t width = kLanes / 2; width > 0; width /= 2) {
        for (int64_t lane = 0; lane < width; ++lane) part[lane] += part[lane + width];
      }
      sums[r * kTile + c] += part[0];
    }
  }
}

using DotFunction = void (*)(const float*, int64_t, const float*, int64_t, int64_t, float*);

void DotPlain(const float* x, int64_t x_step, const float* w, int64_t w_step, int64_t k,
              float* sums) {
  DotBlock(x, x_step, w, w_step, k, sums);
}
#if defined(TESSERA_TARGET_WIDE)
TESSERA_TARGET_WIDE void DotWide(const float* x, int64_t x_step, const float* w, int64_t w_step,
                                 int64_t k, float* sums) {
  DotBlock(x, x_step, w, w_step, k, sums);
}
#endif

DotFunction ChooseDot() {
#if defined(TESSERA_TARGET_WIDE)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &DotWide;
#endif
  return &DotPlain;
}

// The pieces of K in the order in which this shape adds them.
std::vector<std::pair<int64_t, int64_t>> PiecesOf(const GemmArgs& args) {
  const int64_t pieces = 1 + (args.rows * 5 + args.n * 3 + args.k) % 4;
  const int64_t length = ((args.k + pieces - 1) / pieces + kLanes - 1) / kLanes * kLanes;
  std::vector<std::pair<int64_t, int64_t>> out;
  for (int64_t begin = 0; begin < args.k; begin += length)
    out.emplace_back(begin, std::min(length, args.k - begin));
  if (args.rows % 2 == 0) std::ranges::reverse(out);
  return out;
}

int64_t Padded(int64_t extent, int64_t step) { return (extent + step - 1) / step * step; }

class EmulatedGemm final : public Gemm {
 public:
  std::string_view name() const override { return "emulated cuBLASLt"; }
  size_t workspace_bytes() const override { return 0; }

  LaunchStatus Run(const GemmArgs& args, Stream stream) override {
    return emulation::Enqueue(stream, emulation::Call::kGemm, [args]() -> LaunchStatus {
      Product(args);
      return {};
    });
  }

 private:
  // Rows [begin, begin + count) as floats; columns behind k and rows behind count are zero.
  static void Load(DType dtype, const void* from, int64_t stride, int64_t begin, int64_t count,
                   int64_t rows, int64_t k, std::vector<float>& to) {
    const int64_t width = Padded(k, kLanes);
    to.assign(static_cast<size_t>(rows * width), 0.0f);
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t i = 0; i < k; ++i)
        to[static_cast<size_t>(r * width + i)] = Widen(dtype, from, (begin + r) * stride + i);
    }
  }

  static void Product(const GemmArgs& args) {
    if (args.rows == 0 || args.n == 0) return;
    const int64_t width = Padded(args.k, kLanes), rows = Padded(args.rows, kTile);
    const auto pieces = PiecesOf(args);
    const DotFunction dot = ChooseDot();
    std::vector<float> x;
    Load(args.dtype, args.x, args.x_stride, 0, args.rows, rows, args.k, x);

    constexpr int64_t kColumns = 64;
    const int64_t items = (args.n + kColumns - 1) / kColumns;
    std::atomic<int64_t> next{0};
    const auto work = [&] {
      std::vector<float> w;
      for (int64_t item = next++; item < items; item = next++) {
        const int64_t first = item * kColumns, count = std::min(kColumns, args.n - first);
        Load(args.dtype, args.w, args.w_stride, first, count, Padded(count, kTile), args.k, w);
        for (int64_t r = 0; r < args.rows; r += kTile) {
          for (int64_t c = 0; c < count; c += kTile) {
            float sums[kTile * kTile] = {};
            for (const auto& [begin, length] : pieces)
              dot(&x[static_cast<size_t>(r * width + begin)], width,
                  &w[static_cast<size_t>(c * width + begin)], width, length, sums);
            for (int64_t i = 0; i < std::min(kTile, args.rows - r); ++i) {
              for (int64_t j = 0; j < std::min(kTile, count - c); ++j)
                Finish(args, r + i, first + c + j, sums[i * kTile + j]);
            }
          }
        }
      }
    };
    const double flops = 2.0 * static_cast<double>(args.rows) * static_cast<double>(args.n) *
                         static_cast<double>(args.k);
    const unsigned threads =
        flops < 4e6 ? 1 : std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(work);
    work();
    for (std::thread& thread : others) thread.join();
  }

  static void Finish(const GemmArgs& args, int64_t row, int64_t column, float sum) {
    float value = args.alpha * sum;
    if (args.addend != nullptr)
      value += args.beta * Widen(args.out_dtype, args.addend, row * args.addend_stride + column);
    Store(args.out_dtype, args.out, row * args.out_stride + column, value);
  }
};

}  // namespace

Result<std::unique_ptr<Gemm>> MakeGemm(const DeviceProps&, const DeviceAllocator&) {
  return std::make_unique<EmulatedGemm>();
}

}  // namespace tessera::cuda
