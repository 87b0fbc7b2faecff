// Moves of rows, embeddings, patches: exact results at odd and even shapes, every type, with the
// emulator's detectors on; and what the row kernels move.
#include <fmt/format.h>

#include <algorithm>

#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {
namespace {

using cuda::RowActivation;

constexpr RowType kTypes[] = {RowType::kBf16, RowType::kF16, RowType::kF32};

struct MoveCase {
  int64_t rows, columns, gap = 0, lead = 0;
};

TEST(Rows, MovesAndEmbeddings) {
  const std::vector<int32_t> picks = {8, 0, 3};
  for (RowType type : kTypes)
    for (const MoveCase& c : {MoveCase{9, 13, 2, 1}, MoveCase{9, 64}, MoveCase{9, 2056},
                              MoveCase{9, 6, 2}, MoveCase{9, 12}}) {
      const Floats x = RoundTo(type, Random(c.rows * c.columns, 400));
      const DeviceArray<int32_t> rows(picks);
      const std::string what = fmt::format("moves of {} {}", c.columns, NameOf(type));
      const auto bytes = static_cast<int64_t>(SizeOf(DTypeOf(type)));
      ForSchedules(2, [&](uint64_t) {
        const DeviceRows in(type, c.rows, c.columns, c.gap, c.lead, x),
            few(type, 3, c.columns, c.gap, c.lead),
            back(type, c.rows, c.columns, 0, 0, Floats(x.size(), 7.0f));
        ExpectRan(cuda::LaunchMoveRows(cuda::MoveKind::kGather,
                                       {.x = in.data(),
                                        .out = few.data(),
                                        .rows = rows.get(),
                                        .x_stride = in.stride() * bytes,
                                        .out_stride = few.stride() * bytes,
                                        .row_bytes = c.columns * bytes,
                                        .count = 3},
                                       TestStream()),
                  what);
        ExpectRan(cuda::LaunchMoveRows(cuda::MoveKind::kScatter,
                                       {.x = few.data(),
                                        .out = back.data(),
                                        .rows = rows.get(),
                                        .x_stride = few.stride() * bytes,
                                        .out_stride = back.stride() * bytes,
                                        .row_bytes = c.columns * bytes,
                                        .count = 3},
                                       TestStream()),
                  what);
        Floats want_few, want_back(x.size(), 7.0f);
        for (int32_t row : picks) {
          want_few.insert(want_few.end(), x.begin() + row * c.columns,
                          x.begin() + (row + 1) * c.columns);
          std::copy_n(x.begin() + row * c.columns, c.columns, want_back.begin() + row * c.columns);
        }
        ExpectSame(few.Get(), want_few, what);
        ExpectSame(back.Get(), want_back, what);
        few.CheckGuards(what);
        for (RowType out_type : kTypes) {
          const DeviceRows out(out_type, 3, c.columns, c.gap, c.lead);
          ExpectRan(cuda::LaunchEmbedding(type, out_type,
                                          {.table = in.data(),
                                           .out = out.data(),
                                           .ids = rows.get(),
                                           .table_stride = in.stride(),
                                           .out_stride = out.stride(),
                                           .columns = c.columns,
                                           .count = 3},
                                          TestStream()),
                    what);
          ExpectSame(out.Get(), RoundTo(out_type, want_few), what + " to " + NameOf(out_type));
          out.CheckGuards(what);
        }
      });
    }
}

TEST(Rows, AddRows) {
  for (RowType type : kTypes)
    // In place: no two threads' halves in one 4-byte word, which is what the race detector tells
    // apart
    for (const MoveCase& c :
         {MoveCase{9, 13, 3}, MoveCase{9, 520}, MoveCase{1, 4}, MoveCase{9, 6, 2}})
      for (bool by_id : {false, true}) {
        const Floats x = RoundTo(type, Random(c.rows * c.columns, 410)),
                     table = Random(4 * c.columns, 411);
        std::vector<int32_t> ids = {3, 3, 0, 1, 2, 0, 0, 1, 3};
        ids.resize(static_cast<size_t>(c.rows));
        const DeviceArray<int32_t> rows(ids);
        const DeviceRows table_rows(RowType::kF32, 4, c.columns, c.gap, c.lead, table);
        std::vector<Bounded> want;
        for (int64_t i = 0; i < c.rows * c.columns; ++i) {
          const int64_t row = i / c.columns, from = by_id ? ids[static_cast<size_t>(row)] : row % 4;
          const double added =
              static_cast<double>(table[static_cast<size_t>(from * c.columns + i % c.columns)]) *
              0.3f;
          const double y = x[static_cast<size_t>(i)] + added;
          want.push_back(Stored(type, {y, ops_test::kU * (std::fabs(added) + std::fabs(y))}));
        }
        const std::string what = fmt::format("AddRows of {} {}", c.columns, NameOf(type));
        ForSchedules(2, [&](uint64_t) {
          const DeviceRows sum(type, c.rows, c.columns, c.gap, c.lead, x);
          ExpectRan(cuda::LaunchAddRows(type,
                                        {.table = static_cast<const float*>(table_rows.data()),
                                         .rows = by_id ? rows.get() : nullptr,
                                         .x = sum.data(),
                                         .table_stride = table_rows.stride(),
                                         .x_stride = sum.stride(),
                                         .table_rows = 4,
                                         .count = c.rows,
                                         .columns = c.columns,
                                         .scale = 0.3f},
                                        TestStream()),
                    what);
          ExpectWithin(sum.Get(), want, c.columns, what);
          sum.CheckGuards(what);
        });
      }
}

TEST(Rows, Patchify) {
  struct Case {
    int used, first_tile, height, width, size;
    int64_t row_begin, rows, gap;
  };
  const Case cases[] = {{1, 0, 4, 4, 4, 0, 1, 0},       {2, 0, 9, 14, 4, 0, 12, 2},
                        {1, 0, 28, 28, 14, 1, 7, 0},    {2, 1, 28, 28, 14, 5, 3, 1},
                        {0, 0, 4, 8, 2, 0, 8, 0},       {3, 0, 5, 5, 1, 20, 0, 0},
                        {1, 0, 32, 64, 16, 2, 4, 4},    {1, 0, 512, 80, 256, 0, 0, 0},
                        {1, 0, 130, 300, 130, 0, 2, 0}, {1, 0, 5, 8, 1, 3, 30, 0}};
  Floats lut(3 * 256);
  for (size_t i = 0; i < lut.size(); ++i)
    lut[i] = static_cast<float>(i % 256 * 3 + i / 256) * 0.01f - 1;
  const DeviceArray<float> lut_device(lut);
  for (const Case& c : cases)
    for (RowType type : kTypes) {
      const int64_t grid_height = c.height / c.size, grid_width = c.width / c.size;
      const int64_t columns = int64_t{3} * c.size * c.size;
      std::vector<uint8_t> pixels(
          static_cast<size_t>((c.used - c.first_tile) * 3 * c.height * c.width));
      for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 37 + i / 251);
      const DeviceArray<uint8_t> tiles(pixels);
      const std::string what =
          fmt::format("{} tiles of {} x {} {}", c.used, c.height, c.width, NameOf(type));
      Floats want;
      for (int64_t row = c.row_begin; row < c.row_begin + c.rows; ++row) {
        const int64_t t = row / (grid_height * grid_width), i = row / grid_width % grid_height,
                      j = row % grid_width;
        for (int64_t at = 0; at < columns; ++at) {
          const int64_t channel = at / (c.size * c.size), y = at / c.size % c.size, x = at % c.size;
          const int64_t from =
              (((t - c.first_tile) * 3 + channel) * c.height + i * c.size + y) * c.width +
              j * c.size + x;
          want.push_back(t >= c.used ? 0.0f
                                     : RoundTo(type, lut[static_cast<size_t>(channel * 256) +
                                                         pixels[static_cast<size_t>(from)]]));
        }
      }
      ForSchedules(2, [&](uint64_t) {
        const DeviceRows out(type, c.rows, columns, c.gap);
        ExpectRan(cuda::LaunchPatchify(type,
                                       {.tiles = tiles.get(),
                                        .lut = lut_device.get(),
                                        .out = out.data(),
                                        .out_stride = out.stride(),
                                        .row_begin = c.row_begin,
                                        .row_end = c.row_begin + c.rows,
                                        .first_tile = c.first_tile,
                                        .used = c.used,
                                        .height = c.height,
                                        .width = c.width,
                                        .patch_size = c.size},
                                       TestStream()),
                  what);
        ExpectSame(out.Get(), want, what);
        out.CheckGuards(what);
      });
    }
}

// At aligned shapes whole sectors move, and shared memory has no conflicts.
TEST(Rows, MovesWholeSectors) {
  const auto expect = [](const Moved& moved, const std::string& what) {
    ASSERT_EQ(moved.counted, Counts());
    if (!moved.counted) return;
    EXPECT_GE(moved.load_bytes, moved.load_moved * 95 / 100) << what;
    EXPECT_GE(moved.store_bytes, moved.store_moved * 95 / 100) << what;
    EXPECT_LE(moved.wavefronts, moved.ideal_wavefronts * 105 / 100) << what;
  };
  ForSchedules(1, [&](uint64_t) {
    for (int64_t columns : {128, 1280, 4096}) {
      const RowType type = RowType::kBf16;
      const DeviceRows x(type, 4, 2 * columns, 0, 0, Floats(static_cast<size_t>(8 * columns), 1)),
          y(type, 8, columns, 0, 0, Floats(static_cast<size_t>(8 * columns), 1)),
          sums(RowType::kF32, 4, columns, 0, 0, Floats(static_cast<size_t>(4 * columns), 1));
      const DeviceArray<float> weight(Floats(static_cast<size_t>(columns), 1));
      const DeviceArray<int32_t> ids({3, 0, 1, 2});
      ForgetCounters();
      ExpectRan(cuda::LaunchNorm(cuda::NormKind::kLayer, type,
                                 {.x = y.data(),
                                  .out = y.data(),
                                  .weight = weight.get(),
                                  .bias = weight.get(),
                                  .x_stride = columns,
                                  .out_stride = columns,
                                  .rows = 8,
                                  .columns = static_cast<int32_t>(columns),
                                  .eps = 1},
                                 TestStream()),
                "norm");
      const Moved norm = TakeCounters("NormKernel");
      expect(norm, "norm");
      // The row once in, once out, and weight and bias
      if (norm.counted) {
        EXPECT_EQ(norm.load_bytes, static_cast<uint64_t>(8 * columns * (2 + 8)));
        EXPECT_EQ(norm.store_bytes, static_cast<uint64_t>(8 * columns * 2));
      }
      ExpectRan(cuda::LaunchGatedActivation(RowActivation::kSilu, type,
                                            {.gate_up = x.data(),
                                             .out = y.data(),
                                             .gate_up_stride = 2 * columns,
                                             .out_stride = columns,
                                             .rows = 4,
                                             .columns = columns},
                                            TestStream()),
                "gated");
      expect(TakeCounters("GatedKernel"), "gated");
      ExpectRan(cuda::LaunchEpilogue(RowType::kF32, type,
                                     {.y = sums.data(),
                                      .bias = weight.get(),
                                      .residual = y.data(),
                                      .out = y.data(),
                                      .y_stride = columns,
                                      .residual_stride = columns,
                                      .out_stride = columns,
                                      .rows = 4,
                                      .columns = columns,
                                      .activation = RowActivation::kGelu},
                                     TestStream()),
                "epilogue");
      expect(TakeCounters("EpilogueKernel"), "epilogue");
      ExpectRan(cuda::LaunchEmbedding(type, type,
                                      {.table = y.data(),
                                       .out = x.data(),
                                       .ids = ids.get(),
                                       .table_stride = columns,
                                       .out_stride = 2 * columns,
                                       .columns = columns,
                                       .count = 4},
                                      TestStream()),
                "embedding");
      const Moved embedding = TakeCounters("MoveRowsKernel");
      if (embedding.counted) {
        EXPECT_EQ(embedding.store_bytes, embedding.store_moved);
        // Of 4 rows: 16 bytes a thread, and their number for each warp that has any
        const int64_t warps = std::min<int64_t>(4, columns / 8 / 16);
        if (columns == 128) {
          EXPECT_EQ(embedding.load_moved, static_cast<uint64_t>(4 * (2 * columns + 32 * warps)));
        }
      }
    }
    const std::vector<uint8_t> pixels(3 * 56 * 112, 9);
    const DeviceArray<uint8_t> tiles(pixels);
    const DeviceArray<float> lut(Floats(768, 1));
    const DeviceRows patches(RowType::kBf16, 32, 588);
    ExpectRan(cuda::LaunchPatchify(RowType::kBf16,
                                   {.tiles = tiles.get(),
                                    .lut = lut.get(),
                                    .out = patches.data(),
                                    .out_stride = 588,
                                    .row_begin = 0,
                                    .row_end = 32,
                                    .used = 1,
                                    .height = 56,
                                    .width = 112,
                                    .patch_size = 14},
                                   TestStream()),
              "patchify");
    const Moved moved = TakeCounters("PatchifyKernel");
    if (moved.counted) {
      EXPECT_GE(moved.load_bytes, moved.load_moved * 95 / 100);
      EXPECT_GE(moved.store_bytes, moved.store_moved * 95 / 100);
    }
    // The largest lines that still go by way of shared memory
    const DeviceArray<uint8_t> large(std::vector<uint8_t>(3 * 128 * 256, 9));
    const DeviceRows two(RowType::kBf16, 2, 3 * 128 * 128);
    ExpectRan(cuda::LaunchPatchify(RowType::kBf16,
                                   {.tiles = large.get(),
                                    .lut = lut.get(),
                                    .out = two.data(),
                                    .out_stride = two.stride(),
                                    .row_begin = 0,
                                    .row_end = 2,
                                    .used = 1,
                                    .height = 128,
                                    .width = 256,
                                    .patch_size = 128},
                                   TestStream()),
              "patchify");
    const Moved staged = TakeCounters("PatchifyKernel");
    EXPECT_GE(staged.load_bytes, staged.load_moved * 95 / 100);
  });
}

}  // namespace
}  // namespace tessera::cuda_test
