// Which tensors a checkpoint must hold: one row a tensor, for all architectures. Binding is strict
// both ways.
//
// A row's name has no prefix; its part says where it hangs, and every part lists the prefixes under
// which files that are alive write it: as on the hub, as transformers' module tree since 4.52 has
// it, and as transformers 5 saves it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "model/config.h"
#include "model/quantized_tensor.h"
#include "model/safetensors.h"

namespace tessera {

// The stack of layers a slot belongs to.
enum class Group : uint8_t { kModel, kText, kVision, kGlobal };

// The place of a tensor in its group. Rows that share a slot are stacked on axis 0 in table order:
// q, k, v.
enum class Slot : uint8_t {
  // text
  kEmbedding,
  kHead,
  kFinalNorm,
  kInputNorm,
  kPostNorm,
  kQkv,
  kQkvBias,
  kOut,
  kOutBias,
  kGateUp,
  kGateUpBias,
  kDown,
  kDownBias,
  // cross-attention layers
  kCrossQ,
  kCrossKv,
  kQNorm,
  kKNorm,
  kAttentionGate,
  kMlpGate,
  // vision, whole model
  kPatch,
  kClassToken,
  kPosition,
  kPositionGate,
  kTilePosition,
  kPreTile,
  kPreTileGate,
  kPostTile,
  kPostTileGate,
  kPreNorm,
  kPreNormBias,
  kLastNorm,
  kLastNormBias,
  // vision, layers (kInputNorm, kPostNorm, kQkv, kOut and the gates as above)
  kInputNormBias,
  kPostNormBias,
  kFc1,
  kFc1Bias,
  kFc2,
  kFc2Bias,
  kProjector,
  kProjectorBias,
};

// How the sources of a slot become a field.
enum class PackRule : uint8_t {
  kMatrix,        // matmul operand; everything after axis 0 is one inner axis
  kTable,         // rows read by id; also the matmul operand of a tied head
  kVector,        // fp32, flat
  kRows,          // fp32 [rows, C], for AddRows
  kGate,          // one number, kept on the host as its tanh
  kClassToken,    // a table of two rows, the tensor and zeros
  kStatesMatrix,  // matmul operand over [hidden, intermediate states], columns regrouped: see
                  // projector.h
};

enum class Need : uint8_t { kAlways, kAttentionBias, kMlpBias, kHead };

// Extents by meaning; resolved against a config.
enum class Dim : uint8_t {
  kNone,
  kOne,
  kThree,
  kHidden,
  kQueries,
  kKeys,
  kFeedForward,
  kVocab,
  kEmbeddingRows,
  kHeadDim,
  kVisionHidden,
  kVisionQueries,
  kVisionFeedForward,
  kVisionStates,
  kPatchSize,
  kTileTokens,
  kAspectRatios,
  kTilesHidden,
  kTilesTokensHidden,
};

enum class Part : uint8_t { kTextModel, kTextHead, kVisionModel, kProjector };
// Which layers a row repeats for.
enum class Layers : uint8_t { kOnce, kText, kSelf, kCross, kVision, kGlobal };

struct TensorRow {
  Part part;
  Layers layers;
  std::string_view name;  // '#' stands for the layer
  Slot slot;
  std::array<Dim, 4> shape;
  PackRule rule;
  Need need = Need::kAlways;
};

std::span<const TensorRow> TensorRows();

// A row for one layer of one config.
struct ExpectedTensor {
  const TensorRow* row = nullptr;
  Group group = Group::kModel;
  int layer = 0;
  std::vector<std::string> names;  // one of these
  std::vector<int64_t> shape;
  bool required = true;

  int64_t elements() const;
};
std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config);

struct BoundTensor {
  ExpectedTensor expected;
  const TensorEntry* entry = nullptr;  // of codes their own
  QuantizedParts quantized;            // where the checkpoint stores codes

  std::vector<const TensorEntry*> entries() const;
};
// Pairs expected tensors with a checkpoint's. All that is missing, of the wrong shape or dtype,
// there twice or unknown is listed by name in one error; buffers that old checkpoints carry and no
// model reads (rotary inv_freq) are skipped. With `quantization` every matrix may come as codes
// instead: which do is the checkpoint's to say, tensor by tensor.
Result<std::vector<BoundTensor>> BindTensors(
    std::vector<ExpectedTensor> expected, std::span<const TensorEntry* const> entries,
    const std::optional<QuantizationConfig>& quantization = std::nullopt);

}  // namespace tessera
