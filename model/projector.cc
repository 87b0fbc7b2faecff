#include "model/projector.h"

#include <cstring>

namespace tessera {

std::vector<std::byte> RegroupStateColumns(const SourceMatrix& weights, int64_t hidden) {
  const auto width = static_cast<int64_t>(SizeOf(weights.dtype));
  const int64_t layers = weights.columns / hidden - 1;
  std::vector<std::byte> regrouped(static_cast<size_t>(weights.rows * weights.columns * width));
  for (int64_t row = 0; row < weights.rows; ++row) {
    const std::byte* in =
        static_cast<const std::byte*>(weights.data) + row * weights.columns * width;
    std::byte* out = regrouped.data() + row * weights.columns * width;
    std::memcpy(out, in, static_cast<size_t>(hidden * width));
    for (int64_t k = 0; k < layers; ++k) {
      for (int64_t d = 0; d < hidden; ++d) {
        std::memcpy(out + (hidden + k * hidden + d) * width, in + (hidden + d * layers + k) * width,
                    static_cast<size_t>(width));
      }
    }
  }
  return regrouped;
}

std::vector<float> InterleaveStates(const std::vector<float>& states, int64_t rows, int64_t hidden,
                                    int64_t layers) {
  std::vector<float> interleaved(states.size());
  const int64_t columns = hidden * (1 + layers);
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = states.data() + row * columns;
    float* out = interleaved.data() + row * columns;
    std::memcpy(out, in, static_cast<size_t>(hidden) * sizeof(float));
    for (int64_t k = 0; k < layers; ++k) {
      for (int64_t d = 0; d < hidden; ++d)
        out[hidden + d * layers + k] = in[hidden + k * hidden + d];
    }
  }
  return interleaved;
}

Projector::Projector(const Weights& weights)
    : weight(weights.Matrix(Group::kModel, 0, Slot::kProjector)),
      bias(weights.Vector(Group::kModel, 0, Slot::kProjectorBias)) {}

void Projector::Run(Backend& backend, const TensorView& states, const TensorView& out) const {
  backend.MatMul({.x = states, .w = weight, .bias = bias, .out = out});
}

}  // namespace tessera
