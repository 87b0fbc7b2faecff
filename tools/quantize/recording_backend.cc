#include "tools/quantize/recording_backend.h"

namespace tessera::quantize {

Result<std::unique_ptr<PackedMatrix>> RecordingBackend::Pack(std::span<const SourceMatrix> sources,
                                                             const PackSpec& spec) {
  TESSERA_TRY(std::unique_ptr<PackedMatrix> packed, to_->Pack(sources, spec));
  of_[packed.get()] = records_.size();
  records_.push_back({.n = packed->n(), .k = packed->k()});
  return packed;
}

void RecordingBackend::MatMul(const MatMulArgs& args) {
  Record& record = records_[of_.at(args.w)];
  const int64_t k = record.k;
  record.squares.resize(static_cast<size_t>(k));
  for (int64_t row = 0; row < args.x.dim(0); ++row) {
    const float* x = static_cast<const float*>(args.x.data) + row * args.x.stride[0];
    for (int64_t i = 0; i < k; ++i) record.squares[static_cast<size_t>(i)] += double{x[i]} * x[i];
  }
  record.rows += args.x.dim(0);
  to_->MatMul(args);
}

}  // namespace tessera::quantize
