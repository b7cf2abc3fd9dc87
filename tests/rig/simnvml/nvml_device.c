/* NVML: what a GPU is, how it is set, who uses it. */
#include <string.h>

#include "simnvml.h"

#define CLOCK_OF_MEMORY 2
#define NOT_TOLD 0xFFFFFFFFU

/* A function that tells one text. */
#define TEXT(function, expression)                              \
  API Result function(void *device, char *out, unsigned size) { \
    DEVICE_CALL(function);                                      \
    return copy_text(out, size, expression);                    \
  }

/* A function that tells one number. */
#define NUMBER(function, expression)                 \
  API Result function(void *device, unsigned *out) { \
    DEVICE_CALL(function);                           \
    *out = (unsigned)(expression);                   \
    return SUCCESS;                                  \
  }

/* A function that tells one number of several of a kind. */
#define NUMBER_OF(function, expression)                              \
  API Result function(void *device, unsigned which, unsigned *out) { \
    DEVICE_CALL(function);                                           \
    *out = (unsigned)(expression);                                   \
    return SUCCESS;                                                  \
  }

/* A function that only root may use. */
#define FOR_ROOT(function)                            \
  API Result function(void *device, unsigned value) { \
    DEVICE_CALL(function);                            \
    (void)value;                                      \
    return NO_PERMISSION;                             \
  }

static double clock_mhz(const Gpu *gpu, unsigned which, double now) {
  const State *state = gpu_state(gpu, now);
  return which == CLOCK_OF_MEMORY ? state->mem_clock : state->sm_clock;
}

TEXT(nvmlDeviceGetName, gpu->name)
TEXT(nvmlDeviceGetSerial, "0000000000000")
TEXT(nvmlDeviceGetVbiosVersion, "96.00.SIM")
NUMBER(nvmlDeviceGetIndex, gpu->index)
NUMBER(nvmlDeviceGetMinorNumber, gpu->board)
NUMBER(nvmlDeviceGetBrand, 14)
NUMBER(nvmlDeviceGetArchitecture, gpu->arch)
NUMBER(nvmlDeviceGetNumGpuCores, 16896)
NUMBER(nvmlDeviceGetComputeMode, 0)
NUMBER(nvmlDeviceGetPerformanceState, 0)
NUMBER(nvmlDeviceGetPersistenceMode, gpu_state(gpu, now)->persistence)
FOR_ROOT(nvmlDeviceSetPersistenceMode)
NUMBER(nvmlDeviceGetPowerManagementMode, 1)
NUMBER(nvmlDeviceGetPowerManagementLimit, gpu_state(gpu, now)->power_limit_w * 1000)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, gpu_state(gpu, now)->power_limit_w * 1000)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, gpu->power_max_w * 1000)
FOR_ROOT(nvmlDeviceSetPowerManagementLimit)
NUMBER_OF(nvmlDeviceGetClockInfo, clock_mhz(gpu, which, now))
NUMBER_OF(nvmlDeviceGetMaxClockInfo, clock_mhz(gpu, which, now))
NUMBER_OF(nvmlDeviceGetApplicationsClock, clock_mhz(gpu, which, now))
NUMBER_OF(nvmlDeviceGetTemperature, ((void)which, temperature_c(gpu, now)))
NUMBER_OF(nvmlDeviceGetTemperatureThreshold, which == 0 ? 92 : 87)

API Result nvmlDeviceGetFanSpeed(void *device, unsigned *out) {
  DEVICE_CALL(nvmlDeviceGetFanSpeed);
  (void)out;
  return NOT_SUPPORTED; /* boards of data centres have no fan of their own */
}

API Result nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
  DEVICE_CALL(nvmlDeviceGetCudaComputeCapability);
  *major = (int)gpu->cc_major;
  *minor = (int)gpu->cc_minor;
  return SUCCESS;
}

API Result nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *least,
                                                        unsigned *most) {
  DEVICE_CALL(nvmlDeviceGetPowerManagementLimitConstraints);
  *least = (unsigned)(gpu->power_min_w * 1000);
  *most = (unsigned)(gpu->power_max_w * 1000);
  return SUCCESS;
}

API Result nvmlDeviceGetSupportedMemoryClocks(void *device, unsigned *count, unsigned *mhz) {
  DEVICE_CALL(nvmlDeviceGetSupportedMemoryClocks);
  unsigned room = *count;
  *count = 1;
  if (room < 1) return INSUFFICIENT_SIZE;
  mhz[0] = (unsigned)gpu_state(gpu, now)->mem_clock;
  return SUCCESS;
}

API Result nvmlDeviceGetSupportedGraphicsClocks(void *device, unsigned memory_mhz, unsigned *count,
                                                unsigned *mhz) {
  DEVICE_CALL(nvmlDeviceGetSupportedGraphicsClocks);
  (void)memory_mhz;
  unsigned room = *count;
  *count = 2;
  if (room < 2) return INSUFFICIENT_SIZE;
  mhz[0] = (unsigned)gpu_state(gpu, now)->sm_clock;
  mhz[1] = 210;
  return SUCCESS;
}

typedef struct {
  unsigned version, sensor;
  int celsius;
} VersionedTemperature;

API Result nvmlDeviceGetTemperatureV(void *device, VersionedTemperature *out) {
  DEVICE_CALL(nvmlDeviceGetTemperatureV);
  out->celsius = (int)temperature_c(gpu, now);
  return SUCCESS;
}

API Result nvmlDeviceGetEccMode(void *device, unsigned *now_on, unsigned *after_restart) {
  DEVICE_CALL(nvmlDeviceGetEccMode);
  *now_on = *after_restart = 1;
  return SUCCESS;
}

API Result nvmlDeviceGetCpuAffinity(void *device, unsigned words, unsigned long *mask) {
  DEVICE_CALL(nvmlDeviceGetCpuAffinity);
  for (unsigned i = 0; i < words; i++) mask[i] = i ? 0 : 3;
  return SUCCESS;
}

/* --- memory --------------------------------------------------------------------------------- */

typedef struct {
  unsigned long long total, free, used;
} Memory;

typedef struct {
  unsigned version;
  unsigned long long total, reserved, free, used;
} MemoryV2;

API Result nvmlDeviceGetMemoryInfo(void *device, Memory *out) {
  DEVICE_CALL(nvmlDeviceGetMemoryInfo);
  out->total = (unsigned long long)gpu->mem_total;
  out->used = (unsigned long long)gpu_state(gpu, now)->mem_used;
  out->free = out->total - out->used;
  return SUCCESS;
}

API Result nvmlDeviceGetMemoryInfo_v2(void *device, MemoryV2 *out) {
  DEVICE_CALL(nvmlDeviceGetMemoryInfo_v2);
  out->total = (unsigned long long)gpu->mem_total;
  out->used = (unsigned long long)gpu_state(gpu, now)->mem_used;
  out->free = out->total - out->used;
  out->reserved = 0;
  return SUCCESS;
}

/* --- who uses it ---------------------------------------------------------------------------- */

typedef struct {
  unsigned pid;
  unsigned long long memory_bytes;
  unsigned gpu_instance, compute_instance;
} ProcessInfo;

static Result copy_processes(const Processes *processes, unsigned *count, ProcessInfo *out) {
  unsigned room = *count;
  *count = (unsigned)processes->count;
  if (processes->count == 0) return SUCCESS;
  if (!out || room < *count) return INSUFFICIENT_SIZE;
  for (unsigned i = 0; i < *count; i++)
    out[i] =
        (ProcessInfo){processes->list[i].pid, processes->list[i].memory_bytes, NOT_TOLD, NOT_TOLD};
  return SUCCESS;
}

API Result nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count,
                                                   ProcessInfo *out) {
  DEVICE_CALL(nvmlDeviceGetComputeRunningProcesses);
  return copy_processes(&gpu_state(gpu, now)->compute, count, out);
}

API Result nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count,
                                                   ProcessInfo *out) {
  return nvmlDeviceGetComputeRunningProcesses_v3(device, count, out);
}

API Result nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count,
                                                    ProcessInfo *out) {
  DEVICE_CALL(nvmlDeviceGetGraphicsRunningProcesses);
  return copy_processes(&gpu_state(gpu, now)->graphics, count, out);
}

API Result nvmlDeviceGetGraphicsRunningProcesses_v2(void *device, unsigned *count,
                                                    ProcessInfo *out) {
  return nvmlDeviceGetGraphicsRunningProcesses_v3(device, count, out);
}

API Result nvmlDeviceGetMPSComputeRunningProcesses_v3(void *device, unsigned *count,
                                                      ProcessInfo *out) {
  DEVICE_CALL(nvmlDeviceGetMPSComputeRunningProcesses);
  (void)out;
  *count = 0;
  return SUCCESS;
}

typedef struct {
  unsigned gpu, memory;
} Utilization;

API Result nvmlDeviceGetUtilizationRates(void *device, Utilization *out) {
  DEVICE_CALL(nvmlDeviceGetUtilizationRates);
  WHOLE_GPU_ONLY;
  out->gpu = utilization_percent(gpu, now);
  out->memory = out->gpu / 2;
  return SUCCESS;
}
