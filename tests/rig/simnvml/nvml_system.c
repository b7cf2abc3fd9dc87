/* NVML: opening and closing, the driver, finding GPUs. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "simnvml.h"

Result copy_text(char *out, unsigned size, const char *text) {
  if (strlen(text) + 1 > size) return INSUFFICIENT_SIZE;
  memcpy(out, text, strlen(text) + 1);
  return SUCCESS;
}

static Result open_library(Function function) {
  Result refused = call_begin(config_current(), function, NULL, 0);
  return refused ? refused : library_opened(1);
}

API Result nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  return open_library(FN_nvmlInitWithFlags);
}

API Result nvmlInit_v2(void) { return open_library(FN_nvmlInit_v2); }

API Result nvmlInit(void) { return nvmlInit_v2(); }

API Result nvmlShutdown(void) {
  SYSTEM_CALL(nvmlShutdown);
  return library_opened(-1);
}

API const char *nvmlErrorString(int code) {
  static const struct {
    int code;
    const char *text;
  } TEXTS[] = {{0, "Success"},
               {1, "Uninitialized"},
               {2, "Invalid Argument"},
               {3, "Not Supported"},
               {4, "Insufficient Permissions"},
               {6, "Not Found"},
               {7, "Insufficient Size"},
               {9, "Driver Not Loaded"},
               {12, "Shared Library Not Found"},
               {13, "Function Not Found"},
               {15, "GPU is lost"},
               {16, "GPU requires restart"},
               {18, "Driver/library version mismatch"},
               {999, "Unknown Error"}};
  for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++)
    if (TEXTS[i].code == code) return TEXTS[i].text;
  return "simnvml error";
}

API Result nvmlSystemGetDriverVersion(char *out, unsigned size) {
  SYSTEM_CALL(nvmlSystemGetDriverVersion);
  return copy_text(out, size, config->driver);
}

API Result nvmlSystemGetNVMLVersion(char *out, unsigned size) {
  SYSTEM_CALL(nvmlSystemGetNVMLVersion);
  char version[96];
  snprintf(version, sizeof version, "12.%s", config->driver);
  return copy_text(out, size, version);
}

API Result nvmlSystemGetCudaDriverVersion(int *version) {
  SYSTEM_CALL(nvmlSystemGetCudaDriverVersion);
  *version = config->cuda;
  return SUCCESS;
}

API Result nvmlSystemGetCudaDriverVersion_v2(int *version) {
  return nvmlSystemGetCudaDriverVersion(version);
}

API Result nvmlSystemGetProcessName(unsigned pid, char *out, unsigned size) {
  SYSTEM_CALL(nvmlSystemGetProcessName);
  snprintf(out, size, "sim-%u", pid);
  return SUCCESS;
}

/* --- finding GPUs --------------------------------------------------------------------------- */

API Result nvmlDeviceGetCount_v2(unsigned *count) {
  SYSTEM_CALL(nvmlDeviceGetCount);
  *count = (unsigned)config->gpus;
  return SUCCESS;
}

API Result nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

static Result hand_out(void **out, int index, int is_mig) {
  Handle *handle = is_mig ? &mig_instances[index] : &whole_gpus[index];
  *handle = (Handle){index, is_mig};
  *out = handle;
  return SUCCESS;
}

/* The error of a GPU that can't be reached comes when it is looked for, as in the real one. */
static Result find_by_index(unsigned index, void **out) {
  const Config *config = config_current();
  Handle wanted = {(int)index, 0};
  Result refused = call_begin(config, FN_nvmlDeviceGetHandleByIndex, &wanted, 1);
  if (refused) return refused;
  if (index >= (unsigned)config->gpus) return INVALID_ARGUMENT;
  return hand_out(out, (int)index, 0);
}

API Result nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
  return find_by_index(index, out);
}

API Result nvmlDeviceGetHandleByIndex(unsigned index, void **out) {
  return find_by_index(index, out);
}

static void mig_uuid(int board, char *out, size_t size) {
  snprintf(out, size, "MIG-51301337-0000-4000-8000-%012d", board);
}

API Result nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
  SYSTEM_CALL(nvmlDeviceGetHandleByUUID);
  for (int i = 0; i < config->gpus; i++) {
    char of_instance[80];
    mig_uuid(config->gpu[i].board, of_instance, sizeof of_instance);
    if (!strcmp(uuid, config->gpu[i].uuid)) return hand_out(out, i, 0);
    if (gpu_state(&config->gpu[i], now_s(config))->mig && !strcmp(uuid, of_instance))
      return hand_out(out, i, 1);
  }
  return NOT_FOUND;
}

API Result nvmlDeviceGetUUID(void *device, char *out, unsigned size) {
  DEVICE_CALL(nvmlDeviceGetUUID);
  if (!handle->is_mig) return copy_text(out, size, gpu->uuid);
  char uuid[80];
  mig_uuid(gpu->board, uuid, sizeof uuid);
  return copy_text(out, size, uuid);
}

static void bus_id(int board, char *out, size_t size) {
  snprintf(out, size, "00000000:%02X:00.0", board + 1);
}

API Result nvmlDeviceGetHandleByPciBusId_v2(const char *wanted, void **out) {
  SYSTEM_CALL(nvmlDeviceGetHandleByPciBusId);
  for (int i = 0; i < config->gpus; i++) {
    char id[32];
    bus_id(config->gpu[i].board, id, sizeof id);
    if (!strcasecmp(wanted, id) || !strcasecmp(wanted, id + 4)) return hand_out(out, i, 0);
  }
  return NOT_FOUND;
}

API Result nvmlDeviceGetHandleByPciBusId(const char *wanted, void **out) {
  return nvmlDeviceGetHandleByPciBusId_v2(wanted, out);
}

typedef struct {
  char legacy_id[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char id[32];
} PciInfo;

API Result nvmlDeviceGetPciInfo_v3(void *device, PciInfo *info) {
  DEVICE_CALL(nvmlDeviceGetPciInfo);
  memset(info, 0, sizeof *info);
  bus_id(gpu->board, info->id, sizeof info->id);
  memcpy(info->legacy_id, info->id + 4, 13); /* the old form has a shorter domain */
  info->bus = (unsigned)gpu->board + 1;
  info->device_id = 0x233010DE;
  return SUCCESS;
}

API Result nvmlDeviceGetPciInfo_v2(void *device, PciInfo *info) {
  return nvmlDeviceGetPciInfo_v3(device, info);
}

API Result nvmlDeviceGetPciInfo(void *device, PciInfo *info) {
  return nvmlDeviceGetPciInfo_v3(device, info);
}

/* --- MIG ------------------------------------------------------------------------------------ */

API Result nvmlDeviceGetMigMode(void *device, unsigned *now_on, unsigned *after_restart) {
  DEVICE_CALL(nvmlDeviceGetMigMode);
  if (gpu->arch < 7) return NOT_SUPPORTED; /* before Ampere there was none */
  *now_on = *after_restart = (unsigned)gpu_state(gpu, now)->mig;
  return SUCCESS;
}

API Result nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
  DEVICE_CALL(nvmlDeviceGetMaxMigDeviceCount);
  *count = gpu_state(gpu, now)->mig ? 7 : 0;
  return SUCCESS;
}

API Result nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **out) {
  DEVICE_CALL(nvmlDeviceGetMigDeviceHandleByIndex);
  if (!gpu_state(gpu, now)->mig) return NOT_SUPPORTED;
  return index > 0 ? NOT_FOUND : hand_out(out, gpu->index, 1);
}

API Result nvmlDeviceIsMigDeviceHandle(void *device, unsigned *is_mig) {
  DEVICE_CALL(nvmlDeviceIsMigDeviceHandle);
  *is_mig = (unsigned)handle->is_mig;
  return SUCCESS;
}

API Result nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **out) {
  DEVICE_CALL(nvmlDeviceGetDeviceHandleFromMigDeviceHandle);
  return handle->is_mig ? hand_out(out, gpu->index, 0) : INVALID_ARGUMENT;
}
