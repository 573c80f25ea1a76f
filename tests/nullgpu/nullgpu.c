/* A GPU that computes nothing: CUDA's run time, driver, cuDNN, cuBLAS, cuRAND as far as the wheel
 * mxnet-cu112 calls them, with memory that is the host's and kernels that do not run.
 *
 * What it shows without a GPU: whether every operator has a GPU form, whether arrays are on the
 * right device, what MXNet really allocates on each device and when that is too much, how many
 * kernels a step launches. What it does not: numbers (every map stays what its memory held, zeros
 * at first), time, cuDNN's workspaces (NULLGPU_WORKSPACE_MB stands for each).
 *
 * NULLGPU_DEVICES (2), NULLGPU_MB of each (11178), NULLGPU_WORKSPACE_MB (0), NULLGPU_REPORT: a file
 * that gets one line of JSON when the process ends. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cuda_runtime_api.h>
#include <unistd.h>

#define DEVICES 16
#define SLOTS (1 << 20)

static int devices = 2;
static int major = 8, minor = 6;
static size_t capacity = 11178ull << 20, workspace;
static __thread int current;
static __thread struct { dim3 grid, block; size_t shared; cudaStream_t stream; } call;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { void *start; size_t size; int device; } blocks[SLOTS];
static size_t used[DEVICES], peak[DEVICES], allocations, refused;
static uint64_t launches, cudnn_calls, blas_calls, copies[5];

static struct { const void *host; char name[512]; uint64_t count; } kernels[1 << 16];

static void report(void) {
  const char *path = getenv("NULLGPU_REPORT");
  if (!path || (!launches && !allocations)) return;
  FILE *file = fopen(path, "a");
  if (!file) return;
  fprintf(file, "{\"pid\": %d, \"launches\": %llu, \"cudnn\": %llu, \"blas\": %llu, \"allocations\": %zu, "
                "\"refused\": %zu, \"to_device\": %llu, \"to_host\": %llu, \"on_device\": %llu, \"peak_mb\": [",
          (int)getpid(), (unsigned long long)launches, (unsigned long long)cudnn_calls,
          (unsigned long long)blas_calls, allocations, refused, (unsigned long long)copies[1],
          (unsigned long long)copies[2], (unsigned long long)copies[3]);
  for (int d = 0; d < devices; d++) fprintf(file, "%s%.1f", d ? ", " : "", peak[d] / 1048576.0);
  fprintf(file, "]}\n");
  fclose(file);
  const char *names = getenv("NULLGPU_KERNELS");
  if (!names || !(file = fopen(names, "a"))) return;
  for (unsigned i = 0; i < 1 << 16; i++)
    if (kernels[i].count) fprintf(file, "%llu %s\n", (unsigned long long)kernels[i].count, kernels[i].name);
  fclose(file);
}

__attribute__((constructor)) static void start(void) {
  const char *text;
  if ((text = getenv("NULLGPU_DEVICES"))) devices = atoi(text);
  if ((text = getenv("NULLGPU_MB"))) capacity = (size_t)atoll(text) << 20;
  if ((text = getenv("NULLGPU_CAPABILITY"))) sscanf(text, "%d.%d", &major, &minor);
  if ((text = getenv("NULLGPU_WORKSPACE_MB"))) workspace = (size_t)atoll(text) << 20;
  atexit(report);
}

static unsigned slot_of(const void *p) { return (unsigned)(((uintptr_t)p >> 9) * 2654435761u) & (SLOTS - 1); }

/* memory */
cudaError_t cudaMalloc(void **p, size_t size) {
  size_t whole = (size + 511) & ~(size_t)511;
  pthread_mutex_lock(&lock);
  if (used[current] + whole > capacity) {
    refused++;
    pthread_mutex_unlock(&lock);
    return cudaErrorMemoryAllocation;
  }
  void *start = mmap(NULL, whole ? whole : 512, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  unsigned i = slot_of(start);
  while (blocks[i].start) i = (i + 1) & (SLOTS - 1);
  blocks[i].start = start;
  blocks[i].size = whole;
  blocks[i].device = current;
  allocations++;
  used[current] += whole;
  if (used[current] > peak[current]) peak[current] = used[current];
  pthread_mutex_unlock(&lock);
  *p = start;
  return cudaSuccess;
}
cudaError_t cudaMallocPitch(void **p, size_t *pitch, size_t width, size_t height) {
  *pitch = (width + 511) & ~(size_t)511;
  return cudaMalloc(p, *pitch * height);
}
cudaError_t cudaFree(void *p) {
  if (!p) return cudaSuccess;
  pthread_mutex_lock(&lock);
  for (unsigned i = slot_of(p), tried = 0; tried < SLOTS; i = (i + 1) & (SLOTS - 1), tried++)
    if (blocks[i].start == p) {
      used[blocks[i].device] -= blocks[i].size;
      munmap(p, blocks[i].size ? blocks[i].size : 512);
      blocks[i].start = (void *)1; /* a tombstone: probing goes past it */
      break;
    }
  pthread_mutex_unlock(&lock);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_, size_t *total) {
  *total = capacity;
  *free_ = capacity - used[current];
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t size, unsigned flags) { *p = calloc(1, size ? size : 1); return cudaSuccess; }
cudaError_t cudaFreeHost(void *p) { free(p); return cudaSuccess; }
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, enum cudaMemcpyKind kind) {
  __sync_fetch_and_add(&copies[kind], 1);
  if (n) memmove(to, from, n);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t s) { return cudaMemcpy(to, from, n, kind); }
cudaError_t cudaMemcpyPeerAsync(void *to, int a, const void *from, int b, size_t n, cudaStream_t s) { return cudaMemcpy(to, from, n, cudaMemcpyDeviceToDevice); }
cudaError_t cudaMemcpy2DAsync(void *to, size_t tp, const void *from, size_t fp, size_t w, size_t h, enum cudaMemcpyKind kind, cudaStream_t s) {
  for (size_t i = 0; i < h; i++) memmove((char *)to + i * tp, (const char *)from + i * fp, w);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t s) { memset(p, value, n); return cudaSuccess; }

/* devices */
cudaError_t cudaGetDeviceCount(int *n) { *n = devices; return devices ? cudaSuccess : cudaErrorNoDevice; }
cudaError_t cudaGetDevice(int *d) { *d = current; return cudaSuccess; }
cudaError_t cudaSetDevice(int d) {
  if (d < 0 || d >= devices) return cudaErrorInvalidDevice;
  current = d;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v) { *v = 11080; return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int *can, int a, int b) { *can = a != b; return cudaSuccess; }
cudaError_t cudaDeviceEnablePeerAccess(int a, unsigned flags) { return cudaSuccess; }
cudaError_t cudaDeviceGetP2PAttribute(int *v, enum cudaDeviceP2PAttr attribute, int a, int b) { *v = attribute == cudaDevP2PAttrAccessSupported; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr attribute, int d) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *v = major; break;
    case cudaDevAttrComputeCapabilityMinor: *v = minor; break;
    case cudaDevAttrMultiProcessorCount: *v = 28; break;
    case cudaDevAttrMaxThreadsPerBlock: *v = 1024; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *v = 1536; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *v = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *v = 102400; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = 101376; break;
    case cudaDevAttrWarpSize: *v = 32; break;
    case cudaDevAttrMaxGridDimX: *v = 2147483647; break;
    case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: *v = 65535; break;
    case cudaDevAttrMaxBlockDimX: case cudaDevAttrMaxBlockDimY: *v = 1024; break;
    case cudaDevAttrMaxBlockDimZ: *v = 64; break;
    case cudaDevAttrMaxRegistersPerBlock: case cudaDevAttrMaxRegistersPerMultiprocessor: *v = 65536; break;
    case cudaDevAttrClockRate: *v = 1500000; break;
    default: *v = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int d) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "null GPU");
  p->totalGlobalMem = capacity;
  p->sharedMemPerBlock = 49152;
  p->regsPerBlock = 65536;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->clockRate = 1500000;
  p->major = major;
  p->minor = minor;
  p->multiProcessorCount = 28;
  p->maxThreadsPerMultiProcessor = 1536;
  return cudaSuccess;
}

/* streams, events, errors */
cudaError_t cudaStreamCreate(cudaStream_t *s) { *s = calloc(1, 64); return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t s) { free(s); return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t s) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned f) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned f) { *e = calloc(1, 64); return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t e) { free(e); return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) { return cudaSuccess; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaPeekAtLastError(void) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : e == cudaErrorInvalidDevice ? "invalid device ordinal" : "null GPU error"; }
const char *cudaGetErrorName(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown"; }

/* kernels */
static unsigned kernel_slot(const void *host) {
  unsigned i = (unsigned)(((uintptr_t)host >> 4) * 2654435761u) >> 16;
  while (kernels[i].host && kernels[i].host != host) i = (i + 1) & 0xffff;
  return i;
}
void **__cudaRegisterFatBinary(void *binary) { return calloc(4, sizeof(void *)); }
void __cudaRegisterFatBinaryEnd(void **h) {}
void __cudaUnregisterFatBinary(void **h) {}
char __cudaInitModule(void **h) { return 1; }
void __cudaRegisterFunction(void **h, const char *host, char *fun, const char *name, int limit, void *tid, void *bid, void *bdim, void *gdim, int *wsize) {
  unsigned i = kernel_slot(host);
  kernels[i].host = host;
  strncpy(kernels[i].name, name, sizeof kernels[i].name - 1);
}
void __cudaRegisterVar(void **h, char *host, char *address, const char *name, int ext, size_t size, int constant, int global) {}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
  call.grid = grid, call.block = block, call.shared = shared, call.stream = stream;
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  *grid = call.grid, *block = call.block, *shared = call.shared, *(cudaStream_t *)stream = call.stream;
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t s) {
  __sync_fetch_and_add(&launches, 1);
  __sync_fetch_and_add(&kernels[kernel_slot(f)].count, 1);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *f) {
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024;
  a->numRegs = 32;
  a->ptxVersion = a->binaryVersion = 80;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int size, size_t shared, unsigned flags) { *n = 2; return cudaSuccess; }
int cuDeviceGet(int *d, int ordinal) { *d = ordinal; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = calloc(1, 64); return 0; }
int cuGetErrorString(int e, const char **s) { *s = "null GPU"; return 0; }
int cuLaunchKernel(void *f, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e, unsigned g, unsigned s, void *st, void **p, void **x) { __sync_fetch_and_add(&launches, 1); return 0; }
int cuModuleGetFunction(void **f, void *m, const char *name) { *f = calloc(1, 64); return 0; }
int cuModuleLoadData(void **m, const void *image) { *m = calloc(1, 64); return 0; }
int cuModuleLoadDataEx(void **m, const void *image, unsigned n, void *o, void **v) { *m = calloc(1, 64); return 0; }
int cuModuleUnload(void *m) { return 0; }
int cuGraphKernelNodeGetParams(void *n, void *p) { return 1; }
int cuGraphNodeGetType(void *n, void *t) { return 1; }

/* cuDNN, by the layout of its version 8 */
typedef struct { int algo, status; float time; size_t memory; int determinism, math, reserved[3]; } Perf;
#define MAKES(name) int name(void **d) { *d = calloc(1, 256); return 0; }
MAKES(cudnnCreate)
MAKES(cudnnCreateActivationDescriptor)
MAKES(cudnnCreateConvolutionDescriptor)
MAKES(cudnnCreateDropoutDescriptor)
MAKES(cudnnCreateFilterDescriptor)
MAKES(cudnnCreatePoolingDescriptor)
MAKES(cudnnCreateSpatialTransformerDescriptor)
MAKES(cudnnCreateTensorDescriptor)
MAKES(cudnnCreateRNNDescriptor)
MAKES(cudnnCreateRNNDataDescriptor)
size_t cudnnGetVersion(void) { return 8906; }
const char *cudnnGetErrorString(int s) { return "null cuDNN"; }
int cudnnDropoutGetStatesSize(void *h, size_t *n) { *n = 1 << 20; return 0; }
int cudnnDropoutGetReserveSpaceSize(void *d, size_t *n) { *n = 16; return 0; }
#define WORKS(name) int name(void *h, void *a, void *b, void *c, void *d, int algo, size_t *n) { *n = workspace; return 0; }
WORKS(cudnnGetConvolutionForwardWorkspaceSize)
WORKS(cudnnGetConvolutionBackwardDataWorkspaceSize)
WORKS(cudnnGetConvolutionBackwardFilterWorkspaceSize)
#define COUNTS(name) int name(void *h, int *n) { *n = 1; return 0; }
COUNTS(cudnnGetConvolutionForwardAlgorithmMaxCount)
COUNTS(cudnnGetConvolutionBackwardDataAlgorithmMaxCount)
COUNTS(cudnnGetConvolutionBackwardFilterAlgorithmMaxCount)
#define FINDS(name) int name(void *h, void *a, void *b, void *c, void *d, int asked, int *n, Perf *p) { \
  memset(p, 0, sizeof *p); p->algo = 1; p->time = 1; p->memory = workspace; *n = 1; return 0; }
FINDS(cudnnFindConvolutionForwardAlgorithm)
FINDS(cudnnFindConvolutionBackwardDataAlgorithm)
FINDS(cudnnFindConvolutionBackwardFilterAlgorithm)
FINDS(cudnnGetConvolutionForwardAlgorithm_v7)
FINDS(cudnnGetConvolutionBackwardDataAlgorithm_v7)
FINDS(cudnnGetConvolutionBackwardFilterAlgorithm_v7)
#define RUNS(name) int name(void) { __sync_fetch_and_add(&cudnn_calls, 1); return 0; }
RUNS(cudnnActivationBackward) RUNS(cudnnActivationForward) RUNS(cudnnAddTensor) RUNS(cudnnBatchNormalizationBackward)
RUNS(cudnnBatchNormalizationForwardInference) RUNS(cudnnBatchNormalizationForwardTraining)
RUNS(cudnnConvolutionBackwardBias) RUNS(cudnnConvolutionBackwardData) RUNS(cudnnConvolutionBackwardFilter)
RUNS(cudnnConvolutionForward) RUNS(cudnnDropoutBackward) RUNS(cudnnDropoutForward) RUNS(cudnnPoolingBackward)
RUNS(cudnnPoolingForward) RUNS(cudnnSoftmaxBackward) RUNS(cudnnSoftmaxForward)
RUNS(cudnnSpatialTfGridGeneratorBackward) RUNS(cudnnSpatialTfGridGeneratorForward)
RUNS(cudnnSpatialTfSamplerBackward) RUNS(cudnnSpatialTfSamplerForward)

/* cuBLAS, cuRAND */
int cublasCreate_v2(void **h) { *h = calloc(1, 64); return 0; }
int cublasGetMathMode(void *h, int *m) { *m = 0; return 0; }
#define MULTIPLIES(name) int name(void) { __sync_fetch_and_add(&blas_calls, 1); return 0; }
MULTIPLIES(cublasSgemm_v2) MULTIPLIES(cublasDgemm_v2) MULTIPLIES(cublasSgemmEx) MULTIPLIES(cublasGemmEx)
MULTIPLIES(cublasSgemmStridedBatched) MULTIPLIES(cublasDgemmStridedBatched) MULTIPLIES(cublasHgemmStridedBatched)
MULTIPLIES(cublasGemmStridedBatchedEx)
int curandCreateGenerator(void **g, int type) { *g = calloc(1, 64); return 0; }
int curandDestroyGenerator(void *g) { free(g); return 0; }
