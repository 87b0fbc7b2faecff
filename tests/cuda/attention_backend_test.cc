// CudaBackend's attention ops from the outside: what they make of views, pages and ranges.
#include <fmt/format.h>

#include <array>

#include "tests/cuda/host_ops.h"

namespace tessera::cuda_test {
namespace {

class AttentionOps : public HostOps {};
INSTANTIATE_TEST_SUITE_P(Types, AttentionOps, ::testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(Name(info.param)); });
using AttentionOpsDeathTest = AttentionOps;
INSTANTIATE_TEST_SUITE_P(Types, AttentionOpsDeathTest, ::testing::Values(DType::kBF16),
                         [](const auto& info) { return std::string(Name(info.param)); });

struct Heads {
  int heads, kv_heads, dim;
};
constexpr Heads kShapes[] = {{4, 2, 16}, {2, 2, 12}, {6, 1, 32}};

// A pool whose slots [0, count) hold seeded K and V; the keys were not rotated.
KvLayerView Pool(Side& s, const Heads& h, int page_tokens, int pages, std::vector<int64_t> slots) {
  KvGeometry geometry{.layers = 1,
                      .kv_heads = h.kv_heads,
                      .head_dim = h.dim,
                      .page_tokens = page_tokens,
                      .dtype = s.dtype()};
  const KvLayerView kv{.k = s.Pool(pages * geometry.page_elements()).data,
                       .v = s.Pool(pages * geometry.page_elements()).data,
                       .geometry = geometry};
  const auto rows = std::ssize(slots);
  s.backend().RopeWriteKv({.k = s.Upload(rows, h.kv_heads * h.dim, 31, 5),
                           .v = s.Upload(rows, h.kv_heads * h.dim, 32, 8),
                           .slots = slots,
                           .kv = kv});
  return kv;
}

std::vector<int64_t> Slots(int64_t count) {
  std::vector<int64_t> slots(static_cast<size_t>(count));
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(i);
  return slots;
}

TEST_P(AttentionOps, RopeThenSelf) {
  for (const Heads& h : kShapes)
    for (int64_t gap : {0, 8, 3})
      Compare(fmt::format("self {} x {} gap {}", h.heads, h.dim, gap), 6, 1.0, [&](Side& s) {
        // Pages 0..3: the first sequence has 16 cached keys in page 2, the second stands in page 1.
        std::vector<int64_t> slots = Slots(64);
        const KvLayerView kv = Pool(s, h, 16, 4, slots);
        const TensorView q = s.Upload(7, h.heads * h.dim, 1, gap),
                         k = s.Upload(7, h.kv_heads * h.dim, 2, gap),
                         v = s.Upload(7, h.kv_heads * h.dim, 3, gap),
                         out = s.Upload(7, h.heads * h.dim, 4, gap);
        const int half = h.dim / 4;
        const TensorView cos = s.Fp32(32, half, 5), sin = s.Fp32(32, half, 6);
        const std::vector<int32_t> positions = {15, 16, 17, 0, 1, 2, 15}, pages = {2, 3, 1};
        const std::vector<int64_t> where = {47, 48, 49, 16, 17, 18, 0};
        s.backend().RopeWriteKv({.q = q,
                                 .k = k,
                                 .v = v,
                                 .cos_table = static_cast<const float*>(cos.data),
                                 .sin_table = static_cast<const float*>(sin.data),
                                 .rotary_dim = 2 * half,
                                 .positions = positions,
                                 .slots = where,
                                 .kv = kv});
        const std::vector<SequenceRows> sequences = {
            {.row_begin = 0, .row_count = 3, .first_position = 15, .page_begin = 0},
            {.row_begin = 3, .row_count = 3, .first_position = 0, .page_begin = 2},
            {.row_begin = 6, .row_count = 1, .first_position = 15, .page_begin = 0},
            {.row_begin = 7, .row_count = 0, .first_position = 0, .page_begin = 0}};
        s.backend().SelfAttention(
            {.q = q, .kv = kv, .sequences = sequences, .pages = pages, .scale = 0.3f, .out = out});
        s.backend().SelfAttention({.q = q.Rows(0, 0),
                                   .kv = kv,
                                   .sequences = {},
                                   .pages = {},
                                   .scale = 0.3f,
                                   .out = out.Rows(0, 0)});
        return s.Get(out);
      });
}

// 1,100 keys: two splits, whose partial results go through scratch memory.
TEST_P(AttentionOps, LongContextsAndCopiedPages) {
  const Heads h{2, 1, 16};
  Compare("long", 6, 1.0, [&](Side& s) {
    const KvLayerView kv = Pool(s, h, 16, 72, Slots(1136));
    const std::vector<PageCopy> copies = {{.from = 3, .to = 71}, {.from = 68, .to = 3}};
    s.backend().CopyKvPages({.kv = kv, .copies = copies});
    s.backend().CopyKvPages({.kv = kv, .copies = {}});
    std::vector<int32_t> pages(69);
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = i == 5 ? 71 : static_cast<int32_t>(i);
    const TensorView q = s.Upload(2, 32, 1), out = s.Upload(2, 32, 2);
    const std::vector<SequenceRows> sequences = {
        {.row_begin = 1, .row_count = 1, .first_position = 1099},
        {.row_begin = 0, .row_count = 1, .first_position = 3}};
    s.backend().SelfAttention(
        {.q = q, .kv = kv, .sequences = sequences, .pages = pages, .scale = 0.3f, .out = out});
    return s.Get(out);
  });
}

TEST_P(AttentionOps, Cross) {
  for (const Heads& h : kShapes)
    for (int tokens : {5, 64, 70})
      Compare(fmt::format("cross {} x {} of {}", h.heads, h.dim, tokens), 6, 1.0, [&](Side& s) {
        std::vector<int64_t> slots = Slots(4 * tokens);
        const KvLayerView kv = Pool(s, h, tokens, 4, slots);
        const TensorView q = s.Upload(6, h.heads * h.dim, 1, 8),
                         out = s.Upload(6, h.heads * h.dim, 2, 3);
        const std::vector<CrossRow> rows = {{0, 2}, {0, 2}, {2, 2}, {2, 5}, {1, 2}, {0, 5}};
        const std::vector<int32_t> tiles = {3, 0, 1, 2, 0};
        s.backend().CrossAttention(
            {.q = q, .kv = kv, .rows = rows, .tile_pages = tiles, .scale = 0.3f, .out = out});
        s.backend().CrossAttention({.q = q.Rows(0, 0),
                                    .kv = kv,
                                    .rows = {},
                                    .tile_pages = {},
                                    .scale = 0.3f,
                                    .out = out.Rows(0, 0)});
        return s.Get(out);
      });
}

TEST_P(AttentionOps, Dense) {
  for (const Heads& h : kShapes)
    for (int64_t gap : {0, 8, 3})
      for (int64_t padded : {0, 1, 9, 33})
        Compare(fmt::format("dense {} x {} gap {} padding {}", h.heads, h.dim, gap, padded), 12,
                1.0, [&](Side& s) {
                  constexpr int64_t kKeys = 64;
                  std::vector<uint8_t> padding(padded == 0 ? 0 : kKeys, 0);
                  std::fill(padding.end() - padded, padding.end(), uint8_t{1});
                  const TensorView q = s.Upload(9, h.heads * h.dim, 1, gap),
                                   k = s.Upload(kKeys, h.kv_heads * h.dim, 2, gap),
                                   v = s.Upload(kKeys, h.kv_heads * h.dim, 3, gap),
                                   out = s.Upload(9, h.heads * h.dim, 4, gap);
                  DenseAttentionArgs args{.q = q,
                                          .k = k,
                                          .v = v,
                                          .head_dim = h.dim,
                                          .padding = padding,
                                          .row_begin = kKeys - 9,
                                          .scale = 0.3f,
                                          .out = out};
                  s.backend().DenseAttention(args);
                  args.q = q.Rows(0, 4), args.out = out.Rows(0, 4), args.row_begin = 0;
                  s.backend().DenseAttention(args);
                  args.q = q.Rows(0, 0), args.out = out.Rows(0, 0);
                  s.backend().DenseAttention(args);
                  return s.Get(out);
                });
}

TEST_P(AttentionOps, LargestHeads) {
  const Heads h{2, 1, 256};
  Compare("256", 12, 1.0, [&](Side& s) {
    const KvLayerView kv = Pool(s, h, 16, 1, Slots(16));
    const TensorView q = s.Upload(2, 512, 1), out = s.Upload(4, 512, 2);
    const std::vector<SequenceRows> sequences = {{.row_count = 2, .first_position = 9}};
    s.backend().SelfAttention({.q = q,
                               .kv = kv,
                               .sequences = sequences,
                               .pages = std::vector<int32_t>{0},
                               .scale = 0.05f,
                               .out = out.Rows(0, 2)});
    s.backend().DenseAttention({.q = q,
                                .k = s.Upload(8, 256, 3),
                                .v = s.Upload(8, 256, 4),
                                .head_dim = 256,
                                .scale = 0.05f,
                                .out = out.Rows(2, 2)});
    return s.Get(out);
  });
}

// Pieces of 16 bytes wherever addresses and strides allow, and only there.
TEST_P(AttentionOps, AlignedHeadsAreCopiedWhole) {
  Side s(backend(), GetParam());
  const Heads h{2, 1, 16};
  const KvLayerView kv = Pool(s, h, 16, 2, Slots(32));
  // Bytes that cp.async moved for q: rows of `gap` more elements, `lead` elements into an aligned
  // row
  const auto copied = [&](int64_t rows, int64_t gap, int64_t lead) {
    const TensorView q = s.Upload(rows, 32 + lead, 1, gap).Columns(lead, 32),
                     out = s.Upload(rows, 32, 2);
    const std::vector<SequenceRows> sequences = {
        {.row_count = static_cast<int32_t>(rows), .first_position = 4}};
    backend().Synchronize();
    return CopiedBytes("SelfDecodeKernel", [&] {
      backend().SelfAttention({.q = q,
                               .kv = kv,
                               .sequences = sequences,
                               .pages = std::vector<int32_t>{1, 0},
                               .scale = 0.3f,
                               .out = out});
      backend().Synchronize();
    });
  };
  if (!copied(3, 0, 0)) GTEST_SKIP() << "the device does not count";
  EXPECT_GT(copied(3, 0, 0), 0u);
  EXPECT_GT(copied(3, 8, 8), 0u);
  EXPECT_GT(copied(1, 3, 0), 0u) << "of one row, the stride is nobody's concern";
  EXPECT_EQ(copied(3, 3, 0), 0u);
  EXPECT_EQ(copied(3, 4, 4), 0u) << "8 bytes into 16";
}

TEST_P(AttentionOpsDeathTest, RefusesRowsAndPagesThatAreNotThere) {
  // No device work inside EXPECT_DEATH: the emulated GPU's threads do not follow into the fork.
  Side s(backend(), GetParam());
  const Heads h{4, 2, 16};
  const KvLayerView kv = Pool(s, h, 16, 2, Slots(32));
  const TensorView q = s.Upload(3, 64, 1), out = s.Upload(3, 64, 2);
  const std::vector<int32_t> pages = {0, 1};
  const auto self = [&](SequenceRows rows, float scale = 0.3f, TensorView a = {},
                        TensorView b = {}) {
    const std::vector<SequenceRows> sequences = {rows};
    backend().SelfAttention({.q = a.data == nullptr ? q : a,
                             .kv = kv,
                             .sequences = sequences,
                             .pages = pages,
                             .scale = scale,
                             .out = b.data == nullptr ? out : b});
  };
  self({.row_begin = 0, .row_count = 3, .first_position = 29});  // the last slot of the last page
  self({.row_begin = 0, .row_count = 3, .first_position = 13, .page_begin = 1});
  EXPECT_DEATH(self({.row_count = 3, .first_position = 30}), "SelfAttention.*pages");
  EXPECT_DEATH(self({.row_count = 3, .first_position = 14, .page_begin = 1}),
               "SelfAttention.*pages");
  EXPECT_DEATH(self({.row_count = 3, .page_begin = -1}), "SelfAttention.*pages");
  EXPECT_DEATH(self({.row_begin = -1, .row_count = 3}), "SelfAttention.*rows");
  EXPECT_DEATH(self({.row_begin = 1, .row_count = 3}), "SelfAttention.*rows");
  EXPECT_DEATH(self({.row_count = -1}), "SelfAttention.*rows");
  EXPECT_DEATH(self({.row_count = 3, .first_position = -1}), "SelfAttention.*rows");
  EXPECT_DEATH(self({.row_count = 3}, 0), "SelfAttention.*scale");
  EXPECT_DEATH(self({.row_count = 3}, INFINITY), "SelfAttention.*scale");
  for (int columns : {56, 48}) {  // no whole heads; three heads over two
    const TensorView narrow = s.Upload(3, columns, 1), narrow_out = s.Upload(3, columns, 2);
    EXPECT_DEATH(self({.row_count = 3}, 0.3f, narrow, narrow_out), "SelfAttention.*q");
  }

  const auto cross = [&](CrossRow row) {
    const std::vector<CrossRow> rows(3, row);
    backend().CrossAttention(
        {.q = q, .kv = kv, .rows = rows, .tile_pages = pages, .scale = 0.3f, .out = out});
  };
  cross({0, 2});
  EXPECT_DEATH(cross({-1, 2}), "CrossAttention.*rows");
  EXPECT_DEATH(cross({1, 0}), "CrossAttention.*rows");
  EXPECT_DEATH(cross({0, 3}), "CrossAttention.*rows");

  const TensorView k = s.Upload(8, 32, 3), v = s.Upload(8, 32, 4);
  DenseAttentionArgs args{
      .q = q, .k = k, .v = v, .head_dim = 16, .row_begin = 5, .scale = 0.3f, .out = out};
  const auto dense = [&](auto change) {
    DenseAttentionArgs bad = args;
    change(bad);
    backend().DenseAttention(bad);
  };
  const std::vector<uint8_t> padding(7);
  dense([](DenseAttentionArgs&) {});
  EXPECT_DEATH(dense([](DenseAttentionArgs& a) { a.row_begin = 6; }), "DenseAttention.*row_begin");
  EXPECT_DEATH(dense([](DenseAttentionArgs& a) { a.row_begin = -1; }), "DenseAttention.*row_begin");
  EXPECT_DEATH(dense([](DenseAttentionArgs& a) { a.scale = 0; }), "DenseAttention.*scale");
  EXPECT_DEATH(dense([](DenseAttentionArgs& a) { a.scale = INFINITY; }), "DenseAttention.*scale");
  EXPECT_DEATH(dense([](DenseAttentionArgs& a) { a.head_dim = 24; }), "DenseAttention.*q");
  EXPECT_DEATH(dense([](DenseAttentionArgs& a) { a.head_dim = 257; }), "DenseAttention.*head_dim");
  EXPECT_DEATH(dense([&](DenseAttentionArgs& a) { a.padding = padding; }),
               "DenseAttention.*padding");

  const std::vector<int64_t> slots = {0, 1, 2};
  const std::vector<int32_t> positions = {0, 1, 2};
  const TensorView table = s.Fp32(4, 8, 5), kr = s.Upload(3, 32, 6), vr = s.Upload(3, 32, 7);
  const auto rope = [&](int rotary, const TensorView& queries) {
    backend().RopeWriteKv({.q = queries,
                           .k = kr,
                           .v = vr,
                           .cos_table = static_cast<const float*>(table.data),
                           .sin_table = static_cast<const float*>(table.data),
                           .rotary_dim = rotary,
                           .positions = positions,
                           .slots = slots,
                           .kv = kv});
  };
  rope(16, q);
  rope(0, q);
  for (int rotary : {-2, 3, 18}) EXPECT_DEATH(rope(rotary, q), "RopeWriteKv.*rotary_dim");
  const TensorView odd = s.Upload(3, 40, 8);
  EXPECT_DEATH(rope(16, odd), "RopeWriteKv.*q");
  backend().Synchronize();
}

}  // namespace
}  // namespace tessera::cuda_test
