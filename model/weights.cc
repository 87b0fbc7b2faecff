#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "model/projector.h"
#include "model/weight_cache.h"

namespace tessera {
namespace {

DType TypeOf(const TensorEntry& entry) {
  return entry.dtype == "F32" ? DType::kF32 : entry.dtype == "F16" ? DType::kF16 : DType::kBF16;
}

// One element of an unaligned source as fp32.
float ElementAt(const TensorEntry& entry, int64_t index) {
  const std::byte* from = entry.data + index * static_cast<int64_t>(SizeOf(TypeOf(entry)));
  if (TypeOf(entry) == DType::kF32) {
    float value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return TypeOf(entry) == DType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits);
}

// Axis 0 are rows, everything after it columns.
SourceMatrix SourceOf(const BoundTensor& tensor) {
  const int64_t rows = tensor.expected.shape.front();
  return {.data = tensor.entry->data,
          .dtype = TypeOf(*tensor.entry),
          .rows = rows,
          .columns = tensor.expected.elements() / rows};
}

// A source of codes as numbers of its dtype, for who takes no codes.
std::vector<std::byte> NumbersOf(SourceMatrix& source) {
  std::vector<std::byte> numbers(static_cast<size_t>(source.rows * source.columns) *
                                 SizeOf(source.dtype));
  std::vector<float> row(static_cast<size_t>(source.columns));
  std::byte* to = numbers.data();
  for (int64_t r = 0; r < source.rows; ++r) {
    source.codes->Dequantize(r, 1, row.data());
    if (source.dtype == DType::kF32) {
      std::memcpy(to, row.data(), row.size() * 4);
      to += row.size() * 4;
      continue;
    }
    for (const float value : row) {
      const uint16_t bits = source.dtype == DType::kBF16 ? FloatToBF16(value) : FloatToF16(value);
      std::memcpy(to, &bits, 2);
      to += 2;
    }
  }
  source.codes = nullptr;
  source.data = numbers.data();
  return numbers;
}

// What of a checkpoint's codes is kept and what is not, in one line; empty: none.
std::string NoteOnCodes(size_t kept, size_t turned, const QuantizationConfig& config) {
  if (kept + turned == 0) return "";
  std::string text = "weights: " + config.Describe();
  if (kept > 0) text += fmt::format("; {} matrices keep their codes", kept);
  if (turned > 0) text += fmt::format("; {} matrices are dequantised", turned);
  return text;
}

constexpr int kInt8Group = 32;

bool SameBytes(const TensorEntry& a, const TensorEntry& b) {
  return a.dtype == b.dtype && a.bytes() == b.bytes() &&
         std::memcmp(a.data, b.data, a.bytes()) == 0;
}

bool IsMatrix(PackRule rule) {
  return rule == PackRule::kMatrix || rule == PackRule::kTable || rule == PackRule::kStatesMatrix;
}

}  // namespace

// The cache of one load: what is read, and what is to be written when all is there.
struct Weights::CacheUse {
  std::unique_ptr<WeightCacheFile> file;  // null: there is none that can be used
  std::string reason;                     // why it is written again; empty: it is not
  std::map<std::string, Key> names;       // of all matrices

  void Open(const WeightOptions& options, const std::string& key) {
    auto opened = WeightCacheFile::Open(options.cache_file, key);
    if (opened) {
      file = *std::move(opened);
    } else if (opened.error().code == ErrorCode::kNotFound) {
      reason = "written";
    } else {
      reason = fmt::format("rebuilt, it was {}", opened.error().Describe());
    }
  }
};

Result<Weights> Weights::Load(const std::vector<BoundTensor>& tensors, const Checkpoint& checkpoint,
                              const ModelConfig& config, Backend& backend,
                              const WeightOptions& options) {
  Weights weights;
  std::map<Key, std::vector<BoundTensor>> by_slot;  // parts in table order
  uint64_t total = 0, done = 0;
  for (const BoundTensor& tensor : tensors) {
    by_slot[{tensor.expected.group, tensor.expected.layer, tensor.expected.row->slot}].push_back(
        tensor);
    for (const TensorEntry* entry : tensor.entries()) total += entry->bytes();
  }
  // All are checked before any is packed.
  Codes codes;
  for (const BoundTensor& tensor : tensors) {
    if (!tensor.quantized) continue;
    TESSERA_TRY(codes[tensor.entry],
                MakeCodeSource(tensor.quantized, tensor.expected.shape[0], tensor.expected.shape[1],
                               *config.quantization));
  }
  size_t kept = 0, turned = 0;
  CacheUse cache;
  const bool caching = !options.cache_file.empty() && !backend.packing().empty();
  const std::string cache_key =
      options.cache_key + backend.packing() + "\n" + std::string(Name(options.format)) + "\n";
  if (caching) cache.Open(options, cache_key);
  const Key embedding{Group::kModel, 0, Slot::kEmbedding}, head{Group::kModel, 0, Slot::kHead};
  // A tied checkpoint may carry the head all the same: equal bytes are one matrix, others count (as
  // in transformers 5)
  const auto stored_head = by_slot.find(head);
  bool tied = stored_head == by_slot.end();
  if (!tied && cache.file != nullptr && config.text.tied_head) {  // it was compared then
    tied = !cache.file->Has(stored_head->second.front().expected.names.front());
    if (tied) by_slot.erase(stored_head);
  } else if (!tied && config.text.tied_head && !stored_head->second.front().quantized &&
             SameBytes(*stored_head->second.front().entry, *by_slot.at(embedding).front().entry)) {
    by_slot.erase(stored_head);
    tied = true;
  }
  for (const auto& [key, parts] : by_slot) {
    Result<void> added =
        weights.AddSlot(key, parts, codes, config, backend, options.format, tied, cache);
    if (!added) {
      Error error = added.error();
      // The backend knows numbers, not names.
      if (error.field == "weights") error.detail = "in " + parts.front().entry->name;
      return tl::unexpected<Error>(std::move(error));
    }
    if (parts.front().quantized) {
      const WeightFormat format =
          weights.Matrix(std::get<0>(key), std::get<1>(key), std::get<2>(key))->format();
      const bool same =
          format == (config.quantization->bits == 8 ? WeightFormat::kInt8 : WeightFormat::kInt4);
      ++(same && backend.takes_codes() ? kept : turned);
    }
    for (const BoundTensor& part : parts) {
      for (const TensorEntry* entry : part.entries()) {
        done += entry->bytes();
        checkpoint.Release(*entry);
      }
    }
    if (options.progress)
      options.progress(total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total));
  }
  if (const std::string note =
          kept + turned == 0 ? std::string() : NoteOnCodes(kept, turned, *config.quantization);
      options.note && !note.empty())
    options.note(note);
  if (caching && !cache.reason.empty()) {
    std::map<std::string, PackedImage> images;
    for (const auto& [name, key] : cache.names)
      images[name] = *backend.Image(*weights.matrices_[key]);
    const Result<void> written = WriteWeightCache(options.cache_file, cache_key, images);
    if (options.note && written)
      options.note(fmt::format("weight cache {}: {}", cache.reason, options.cache_file.string()));
    if (options.note && !written)
      options.note(fmt::format("weight cache not written: {}", written.error().Describe()));
  } else if (caching && options.note) {
    options.note(fmt::format("weight cache used: {}", options.cache_file.string()));
  } else if (!options.cache_file.empty() && options.note) {
    options.note(fmt::format("no weight cache: {} keeps none", backend.name()));
  }
  return weights;
}

Result<void> Weights::AddSlot(const Key& key, std::span<const BoundTensor> parts,
                              const Codes& codes, const ModelConfig& config, Backend& backend,
                              WeightFormat format, bool tied, CacheUse& cache) {
  const ExpectedTensor& first = parts.front().expected;
  if (!IsMatrix(first.row->rule)) return Add(key, parts, codes, config, backend, format, tied);
  const std::string& name = first.names.front();
  cache.names[name] = key;
  if (cache.file != nullptr) {
    int64_t rows = 0;
    for (const BoundTensor& part : parts) rows += part.expected.shape.front();
    Result<PackedImage> image = cache.file->Read(name);
    if (image && image->n == rows) {
      auto restored = backend.Restore(*image);
      cache.file->Release(*image);
      if (restored) {
        bytes_ += (*restored)->bytes();
        matrices_[key] = *std::move(restored);
        return {};
      }
      if (restored.error().code == ErrorCode::kResourceExhausted)
        return tl::unexpected<Error>(std::move(restored).error());
    }
    if (cache.reason.empty()) cache.reason = fmt::format("rebuilt, it was damaged ({})", name);
  }
  return Add(key, parts, codes, config, backend, format, tied);
}

Result<void> Weights::Add(const Key& key, std::span<const BoundTensor> parts, const Codes& codes,
                          const ModelConfig& config, Backend& backend, WeightFormat format,
                          bool tied) {
  std::vector<SourceMatrix> sources;
  std::vector<std::vector<std::byte>> numbers;
  for (const BoundTensor& part : parts) {
    if (!part.quantized) {
      sources.push_back(SourceOf(part));
      continue;
    }
    SourceMatrix& source = sources.emplace_back(SourceMatrix{.dtype = config.stored_dtype,
                                                             .rows = part.expected.shape[0],
                                                             .columns = part.expected.shape[1],
                                                             .codes = codes.at(part.entry).get()});
    const bool regrouped = part.expected.row->rule == PackRule::kStatesMatrix;
    if (regrouped || !backend.takes_codes()) numbers.push_back(NumbersOf(source));
  }
  PackSpec spec{.format = format};
  const Slot slot = parts.front().expected.row->slot;
  const bool coded = std::any_of(parts.begin(), parts.end(), [](const BoundTensor& part) {
    return static_cast<bool>(part.quantized);
  });
  // Tables and heads lose most at 4 bits, and one scale an output loses to outliers at 8: measured
  // in docs/performance.md.
  if (!coded && format == WeightFormat::kInt4 && (slot == Slot::kEmbedding || slot == Slot::kHead))
    spec.format = WeightFormat::kInt8;
  // CUDA's fp16 products know int8 by one scale an output alone.
  if (!coded && spec.format == WeightFormat::kInt8 && backend.activation_dtype() != DType::kF16)
    spec.group = kInt8Group;
  switch (parts.front().expected.row->rule) {
    case PackRule::kMatrix: return AddMatrix(key, sources, spec, backend);
    case PackRule::kTable:
      spec.role = tied ? PackSpec::Role::kTableAndMatMul : PackSpec::Role::kTable;
      return AddMatrix(key, sources, spec, backend);
    case PackRule::kStatesMatrix: {
      const std::vector<std::byte> regrouped =
          RegroupStateColumns(sources.front(), config.vision->hidden);
      sources.front().data = regrouped.data();
      return AddMatrix(key, sources, spec, backend);
    }
    case PackRule::kClassToken: {
      const int64_t columns = parts.front().expected.elements();
      sources.front() = {.data = sources.front().data,
                         .dtype = sources.front().dtype,
                         .rows = 1,
                         .columns = columns};
      const std::vector<std::byte> zeros(static_cast<size_t>(columns) *
                                         SizeOf(sources.front().dtype));
      sources.push_back(
          {.data = zeros.data(), .dtype = sources.front().dtype, .rows = 1, .columns = columns});
      return AddMatrix(key, sources, {.format = WeightFormat::kF32, .role = PackSpec::Role::kTable},
                       backend);
    }
    case PackRule::kVector:
    case PackRule::kRows: return AddVector(key, parts, backend);
    case PackRule::kGate: gates_[key] = std::tanh(ElementAt(*parts.front().entry, 0)); return {};
  }
  return {};
}

Result<void> Weights::AddMatrix(const Key& key, std::span<const SourceMatrix> sources,
                                const PackSpec& spec, Backend& backend) {
  TESSERA_TRY(std::unique_ptr<PackedMatrix> packed, backend.Pack(sources, spec));
  bytes_ += packed->bytes();
  matrices_[key] = std::move(packed);
  return {};
}

Result<void> Weights::AddVector(const Key& key, std::span<const BoundTensor> parts,
                                Backend& backend) {
  int64_t rows = 0, columns = 1;
  for (const BoundTensor& part : parts) rows += part.expected.shape.front();
  if (parts.front().expected.shape.size() > 1) columns = parts.front().expected.shape.back();
  TESSERA_TRY(Tensor tensor,
              backend.AllocateTensor(DType::kF32, {rows, columns}, MemoryUse::kWeights));
  constexpr size_t kPiece = size_t{1}
                            << 18;  // numbers held at a time: a big table is never there twice
  std::vector<float> values;
  const auto flush = [&](int64_t first_row, int64_t count) {
    backend.CopyToDevice(tensor.view().Rows(first_row, count), values.data());
    values.clear();
  };
  int64_t next = 0, held = 0;
  for (const BoundTensor& part : parts) {
    for (int64_t row = 0; row < part.expected.shape.front(); ++row) {
      for (int64_t i = 0; i < columns; ++i)
        values.push_back(ElementAt(*part.entry, row * columns + i));
      if (++held, values.size() < kPiece) continue;
      flush(next, held);
      next += std::exchange(held, 0);
    }
  }
  if (held > 0) flush(next, held);
  bytes_ += tensor.bytes();
  vectors_.emplace(key, std::move(tensor));
  return {};
}

const PackedMatrix* Weights::MatrixOrNull(Group group, int layer, Slot slot) const {
  const auto found = matrices_.find({group, layer, slot});
  return found == matrices_.end() ? nullptr : found->second.get();
}

const PackedMatrix* Weights::Matrix(Group group, int layer, Slot slot) const {
  const PackedMatrix* matrix = MatrixOrNull(group, layer, slot);
  TESSERA_CHECK(matrix != nullptr, "weights: no matrix in group {}, layer {}, slot {}",
                static_cast<int>(group), layer, static_cast<int>(slot));
  return matrix;
}

const float* Weights::VectorOrNull(Group group, int layer, Slot slot) const {
  const auto found = vectors_.find({group, layer, slot});
  return found == vectors_.end() ? nullptr : found->second.view().As<float>();
}

const float* Weights::Vector(Group group, int layer, Slot slot) const {
  const float* vector = VectorOrNull(group, layer, slot);
  TESSERA_CHECK(vector != nullptr, "weights: no vector in group {}, layer {}, slot {}",
                static_cast<int>(group), layer, static_cast<int>(slot));
  return vector;
}

TensorView Weights::Rows(Slot slot) const {
  const auto found = vectors_.find({Group::kModel, 0, slot});
  TESSERA_CHECK(found != vectors_.end(), "weights: no rows in slot {}", static_cast<int>(slot));
  return found->second;
}

float Weights::Gate(Group group, int layer, Slot slot) const {
  const auto found = gates_.find({group, layer, slot});
  TESSERA_CHECK(found != gates_.end(), "weights: no gate in group {}, layer {}, slot {}",
                static_cast<int>(group), layer, static_cast<int>(slot));
  return found->second;
}

WeightFormat Weights::format() const {
  std::optional<WeightFormat> format;
  for (const auto& [key, matrix] : matrices_) {
    if (std::get<Slot>(key) == Slot::kClassToken) continue;  // a table of two rows, always fp32
    const bool outer =
        std::get<Slot>(key) == Slot::kEmbedding || std::get<Slot>(key) == Slot::kHead;
    if (outer && matrix->format() == WeightFormat::kInt8) continue;  // also where layers are int4
    if (format && *format != matrix->format()) return WeightFormat::kAuto;
    format = matrix->format();
  }
  return format.value_or(WeightFormat::kAuto);
}

}  // namespace tessera
