// runtime.h by cudart (linked statically; it opens libcuda.so.1 when it is first used).
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda/device_check.h"
#include "kernels/cuda/runtime.h"

namespace tessera::cuda {
namespace {

LaunchStatus Status(cudaError_t error) {
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();  // what is not sticky is told once
  return {error, fmt::format("{}: {}", cudaGetErrorName(error), cudaGetErrorString(error))};
}

cudaStream_t Of(Stream stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t Of(Event event) { return reinterpret_cast<cudaEvent_t>(event); }

}  // namespace

// An executable graph.
struct OpaqueGraph {
  cudaGraphExec_t executable = nullptr;
};

LaunchStatus OpenDevice(int index, DeviceProps& props) {
  int driver = 0, runtime = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  (void)cudaRuntimeGetVersion(&runtime);
  if (LaunchStatus status = CheckDriver(driver, runtime); !status.ok()) return status;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess && counted != cudaErrorNoDevice) return Status(counted);
  if (LaunchStatus status = CheckDeviceCount(index, count); !status.ok()) return status;
  cudaDeviceProp p;
  if (LaunchStatus status = Status(cudaGetDeviceProperties(&p, index)); !status.ok()) return status;
  props = {.name = p.name,
           .major = p.major,
           .minor = p.minor,
           .sm_count = p.multiProcessorCount,
           .memory_bytes = p.totalGlobalMem,
           .smem_per_block = p.sharedMemPerBlockOptin,
           .smem_per_sm = p.sharedMemPerMultiprocessor,
           .l2_bytes = static_cast<size_t>(p.l2CacheSize),
           .driver_version = driver,
           .runtime_version = runtime,
           .emulated = false};
  if (LaunchStatus status = CheckArchitecture(props); !status.ok()) return status;
  if (LaunchStatus status = Status(cudaSetDevice(index)); !status.ok()) return status;
  // Creates the context: what is wrong with the device shows here, not at the first kernel.
  if (LaunchStatus status = Status(cudaFree(nullptr)); !status.ok()) return status;
  return {};
}

LaunchStatus ReadMemoryInfo(MemoryInfo& info) {
  return Status(cudaMemGetInfo(&info.free, &info.total));
}

LaunchStatus Allocate(size_t bytes, void** memory) { return Status(cudaMalloc(memory, bytes)); }
void Free(void* memory) { (void)cudaFree(memory); }
LaunchStatus Slice(void* base, size_t offset, size_t, void** part) {
  *part = static_cast<char*>(base) + offset;
  return {};
}
void DropSlice(void*) {}
LaunchStatus AllocatePinned(size_t bytes, void** memory) {
  return Status(cudaHostAlloc(memory, bytes, cudaHostAllocDefault));
}
void FreePinned(void* memory) { (void)cudaFreeHost(memory); }

LaunchStatus CopyToDeviceAsync(void* to, const void* from, size_t bytes, Stream stream) {
  return Status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, Of(stream)));
}
LaunchStatus CopyToHostAsync(void* to, const void* from, size_t bytes, Stream stream) {
  return Status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, Of(stream)));
}
LaunchStatus CopyOnDeviceAsync(void* to, const void* from, size_t bytes, Stream stream) {
  return Status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, Of(stream)));
}
LaunchStatus FillAsync(void* memory, uint8_t value, size_t bytes, Stream stream) {
  return Status(cudaMemsetAsync(memory, value, bytes, Of(stream)));
}

LaunchStatus CreateStream(Stream* stream) {
  cudaStream_t made = nullptr;
  LaunchStatus status = Status(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
  *stream = reinterpret_cast<Stream>(made);
  return status;
}
void DestroyStream(Stream stream) {
  if (stream != nullptr) (void)cudaStreamDestroy(Of(stream));
}
LaunchStatus Synchronize(Stream stream) { return Status(cudaStreamSynchronize(Of(stream))); }
LaunchStatus SynchronizeDevice() { return Status(cudaDeviceSynchronize()); }

LaunchStatus CreateEvent(Event* event) {
  cudaEvent_t made = nullptr;
  LaunchStatus status = Status(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
  *event = reinterpret_cast<Event>(made);
  return status;
}
void DestroyEvent(Event event) { (void)cudaEventDestroy(Of(event)); }
LaunchStatus RecordEvent(Event event, Stream stream) {
  return Status(cudaEventRecord(Of(event), Of(stream)));
}
LaunchStatus WaitForEvent(Stream stream, Event event) {
  return Status(cudaStreamWaitEvent(Of(stream), Of(event), 0));
}
LaunchStatus SynchronizeEvent(Event event) { return Status(cudaEventSynchronize(Of(event))); }

LaunchStatus BeginCapture(Stream stream) {
  return Status(cudaStreamBeginCapture(Of(stream), cudaStreamCaptureModeThreadLocal));
}

LaunchStatus EndCapture(Stream stream, Graph* graph, GraphBuild* build) {
  *build = {};
  cudaGraph_t captured = nullptr;
  LaunchStatus status = Status(cudaStreamEndCapture(Of(stream), &captured));
  if (!status.ok()) return status;
  if (*graph == nullptr) *graph = new OpaqueGraph;
  cudaGraphExec_t& executable = (*graph)->executable;
  if (executable != nullptr) {
    cudaGraphExecUpdateResultInfo info{};
    if (cudaGraphExecUpdate(executable, captured, &info) != cudaSuccess) {
      (void)cudaGetLastError();  // another shape: built anew
      (void)cudaGraphExecDestroy(executable);
      executable = nullptr;
    }
  }
  if (executable == nullptr) {
    size_t nodes = 0, before = 0, after = 0, total = 0;
    (void)cudaGraphGetNodes(captured, nullptr, &nodes);
    (void)cudaMemGetInfo(&before, &total);
    status = Status(cudaGraphInstantiate(&executable, captured, 0));
    // What the first launch would allocate is allocated here, where it can be refused.
    if (status.ok()) status = Status(cudaGraphUpload(executable, Of(stream)));
    if (!status.ok() && executable != nullptr) {
      (void)cudaGraphExecDestroy(executable);
      executable = nullptr;
    }
    (void)cudaMemGetInfo(&after, &total);
    build->rebuilt = true;
    build->bytes = std::max(nodes * kGraphNodeBytes, before > after ? before - after : 0);
  }
  (void)cudaGraphDestroy(captured);
  return status;
}

LaunchStatus LaunchGraph(Graph graph, Stream stream) {
  return Status(cudaGraphLaunch(graph->executable, Of(stream)));
}

void DestroyGraph(Graph graph) {
  if (graph == nullptr) return;
  if (graph->executable != nullptr) (void)cudaGraphExecDestroy(graph->executable);
  delete graph;
}

}  // namespace tessera::cuda
