// tessera-bench-ops: each op's rate beside what the machine can do, measured in the same run.
//
// Shapes are those of a 1B text model (hidden 2048, 16 layers, feed-forward 8192, 32 heads and 8
// K/V heads of 64, vocabulary 128256) with a vision tower of 1280. Matmuls walk through all layers,
// so weights come from memory, not from a cache. Every repetition runs the op and then its ceiling:
// FMAs or products of bytes on all threads, or reading memory as large as the weights; the share is
// the median over repetitions of the one over the other, so that a busy machine disturbs both.
#include <fmt/format.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/threads.h"
#include "kernels/factory.h"
#include "kernels/sampling.h"

namespace tessera {
namespace {

struct Options {
  std::string isa = "auto", activations = "fp32", filter;
  int threads = 0, repetitions = 5;
  bool quick = false, cpu_time = false;
};

constexpr int64_t kHidden = 2048, kFeedForward = 8192, kHeads = 32, kKvHeads = 8, kHeadDim = 64,
                  kVocab = 128256;
enum class Bound { kCompute, kDots, kMemory };

double Now(bool cpu_time) {
  timespec now{};
  clock_gettime(cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options), layers_(options.quick ? 2 : 16) {
    const DType operand = options.activations == "bf16" ? DType::kBF16 : DType::kF32;
    auto made = MakeBackend({.device = "cpu",
                             .cpu_isa = options.isa,
                             .threads = options.threads,
                             .operand_dtype = operand});
    if (!made) {
      fmt::print(stderr, "tessera-bench-ops: {}\n", made.error().Describe());
      std::exit(2);
    }
    backend_ = std::move(*made);
    const std::string_view tier = backend_->tier();
    const CpuFeatures features = UsableCpuFeatures();
    kernels_ = tier == "avx512"
                   ? (features.avx512_vnni ? cpu::Avx512VnniKernels() : cpu::Avx512Kernels())
               : tier == "avx2" ? (features.avx_vnni ? cpu::Avx2VnniKernels() : cpu::Avx2Kernels())
               : tier == "amx"  ? cpu::AmxKernels()
                                : cpu::ReferenceKernels();
    pool_ = std::make_unique<ThreadPool>(backend_->threads(), true);
    Check(backend_->Reserve({.max_rows = 1024,
                             .widest = kVocab,
                             .max_heads = kHeads,
                             .max_head_dim = 128,
                             .max_dense_keys = 6432,
                             .vocab = kVocab}));
  }

  void Run() {
    fmt::print("tier {}, {} threads, operands {}, {} repetitions, {} layers\n", backend_->tier(),
               backend_->threads(), Name(backend_->operand_dtype()), options_.repetitions, layers_);
    fmt::print("{:<44} {:>10} {:>8} {:>9} {:>9} {:>7}\n", "op", "ms", "GB/s", "GFLOP/s", "ceiling",
               "share");
    MatMuls();
    SelfAttentions();
    CrossAndDense();
    Rows();
    Samples();
    fmt::print(
        "ceilings, medians of {}: {:.1f} GFLOP/s of fp32 FMAs, {:.1f} Gop/s of products of bytes, "
        "{:.1f} GB/s of reading {:.2f} GB\n",
        fma_.size(), Median(fma_), Median(dots_), Median(read_),
        static_cast<double>(weight_bytes_) * 1e-9);
  }

 private:
  template <typename T>
  T Check(Result<T> result) {
    if (!result) {
      fmt::print(stderr, "tessera-bench-ops: {}\n", result.error().Describe());
      std::exit(1);
    }
    if constexpr (!std::is_void_v<T>) return std::move(*result);
  }
  Tensor Floats(std::initializer_list<int64_t> shape) {
    Tensor tensor = Check(backend_->AllocateTensor(DType::kF32, shape));
    std::minstd_rand random(7);
    auto* values = tensor.view().As<float>();
    for (int64_t i = 0; i < tensor.view().size(); ++i)
      values[i] = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
    return tensor;
  }
  std::unique_ptr<PackedMatrix> Weights(int64_t n, int64_t k, const PackSpec& spec) {
    std::vector<uint16_t> source(static_cast<size_t>(n * k));
    std::minstd_rand random(static_cast<unsigned>(n + k));
    for (uint16_t& value : source)
      value = FloatToBF16(static_cast<float>(random() % 2001) * 1e-4f - 0.1f);
    const SourceMatrix matrix{source.data(), DType::kBF16, n, k};
    return Check(backend_->Pack({&matrix, 1}, spec));
  }

  double Seconds(const std::function<void()>& body) const {
    const double begin = Now(options_.cpu_time);
    body();
    return Now(options_.cpu_time) - begin;
  }

  // As long as the op that it is compared with: on a busy machine short bursts get a larger share
  // of the cores.
  double ComputeRate(double like_seconds, bool dots) {
    const auto rounds = static_cast<int64_t>(std::clamp(like_seconds, 0.002, 1.0) * 2e7);
    std::atomic<int64_t> flops{0};
    const double seconds = Seconds([&] {
      pool_->Run(4 * pool_->threads(), [&](int64_t, int) {
        float sink = 0;
        flops += dots ? kernels_->quant.dot_loop(rounds, &sink) : kernels_->fma_loop(rounds, &sink);
        sink_ = sink;
      });
    });
    return static_cast<double>(flops) / seconds * 1e-9;
  }
  double ReadRate() {
    int64_t bytes = 0;
    const double seconds = Seconds([&] {
      // All weights, in slices of 1 MiB handed to the threads as the matmuls' items are.
      for (const auto& matrix : matrices_) {
        const auto* data =
            static_cast<const char*>(static_cast<const cpu::CpuPackedMatrix&>(*matrix).data());
        const auto size = static_cast<int64_t>(matrix->bytes());
        constexpr int64_t kSlice = 1 << 20;
        pool_->Run((size + kSlice - 1) / kSlice, [&](int64_t slice, int) {
          float sink = 0;
          kernels_->read_loop(data + slice * kSlice, std::min(kSlice, size - slice * kSlice),
                              &sink);
          sink_ = sink;
        });
        bytes += size;
      }
    });
    return static_cast<double>(bytes) / seconds * 1e-9;
  }

  // flops and bytes of one call of body.
  void Case(const std::string& name, double flops, double bytes, Bound bound,
            const std::function<void()>& body) {
    if (!options_.filter.empty() && name.find(options_.filter) == std::string::npos) return;
    body();  // page faults and caches
    std::vector<double> seconds, ceilings, shares;
    for (int repetition = 0; repetition < options_.repetitions; ++repetition) {
      seconds.push_back(Seconds(body));
      const double ceiling =
          bound == Bound::kMemory ? ReadRate() : ComputeRate(seconds.back(), bound == Bound::kDots);
      const double rate = (bound == Bound::kMemory ? bytes : flops) / seconds.back() * 1e-9;
      (bound == Bound::kCompute ? fma_ : bound == Bound::kDots ? dots_ : read_).push_back(ceiling);
      ceilings.push_back(ceiling);
      shares.push_back(rate / ceiling);
    }
    const double time = Median(seconds);
    fmt::print("{:<44} {:>10.3f} {:>8.1f} {:>9.1f} {:>4.0f} {:<4} {:>6.1f}%\n", name, time * 1e3,
               bytes / time * 1e-9, flops / time * 1e-9, Median(ceilings),
               bound == Bound::kCompute ? "GF/s"
               : bound == Bound::kDots  ? "GO/s"
                                        : "GB/s",
               100 * Median(shares));
    std::fflush(stdout);
  }

  void MatMuls() {
    struct Shape {
      int64_t n, k;
    };
    const Shape shapes[] = {{(kHeads + 2 * kKvHeads) * kHeadDim, kHidden},
                            {kHidden, kHidden},
                            {2 * kFeedForward, kHidden},
                            {kHidden, kFeedForward}};
    const PackSpec specs[] = {{.format = WeightFormat::kBF16},
                              {.format = WeightFormat::kInt8},
                              {.format = WeightFormat::kInt4},
                              {.format = WeightFormat::kInt8, .group = 32},
                              {.format = WeightFormat::kInt4, .group = 32},
                              {.format = WeightFormat::kInt4, .group = 128},
                              {.format = WeightFormat::kF16},
                              {.format = WeightFormat::kF32}};
    for (const PackSpec& spec : specs) {
      const WeightFormat format = spec.format;
      const bool quant = format == WeightFormat::kInt8 || format == WeightFormat::kInt4;
      // The whole model in the formats that are served most, two layers of the others.
      const bool whole = format == WeightFormat::kBF16 || (quant && spec.group == 0);
      const std::string label =
          fmt::format("{}{}{}", Name(format), spec.group == 0 ? "" : fmt::format("/{}", spec.group),
                      spec.minimum ? "+min" : "");
      if (!options_.filter.empty() && options_.filter.starts_with("MatMul ") &&
          !fmt::format("MatMul {} ", label).starts_with(options_.filter) &&
          !options_.filter.starts_with(fmt::format("MatMul {} ", label)))
        continue;
      matrices_.clear();
      const double packing = Seconds([&] {
        for (int layer = 0; layer < (whole ? layers_ : 2); ++layer)
          for (const Shape& shape : shapes) matrices_.push_back(Weights(shape.n, shape.k, spec));
        if (whole) matrices_.push_back(Weights(kVocab, kHidden, spec));
      });
      weight_bytes_ = 0;
      double elements = 0;
      for (const auto& matrix : matrices_)
        weight_bytes_ += matrix->bytes(),
            elements += static_cast<double>(matrix->n()) * static_cast<double>(matrix->k());
      fmt::print("  packed {:.2f} GB of {} in {:.2f} s (random numbers included)\n",
                 static_cast<double>(weight_bytes_) * 1e-9, label, packing);
      const Tensor x = Floats({512, kFeedForward}), out = Floats({512, kVocab});
      for (int64_t rows : {1, 2, 4, 8, 16, 64, 512}) {
        const bool decode = rows <= 16;
        // The head sees few rows in a prefill: only those that are sampled.
        const auto last = matrices_.size() - (whole && !decode ? 1 : 0);
        const double skipped = last == matrices_.size() ? 0 : static_cast<double>(kVocab * kHidden);
        Case(fmt::format("MatMul {} R={}", label, rows),
             2.0 * static_cast<double>(rows) * (elements - skipped),
             static_cast<double>(weight_bytes_),
             decode  ? Bound::kMemory
             : quant ? Bound::kDots
                     : Bound::kCompute,
             [&] {
               for (size_t i = 0; i < last; ++i) {
                 const PackedMatrix& w = *matrices_[i];
                 TensorView in = x.view().Rows(0, rows).Columns(0, w.k()),
                            to = out.view().Rows(0, rows).Columns(0, w.n());
                 backend_->MatMul({.x = in, .w = &w, .out = to});
               }
             });
      }
      if (format == WeightFormat::kBF16) keep_ = std::move(matrices_);
    }
    matrices_ = std::move(keep_);  // what ReadRate reads from here on
    weight_bytes_ = 0;
    for (const auto& matrix : matrices_) weight_bytes_ += matrix->bytes();
  }

  void SelfAttentions() {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
      const int pages_count = 8 * 2048 / 16;
      const KvGeometry geometry{.layers = 1,
                                .kv_heads = kKvHeads,
                                .head_dim = kHeadDim,
                                .page_tokens = 16,
                                .dtype = dtype};
      const Tensor k =
          Check(backend_->AllocateTensor(DType::kU8, {geometry.page_elements() * pages_count *
                                                      static_cast<int64_t>(SizeOf(dtype))}));
      const Tensor v =
          Check(backend_->AllocateTensor(DType::kU8, {geometry.page_elements() * pages_count *
                                                      static_cast<int64_t>(SizeOf(dtype))}));
      std::vector<int32_t> pages(static_cast<size_t>(pages_count));
      std::iota(pages.begin(), pages.end(), 0);
      const Tensor q = Floats({512, kHeads * kHeadDim}), out = Floats({512, kHeads * kHeadDim});
      const KvLayerView kv{k.view().data, v.view().data, geometry};
      const auto run = [&](const std::string& name, std::vector<SequenceRows> sequences,
                           Bound bound) {
        double pairs = 0, keys = 0;
        int64_t rows = 0;
        for (const SequenceRows& s : sequences) {
          pairs += s.row_count * (s.first_position + (s.row_count + 1) / 2.0);
          keys += s.first_position + s.row_count;
          rows += s.row_count;
        }
        Case(fmt::format("SelfAttention {} {}", Name(dtype), name), 4.0 * pairs * kHeads * kHeadDim,
             keys * 2.0 * kKvHeads * kHeadDim * static_cast<double>(SizeOf(dtype)), bound, [&] {
               backend_->SelfAttention({.q = q.view().Rows(0, rows),
                                        .kv = kv,
                                        .sequences = sequences,
                                        .pages = pages,
                                        .scale = 0.125f,
                                        .out = out.view().Rows(0, rows)});
             });
      };
      std::vector<SequenceRows> eight(8);
      for (int s = 0; s < 8; ++s)
        eight[static_cast<size_t>(s)] = {
            .row_begin = s, .row_count = 1, .first_position = 2046, .page_begin = s * 128};
      run("prefill 512", {{.row_begin = 0, .row_count = 512, .first_position = 0, .page_begin = 0}},
          Bound::kCompute);
      run("prefill 512 after 1024",
          {{.row_begin = 0, .row_count = 512, .first_position = 1024, .page_begin = 0}},
          Bound::kCompute);
      run("decode 8 x 2047", eight, Bound::kMemory);
      run("decode 1 x 2047", {eight[0]}, Bound::kMemory);
    }
  }

  void CrossAndDense() {
    const KvGeometry geometry{.layers = 1,
                              .kv_heads = kKvHeads,
                              .head_dim = kHeadDim,
                              .page_tokens = 1601,
                              .dtype = DType::kBF16};
    const Tensor k = Check(backend_->AllocateTensor(DType::kBF16, {4 * geometry.page_elements()}));
    const Tensor v = Check(backend_->AllocateTensor(DType::kBF16, {4 * geometry.page_elements()}));
    const std::vector<int32_t> tiles = {0, 1, 2, 3};
    for (int64_t rows : {1, 8, 128}) {
      const Tensor q = Floats({rows, kHeads * kHeadDim}), out = Floats({rows, kHeads * kHeadDim});
      const std::vector<CrossRow> cross(static_cast<size_t>(rows), CrossRow{0, 4});
      Case(fmt::format("CrossAttention bf16 4 tiles R={}", rows),
           4.0 * static_cast<double>(rows) * 4 * 1601 * kHeads * kHeadDim,
           4.0 * 1601 * 2 * kKvHeads * kHeadDim * 2, rows == 1 ? Bound::kMemory : Bound::kCompute,
           [&] {
             backend_->CrossAttention({.q = q.view(),
                                       .kv = {k.view().data, v.view().data, geometry},
                                       .rows = cross,
                                       .tile_pages = tiles,
                                       .scale = 0.125f,
                                       .out = out.view()});
           });
    }
    const int64_t tokens = options_.quick ? 1608 : 6432, rows = 512, columns = 1280;
    const Tensor q = Floats({rows, columns}), keys = Floats({tokens, columns}),
                 values = Floats({tokens, columns}), out = Floats({rows, columns});
    Case(fmt::format("DenseAttention D=80 S={} R={}", tokens, rows),
         4.0 * static_cast<double>(rows * tokens * columns),
         static_cast<double>(tokens * columns * 8), Bound::kCompute, [&] {
           backend_->DenseAttention({.q = q.view(),
                                     .k = keys.view(),
                                     .v = values.view(),
                                     .head_dim = 80,
                                     .scale = 0.1f,
                                     .out = out.view()});
         });
  }

  void Rows() {
    const int64_t rows = 512;
    const Tensor x = Floats({rows, 2 * kFeedForward}), out = Floats({rows, kFeedForward}),
                 weight = Floats({1, kFeedForward});
    const auto hidden = [&](const Tensor& t) { return t.view().Columns(0, kHidden); };
    const double read_write = static_cast<double>(rows * kHidden * 8);
    Case("RmsNorm R=512", 4.0 * rows * kHidden, read_write, Bound::kMemory, [&] {
      backend_->RmsNorm({.x = hidden(x), .weight = weight.view().As<float>(), .out = hidden(out)});
    });
    Case("LayerNorm R=512", 8.0 * rows * kHidden, read_write, Bound::kMemory, [&] {
      backend_->LayerNorm({.x = hidden(x),
                           .weight = weight.view().As<float>(),
                           .bias = weight.view().As<float>(),
                           .out = hidden(out)});
    });
    for (const Activation activation : {Activation::kSilu, Activation::kGelu})
      Case(fmt::format("GatedActivation {} R=512",
                       activation == Activation::kSilu ? "silu" : "gelu"),
           20.0 * rows * kFeedForward, static_cast<double>(rows * kFeedForward * 12),
           Bound::kMemory, [&] {
             backend_->GatedActivation(
                 {.gate_up = x.view(), .activation = activation, .out = out.view()});
           });

    const KvGeometry geometry{.layers = 1,
                              .kv_heads = kKvHeads,
                              .head_dim = kHeadDim,
                              .page_tokens = 16,
                              .dtype = DType::kBF16};
    const Tensor k = Check(backend_->AllocateTensor(DType::kBF16, {32 * geometry.page_elements()}));
    const Tensor v = Check(backend_->AllocateTensor(DType::kBF16, {32 * geometry.page_elements()}));
    const Tensor cosines = Floats({512, kHeadDim / 2});
    std::vector<int32_t> positions(512);
    std::vector<int64_t> slots(512);
    std::iota(positions.begin(), positions.end(), 0);
    std::iota(slots.begin(), slots.end(), 0);
    const auto part = [&](int64_t begin, int64_t width) { return x.view().Columns(begin, width); };
    Case("RopeWriteKv bf16 R=512", 6.0 * rows * (kHeads + kKvHeads) * kHeadDim,
         static_cast<double>(rows * kHeadDim) * (kHeads * 8 + kKvHeads * 16), Bound::kMemory, [&] {
           backend_->RopeWriteKv({.q = part(0, kHeads * kHeadDim),
                                  .k = part(kHeads * kHeadDim, kKvHeads * kHeadDim),
                                  .v = part((kHeads + kKvHeads) * kHeadDim, kKvHeads * kHeadDim),
                                  .cos_table = cosines.view().As<float>(),
                                  .sin_table = cosines.view().As<float>(),
                                  .rotary_dim = kHeadDim,
                                  .positions = positions,
                                  .slots = slots,
                                  .kv = {k.view().data, v.view().data, geometry}});
         });
  }

  void Samples() {
    const Tensor logits = Floats({8, kVocab});
    for (auto [name, temperature, top_p, logprobs] :
         {std::tuple{"greedy", 0.0f, 1.0f, -1}, std::tuple{"temperature", 1.0f, 1.0f, -1},
          std::tuple{"top-p 0.9", 0.7f, 0.9f, -1},
          std::tuple{"greedy, 5 logprobs", 0.0f, 1.0f, 5}}) {
      std::vector<SampleRow> rows(8);
      for (int i = 0; i < 8; ++i)
        rows[static_cast<size_t>(i)] = {.logits_row = i,
                                        .temperature = temperature,
                                        .top_p = top_p,
                                        .seed = 3,
                                        .position = static_cast<uint32_t>(i),
                                        .logprobs = logprobs};
      std::vector<SampleResult> results(8);
      Case(fmt::format("Sample {} I=8", name), 0, 8.0 * kVocab * 4, Bound::kMemory,
           [&] { backend_->Sample({.logits = logits.view(), .rows = rows, .results = results}); });
    }
  }

  const Options options_;
  const int layers_;
  std::unique_ptr<Backend> backend_;
  const cpu::Kernels* kernels_ = nullptr;
  std::unique_ptr<ThreadPool> pool_;
  std::vector<std::unique_ptr<PackedMatrix>> matrices_, keep_;
  size_t weight_bytes_ = 0;
  std::vector<double> fma_, dots_, read_;
  std::atomic<float> sink_{0};
};

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  tessera::Options options;
  CLI::App app("Rates of the ops beside the machine's ceilings", "tessera-bench-ops");
  app.add_option("--cpu-isa", options.isa, "auto, reference, avx2, avx512 or amx");
  app.add_option("--activations", options.activations, "fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--threads", options.threads, "0: all that may be used");
  app.add_option("--repetitions", options.repetitions)->check(CLI::Range(1, 1000));
  app.add_option("--filter", options.filter, "only ops whose line contains this");
  app.add_flag(
      "--cpu-time", options.cpu_time,
      "the process's CPU clock instead of the wall's: for busy machines, best with --threads 1");
  app.add_flag("--quick", options.quick, "two layers instead of sixteen");
  CLI11_PARSE(app, argc, argv);
  tessera::Bench(options).Run();
}
