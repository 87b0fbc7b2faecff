// The cases of our own products: the batch-invariant one, and those with int8 and int4 weights at
// the inner sizes of Llama-3.2-1B and 11B.
#include <fmt/format.h>

#include "kernels/cuda/matmul_int.h"
#include "tests/cuda/counters_table.h"

namespace tessera::cuda_test {

// The batch-invariant product.
void CountersTable::Products() {
  const int64_t rows = 128, k = 1024, n = 256;
  const DeviceRows x = Ones(rows, k), w = Ones(n, k), out(kCountedType, rows, n);
  const int64_t columns = n / cuda::MatMulTileColumns(n);
  Measure("matmul_fixed", "MatMulKernel",
          {.bytes = 2.0 * static_cast<double>(rows * k * columns + n * k + rows * n),
           .flops = 2.0 * static_cast<double>(rows * k * n)},
          {1.05, 1.0}, {{1, [&] {
                           ExpectRan(cuda::LaunchMatMulFixed(kCountedType, kCountedType,
                                                             {.x = x.data(),
                                                              .w = w.data(),
                                                              .out = out.data(),
                                                              .x_stride = k,
                                                              .out_stride = n,
                                                              .rows = rows,
                                                              .n = static_cast<int32_t>(n),
                                                              .k = static_cast<int32_t>(k),
                                                              .k_stored = static_cast<int32_t>(k)},
                                                             TestStream()),
                                     "matmul");
                         }}});
}

// Codes, scales and minima, x and the result once: what a block of 32 outputs does, which all do.
// What the codes are changes no count. FLOPs are only reported: a matrix tile has 16 rows.
void CountersTable::IntProducts() {
  struct Format {
    const char* name;
    int32_t bits, group, minimum;
  };
  const Format formats[] = {{"int8_row", 8, 0, 0},      {"int8_g32", 8, 32, 0},
                            {"int8_g64", 8, 64, 0},     {"int8_g128", 8, 128, 0},
                            {"int4_g32", 4, 32, 0},     {"int4_g64", 4, 64, 0},
                            {"int4_g128", 4, 128, 0},   {"int4_min_g32", 4, 32, 1},
                            {"int4_min_g64", 4, 64, 1}, {"int4_min_g128", 4, 128, 1}};
  constexpr int32_t kN = cuda::kIntQuad;
  for (const Format& f : formats)
    for (const int32_t k : {2048, 4096, 14336}) {
      const cuda::IntLayout layout{
          .n = kN, .k = k, .bits = f.bits, .group = f.group, .minimum = f.minimum};
      const DeviceArray<uint8_t> weights(
          std::vector<uint8_t>(static_cast<size_t>(layout.bytes()), 0x11));
      // Counted here by hand: what the layout adds would be a waste as well.
      const int64_t groups = f.group == 0 ? 0 : k / f.group;
      const int64_t least = int64_t{kN} * k * f.bits / 8 + kN * groups * (f.minimum != 0 ? 4 : 2) +
                            (f.group == 0 ? kN * 4 : 0);
      for (const int64_t rows : {1, 4, 8, 16}) {
        const DeviceRows x = Ones(rows, k), out(kCountedType, rows, kN);
        Measure(fmt::format("{}_k{}_r{}", f.name, k, rows), "FewKernel",
                {.bytes = static_cast<double>(least + 2 * rows * (k + kN)),
                 .flops = 2.0 * static_cast<double>(rows * k * kN)},
                {.bytes = 1.02}, {{1, [&] {
                                     ExpectRan(cuda::LaunchMatMulInt(kCountedType, kCountedType,
                                                                     {.op = {.x = x.data(),
                                                                             .out = out.data(),
                                                                             .x_stride = k,
                                                                             .out_stride = kN,
                                                                             .rows = rows,
                                                                             .n = kN,
                                                                             .k = k},
                                                                      .layout = layout,
                                                                      .weights = weights.get()},
                                                                     TestStream()),
                                               "matmul");
                                   }}});
      }
    }
}

}  // namespace tessera::cuda_test
