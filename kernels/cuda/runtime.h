// The device's runtime as thin functions: all that host code of this folder knows of CUDA. Two
// bodies: runtime_nvidia.cc calls cudart; emulation/runtime.cc keeps queues, runs them in random
// order as far as streams and events allow, and fails where a test says so.
//
// Outcomes are LaunchStatus (stream.h): code 0 or the runtime's error number and one line. Streams,
// events and graphs are handles that their maker destroys. Thread safe as cudart is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/cuda/stream.h"

namespace tessera::cuda {

struct OpaqueEvent;
using Event = OpaqueEvent*;
struct OpaqueGraph;
using Graph = OpaqueGraph*;  // captured and instantiated

struct DeviceProps {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  int major = 0;     // compute capability
  int minor = 0;
  int sm_count = 0;
  size_t memory_bytes = 0;
  size_t smem_per_block = 0;  // what one block may ask for
  size_t smem_per_sm = 0;
  size_t l2_bytes = 0;
  int driver_version = 0;   // 13000 is 13.0, of the driver
  int runtime_version = 0;  // of what this library was built with
  bool emulated = false;
};

// Chooses the device of this process and reads its properties. Errors: no driver, one that is too
// old, no device, an architecture that the kernels were not built for.
LaunchStatus OpenDevice(int index, DeviceProps& props);

struct MemoryInfo {
  size_t free = 0;
  size_t total = 0;
};
LaunchStatus ReadMemoryInfo(MemoryInfo& info);

// Device memory, 256-byte aligned, content undefined. Free waits for whatever still uses it.
LaunchStatus Allocate(size_t bytes, void** memory);
void Free(void* memory);
// A part of an allocation as its own object, so that emulation sees the exact bounds of what lies
// in a pool: base + offset on a GPU, an allocation of exactly `bytes` in emulation. After Drop the
// part may still be used by what was queued before.
LaunchStatus Slice(void* base, size_t offset, size_t bytes, void** part);
void DropSlice(void* part);
// Pinned host memory: what asynchronous copies read and write.
LaunchStatus AllocatePinned(size_t bytes, void** memory);
void FreePinned(void* memory);

// Ordered in `stream`. The host side of a copy is pinned and is read or written when the stream
// gets there, not before.
LaunchStatus CopyToDeviceAsync(void* to, const void* from, size_t bytes, Stream stream);
LaunchStatus CopyToHostAsync(void* to, const void* from, size_t bytes, Stream stream);
LaunchStatus CopyOnDeviceAsync(void* to, const void* from, size_t bytes, Stream stream);
LaunchStatus FillAsync(void* memory, uint8_t value, size_t bytes, Stream stream);

LaunchStatus CreateStream(Stream* stream);  // does not wait for the default stream
void DestroyStream(Stream stream);
LaunchStatus Synchronize(Stream stream);  // reports errors of what ran before
LaunchStatus SynchronizeDevice();

LaunchStatus CreateEvent(Event* event);
void DestroyEvent(Event event);
LaunchStatus RecordEvent(Event event, Stream stream);
LaunchStatus WaitForEvent(Stream stream, Event event);  // the stream waits, the host does not
LaunchStatus SynchronizeEvent(Event event);             // the host waits

// Between Begin and End, what is queued on the stream is written down instead of run. EndCapture
// makes `*graph` do it: a graph of equal shape (same kernels and copies in the same order) gets the
// new arguments, another one is built anew. Begin with nullptr in *graph.
//
// What a graph takes of the device is told when it is built. The driver has no figure of it
// (cudaDeviceGetGraphMemAttribute counts what memory nodes allocate, of which there are none), so
// it is what cudaMemGetInfo misses afterwards. That sees pages of 2 MiB, which graphs share: a node
// counts as kGraphNodeBytes at the least, the size of its arguments (4 KiB until CUDA 12.1). In
// emulation a node takes just that, of the emulated memory too. No memory for it is
// kErrorMemoryAllocation (device_check.h), and the device is as it was.
inline constexpr size_t kGraphNodeBytes = 4096;
struct GraphBuild {
  bool rebuilt = false;
  size_t bytes = 0;  // where rebuilt
};
LaunchStatus BeginCapture(Stream stream);
LaunchStatus EndCapture(Stream stream, Graph* graph, GraphBuild* build);
LaunchStatus LaunchGraph(Graph graph, Stream stream);
void DestroyGraph(Graph graph);

}  // namespace tessera::cuda
