/* A GPU that computes nothing: CUDA's run time and driver, cuDNN, cuBLAS and cuRAND as far as the
 * wheel mxnet-cu112 calls them for this project. README.md says what is real, what is checked, and
 * what is faked. A function that is not here ends the process with its name (build.sh). */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cuda_runtime_api.h>
#include <unistd.h>

#define MOST_DEVICES 16
#define PAGE 4096ul
#define MAGIC 0x6e756c6c677075ull
#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

typedef unsigned long long Number;

/* What the environment says. */
static int devices, major, minor, driver;
static size_t capacity, workspace;

/* What happened. */
static Number launches, cudnn_calls, blas_calls, copies[5], allocations, refused;
static size_t used[MOST_DEVICES], peak[MOST_DEVICES];
static struct { const void *host; char name[512]; Number count; } kernels[1 << 16];

static __thread int current;
static __thread cudaError_t last;
static __thread struct { dim3 grid, block; size_t shared; cudaStream_t stream; } call;

static void read_environment(void) {
  const char *text;
  int a, b;
  devices = 2, major = 8, minor = 6, driver = 11080;
  capacity = 11178ull << 20, workspace = 0;
  if ((text = getenv("NULLGPU_DEVICES"))) devices = atoi(text);
  if ((text = getenv("NULLGPU_MB"))) capacity = (size_t)atoll(text) << 20;
  if ((text = getenv("NULLGPU_WORKSPACE_MB"))) workspace = (size_t)atoll(text) << 20;
  if ((text = getenv("NULLGPU_CAPABILITY"))) sscanf(text, "%d.%d", &major, &minor);
  if ((text = getenv("NULLGPU_DRIVER")) && sscanf(text, "%d.%d", &a, &b) == 2) driver = 1000 * a + 10 * b;
  if (devices > MOST_DEVICES) devices = MOST_DEVICES;
}

/* For tests in a process of ours, by ctypes: that this is a null GPU; other sizes; what was counted
 * since the last reset. */
int nullgpu_here(void) { return 1; }
void nullgpu_configure(void) { read_environment(); }
void nullgpu_reset(void) {
  launches = cudnn_calls = blas_calls = allocations = refused = 0;
  memset(copies, 0, sizeof copies);
  for (int d = 0; d < MOST_DEVICES; d++) peak[d] = used[d];
}
Number nullgpu_launches(void) { return launches; }
Number nullgpu_cudnn_calls(void) { return cudnn_calls; }
Number nullgpu_blas_calls(void) { return blas_calls; }
size_t nullgpu_peak(int device) { return peak[device]; }
size_t nullgpu_used(int device) { return used[device]; }

static void write_report(void) {
  const char *path = getenv("NULLGPU_REPORT");
  FILE *file;
  if (path && (launches || allocations) && (file = fopen(path, "a"))) {
    fprintf(file, "{\"pid\": %d, \"launches\": %llu, \"cudnn\": %llu, \"blas\": %llu, \"allocations\": %llu, "
                  "\"refused\": %llu, \"to_device\": %llu, \"to_host\": %llu, \"on_device\": %llu, \"peak_mb\": [",
            (int)getpid(), launches, cudnn_calls, blas_calls, allocations, refused, copies[1], copies[2], copies[3]);
    for (int d = 0; d < devices; d++) fprintf(file, "%s%.1f", d ? ", " : "", peak[d] / 1048576.0);
    fprintf(file, "]}\n");
    fclose(file);
  }
  path = getenv("NULLGPU_KERNELS");
  if (path && launches && (file = fopen(path, "a"))) {
    for (unsigned i = 0; i < 1 << 16; i++)
      if (kernels[i].count) fprintf(file, "%llu %s\n", kernels[i].count, kernels[i].name);
    fclose(file);
  }
}

__attribute__((constructor)) static void start(void) {
  read_environment();
  atexit(write_report);
}

/* What a real GPU would do wrong without a word, or crash at, ends the process with one. */
void nullgpu_refuse(const char *format, ...) {
  va_list words;
  va_start(words, format);
  fputs("null GPU: ", stderr);
  vfprintf(stderr, format, words);
  fputc('\n', stderr);
  va_end(words);
  abort();
}

static cudaError_t error(cudaError_t code) { return last = code; }

/* Memory. Each device has its own 4 TB of addresses, so that an address says whose it is. None is
 * used twice, and behind each allocation one page is missing: whatever is written too far, or after
 * it was freed, ends the process. */
#define FIRST_ADDRESS 0x100000000000ul
#define ADDRESSES_BITS 42
typedef struct { Number magic; size_t size, mapped; } Header;
static uintptr_t next_address[MOST_DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int device_of(const void *p) {
  uintptr_t address = (uintptr_t)p;
  if (address < FIRST_ADDRESS) return -1;
  address = (address - FIRST_ADDRESS) >> ADDRESSES_BITS;
  return address < MOST_DEVICES ? (int)address : -1;
}

static void check_here(const char *what, const void *p) {
  if (device_of(p) != current) nullgpu_refuse("%s on GPU %d takes %p, which is on %s %d", what, current, p,
                                              device_of(p) < 0 ? "the host," : "GPU", device_of(p));
}

cudaError_t cudaMalloc(void **p, size_t size) {
  size_t whole = size ? (size + 511) & ~(size_t)511 : 512;
  size_t mapped = PAGE + ((whole + PAGE - 1) & ~(PAGE - 1));
  pthread_mutex_lock(&lock);
  if (used[current] + whole > capacity) {
    refused++;
    pthread_mutex_unlock(&lock);
    return error(cudaErrorMemoryAllocation);
  }
  uintptr_t *next = &next_address[current];
  if (!*next) *next = FIRST_ADDRESS + ((uintptr_t)current << ADDRESSES_BITS);
  Header *header = mmap((void *)*next, mapped, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (header == MAP_FAILED) nullgpu_refuse("no host memory for %zu bytes", size);
  *next += mapped + PAGE;
  *header = (Header){MAGIC, whole, mapped};
  allocations++;
  used[current] += whole;
  if (used[current] > peak[current]) peak[current] = used[current];
  pthread_mutex_unlock(&lock);
  *p = (char *)header + PAGE;
  return cudaSuccess;
}
cudaError_t cudaMallocPitch(void **p, size_t *pitch, size_t width, size_t height) {
  *pitch = (width + 511) & ~(size_t)511;
  return cudaMalloc(p, *pitch * height);
}
cudaError_t cudaFree(void *p) {
  if (!p) return cudaSuccess;
  Header *header = (Header *)((char *)p - PAGE);
  if (device_of(p) < 0 || header->magic != MAGIC) nullgpu_refuse("cudaFree of %p, which is no allocation", p);
  pthread_mutex_lock(&lock);
  used[device_of(p)] -= header->size;
  munmap(header, header->mapped);
  pthread_mutex_unlock(&lock);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_, size_t *total) {
  *total = capacity;
  *free_ = capacity > used[current] ? capacity - used[current] : 0;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t size, unsigned flags) { *p = calloc(1, size ? size : 1); return cudaSuccess; }
cudaError_t cudaFreeHost(void *p) { free(p); return cudaSuccess; }
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, enum cudaMemcpyKind kind) {
  COUNT(copies[kind]);
  if (!n) return cudaSuccess;
  if (kind != cudaMemcpyDefault) {
    int writes = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    int reads = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (writes != (device_of(to) >= 0) || reads != (device_of(from) >= 0))
      nullgpu_refuse("a copy of kind %d from %p to %p, which are on %d and %d", kind, from, to, device_of(from), device_of(to));
  }
  memmove(to, from, n);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t s) { return cudaMemcpy(to, from, n, kind); }
cudaError_t cudaMemcpyPeerAsync(void *to, int a, const void *from, int b, size_t n, cudaStream_t s) {
  if (n && (device_of(to) != a || device_of(from) != b))
    nullgpu_refuse("a copy from GPU %d to GPU %d is from %d to %d", b, a, device_of(from), device_of(to));
  return cudaMemcpy(to, from, n, cudaMemcpyDeviceToDevice);
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t tp, const void *from, size_t fp, size_t w, size_t h, enum cudaMemcpyKind kind, cudaStream_t s) {
  COUNT(copies[kind]);
  for (size_t i = 0; i < h; i++) memmove((char *)to + i * tp, (const char *)from + i * fp, w);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t s) {
  if (n) check_here("cudaMemset", p), memset(p, value, n);
  return cudaSuccess;
}

/* Devices */
cudaError_t cudaGetDeviceCount(int *n) {
  *n = devices;
  if (driver < 11000) return error(cudaErrorInsufficientDriver);
  return devices ? cudaSuccess : error(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int *d) { *d = current; return cudaSuccess; }
cudaError_t cudaSetDevice(int d) {
  if (d < 0 || d >= devices) return error(cudaErrorInvalidDevice);
  current = d;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v) { *v = driver; return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int *can, int a, int b) { *can = a != b; return cudaSuccess; }
cudaError_t cudaDeviceEnablePeerAccess(int a, unsigned flags) { return cudaSuccess; }
cudaError_t cudaDeviceGetP2PAttribute(int *v, enum cudaDeviceP2PAttr attribute, int a, int b) { *v = attribute == cudaDevP2PAttrAccessSupported; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr attribute, int d) {
  if (d < 0 || d >= devices) return error(cudaErrorInvalidDevice);
  switch (attribute) { /* a GTX 1080 Ti's multiprocessors; the rest as most GPUs have it */
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
    case cudaDevAttrCooperativeLaunch: case cudaDevAttrCooperativeMultiDeviceLaunch: *v = 0; break;
    default: nullgpu_refuse("cudaDeviceGetAttribute of attribute %d", attribute);
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

/* Streams, events, errors. Everything is done when it is asked for, so there is nothing to wait for. */
typedef struct { int device; } Stream;
cudaError_t cudaStreamCreate(cudaStream_t *s) {
  Stream *stream = calloc(1, sizeof *stream);
  stream->device = current;
  *s = (cudaStream_t)stream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) { free(s); return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t s) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned f) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned f) { *e = calloc(1, 64); return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t e) { free(e); return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) { return cudaSuccess; }
cudaError_t cudaGetLastError(void) { cudaError_t e = last; last = cudaSuccess; return e; }
cudaError_t cudaPeekAtLastError(void) { return last; }
const char *cudaGetErrorString(cudaError_t e) {
  switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
    default: return "an error of the null GPU";
  }
}
const char *cudaGetErrorName(cudaError_t e) { return cudaGetErrorString(e); }

/* Kernels, which do not run. What is refused is what a GPU refuses by the shape of a launch, and on
 * one that the wheel has no code for (sm_50 to sm_86, no PTX) everything. */
static unsigned kernel_slot(const void *host) {
  unsigned i = (unsigned)(((uintptr_t)host >> 4) * 2654435761u) >> 16;
  while (kernels[i].host && kernels[i].host != host) i = (i + 1) & 0xffff;
  return i;
}
static cudaError_t launch(dim3 grid, dim3 block, cudaStream_t s) {
  COUNT(launches);
  if (major < 5 || major > 8) return error(cudaErrorNoKernelImageForDevice);
  if (s && ((Stream *)s)->device != current)
    nullgpu_refuse("a kernel on GPU %d by a stream of GPU %d", current, ((Stream *)s)->device);
  if (!grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z || grid.x > 2147483647u || grid.y > 65535 ||
      grid.z > 65535 || block.z > 64 || (Number)block.x * block.y * block.z > 1024)
    return error(cudaErrorInvalidConfiguration);
  return cudaSuccess;
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
  COUNT(kernels[kernel_slot(f)].count);
  return launch(grid, block, s);
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *f) {
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024;
  a->numRegs = 32;
  a->ptxVersion = a->binaryVersion = 80;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int size, size_t shared, unsigned flags) { *n = 2; return cudaSuccess; }

/* The driver: what NVRTC, which is real, has compiled is loaded and launched by it. */
int cuDeviceGet(int *d, int ordinal) { *d = ordinal; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = calloc(1, 64); return 0; }
int cuGetErrorString(int e, const char **s) { *s = "an error of the null GPU"; return 0; }
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *s, void **p, void **x) {
  return launch((dim3){gx, gy, gz}, (dim3){bx, by, bz}, s);
}
int cuModuleGetFunction(void **f, void *m, const char *name) { *f = calloc(1, 64); return 0; }
int cuModuleLoadData(void **m, const void *image) { *m = calloc(1, 64); return 0; }
int cuModuleLoadDataEx(void **m, const void *image, unsigned n, void *o, void **v) { return cuModuleLoadData(m, image); }
int cuModuleUnload(void *m) { free(m); return 0; }

/* cuDNN, by the layout of its version 8. Descriptors are forgotten; maps have to be where the work is. */
typedef struct { int algo, status; float time; size_t memory; int determinism, math, reserved[3]; } Perf;
#define MAKES(name) int name(void **d) { *d = calloc(1, 256); return 0; }
#define FREES(name) int name(void *d) { free(d); return 0; }
#define SUCCEEDS(name) int name(void) { return 0; }
MAKES(cudnnCreate) FREES(cudnnDestroy)
MAKES(cudnnCreateActivationDescriptor) FREES(cudnnDestroyActivationDescriptor)
MAKES(cudnnCreateConvolutionDescriptor) FREES(cudnnDestroyConvolutionDescriptor)
MAKES(cudnnCreateDropoutDescriptor) FREES(cudnnDestroyDropoutDescriptor)
MAKES(cudnnCreateFilterDescriptor) FREES(cudnnDestroyFilterDescriptor)
MAKES(cudnnCreatePoolingDescriptor) FREES(cudnnDestroyPoolingDescriptor)
MAKES(cudnnCreateTensorDescriptor) FREES(cudnnDestroyTensorDescriptor)
SUCCEEDS(cudnnSetStream) SUCCEEDS(cudnnSetActivationDescriptor) SUCCEEDS(cudnnSetConvolution2dDescriptor)
SUCCEEDS(cudnnSetConvolutionGroupCount) SUCCEEDS(cudnnSetConvolutionMathType) SUCCEEDS(cudnnSetConvolutionNdDescriptor)
SUCCEEDS(cudnnSetDropoutDescriptor) SUCCEEDS(cudnnRestoreDropoutDescriptor) SUCCEEDS(cudnnSetFilter4dDescriptor)
SUCCEEDS(cudnnSetFilterNdDescriptor) SUCCEEDS(cudnnSetPooling2dDescriptor) SUCCEEDS(cudnnSetPoolingNdDescriptor)
SUCCEEDS(cudnnSetTensor4dDescriptor) SUCCEEDS(cudnnSetTensorNdDescriptor) SUCCEEDS(cudnnDeriveBNTensorDescriptor)
size_t cudnnGetVersion(void) { return 8906; }
const char *cudnnGetErrorString(int s) { return "an error of the null cuDNN"; }
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

/* A call of cuDNN or cuBLAS with the maps that it works on. */
#define H void *handle
#define D(name) void *name
#define M(name) const void *name
static int works(Number *counter, const char *name, int count, ...) {
  va_list maps;
  COUNT(*counter);
  va_start(maps, count);
  while (count--) check_here(name, va_arg(maps, const void *));
  va_end(maps);
  return 0;
}
#define CUDNN(count, ...) { return works(&cudnn_calls, __func__, count, __VA_ARGS__); }
#define CUBLAS(a, b, c) { return works(&blas_calls, __func__, 3, a, b, c); }
int cudnnConvolutionForward(H, D(al), D(xd), M(x), D(wd), M(w), D(cd), int algo, M(ws), size_t n, D(be), D(yd), M(y)) CUDNN(3, x, w, y)
int cudnnConvolutionBackwardData(H, D(al), D(wd), M(w), D(gd), M(g), D(cd), int algo, M(ws), size_t n, D(be), D(xd), M(x)) CUDNN(3, w, g, x)
int cudnnConvolutionBackwardFilter(H, D(al), D(xd), M(x), D(gd), M(g), D(cd), int algo, M(ws), size_t n, D(be), D(wd), M(w)) CUDNN(3, x, g, w)
int cudnnConvolutionBackwardBias(H, D(al), D(gd), M(g), D(be), D(bd), M(b)) CUDNN(2, g, b)
int cudnnAddTensor(H, D(al), D(ad), M(a), D(be), D(cd), M(c)) CUDNN(2, a, c)
int cudnnActivationForward(H, D(act), D(al), D(xd), M(x), D(be), D(yd), M(y)) CUDNN(2, x, y)
int cudnnActivationBackward(H, D(act), D(al), D(yd), M(y), D(gd), M(g), D(xd), M(x), D(be), D(dd), M(d)) CUDNN(3, y, g, d)
int cudnnBatchNormalizationForwardTraining(H, int mode, D(al), D(be), D(xd), M(x), D(yd), M(y), D(bd), M(scale), M(bias), double f, M(rm), M(rv), double eps, M(sm), M(sv))
  CUDNN(8, x, y, scale, bias, rm, rv, sm, sv)
int cudnnBatchNormalizationForwardInference(H, int mode, D(al), D(be), D(xd), M(x), D(yd), M(y), D(bd), M(scale), M(bias), M(m), M(v), double eps)
  CUDNN(6, x, y, scale, bias, m, v)
int cudnnBatchNormalizationBackward(H, int mode, D(al), D(be), D(ap), D(bp), D(xd), M(x), D(gd), M(g), D(dd), M(d), D(bd), M(scale), M(ds), M(db), double eps, M(sm), M(sv))
  CUDNN(6, x, g, d, scale, ds, db)
int cudnnPoolingForward(H, D(p), D(al), D(xd), M(x), D(be), D(yd), M(y)) CUDNN(2, x, y)
int cudnnPoolingBackward(H, D(p), D(al), D(yd), M(y), D(gd), M(g), D(xd), M(x), D(be), D(dd), M(d)) CUDNN(4, y, g, x, d)
int cudnnSoftmaxForward(H, int algo, int mode, D(al), D(xd), M(x), D(be), D(yd), M(y)) CUDNN(2, x, y)
int cudnnSoftmaxBackward(H, int algo, int mode, D(al), D(yd), M(y), D(gd), M(g), D(be), D(dd), M(d)) CUDNN(3, y, g, d)
int cudnnDropoutForward(H, D(drop), D(xd), M(x), D(yd), M(y), M(reserve), size_t n) CUDNN(3, x, y, reserve)
int cudnnDropoutBackward(H, D(drop), D(gd), M(g), D(dd), M(d), M(reserve), size_t n) CUDNN(3, g, d, reserve)

/* cuBLAS, cuRAND, and the handle of cuSOLVER that every stream has */
MAKES(cusolverDnCreate) FREES(cusolverDnDestroy) SUCCEEDS(cusolverDnSetStream)
MAKES(cublasCreate_v2) FREES(cublasDestroy_v2)
SUCCEEDS(cublasSetStream_v2) SUCCEEDS(cublasSetMathMode) SUCCEEDS(cublasSetPointerMode_v2)
int cublasGetMathMode(void *h, int *m) { *m = 0; return 0; }
int cublasSgemm_v2(H, int ta, int tb, int m, int n, int k, D(al), M(a), int lda, M(b), int ldb, D(be), M(c), int ldc) CUBLAS(a, b, c)
int cublasDgemm_v2(H, int ta, int tb, int m, int n, int k, D(al), M(a), int lda, M(b), int ldb, D(be), M(c), int ldc) CUBLAS(a, b, c)
int cublasGemmEx(H, int ta, int tb, int m, int n, int k, D(al), M(a), int at, int lda, M(b), int bt, int ldb, D(be), M(c), int ct, int ldc, int compute, int algo) CUBLAS(a, b, c)
int cublasSgemmEx(H, int ta, int tb, int m, int n, int k, D(al), M(a), int at, int lda, M(b), int bt, int ldb, D(be), M(c), int ct, int ldc) CUBLAS(a, b, c)
int cublasSgemmStridedBatched(H, int ta, int tb, int m, int n, int k, D(al), M(a), int lda, long long sa, M(b), int ldb, long long sb, D(be), M(c), int ldc, long long sc, int count) CUBLAS(a, b, c)
MAKES(nullgpu_make)
int curandCreateGenerator(void **g, int type) { return nullgpu_make(g); }
FREES(curandDestroyGenerator)
SUCCEEDS(curandSetStream) SUCCEEDS(curandSetPseudoRandomGeneratorSeed) SUCCEEDS(curandSetGeneratorOffset)
int curandGenerate(void *g, void *out, size_t n) { return works(&launches, __func__, 1, out); }
int curandGenerateUniform(void *g, void *out, size_t n) { return works(&launches, __func__, 1, out); }
int curandGenerateNormal(void *g, void *out, size_t n, float mean, float deviation) { return works(&launches, __func__, 1, out); }
