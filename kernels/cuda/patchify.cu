// Patchify: pixels to rows of a convolution's flattened weight, through a table per channel. A
// block makes the patches of one row of a tile's grid: their pixels are patch_size whole lines a
// channel, which are contiguous in the picture, and their rows are neighbours in the output.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

namespace tessera::cuda {

struct PatchifyLaunch {
  PatchifyParams op;
  int32_t grid_width = 0;
  int32_t patches = 0;  // of a tile
  int32_t load = 1;     // bytes that lines may be read in at a time
  int32_t staged = 0;   // lines go by way of shared memory, for they fit
  int32_t vectors = 0;
};

inline constexpr unsigned kPatchifyThreads = 256;
inline constexpr uint32_t kChannels = 3;
inline constexpr uint32_t kLutStride = 257;  // channels of one grey are in different banks

template <typename Unit>
TESSERA_DEVICE void CopyLines(uint32_t to, const uint8_t* from, uint32_t bytes) {
  for (uint32_t i = thread_x() * sizeof(Unit); i < bytes; i += kPatchifyThreads * sizeof(Unit))
    sts(to + i, ldg(reinterpret_cast<const Unit*>(from + i)));
}

template <typename T>
TESSERA_KERNEL TESSERA_BOUNDS(kPatchifyThreads, 4) void PatchifyKernel(PatchifyLaunch p) {
  DYN_SMEM(lines);
  SHARED_ARRAY(float, lut, kChannels * kLutStride);
  for (uint32_t i = thread_x(); i < kChannels * 256; i += kPatchifyThreads)
    lut[i / 256 * kLutStride + i % 256] = ldg(p.op.lut + i);

  // This block's part of the grid row: patches [begin, end), counted over all tiles.
  const int64_t grid_row = p.op.row_begin / p.grid_width + block_x();
  const int64_t row_first = grid_row * p.grid_width;
  const int64_t begin = row_first > p.op.row_begin ? row_first : p.op.row_begin;
  const int64_t row_last = row_first + p.grid_width;
  const int64_t end = row_last < p.op.row_end ? row_last : p.op.row_end;
  const int64_t tile = row_first / p.patches;
  const auto size = static_cast<uint32_t>(p.op.patch_size);
  const auto width = static_cast<uint32_t>(p.op.width);
  const uint32_t line_bytes = size * width;
  const bool blank = tile >= p.op.used;
  const int64_t top = row_first % p.patches / p.grid_width * size;
  const auto lines_of = [&](uint32_t channel) {
    return p.op.tiles +
           (((tile - p.op.first_tile) * kChannels + channel) * p.op.height + top) * width;
  };
  if (p.staged != 0 && !blank) {
    for (uint32_t channel = 0; channel < kChannels; ++channel) {
      const uint32_t to = smem_u32(lines) + channel * line_bytes;
      if (p.load == 16) {
        CopyLines<uint4>(to, lines_of(channel), line_bytes);
      } else if (p.load == 4) {
        CopyLines<uint32_t>(to, lines_of(channel), line_bytes);
      } else {
        CopyLines<uint8_t>(to, lines_of(channel), line_bytes);
      }
    }
  }
  sync_threads();

  // Two columns a thread, 64 a warp: they lie in at most six lines of a patch, whose words fall
  // into different banks where a line is 4 or 12 words long modulo 32, as the 560 pixels of a tile
  // are. Neighbours of an even patch_size are one half word.
  const uint32_t columns = kChannels * size * size;
  const uint32_t pairs = (columns + 1) / 2;
  const bool halves = p.staged != 0 && size % 2 == 0 && width % 2 == 0;
  const uint32_t items = static_cast<uint32_t>(end - begin) * pairs;
  for (uint32_t item = thread_x(); item < items; item += kPatchifyThreads) {
    const int64_t patch = begin + item / pairs;
    const uint32_t column = item % pairs * 2;
    const auto left = static_cast<uint32_t>(patch - row_first) * size;
    float v[2] = {0.0f, 0.0f};
    if (!blank && halves) {
      const uint32_t channel = column / (size * size), in_channel = column % (size * size);
      const uint32_t offset = in_channel / size * width + left + in_channel % size;
      const auto two = lds<uint16_t>(smem_u32(lines) + channel * line_bytes + offset);
      v[0] = lut[channel * kLutStride + (two & 0xff)];
      v[1] = lut[channel * kLutStride + (two >> 8)];
    } else if (!blank) {
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t at = column + i;
        if (at >= columns) continue;
        const uint32_t channel = at / (size * size), in_channel = at % (size * size);
        const uint32_t offset = in_channel / size * width + left + in_channel % size;
        const uint8_t pixel = p.staged != 0
                                  ? lds<uint8_t>(smem_u32(lines) + channel * line_bytes + offset)
                                  : ldg(lines_of(channel) + offset);
        v[i] = lut[channel * kLutStride + pixel];
      }
    }
    T* const to =
        static_cast<T*>(p.op.out) + (patch - p.op.row_begin) * p.op.out_stride + column;
    if (p.vectors != 0) {
      if constexpr (sizeof(T) == 4) {
        stg(reinterpret_cast<float2*>(to), make_float2(v[0], v[1]));
      } else {
        stg(reinterpret_cast<uint32_t*>(to), pack2<T>(v[0], v[1]));
      }
    } else {
      stg(to, from_float<T>(v[0]));
      if (column + 1 < columns) stg(to + 1, from_float<T>(v[1]));
    }
  }
}

LaunchStatus LaunchPatchify(RowType type, const PatchifyParams& params, Stream stream) {
  if (params.row_begin == params.row_end) return {};
  PatchifyLaunch p{.op = params, .grid_width = params.width / params.patch_size};
  p.patches = p.grid_width * (params.height / params.patch_size);
  const int64_t line_bytes = int64_t{params.patch_size} * params.width;
  // Every channel and tile begins height * width bytes after the last one.
  const uint64_t offsets =
      reinterpret_cast<uintptr_t>(params.tiles) | static_cast<uint64_t>(line_bytes) |
      static_cast<uint64_t>(params.height) * static_cast<uint64_t>(params.width);
  p.load = offsets % 16 == 0 ? 16 : offsets % 4 == 0 ? 4 : 1;
  constexpr int64_t kMostShared = 96 * 1024;
  p.staged = kChannels * line_bytes <= kMostShared;
  p.vectors = params.patch_size % 2 == 0 && params.out_stride % 2 == 0 &&
              reinterpret_cast<uintptr_t>(params.out) % (2 * static_cast<uintptr_t>(BytesOf(type))) == 0;
  const int64_t first = params.row_begin / p.grid_width, last = (params.row_end - 1) / p.grid_width;
  const Grid grid{static_cast<unsigned>(last - first + 1)};
  const auto smem = static_cast<size_t>(p.staged != 0 ? kChannels * line_bytes : 0);
  return WithType(type, [&](auto element) {
    return launch(&PatchifyKernel<decltype(element)>, grid, kPatchifyThreads, smem, stream, p);
  });
}

}  // namespace tessera::cuda
