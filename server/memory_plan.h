// How many pages fit, decided before anything is allocated.
//
// Thread safety: pure function.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "model/model.h"
#include "server/options.h"

namespace tessera {

struct MemoryPlan {
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;
  // Code, tokenizer, buffers of gRPC, a picture in decoding: what a process takes beside the rest.
  int64_t process_bytes = int64_t{128} << 20;
  int self_pages = 0, cross_pages = 0;
  int64_t self_bytes = 0, cross_bytes = 0;
  int max_rows = 0, max_logits_rows = 0;
  int max_context =
      0;  // the model's or the operator's, or what the self pool holds if that is less

  int64_t total() const {
    return weight_bytes + workspace_bytes + self_bytes + cross_bytes + process_bytes;
  }
};

// Pages that the operator gives count; else they come from --kv-memory, else from half of what
// `available` leaves beside weights and workspace (from all of it where it is a device's own), at
// most what all running sequences can use. `activations`: the backend's.
// Error (kResourceExhausted): it does not fit, with the sizes.
Result<MemoryPlan> PlanMemory(const ModelPlan& model, const ServerOptions& options,
                              int64_t available, bool own_memory = false,
                              DType activations = DType::kF32);

}  // namespace tessera
