// The packed weights of a loaded model, by group, layer and slot. Const after loading.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "kernels/backend.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensor_table.h"

namespace tessera {

struct WeightOptions {
  WeightFormat format = WeightFormat::kAuto;   // of matmul operands and embedding tables
  std::function<void(double)> progress;        // share of bytes packed, 0..1; may be empty
  std::filesystem::path cache_file;            // of packed weights; empty: none
  std::string cache_key;                       // all its content depends on, but for the backend
  std::function<void(std::string_view)> note;  // a line for the operator; may be empty
};

class Weights {
 public:
  // Packs every bound tensor and gives the file's pages back as it goes. Errors are the backend's:
  // out of memory, a format it lacks.
  static Result<Weights> Load(const std::vector<BoundTensor>& tensors, const Checkpoint& checkpoint,
                              const ModelConfig& config, Backend& backend,
                              const WeightOptions& options);

  // Of a slot that the table demands; a programmer error if it is not there.
  const PackedMatrix* Matrix(Group group, int layer, Slot slot) const;
  const float* Vector(Group group, int layer, Slot slot) const;
  TensorView Rows(Slot slot) const;                     // [rows, columns] fp32
  float Gate(Group group, int layer, Slot slot) const;  // tanh of the stored number
  // Null where the config has none: biases, a tied head.
  const PackedMatrix* MatrixOrNull(Group group, int layer, Slot slot) const;
  const float* VectorOrNull(Group group, int layer, Slot slot) const;

  size_t bytes() const { return bytes_; }
  WeightFormat format() const;  // kAuto where matmul operands differ

 private:
  using Key = std::tuple<Group, int, Slot>;

  using Codes = std::map<const TensorEntry*, std::unique_ptr<const CodeSource>>;

  struct CacheUse;

  Result<void> Add(const Key& key, std::span<const BoundTensor> parts, const Codes& codes,
                   const ModelConfig& config, Backend& backend, WeightFormat format, bool tied);
  // One slot, from the cache where that holds it.
  Result<void> AddSlot(const Key& key, std::span<const BoundTensor> parts, const Codes& codes,
                       const ModelConfig& config, Backend& backend, WeightFormat format, bool tied,
                       CacheUse& cache);
  Result<void> AddMatrix(const Key& key, std::span<const SourceMatrix> sources,
                         const PackSpec& spec, Backend& backend);
  Result<void> AddVector(const Key& key, std::span<const BoundTensor> parts, Backend& backend);

  std::map<Key, std::unique_ptr<PackedMatrix>> matrices_;
  std::map<Key, Tensor> vectors_;
  std::map<Key, float> gates_;
  size_t bytes_ = 0;
};

}  // namespace tessera
