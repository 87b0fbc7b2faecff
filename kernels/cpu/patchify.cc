// Patchify: uint8 pixels through three tables of 256 floats to rows of a convolution's flattened
// weight.
#include "kernels/check.h"
#include "kernels/cpu/backend.h"

namespace tessera {

void CpuBackend::Patchify(const PatchifyArgs& args) {
  ShapeCheck check("Patchify");
  const int64_t size = args.patch_size;
  check.True(size > 0, "patch_size", "at least 1", size);
  check.Extent("patch_size", 'K', 3 * size * size);
  check.View("out", args.out, "RK", DType::kF32);
  if (check['R'] == 0) return;
  const int64_t grid_height = args.height / size, grid_width = args.width / size;
  check.True(grid_height > 0 && grid_width > 0, "height and width", "at least one patch",
             args.height);
  check.True(args.used == 0 || args.tiles != nullptr, "tiles", "pixels", args.used);
  check.True(args.row_begin >= 0 && args.used >= 0, "row_begin", "at least 0", args.row_begin);
  check.NotNull("lut", args.lut);
  const int64_t patches = grid_height * grid_width;
  ForRows(check['R'], check['K'], [&](int64_t row) {
    float* out = static_cast<float*>(args.out.data) + row * args.out.stride[0];
    const int64_t patch = (args.row_begin + row) % patches;
    const int64_t tile = (args.row_begin + row) / patches;
    if (tile >= args.used) {
      for (int64_t i = 0; i < check['K']; ++i) out[i] = 0.0f;
      return;
    }
    for (int64_t c = 0; c < 3; ++c) {
      const auto& lut = (*args.lut)[static_cast<size_t>(c)];
      for (int64_t y = 0; y < size; ++y) {
        const int64_t line = (tile * 3 + c) * args.height + patch / grid_width * size + y;
        const uint8_t* pixels = args.tiles + line * args.width + patch % grid_width * size;
        for (int64_t x = 0; x < size; ++x) *out++ = lut[pixels[x]];
      }
    }
  });
}

}  // namespace tessera
