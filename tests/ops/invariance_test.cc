// ARCHITECTURE decision 5, op by op: the bits of a row do not depend on the rows beside it, on how
// many there are, on the number of threads, on how a prompt is cut into chunks, or on what stale
// memory holds.
#include "tests/ops/invariance.h"

namespace tessera::ops_test {
namespace {

class Invariance : public BackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Invariance, testing::ValuesIn(BackendsUnderTest()), NameOf);

TEST_P(Invariance, MatMul) {
  // More than one block of K, panels that do not divide, all storage formats.
  const int64_t k = 600, n = 70;
  const Floats x = Random(kRows * k, 1), w = Random(n * k, 2), bias = Random(n, 3);
  for (WeightFormat format : {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBF16}) {
    const auto op_with = [&](Backend& backend, const PackedMatrix& packed, int64_t begin,
                             int64_t rows) {
      const GuardedRows in(backend, rows, k, 0, Slice(x, k, begin, rows)), out(backend, rows, n);
      const DeviceFloats bias_device(backend, bias);
      backend.MatMul({.x = in.view(),
                      .w = &packed,
                      .bias = bias_device.data(),
                      .activation = Activation::kSilu,
                      .out = out.view()});
      return out.Get();
    };
    const auto packed = PackFloats(backend(), w, n, k, {.format = format});
    ExpectRowsAlone(backend(), n, std::string(Name(format)),
                    [&](Backend& backend, int64_t begin, int64_t rows) {
                      return op_with(backend, *packed, begin, rows);
                    });
    for (int64_t rows : {1, 9, 200})
      ExpectThreadsAlike(GetParam(), std::string(Name(format)), [&](Backend& backend) {
        return op_with(backend, *PackFloats(backend, w, n, k, {.format = format}), 0, rows);
      });
  }
}

TEST_P(Invariance, RowOps) {
  const int64_t columns = 83;
  const Floats x = Random(kRows * 2 * columns, 10), weight = Random(columns, 11),
               bias = Random(columns, 12);
  enum Kind { kRmsNorm, kLayerNorm, kHeadNorm, kGated, kAddRows, kGather, kEmbedding };
  const auto op = [&](Backend& backend, Kind kind, int64_t begin, int64_t rows) {
    const GuardedRows in(backend, rows, columns, 0, Slice(x, columns, begin, rows)),
        out(backend, rows, columns);
    const DeviceFloats w(backend, weight), b(backend, bias);
    const auto table =
        PackFloats(backend, Slice(x, columns, 0, 40), 40, columns, {.format = WeightFormat::kBF16});
    std::vector<int32_t> ids;
    for (int64_t r = begin; r < begin + rows; ++r) ids.push_back(static_cast<int32_t>(r * 7 % 40));
    switch (kind) {
      case kRmsNorm:
        backend.RmsNorm({.x = in.view(), .weight = w.data(), .out = out.view()});
        break;
      case kLayerNorm:
        backend.LayerNorm(
            {.x = in.view(), .weight = w.data(), .bias = b.data(), .out = out.view()});
        break;
      case kHeadNorm: backend.HeadRmsNorm(in.view(), 1, w.data(), 1e-5f); return in.Get();
      case kGated: {
        const GuardedRows both(backend, rows, 2 * columns, 0, Slice(x, 2 * columns, begin, rows));
        backend.GatedActivation(
            {.gate_up = both.view(), .activation = Activation::kGelu, .out = out.view()});
        break;
      }
      case kAddRows: {
        const GuardedRows rows_of_table(backend, 40, columns, 0, Slice(x, columns, 40, 40));
        backend.AddRows(
            {.table = rows_of_table.view(), .rows = ids, .scale = 0.7f, .x = in.view()});
        return in.Get();
      }
      case kGather: {
        const GuardedRows from(backend, 40, columns, 0, Slice(x, columns, 0, 40));
        backend.GatherRows({.x = from.view(), .rows = ids, .out = out.view()});
        break;
      }
      case kEmbedding:
        backend.Embedding({.ids = ids, .table = table.get(), .out = out.view()});
        break;
    }
    return out.Get();
  };
  for (Kind kind : {kRmsNorm, kLayerNorm, kHeadNorm, kGated, kAddRows, kGather, kEmbedding}) {
    const std::string what = fmt::format("row op {}", static_cast<int>(kind));
    ExpectRowsAlone(backend(), columns, what, [&](Backend& backend, int64_t begin, int64_t rows) {
      return op(backend, kind, begin, rows);
    });
    ExpectThreadsAlike(GetParam(), what,
                       [&](Backend& backend) { return op(backend, kind, 0, kRows); });
  }
}

TEST_P(Invariance, DenseAttentionRows) {
  const int64_t dim = 20, heads = 2, columns = dim * heads;
  const Floats q = Random(kRows * columns, 20), k = Random(kRows * columns, 21),
               v = Random(kRows * columns, 22);
  std::vector<uint8_t> padding(kRows, 0);
  for (size_t i = 400; i < padding.size(); ++i) padding[i] = 1;
  for (size_t i = 5; i < 300; i += 50) padding[i] = 1;  // padding in the middle of blocks, too
  const auto op = [&](Backend& backend, int64_t begin, int64_t rows) {
    const GuardedRows q_rows(backend, rows, columns, 0, Slice(q, columns, begin, rows)),
        k_rows(backend, kRows, columns, 0, k), v_rows(backend, kRows, columns, 0, v),
        out(backend, rows, columns);
    backend.DenseAttention({.q = q_rows.view(),
                            .k = k_rows.view(),
                            .v = v_rows.view(),
                            .head_dim = static_cast<int>(dim),
                            .padding = padding,
                            .row_begin = begin,
                            .scale = 0.3f,
                            .out = out.view()});
    return out.Get();
  };
  ExpectRowsAlone(backend(), columns, "dense", op);
  ExpectThreadsAlike(GetParam(), "dense", [&](Backend& backend) { return op(backend, 0, kRows); });
}

// Eight prompts of lengths around the borders of blocks, run together or alone, in chunks of any
// size.
class SelfAttentionRun {
 public:
  static constexpr int kHeads = 4, kKvHeads = 2, kDim = 20, kQ = kHeads * kDim,
                       kKv = kKvHeads * kDim;
  static constexpr int kLengths[] = {1, 15, 16, 17, 64, 65, 130, 200};

  explicit SelfAttentionRun(DType kv_dtype) : kv_dtype_(kv_dtype) {
    for (int length : kLengths) {
      q_.push_back(Random(length * kQ, 30 + q_.size()));
      k_.push_back(Random(length * kKv, 60 + k_.size()));
      v_.push_back(Random(length * kKv, 90 + v_.size()));
    }
  }

  // Outputs of the prompts `which`, one after another: each step takes up to `chunk` rows of each
  // of them.
  Floats Run(Backend& backend, const std::vector<int>& which, int chunk) const {
    std::vector<int32_t> pages, first_page(q_.size());
    for (int s : which) {
      first_page[static_cast<size_t>(s)] = static_cast<int32_t>(pages.size());
      for (int t = 0; t < kLengths[s]; t += 16) pages.push_back(static_cast<int32_t>(pages.size()));
    }
    KvPages pool(backend,
                 {.layers = 1,
                  .kv_heads = kKvHeads,
                  .head_dim = kDim,
                  .page_tokens = 16,
                  .dtype = kv_dtype_},
                 static_cast<int>(pages.size()));
    std::vector<Floats> outs(q_.size());
    for (int begin = 0; begin < 200; begin += chunk) {
      Floats q, k, v;
      std::vector<int64_t> slots;
      std::vector<SequenceRows> sequences;
      for (int s : which) {
        const int end = std::min(kLengths[s], begin + chunk);
        if (begin >= end) continue;
        const auto at = static_cast<size_t>(s);
        sequences.push_back({.row_begin = static_cast<int32_t>(slots.size()),
                             .row_count = end - begin,
                             .first_position = begin,
                             .page_begin = first_page[at]});
        for (int t = begin; t < end; ++t) slots.push_back(int64_t{first_page[at]} * 16 + t);
        q.insert(q.end(), q_[at].begin() + begin * kQ, q_[at].begin() + end * kQ);
        k.insert(k.end(), k_[at].begin() + begin * kKv, k_[at].begin() + end * kKv);
        v.insert(v.end(), v_[at].begin() + begin * kKv, v_[at].begin() + end * kKv);
      }
      pool.Write(k, v, slots);
      const GuardedRows q_rows(backend, std::ssize(slots), kQ, 0, q),
          out(backend, std::ssize(slots), kQ);
      backend.SelfAttention({.q = q_rows.view(),
                             .kv = pool.layer(),
                             .sequences = sequences,
                             .pages = pages,
                             .scale = 0.25f,
                             .out = out.view()});
      const Floats got = out.Get();
      size_t n = 0;
      for (int s : which) {
        if (begin >= kLengths[s]) continue;
        const Floats mine = Slice(got, kQ, sequences[n].row_begin, sequences[n].row_count);
        outs[static_cast<size_t>(s)].insert(outs[static_cast<size_t>(s)].end(), mine.begin(),
                                            mine.end());
        ++n;
      }
    }
    Floats all;
    for (int s : which)
      all.insert(all.end(), outs[static_cast<size_t>(s)].begin(),
                 outs[static_cast<size_t>(s)].end());
    return all;
  }

 private:
  const DType kv_dtype_;
  std::vector<Floats> q_, k_, v_;
};

TEST_P(Invariance, SelfAttentionCompanyChunksAndThreads) {
  const std::vector<int> everyone = {0, 1, 2, 3, 4, 5, 6, 7};
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
    if (dtype == DType::kI8 && backend().name() != "cpu") continue;
    const SelfAttentionRun run(dtype);
    const Floats whole = run.Run(backend(), everyone, 200);
    for (float value : whole) ASSERT_FALSE(std::isnan(value)) << "a key beyond the row was read";
    for (int chunk : {1, 7, 16, 64})
      ExpectSameBits(run.Run(backend(), everyone, chunk), whole,
                     fmt::format("chunks of {}", chunk));
    Floats alone;
    for (int s : everyone) {
      const Floats mine = run.Run(backend(), {s}, 33);
      alone.insert(alone.end(), mine.begin(), mine.end());
    }
    ExpectSameBits(alone, whole, "each alone");
    ExpectThreadsAlike(GetParam(), "self attention",
                       [&](Backend& backend) { return run.Run(backend, everyone, 50); });
  }
}

TEST_P(Invariance, CrossAttentionCompanyAndThreads) {
  const int heads = 4, kv_heads = 2, dim = 20, tokens = 37, pages = 6;
  const int64_t q_columns = heads * dim, kv_columns = kv_heads * dim;
  const Floats q = Random(kRows * q_columns, 120), k = Random(pages * tokens * kv_columns, 121),
               v = Random(pages * tokens * kv_columns, 122);
  std::vector<int64_t> slots;
  for (int64_t slot = 0; slot < pages * tokens; ++slot) slots.push_back(slot);
  const std::vector<int32_t> tiles = {3, 1, 4, 0, 5, 2, 2, 0};
  const auto op = [&](Backend& backend, int64_t begin, int64_t rows) {
    KvPages pool(backend,
                 {.layers = 1,
                  .kv_heads = kv_heads,
                  .head_dim = dim,
                  .page_tokens = tokens,
                  .dtype = DType::kBF16},
                 pages);
    pool.Write(k, v, slots);
    std::vector<CrossRow> cross;
    for (int64_t r = begin; r < begin + rows;
         ++r) {  // runs of 1..7 rows with equal tiles, some without any
      const auto first = static_cast<int32_t>(r / 7 % 5);
      cross.push_back(
          {.tiles_begin = first, .tiles_end = first + static_cast<int32_t>(r / 28 % 4)});
    }
    const GuardedRows q_rows(backend, rows, q_columns, 0, Slice(q, q_columns, begin, rows)),
        out(backend, rows, q_columns);
    backend.CrossAttention({.q = q_rows.view(),
                            .kv = pool.layer(),
                            .rows = cross,
                            .tile_pages = tiles,
                            .scale = 0.3f,
                            .out = out.view()});
    return out.Get();
  };
  ExpectRowsAlone(backend(), q_columns, "cross", op);
  ExpectThreadsAlike(GetParam(), "cross", [&](Backend& backend) { return op(backend, 0, kRows); });
}

// A later token that went wrong must not reach earlier rows of the same chunk, nor other sequences.
TEST_P(Invariance, BadNumbersStayWithWhoMaySeeThem) {
  const int dim = 16, length = 80, bad = 70;
  const Floats q = Random(2 * length * dim, 130);
  Floats k = Random(2 * length * dim, 131), v = Random(2 * length * dim, 132);
  std::vector<int64_t> slots;
  for (int64_t slot = 0; slot < 2 * length; ++slot) slots.push_back(slot);
  std::vector<int32_t> pages;
  for (int32_t page = 0; page < 10; ++page) pages.push_back(page);
  const std::vector<SequenceRows> sequences = {
      {.row_begin = 0, .row_count = length, .first_position = 0, .page_begin = 0},
      {.row_begin = length, .row_count = length, .first_position = 0, .page_begin = 5}};
  const auto run = [&] {
    KvPages pool(
        backend(),
        {.layers = 1, .kv_heads = 1, .head_dim = dim, .page_tokens = 16, .dtype = DType::kF32}, 10);
    pool.Write(k, v, slots);
    const GuardedRows q_rows(backend(), 2 * length, dim, 0, q), out(backend(), 2 * length, dim);
    backend().SelfAttention({.q = q_rows.view(),
                             .kv = pool.layer(),
                             .sequences = sequences,
                             .pages = pages,
                             .scale = 0.25f,
                             .out = out.view()});
    return out.Get();
  };
  const Floats good = run();
  k[bad * dim] = v[bad * dim + 3] = std::numeric_limits<float>::quiet_NaN();
  v[bad * dim + 5] = std::numeric_limits<float>::infinity();
  const Floats got = run();
  ExpectSameBits(Slice(got, dim, 0, bad), Slice(good, dim, 0, bad), "rows before the bad one");
  ExpectSameBits(Slice(got, dim, length, length), Slice(good, dim, length, length),
                 "the other sequence");
  for (int r = bad; r < length; ++r)
    EXPECT_TRUE(std::isnan(got[static_cast<size_t>(r * dim + 3)])) << r;
}

}  // namespace
}  // namespace tessera::ops_test
