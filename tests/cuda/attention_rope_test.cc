// RoPE with the write into the cache, and copies of pages, against float64, detectors on.
#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "tests/cuda/attention_support.h"

namespace tessera::cuda_test {
namespace {

struct RopeShape {
  RowType type;
  int rows, heads, kv_heads, head_dim, rotary_dim, page_tokens, gap;
};

float FromBits(RowType type, uint16_t bits) {
  return type == RowType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits);
}

// What rotation by halves makes of column `column` of a row of heads, rounded to the type.
Bounded Rotated(const RopeShape& s, const Floats& x, int64_t row, int64_t column, int64_t columns,
                const Floats& cosines, const Floats& sines, int position) {
  const int64_t d = column % s.head_dim, half = s.rotary_dim / 2;
  const float* const head = x.data() + row * columns + column - d;
  if (d >= s.rotary_dim) return {head[d], 0};
  const auto angle = static_cast<size_t>(position * half + d % half);
  const double a = double{head[d]} * cosines[angle];
  const double b = (d < half ? -double{head[d + half]} : double{head[d - half]}) * sines[angle];
  return Stored(s.type, {a + b, 2 * ops_test::kU * (std::fabs(a) + std::fabs(b))});
}

TEST(RopeKernels, RotatesAndWrites) {
  const RopeShape shapes[] = {
      {RowType::kBf16, 1, 32, 8, 128, 128, 16, 0},  // 11B, pieces of 8
      {RowType::kBf16, 9, 4, 2, 64, 64, 16, 8},    {RowType::kF16, 5, 3, 1, 96, 32, 16, 0},
      {RowType::kBf16, 7, 4, 2, 12, 12, 16, 0},    {RowType::kF16, 33, 2, 1, 20, 8, 16, 3},
      {RowType::kBf16, 20, 0, 2, 80, 0, 25, 0},    {RowType::kF16, 4, 6, 6, 64, 24, 16, 1},
      {RowType::kBf16, 3, 1, 1, 2, 2, 16, 0},      {RowType::kF16, 1, 2, 2, 256, 256, 32, 8},
  };
  ForSchedules(3, [&](uint64_t seed) {
    for (const RopeShape& s : shapes) {
      const std::string what = fmt::format("{} R {} H {} G {} D {} rotary {}", NameOf(s.type),
                                           s.rows, s.heads, s.kv_heads, s.head_dim, s.rotary_dim);
      const int64_t q_columns = int64_t{s.heads} * s.head_dim,
                    kv_columns = int64_t{s.kv_heads} * s.head_dim;
      const Floats q = RoundTo(s.type, Random(s.rows * q_columns, seed + 1)),
                   k = RoundTo(s.type, Random(s.rows * kv_columns, seed + 2)),
                   v = RoundTo(s.type, Random(s.rows * kv_columns, seed + 3));
      const int half = s.rotary_dim / 2, limit = 50;
      Floats cosines, sines;
      for (int i = 0; i < limit * half; ++i) {
        cosines.push_back(std::cos(static_cast<float>(i)));
        sines.push_back(std::sin(static_cast<float>(i)));
      }
      std::vector<int32_t> positions;
      std::vector<int64_t> slots;
      for (int r = 0; r < s.rows; ++r) {
        positions.push_back((r * 7 + 3) % limit);
        slots.push_back((r * 5 + 2) % 64);
      }
      const int blocks_per_page = (s.page_tokens + 15) / 16, pages = 64 / s.page_tokens + 1;
      const auto pool_size = static_cast<size_t>(pages * blocks_per_page * 16 * kv_columns);
      const DeviceArray<uint16_t> k_pool(std::vector<uint16_t>(pool_size, 0xffff)),
          v_pool(std::vector<uint16_t>(pool_size, 0xffff));
      const DeviceArray<float> cosines_device(cosines), sines_device(sines);
      const DeviceArray<int32_t> positions_device(positions);
      const DeviceArray<int64_t> slots_device(slots);
      const DeviceRows q_rows(s.type, s.rows, q_columns, s.gap, 0, q),
          k_rows(s.type, s.rows, kv_columns, s.gap, 0, k),
          v_rows(s.type, s.rows, kv_columns, s.gap, 0, v);
      const cuda::RopeParams p{.q = s.heads > 0 && half > 0 ? q_rows.data() : nullptr,
                               .k = k_rows.data(),
                               .v = v_rows.data(),
                               .k_cache = k_pool.get(),
                               .v_cache = v_pool.get(),
                               .cos_table = cosines_device.get(),
                               .sin_table = sines_device.get(),
                               .positions = positions_device.get(),
                               .slots = slots_device.get(),
                               .q_stride = q_rows.stride(),
                               .k_stride = k_rows.stride(),
                               .v_stride = v_rows.stride(),
                               .rows = s.rows,
                               .heads = s.heads,
                               .kv_heads = s.kv_heads,
                               .head_dim = s.head_dim,
                               .half = half,
                               .page_tokens = s.page_tokens,
                               .blocks_per_page = blocks_per_page,
                               .vectors = s.head_dim % 8 == 0 && half % 8 == 0 && s.gap % 8 == 0};
      ExpectRan(cuda::LaunchRopeWriteKv(s.type == RowType::kF16 ? cuda::AttentionType::kF16
                                                                : cuda::AttentionType::kBf16,
                                        p, TestStream()),
                what);
      const auto want = [&](const Floats& x, int64_t columns) {
        std::vector<Bounded> rotated;
        for (int r = 0; r < s.rows; ++r)
          for (int64_t column = 0; column < columns; ++column)
            rotated.push_back(Rotated(s, x, r, column, columns, cosines, sines,
                                      positions[static_cast<size_t>(r)]));
        return rotated;
      };
      if (s.heads > 0) ExpectWithin(q_rows.Get(), want(q, q_columns), q_columns, "q, " + what);
      const Floats k_got = k_rows.Get();
      ExpectWithin(k_got, want(k, kv_columns), kv_columns, "k, " + what);
      for (const DeviceRows* rows : {&q_rows, &k_rows, &v_rows}) rows->CheckGuards(what);

      // The pool holds what the rows hold, and nothing else was touched.
      size_t written = 0;
      const std::vector<uint16_t> k_bits = k_pool.Get(), v_bits = v_pool.Get();
      for (int r = 0; r < s.rows; ++r)
        for (int64_t column = 0; column < kv_columns; ++column) {
          const int64_t slot = slots[static_cast<size_t>(r)], token = slot % s.page_tokens;
          const int64_t block = slot / s.page_tokens * blocks_per_page + token / 16;
          const auto at = static_cast<size_t>(
              ((block * s.kv_heads + column / s.head_dim) * 16 + token % 16) * s.head_dim +
              column % s.head_dim);
          const auto element = static_cast<size_t>(r * kv_columns + column);
          ASSERT_EQ(FromBits(s.type, k_bits[at]), k_got[element]) << what << " row " << r;
          ASSERT_EQ(FromBits(s.type, v_bits[at]), v[element]) << what << " row " << r;
        }
      for (size_t i = 0; i < pool_size; ++i) written += k_bits[i] != 0xffff || v_bits[i] != 0xffff;
      EXPECT_EQ(written, static_cast<size_t>(s.rows * kv_columns)) << what;
    }
  });
}

TEST(CopyPagesKernel, CopiesWholePagesAndNothingElse) {
  ForSchedules(3, [](uint64_t) {
    for (const int64_t bytes : {32, 4096, 40960}) {
      const auto elements = static_cast<size_t>(bytes / 2);
      std::vector<uint16_t> k(5 * elements), v(5 * elements);
      for (size_t i = 0; i < k.size(); ++i)
        k[i] = static_cast<uint16_t>(i * 7 + 1), v[i] = static_cast<uint16_t>(i * 11 + 5);
      const DeviceArray<uint16_t> k_pool(k), v_pool(v);
      const DeviceArray<int32_t> copies(std::vector<int32_t>{0, 3, 1, 4});
      ExpectRan(cuda::LaunchCopyPages({.k = k_pool.get(),
                                       .v = v_pool.get(),
                                       .copies = copies.get(),
                                       .page_bytes = bytes,
                                       .count = 2},
                                      TestStream()),
                "copy");
      for (auto* pool : {&k, &v})
        std::memcpy(pool->data() + 3 * elements, pool->data(), 2 * elements * sizeof(uint16_t));
      EXPECT_EQ(k_pool.Get(), k) << bytes;
      EXPECT_EQ(v_pool.Get(), v) << bytes;
    }
  });
}

}  // namespace
}  // namespace tessera::cuda_test
