/* NVML: power, energy and what limits them. */
#include "simnvml.h"

/* Numbers of fields, of scopes and of types of values in NVML's header. */
enum {
  FIELD_TOTAL_ENERGY = 83,
  FIELD_POWER_AVERAGE = 185,
  FIELD_POWER_INSTANT = 186,
  FIELD_LIMIT_MIN = 187,
  FIELD_LIMIT_MAX = 188,
  FIELD_LIMIT_DEFAULT = 189,
  FIELD_LIMIT_CURRENT = 190,
};
enum { SCOPE_GPU, SCOPE_MODULE, SCOPE_MEMORY };
enum { TYPE_UNSIGNED_INT = 1, TYPE_UNSIGNED_LONG_LONG = 3 };
enum { STAMP_OF_CALL, STAMP_OF_TICK, STAMP_NONE };

#define SAMPLES_KEPT 120
#define SAMPLES_OF_TOTAL_POWER 0
#define MEMORY_SHARE 0.25 /* of the board's power */

static unsigned milliwatts(double watts) { return (unsigned)(watts * 1000 + 0.5); }

API Result nvmlDeviceGetPowerUsage(void *device, unsigned *out) {
  DEVICE_CALL(nvmlDeviceGetPowerUsage);
  WHOLE_GPU_ONLY;
  *out = milliwatts(read_power_w(gpu, USAGE, now));
  return SUCCESS;
}

API Result nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *out) {
  DEVICE_CALL(nvmlDeviceGetTotalEnergyConsumption);
  WHOLE_GPU_ONLY;
  double tick_s;
  if (!gpu->counter.supported) return NOT_SUPPORTED;
  *out = read_energy_mj(gpu, now, &tick_s);
  return SUCCESS;
}

/* --- throttle reasons ----------------------------------------------------------------------- */

API Result nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *out) {
  DEVICE_CALL(nvmlDeviceGetCurrentClocksThrottleReasons);
  *out = throttle_reasons(gpu, now);
  return SUCCESS;
}

API Result nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *out) {
  DEVICE_CALL(nvmlDeviceGetCurrentClocksEventReasons);
  *out = throttle_reasons(gpu, now);
  return SUCCESS;
}

API Result nvmlDeviceGetSupportedClocksThrottleReasons(void *device, unsigned long long *out) {
  DEVICE_CALL(nvmlDeviceGetSupportedClocksThrottleReasons);
  *out = 0x1ff;
  return SUCCESS;
}

API Result nvmlDeviceGetSupportedClocksEventReasons(void *device, unsigned long long *out) {
  DEVICE_CALL(nvmlDeviceGetSupportedClocksEventReasons);
  *out = 0x1ff;
  return SUCCESS;
}

typedef struct {
  unsigned long long reference_us, violation_ns;
} ViolationTime;

API Result nvmlDeviceGetViolationStatus(void *device, unsigned policy, ViolationTime *out) {
  DEVICE_CALL(nvmlDeviceGetViolationStatus);
  (void)policy;
  *out = (ViolationTime){(unsigned long long)unix_us(), 0};
  return SUCCESS;
}

/* --- fields --------------------------------------------------------------------------------- */

typedef union {
  double as_double;
  unsigned as_unsigned;
  unsigned long long as_unsigned_long_long;
} Value;

typedef struct {
  uint32_t id, scope;
  int64_t timestamp_us, latency_us;
  uint32_t type;
  int32_t result;
  Value value;
} Field;

static void stamp(const Gpu *gpu, Field *field, double now, double tick_s) {
  field->timestamp_us = unix_us();
  if (gpu->field_ts == STAMP_OF_TICK) field->timestamp_us -= (int64_t)((now - tick_s) * 1e6);
  if (gpu->field_ts == STAMP_NONE) field->timestamp_us = 0;
}

static Result energy_field(const Gpu *gpu, Field *field, double now) {
  double tick_s;
  if (!gpu->counter.supported) return NOT_SUPPORTED;
  field->type = TYPE_UNSIGNED_LONG_LONG;
  field->value.as_unsigned_long_long = read_energy_mj(gpu, now, &tick_s);
  stamp(gpu, field, now, tick_s);
  return SUCCESS;
}

static Result power_field(const Gpu *gpu, Field *field, int sensor, double now) {
  long long number;
  double supported = sensor == INSTANT ? gpu->instant_supported : gpu->average_supported;
  if (!supported || field->scope == SCOPE_MODULE || field->scope > SCOPE_MEMORY)
    return NOT_SUPPORTED;
  double watts = read_power_w(gpu, sensor, now);
  field->value.as_unsigned =
      milliwatts(field->scope == SCOPE_MEMORY ? watts * MEMORY_SHARE : watts);
  stamp(gpu, field, now,
        last_tick(now, gpu->sensors[sensor].period_s, gpu->phase_s, 0, 0, &number));
  return SUCCESS;
}

static Result read_field(const Gpu *gpu, Field *field, double now) {
  field->type = TYPE_UNSIGNED_INT;
  field->value.as_unsigned_long_long = 0;
  stamp(gpu, field, now, now);
  switch (field->id) {
    case FIELD_TOTAL_ENERGY:
      return energy_field(gpu, field, now);
    case FIELD_POWER_AVERAGE:
      return power_field(gpu, field, AVERAGE, now);
    case FIELD_POWER_INSTANT:
      return power_field(gpu, field, INSTANT, now);
    case FIELD_LIMIT_MIN:
      field->value.as_unsigned = milliwatts(gpu->power_min_w);
      return SUCCESS;
    case FIELD_LIMIT_MAX:
    case FIELD_LIMIT_DEFAULT:
      field->value.as_unsigned = milliwatts(gpu->power_max_w);
      return SUCCESS;
    case FIELD_LIMIT_CURRENT:
      field->value.as_unsigned = milliwatts(gpu_state(gpu, now)->power_limit_w);
      return SUCCESS;
    default:
      return NOT_SUPPORTED;
  }
}

API Result nvmlDeviceGetFieldValues(void *device, int count, Field *fields) {
  DEVICE_CALL(nvmlDeviceGetFieldValues);
  if (count <= 0 || !fields) return INVALID_ARGUMENT;
  for (int i = 0; i < count; i++) {
    fields[i].latency_us = 0;
    fields[i].result = handle->is_mig ? NOT_SUPPORTED : read_field(gpu, &fields[i], now);
  }
  return SUCCESS;
}

/* --- samples -------------------------------------------------------------------------------- */

typedef struct {
  unsigned long long timestamp_us;
  Value value;
} Sample;

API Result nvmlDeviceGetSamples(void *device, unsigned kind, unsigned long long after_us,
                                unsigned *type, unsigned *count, Sample *samples) {
  DEVICE_CALL(nvmlDeviceGetSamples);
  WHOLE_GPU_ONLY;
  if (!gpu->samples_supported || kind != SAMPLES_OF_TOTAL_POWER) return NOT_SUPPORTED;
  *type = TYPE_UNSIGNED_INT;
  unsigned room = *count < SAMPLES_KEPT ? *count : SAMPLES_KEPT;
  *count = SAMPLES_KEPT;
  if (!samples) return SUCCESS;
  long long last;
  int64_t now_us = unix_us();
  last_tick(now, gpu->samples_period_s, gpu->phase_s, 0, 0, &last);
  *count = 0;
  for (long long k = last - room + 1; k <= last; k++) {
    double tick_s = gpu->phase_s + (double)k * gpu->samples_period_s;
    unsigned long long stamp_us = (unsigned long long)(now_us - (int64_t)((now - tick_s) * 1e6));
    if (stamp_us <= after_us || tick_s < 0) continue;
    Sample *sample = &samples[(*count)++];
    sample->timestamp_us = stamp_us;
    sample->value.as_unsigned = milliwatts(sensor_power_w(gpu, INSTANT, tick_s, k));
  }
  return *count ? SUCCESS : NOT_FOUND;
}
