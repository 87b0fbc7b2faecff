// Attention and the K/V cache on every backend, against float64. Pools start as NaN, so a key that
// no row may see, or that does not exist, shows at once.
#include "tests/ops/cases.h"
#include "tests/ops/harness.h"

namespace tessera::ops_test {
namespace {

class Attention : public BackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Attention, testing::ValuesIn(BackendsUnderTest()), NameOf);

// Within the bound, and at most twice as far off as the same precision without blocks (or within an
// ulp or two).
void ExpectAttention(const Floats& got, const std::vector<AttentionRow>& rows, int64_t columns,
                     const std::string& what) {
  std::vector<Bounded> want;
  double worst = 0, naive_worst = 0, largest = 0;
  for (const AttentionRow& row : rows) {
    for (size_t d = 0; d < row.out.size(); ++d) {
      const double error = std::fabs(got[want.size()] - row.out[d].value);
      worst = std::max(worst, std::isnan(error) ? 1e30 : error);
      naive_worst = std::max(naive_worst, std::fabs(row.naive[d] - row.out[d].value));
      largest = std::max(largest, std::fabs(row.out[d].value));
      want.push_back(row.out[d]);
    }
  }
  ExpectWithin(got, want, columns, what);
  EXPECT_LE(worst, 2 * naive_worst + 4 * kU * largest)
      << what << ": against the naive body in fp32";
}

Floats Rounded(Floats values, DType dtype) {
  for (float& value : values) value = RoundTo(dtype, value);
  return values;
}

// As the cache keeps keys and values; int8 with a scale for each head's `head_dim` numbers.
Floats Cached(Floats values, DType dtype, int64_t head_dim) {
  if (dtype != DType::kI8) return Rounded(std::move(values), dtype);
  for (size_t begin = 0; begin < values.size(); begin += static_cast<size_t>(head_dim)) {
    const std::span<float> head(values.data() + begin, static_cast<size_t>(head_dim));
    float most = 0;
    for (float value : head) most = std::max(most, std::fabs(value));
    const float scale = most / 127, inverse = most > 0 ? 127 / most : 0;
    for (float& value : head)
      value = std::nearbyint(std::clamp(value * inverse, -127.0f, 127.0f)) * scale;
  }
  return values;
}
// Other devices keep K/V as they keep activations.
bool CanKeep(const Backend& backend, DType dtype) {
  return dtype != DType::kI8 || backend.name() == "cpu";
}

TEST_P(Attention, RopeRotatesAndWrites) {
  uint64_t seed = 500;
  for (const RopeCase& c : RopeCases()) {
    const std::string what =
        fmt::format("{} rows, D {}, rotary {}", c.rows, c.head_dim, c.rotary_dim);
    const int64_t kv_columns = int64_t{c.kv_heads} * c.head_dim,
                  q_columns = int64_t{c.heads} * c.head_dim;
    const Floats q = Random(c.rows * q_columns, ++seed), k = Random(c.rows * kv_columns, ++seed),
                 v = Random(c.rows * kv_columns, ++seed);
    const int half = c.rotary_dim / 2, positions_count = 50;
    Floats cosines, sines;
    for (int position = 0; position < positions_count; ++position)
      for (int d = 0; d < half; ++d) {
        cosines.push_back(static_cast<float>(std::cos(position * std::pow(0.7, d))));
        sines.push_back(static_cast<float>(std::sin(position * std::pow(0.7, d))));
      }
    std::vector<int32_t> positions;
    std::vector<int64_t> slots;
    for (int64_t r = 0; r < c.rows; ++r) {
      positions.push_back(static_cast<int32_t>((r * 7 + 3) % positions_count));
      slots.push_back((r * 5 + 2) % 64);  // distinct: 5 and 64 share no factor
    }
    const KvGeometry geometry{.layers = 1,
                              .kv_heads = c.kv_heads,
                              .head_dim = c.head_dim,
                              .page_tokens = c.page_tokens,
                              .dtype = c.kv_dtype};
    KvPages pages(backend(), geometry, 64 / c.page_tokens + 1);
    const GuardedRows q_rows(backend(), c.rows, q_columns, 1, q),
        k_rows(backend(), c.rows, kv_columns, 2, k), v_rows(backend(), c.rows, kv_columns, 3, v);
    const DeviceFloats cosines_device(backend(), cosines), sines_device(backend(), sines);
    const bool rotates = c.rotary_dim > 0;
    backend().RopeWriteKv(
        {.q = c.heads > 0 ? q_rows.view() : TensorView{},
         .k = k_rows.view(),
         .v = v_rows.view(),
         .cos_table = rotates ? cosines_device.data() : nullptr,
         .sin_table = rotates ? sines_device.data() : nullptr,
         .rotary_dim = c.rotary_dim,
         .positions = rotates ? std::span<const int32_t>(positions) : std::span<const int32_t>(),
         .slots = slots,
         .kv = pages.layer()});
    const auto rotated = [&](const Floats& x, int heads) {
      std::vector<Bounded> want;
      for (int64_t r = 0; r < c.rows; ++r)
        for (int64_t column = 0; column < int64_t{heads} * c.head_dim; ++column) {
          const int64_t d = column % c.head_dim;
          const float* head = x.data() + r * heads * c.head_dim + column - d;
          if (d >= c.rotary_dim) {
            want.push_back({head[d], 0});
            continue;
          }
          const auto angle =
              static_cast<size_t>(positions[static_cast<size_t>(r)] * half + d % half);
          const double other = d < half ? -head[d + half] : head[d - half];
          const double a = static_cast<double>(head[d]) * cosines[angle], b = other * sines[angle];
          want.push_back({a + b, kU * (2 * std::fabs(a) + 2 * std::fabs(b))});
        }
      return want;
    };
    if (c.heads > 0) ExpectWithin(q_rows.Get(), rotated(q, c.heads), q_columns, "q, " + what);
    ExpectWithin(k_rows.Get(), rotated(k, c.kv_heads), kv_columns, "k, " + what);
    ExpectSameBits(v_rows.Get(), v, "v, " + what);
    for (const GuardedRows* rows : {&q_rows, &k_rows, &v_rows}) rows->CheckGuards();
  }
}

TEST_P(Attention, Self) {
  uint64_t seed = 600;
  for (const SelfCase& c : SelfCases()) {
    if (!CanKeep(backend(), c.kv_dtype)) continue;
    const std::string what =
        fmt::format("H {} G {} D {} {}", c.heads, c.kv_heads, c.head_dim, Name(c.kv_dtype));
    const int64_t kv_columns = int64_t{c.kv_heads} * c.head_dim,
                  q_columns = int64_t{c.heads} * c.head_dim;
    const float scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
    int pages_needed = 0, rows = 0;
    for (const SelfSequence& s : c.sequences)
      pages_needed += (s.cached + s.rows + 15) / 16, rows += s.rows;
    KvPages pool(backend(),
                 {.layers = 1,
                  .kv_heads = c.kv_heads,
                  .head_dim = c.head_dim,
                  .page_tokens = 16,
                  .dtype = c.kv_dtype},
                 pages_needed + 3);

    // Pages from the end of the pool, so that no two neighbours are in order.
    std::vector<int32_t> pages;
    for (int p = 0; p < pages_needed; ++p) pages.push_back(pages_needed + 1 - p);
    std::vector<SequenceRows> sequences;
    std::vector<Floats> keys, values;
    int row = 0, page = 0;
    for (const SelfSequence& s : c.sequences) {
      sequences.push_back(
          {.row_begin = row, .row_count = s.rows, .first_position = s.cached, .page_begin = page});
      const int length = s.cached + s.rows;
      std::vector<int64_t> slots;
      for (int t = 0; t < length; ++t)
        slots.push_back(int64_t{pages[static_cast<size_t>(page + t / 16)]} * 16 + t % 16);
      keys.push_back(Random(length * kv_columns, ++seed)),
          values.push_back(Random(length * kv_columns, ++seed));
      if (length > 0) pool.Write(keys.back(), values.back(), slots);
      keys.back() = Cached(keys.back(), c.kv_dtype, c.head_dim),
      values.back() = Cached(values.back(), c.kv_dtype, c.head_dim);
      row += s.rows, page += (length + 15) / 16;
    }
    const Floats q = Random(rows * q_columns, ++seed, 2.0f);
    const GuardedRows q_rows(backend(), rows, q_columns, 4, q), out(backend(), rows, q_columns, 1);
    backend().SelfAttention({.q = q_rows.view(),
                             .kv = pool.layer(),
                             .sequences = sequences,
                             .pages = pages,
                             .scale = scale,
                             .out = out.view()});

    std::vector<AttentionRow> want;
    for (size_t s = 0; s < sequences.size(); ++s)
      for (int r = 0; r < sequences[s].row_count; ++r)
        for (int head = 0; head < c.heads; ++head) {
          const int64_t column = int64_t{head / (c.heads / c.kv_heads)} * c.head_dim;
          want.push_back(Attend(
              q.data() + (sequences[s].row_begin + r) * q_columns + head * c.head_dim, c.head_dim,
              sequences[s].first_position + r + 1, scale,
              [&](int64_t j) { return keys[s].data() + j * kv_columns + column; },
              [&](int64_t j) { return values[s].data() + j * kv_columns + column; },
              [](int64_t) { return true; }));
        }
    ExpectAttention(out.Get(), want, c.head_dim, what);
    out.CheckGuards();
  }
}

TEST_P(Attention, Cross) {
  uint64_t seed = 700;
  for (const CrossCase& c : CrossCases()) {
    if (!CanKeep(backend(), c.kv_dtype)) continue;
    const std::string what =
        fmt::format("H {} G {} D {} P {}", c.heads, c.kv_heads, c.head_dim, c.page_tokens);
    const int64_t kv_columns = int64_t{c.kv_heads} * c.head_dim,
                  q_columns = int64_t{c.heads} * c.head_dim;
    const float scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
    const int pool_pages = 5;
    KvPages pool(backend(),
                 {.layers = 1,
                  .kv_heads = c.kv_heads,
                  .head_dim = c.head_dim,
                  .page_tokens = c.page_tokens,
                  .dtype = c.kv_dtype},
                 pool_pages);
    Floats k = Random(pool_pages * c.page_tokens * kv_columns, ++seed),
           v = Random(pool_pages * c.page_tokens * kv_columns, ++seed);
    std::vector<int64_t> slots;
    for (int64_t slot = 0; slot < pool_pages * c.page_tokens; ++slot) slots.push_back(slot);
    pool.Write(k, v, slots);
    k = Cached(k, c.kv_dtype, c.head_dim), v = Cached(v, c.kv_dtype, c.head_dim);

    // Tile lists out of order; "-1" starts a list of its own of the same length.
    std::vector<CrossRow> rows;
    std::vector<int32_t> tiles;
    for (int count : c.tiles_of_row) {
      if (!rows.empty() && count == rows.back().tiles_end - rows.back().tiles_begin) {
        rows.push_back(rows.back());
        continue;
      }
      if (count < 0) count = rows.back().tiles_end - rows.back().tiles_begin;
      const auto begin = static_cast<int32_t>(tiles.size());
      for (int t = 0; t < count; ++t)
        tiles.push_back(
            static_cast<int32_t>((rows.size() * 2 + 4 - static_cast<size_t>(t)) % pool_pages));
      rows.push_back({.tiles_begin = begin, .tiles_end = begin + count});
    }
    const auto row_count = std::ssize(rows);
    const Floats q = Random(row_count * q_columns, ++seed, 2.0f);
    const GuardedRows q_rows(backend(), row_count, q_columns, 0, q),
        out(backend(), row_count, q_columns, 2);
    backend().CrossAttention({.q = q_rows.view(),
                              .kv = pool.layer(),
                              .rows = rows,
                              .tile_pages = tiles,
                              .scale = scale,
                              .out = out.view()});

    std::vector<AttentionRow> want;
    for (int64_t r = 0; r < row_count; ++r)
      for (int head = 0; head < c.heads; ++head) {
        const CrossRow& row = rows[static_cast<size_t>(r)];
        const auto at = [&](int64_t j) {
          const int64_t page = tiles[static_cast<size_t>(row.tiles_begin + j / c.page_tokens)];
          return (page * c.page_tokens + j % c.page_tokens) * kv_columns +
                 int64_t{head / (c.heads / c.kv_heads)} * c.head_dim;
        };
        want.push_back(Attend(
            q.data() + r * q_columns + head * c.head_dim, c.head_dim,
            (row.tiles_end - row.tiles_begin) * c.page_tokens, scale,
            [&](int64_t j) { return k.data() + at(j); },
            [&](int64_t j) { return v.data() + at(j); }, [](int64_t) { return true; }));
      }
    ExpectAttention(out.Get(), want, c.head_dim, what);
    out.CheckGuards();
  }
}

TEST_P(Attention, Dense) {
  uint64_t seed = 800;
  for (const DenseCase& c : DenseCases()) {
    const std::string what =
        fmt::format("H {} G {} D {} S {}", c.heads, c.kv_heads, c.head_dim, c.keys);
    const int64_t kv_columns = int64_t{c.kv_heads} * c.head_dim,
                  q_columns = int64_t{c.heads} * c.head_dim;
    const float scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
    Floats k = Random(c.keys * kv_columns, ++seed), v = Random(c.keys * kv_columns, ++seed);
    const Floats q = Random(c.rows * q_columns, ++seed, 2.0f);
    const GuardedRows q_rows(backend(), c.rows, q_columns, c.row_gap, q),
        k_rows(backend(), c.keys, kv_columns, c.row_gap, k),
        v_rows(backend(), c.keys, kv_columns, c.row_gap + 1, v),
        out(backend(), c.rows, q_columns, 1);
    std::vector<uint8_t> padding(static_cast<size_t>(c.keys), 0);
    std::fill(padding.end() - c.padding, padding.end(), uint8_t{1});
    backend().DenseAttention(
        {.q = q_rows.view(),
         .k = k_rows.view(),
         .v = v_rows.view(),
         .head_dim = c.head_dim,
         .padding = c.padding > 0 ? std::span<const uint8_t>(padding) : std::span<const uint8_t>(),
         .row_begin = c.row_begin,
         .scale = scale,
         .out = out.view()});
    k = Rounded(k, backend().operand_dtype()), v = Rounded(v, backend().operand_dtype());
    std::vector<AttentionRow> want;
    for (int64_t r = 0; r < c.rows; ++r)
      for (int head = 0; head < c.heads; ++head) {
        const int64_t column = int64_t{head / (c.heads / c.kv_heads)} * c.head_dim;
        const bool pads = padding[static_cast<size_t>(c.row_begin + r)] != 0;
        want.push_back(Attend(
            q.data() + r * q_columns + head * c.head_dim, c.head_dim, c.keys, scale,
            [&](int64_t j) { return k.data() + j * kv_columns + column; },
            [&](int64_t j) { return v.data() + j * kv_columns + column; },
            [&](int64_t j) { return !(pads && padding[static_cast<size_t>(j)] != 0); }));
      }
    ExpectAttention(out.Get(), want, c.head_dim, what);
    out.CheckGuards();
  }
}

TEST_P(Attention, CopiedPagesReadAlike) {
  const KvGeometry geometry{
      .layers = 1, .kv_heads = 2, .head_dim = 20, .page_tokens = 16, .dtype = DType::kBF16};
  KvPages pool(backend(), geometry, 4);
  const Floats k = Random(11 * 40, 900), v = Random(11 * 40, 901), q = Random(80, 902);
  std::vector<int64_t> slots;
  for (int64_t t = 0; t < 11; ++t) slots.push_back(t);
  pool.Write(k, v, slots);
  const std::vector<PageCopy> copies = {{.from = 0, .to = 3}, {.from = 1, .to = 2}};
  backend().CopyKvPages({.kv = pool.layer(), .copies = copies});
  backend().CopyKvPages({.kv = pool.layer(), .copies = {}});
  const std::vector<SequenceRows> sequences = {
      {.row_begin = 0, .row_count = 1, .first_position = 10, .page_begin = 0}};
  const GuardedRows q_rows(backend(), 1, 80, 0, q), from_source(backend(), 1, 80),
      from_copy(backend(), 1, 80);
  const std::vector<int32_t> source = {0}, copy = {3};
  backend().SelfAttention({.q = q_rows.view(),
                           .kv = pool.layer(),
                           .sequences = sequences,
                           .pages = source,
                           .scale = 0.2f,
                           .out = from_source.view()});
  backend().SelfAttention({.q = q_rows.view(),
                           .kv = pool.layer(),
                           .sequences = sequences,
                           .pages = copy,
                           .scale = 0.2f,
                           .out = from_copy.view()});
  ExpectSameBits(from_copy.Get(), from_source.Get(), "copied page");
  EXPECT_FALSE(std::isnan(from_source.Get()[0]));
}

}  // namespace
}  // namespace tessera::ops_test
