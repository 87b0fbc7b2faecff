// The attention kernels against float64 over hundreds of ragged shapes, every detector on, in a
// random order of execution a shape; and the same bits however a row is reached.
#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "tests/cuda/attention_support.h"

namespace tessera::cuda_test {
namespace {

// Each shape under a schedule of its own.
void ForShapes(int shapes, const std::function<void(std::mt19937_64&, int)>& body) {
  int shape = 0;
  ForSchedules(8, [&](uint64_t seed) {
    for (int i = 0; i < shapes / 8; ++i, ++shape) {
      std::mt19937_64 random(seed * 1000 + static_cast<uint64_t>(i));
      body(random, shape);
    }
  });
}

int Draw(std::mt19937_64& random, int least, int most) {
  return least + static_cast<int>(random() % static_cast<uint64_t>(most - least + 1));
}

HeadShape DrawShape(std::mt19937_64& random) {
  static constexpr int kDims[] = {1,  2,  8,  12,  20,  32,  33,  40,  64,  72,  80,
                                  88, 96, 99, 112, 128, 136, 160, 176, 192, 200, 256};
  static constexpr int kGroups[] = {1, 1, 2, 3, 4, 4, 5, 8, 16};
  const int group = kGroups[random() % std::size(kGroups)];
  const int kv_heads = group > 4 ? 1 : Draw(random, 1, 2);
  return {.type = random() % 2 == 0 ? RowType::kBf16 : RowType::kF16,
          .heads = group * kv_heads,
          .kv_heads = kv_heads,
          .head_dim = kDims[random() % std::size(kDims)]};
}

std::string NameOf(const HeadShape& shape, int number) {
  return fmt::format("shape {}: {} H {} G {} D {}", number, cuda_test::NameOf(shape.type),
                     shape.heads, shape.kv_heads, shape.head_dim);
}

TEST(SelfAttentionKernels, RaggedShapes) {
  ForShapes(160, [](std::mt19937_64& random, int number) {
    SelfProblem problem{.shape = DrawShape(random)};
    if (random() % 4 == 0) problem.page_tokens = 48;
    problem.gap = Draw(random, 0, 2) * (problem.shape.head_dim % 8 == 0 ? 8 : 3);
    if (random() % 8 == 0) problem.gap = 1;  // rows that are not aligned
    const int sequences = Draw(random, 1, 3);
    for (int s = 0; s < sequences; ++s) {
      static constexpr int kCached[] = {0, 0, 1, 15, 16, 63, 64, 65, 127, 130};
      const bool decodes = random() % 2 == 0;
      problem.sequences.push_back({.sequence = s,
                                   .cached = kCached[random() % std::size(kCached)],
                                   .rows = decodes ? Draw(random, 0, 2) : Draw(random, 3, 40)});
    }
    problem.sequences.back().rows += 1;
    const std::string what = NameOf(problem.shape, number);
    ExpectWithin(RunSelf(problem, what), WantSelf(problem), problem.shape.head_dim, what);
  });
}

TEST(SelfAttentionKernels, ContextsOfSeveralSplits) {
  ForShapes(8, [](std::mt19937_64& random, int number) {
    const HeadShape shape{.type = number % 2 == 0 ? RowType::kBf16 : RowType::kF16,
                          .heads = 2,
                          .kv_heads = 1,
                          .head_dim = number % 3 == 0   ? 24
                                      : number % 3 == 1 ? 32
                                                        : 27};
    SelfProblem problem{
        .shape = shape,
        .sequences = {{.sequence = 0, .cached = 1022, .rows = 1},
                      {.sequence = 1, .cached = 1023, .rows = 4},
                      {.sequence = 2, .cached = 2100 + Draw(random, 0, 63), .rows = 1},
                      {.sequence = 3, .cached = 1000, .rows = 40}}};
    if (number % 4 == 3) problem.max_partial_vectors = 3 * 4;  // several launches
    const std::string what = NameOf(shape, number);
    ExpectWithin(RunSelf(problem, what), WantSelf(problem), shape.head_dim, what);
  });
}

TEST(CrossAttentionKernels, RaggedShapes) {
  ForShapes(96, [](std::mt19937_64& random, int number) {
    CrossProblem problem{.shape = DrawShape(random)};
    static constexpr int kTileKeys[] = {1, 5, 16, 17, 63, 64, 65, 70, 130, 145};
    problem.tile_keys = kTileKeys[random() % std::size(kTileKeys)];
    problem.gap = Draw(random, 0, 1) * 8;
    const int runs = Draw(random, 1, 4);
    for (int run = 0; run < runs; ++run) {
      std::vector<int> tiles(static_cast<size_t>(Draw(random, 0, 4)));
      const int first = Draw(random, 0, 3);
      for (size_t t = 0; t < tiles.size(); ++t) tiles[t] = (first + static_cast<int>(t) * 3) % 5;
      const int rows = random() % 4 == 0 ? Draw(random, 20, 45) : Draw(random, 1, 5);
      problem.rows.insert(problem.rows.end(), static_cast<size_t>(rows), tiles);
    }
    const std::string what = NameOf(problem.shape, number);
    ExpectWithin(RunCross(problem, what), WantCross(problem), problem.shape.head_dim, what);
  });
}

TEST(CrossAttentionKernels, RowsWithoutTilesGetZeros) {
  for (const int rows : {1, 9, 60}) {
    const CrossProblem problem{.shape = {.heads = 4, .kv_heads = 1, .head_dim = 64},
                               .rows = std::vector<std::vector<int>>(static_cast<size_t>(rows))};
    for (const float value : RunCross(problem, "no tiles")) ASSERT_EQ(value, 0.0f) << rows;
  }
}

TEST(VisionKernels, RaggedShapes) {
  ForShapes(80, [](std::mt19937_64& random, int number) {
    DenseProblem problem{.shape = DrawShape(random)};
    problem.keys = Draw(random, 1, 200);
    problem.row_begin = Draw(random, 0, problem.keys - 1);
    problem.rows = std::min(Draw(random, 1, 60), problem.keys - problem.row_begin);
    problem.gap = Draw(random, 0, 1) * 8;
    if (random() % 3 != 0) {
      problem.padding.assign(static_cast<size_t>(problem.keys), 0);
      std::fill(problem.padding.begin() + Draw(random, 0, problem.keys - 1), problem.padding.end(),
                uint8_t{1});
      if (random() % 2 == 0) problem.padding[0] = 1;
    }
    const std::string what = fmt::format("{} S {}", NameOf(problem.shape, number), problem.keys);
    ExpectWithin(RunDense(problem, what), WantDense(problem), problem.shape.head_dim, what);
  });
}

// Rows of `all` whose bits `part` must have.
void ExpectRows(const Floats& part, const Floats& all, int first_row, int64_t columns,
                const std::string& what) {
  const auto begin = all.begin() + first_row * columns;
  ExpectSame(part, Floats(begin, begin + static_cast<int64_t>(part.size())), what);
}

// One row of a long sequence: in the whole prompt, in chunks, in a batch, alone as a decoding row.
// A row's bits are the same, across the border of splits too.
TEST(Invariance, SelfAttentionRows) {
  ForSchedules(2, [](uint64_t seed) {
    const HeadShape shape{.type = seed % 2 == 0 ? RowType::kBf16 : RowType::kF16,
                          .heads = 2,
                          .kv_heads = 1,
                          .head_dim = seed % 2 == 0 ? 80 : 32};
    const int64_t columns = int64_t{shape.heads} * shape.head_dim;
    const auto run = [&](std::vector<SelfSequence> sequences) {
      return RunSelf({.shape = shape, .sequences = std::move(sequences)}, "invariance");
    };
    const Floats whole = run({{.sequence = 7, .cached = 0, .rows = 1100}});
    for (const int cut : {37, 1024, 1050})
      ExpectRows(run({{.sequence = 7, .cached = cut, .rows = 1100 - cut}}), whole, cut, columns,
                 fmt::format("second chunk from {}", cut));
    ExpectRows(run({{.sequence = 7, .cached = 0, .rows = 45}}), whole, 0, columns, "first chunk");
    for (const int row : {0, 5, 63, 64, 200, 1023, 1024, 1025, 1099})
      ExpectRows(run({{.sequence = 7, .cached = row, .rows = 1}}), whole, row, columns,
                 fmt::format("row {} alone", row));
    ExpectRows(run({{.sequence = 7, .cached = 1019, .rows = 7}}), whole, 1019, columns, "7 rows");
    const Floats batch = run({{.sequence = 1, .cached = 20, .rows = 1},
                              {.sequence = 2, .cached = 0, .rows = 35},
                              {.sequence = 7, .cached = 1080, .rows = 1},
                              {.sequence = 7, .cached = 70, .rows = 33},
                              {.sequence = 3, .cached = 1020, .rows = 8}});
    ExpectRows(Floats(batch.begin() + 36 * columns, batch.begin() + 37 * columns), whole, 1080,
               columns, "decoded in a batch");
    ExpectRows(Floats(batch.begin() + 37 * columns, batch.begin() + 70 * columns), whole, 70,
               columns, "prefilled in a batch");
  });
}

// A row that sees two tiles of 700 keys (22 key blocks, two splits), alone and in runs of any
// length.
TEST(Invariance, CrossAttentionRows) {
  const HeadShape shape{.heads = 4, .kv_heads = 1, .head_dim = 64};
  const auto run = [&](int rows) {
    return RunCross({.shape = shape,
                     .tile_keys = 700,
                     .rows = std::vector<std::vector<int>>(static_cast<size_t>(rows), {2, 0})},
                    "cross invariance");
  };
  const Floats many = run(40);
  for (const int rows : {1, 3, 8, 9})
    ExpectRows(run(rows), many, 0, 256, fmt::format("{} rows", rows));
}

TEST(Invariance, VisionRows) {
  const HeadShape shape{.heads = 1, .kv_heads = 1, .head_dim = 80};
  std::vector<uint8_t> padding(300, 0);
  std::fill(padding.begin() + 270, padding.end(), uint8_t{1});
  const auto run = [&](int begin, int rows) {
    return RunDense(
        {.shape = shape, .keys = 300, .row_begin = begin, .rows = rows, .padding = padding},
        "vision invariance");
  };
  const Floats whole = run(0, 300);
  for (const auto& [begin, rows] : {std::pair{0, 1}, {17, 33}, {128, 172}, {269, 2}, {299, 1}})
    ExpectRows(run(begin, rows), whole, begin, 80, fmt::format("rows {}+{}", begin, rows));
}

}  // namespace
}  // namespace tessera::cuda_test
