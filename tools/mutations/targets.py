"""Which tests see a defect in which file of kernels/cuda, the quickest and likeliest first.

A stage is (translation units to compile, test binary, gtest filter). Units add up from stage to stage; what no stage
compiles comes out of the library as it is. A stage that fails ends a mutant, so later ones cost only what survives so far.
"""

ROWS, ATTENTION, BACKEND, HOST_OPS = "cuda_rows_test", "cuda_attention_test", "cuda_backend_test", "cuda_host_ops_test"

QUICK = "SelfAttentionKernels.RaggedShapes"
BROAD = "Invariance.*:AttentionCounters.*"
PREFILL = [
    (["attention_prefill.cu"], ATTENTION, QUICK),
    (["attention_vision.cu"], ATTENTION, "VisionKernels.*"),
    (["attention_cross.cu"], ATTENTION, "CrossAttentionKernels.*"),
]
DECODE = [
    (["attention_decode.cu"], ATTENTION, QUICK),
    ([], ATTENTION, "SelfAttentionKernels.ContextsOfSeveralSplits"),
    (["attention_cross.cu"], ATTENTION, "CrossAttentionKernels.*"),
]
WORK = "AttentionCounters.Every*:AttentionCounters.Steps*:AttentionCounters.RowsOf*"  # what is left out where nothing is to do
ALL_ATTENTION = [([], ATTENTION, "SelfAttentionKernels.ContextsOfSeveralSplits:" + WORK), ([], ATTENTION, BROAD)]
FIXED = [
    (["matmul_fixed.cu"], ROWS, "MatMulFixed.ReadsNothing*:MatMulFixed.MovesWhole*"),
    ([], ROWS, "MatMulFixed.EqualsFloat64"),
    ([], ROWS, "MatMulFixed.*"),
]
INT = [
    (["matmul_int.cu"], ROWS, "MatMulInt.ReadsNothing*:EmbeddingInt.*"),
    ([], ROWS, "MatMulInt.EqualsFloat64*"),
    ([], ROWS, "MatMulInt.*"),
]
SAMPLE = [
    (["sample.cu"], ROWS, "SampleKernel.HasNoRacesInAnyOrder:SampleKernel.EqualsSampleOneWithPenalties"),
    ([], ROWS, "SampleKernel.EqualsSampleOneForEveryOption:SampleKernel.BlocksTake*:SampleKernel.LargeVocabulary"),
    ([], ROWS, "SampleKernel.*"),
]


def rows(unit, *filters):
    return [([unit], ROWS, tests) for tests in filters]


# File -> the most mutants of it whose kinds are plain (operators.py), its stages.
TARGETS = {
    "activation.cuh": (6, rows("activation.cu", "Rows.*Activation*")),
    "activation.cu": (8, rows("activation.cu", "Rows.*Activation*:Rows.MovesWhole*")),
    "epilogue.cu": (6, rows("epilogue.cu", "Rows.Epilogue:Rows.MovesWhole*")),
    "embedding.cu": (8, rows("embedding.cu", "Rows.Moves*:Rows.AddRows") + [([], BACKEND, "*DrawnIds*")]),
    "rows.cuh": (7, rows("epilogue.cu", "Rows.Epilogue") + rows("norm.cu", "Rows.*")),
    "norm.cu": (8, rows("norm.cu", "Rows.*Norm*:Rows.MovesWhole*")),
    "patchify.cu": (9, rows("patchify.cu", "Rows.Patchify:Rows.MovesWhole*")),
    "matmul_fixed.cu": (8, FIXED),
    "matmul_tile.cuh": (8, FIXED + INT),
    "matmul_int.cu": (14, INT),
    "matmul_int.cuh": (6, INT),
    "matmul_int.h": (6, [(["matmul_int.cu", "pack_int.cc"], ROWS, INT[0][2])] + INT[1:]),
    "pack_int.cc": (7, [(["pack_int.cc"], ROWS, "MatMulInt.Refuses*:" + INT[0][2])] + INT[1:]),
    "sample.cuh": (12, SAMPLE),
    "sample.cu": (9, SAMPLE),
    "sample_plan.cc": (4, [(["sample_plan.cc"], ROWS, SAMPLE[0][2])] + SAMPLE[1:]),
    "attention_tile.cuh": (18, PREFILL[:1] + DECODE[:1] + PREFILL[1:] + ALL_ATTENTION),
    "attention_prefill.cuh": (4, PREFILL),
    "attention_decode.cuh": (8, DECODE + ALL_ATTENTION[1:]),
    "attention_launch.cuh": (6, PREFILL + DECODE + ALL_ATTENTION[1:]),
    "attention_shape.cuh": (10, PREFILL[:1] + DECODE[:1] + PREFILL[1:] + ALL_ATTENTION),
    "attention_prefill.cu": (4, PREFILL[:1] + ALL_ATTENTION),
    "attention_decode.cu": (4, DECODE[:2] + ALL_ATTENTION[1:]),
    "attention_cross.cu": (4, [(["attention_cross.cu"], ATTENTION, "CrossAttentionKernels.*"), ([], ATTENTION, BROAD)]),
    "attention_vision.cu": (4, [(["attention_vision.cu"], ATTENTION, "VisionKernels.*"), ([], ATTENTION, BROAD)]),
    "rope_kv.cu": (10, [(["rope_kv.cu"], ATTENTION, "Rope*:CopyPages*")]),
    "attention_plan.cc": (9, [(["attention_plan.cc"], ATTENTION, "AttentionPlan.*"),
                               ([], ATTENTION, QUICK), *ALL_ATTENTION]),
    "attention.cc": (8, [(["attention.cc"], HOST_OPS, "*AttentionOps*")]),
    "rows.cc": (8, [(["rows.cc"], HOST_OPS, "*RowOps*"), ([], BACKEND, "*DrawnIds*")]),
    "pack.cc": (6, [(["pack.cc"], BACKEND, "*Backend_*"), ([], HOST_OPS, "*")]),
    "plugin.cc": (1, [(["plugin.cc"], HOST_OPS, "Plugin*")]),
    "staging.cc": (9, [(["staging.cc"], BACKEND, "Runtime.*"), ([], BACKEND, "*"), ([], HOST_OPS, "*")]),
    "matmul.cc": (7, [(["matmul.cc"], BACKEND, "*Backend_*"), ([], HOST_OPS, "*")]),
    "device_allocator.cc": (8, [(["device_allocator.cc"], BACKEND, "DeviceMemory*"), ([], BACKEND, "*")]),
    "draws.cc": (4, [(["draws.cc"], BACKEND, "*"), ([], HOST_OPS, "*")]),
    "graphs.cc": (10, [(["graphs.cc"], BACKEND, "Graphs.*"), ([], BACKEND, "*")]),
    "backend.cc": (10, [(["backend.cc"], BACKEND, "*"), ([], HOST_OPS, "*")]),
}

# The files of kernels/cuda without mutants, and why.
EXEMPT = {
    "attention.h": "declarations and constants",
    "attention_plan.h": "declarations",
    "backend.h": "declarations; what it defines hands on arguments",
    "device_allocator.h": "declarations",
    "device.cuh": "chooses between the GPU's words and the emulator's",
    "device_check.h": "texts of errors, which cuda_bad_device_test reads",
    "gemm.h": "declarations",
    "gemm_cublaslt.cc": "not built without a CUDA toolkit",
    "graphs.h": "declarations",
    "int_matrix.h": "declarations",
    "launch.cuh": "of the emulated GPU one call",
    "plugin.h": "declarations",
    "ptx.cuh": "the GPU's words, which only a GPU runs",
    "ptx_math.cuh": "the GPU's words, which only a GPU runs",
    "rows.h": "declarations",
    "runtime.h": "declarations",
    "runtime_nvidia.cc": "not built without a CUDA toolkit",
    "sample_plan.h": "declarations",
    "staging.h": "declarations",
    "stream.h": "declarations",
}
