/* For tests; NVML has none of these. Times are seconds of CLOCK_MONOTONIC, as Python's
 * time.monotonic() gives them. */
#include <math.h>
#include <stdio.h>

#include "simnvml.h"

static char configured[4096];

static double since_epoch(const Config *config, double monotonic_s) {
  return monotonic_s - (double)config->epoch_ns * 1e-9;
}

/* Joules between two times. */
API double simnvml_true_energy(int gpu, double start_s, double end_s) {
  const Config *config = config_current();
  if (gpu < 0 || gpu >= config->gpus) return NAN;
  return true_energy(&config->gpu[gpu], since_epoch(config, end_s)) -
         true_energy(&config->gpu[gpu], since_epoch(config, start_s));
}

/* Watts. */
API double simnvml_true_power(int gpu, double time_s) {
  const Config *config = config_current();
  if (gpu < 0 || gpu >= config->gpus) return NAN;
  return true_power(&config->gpu[gpu], since_epoch(config, time_s));
}

/* Degrees Celsius, before rounding. */
API double simnvml_true_temperature(int gpu, double time_s) {
  const Config *config = config_current();
  if (gpu < 0 || gpu >= config->gpus) return NAN;
  return temperature_c(&config->gpu[gpu], since_epoch(config, time_s));
}

/* Takes a file of keys for all calls from now on, as a driver that was just loaded: nothing is
 * open, and the environment is not asked. NULL goes back to the environment. Returns the number of
 * lines that were not understood. */
API int simnvml_configure(const char *path) {
  snprintf(configured, sizeof configured, "%s", path ? path : "");
  calls_reset();
  return config_load(path);
}

/* Reads the same file again and keeps what is open. */
API int simnvml_reload(void) { return config_load(*configured ? configured : NULL); }

/* A clock that only moves when it is told to, or by the latency of calls; 0 is the real one. */
API void simnvml_set_clock_ns(int64_t now_ns) { clock_set_ns(now_ns); }

API void simnvml_advance_clock_ns(int64_t by_ns) { clock_advance_ns(by_ns); }

API int64_t simnvml_clock_ns(void) { return clock_ns(); }
