/* What a board reports of its true power: sampled, averaged, late, with gain and noise; and a
 * counter that moves in steps. All of it is a function of time, so nothing runs between calls. */
#include <math.h>
#include <pthread.h>

#include "simnvml.h"

#define UTILIZATION_WINDOW_S 0.25
#define TEMPERATURE_SLICES 64
#define GPU_IDLE_REASON 1ULL

static pthread_mutex_t accumulating = PTHREAD_MUTEX_INITIALIZER;

static double tick_time(double period_s, double phase_s, double jitter_s, uint64_t seed,
                        long long number) {
  double time_s = phase_s + (double)number * period_s;
  if (jitter_s > 0) time_s += jitter_s * (random01(seed * 1315423911U + (uint64_t)number) - 0.5);
  return time_s;
}

double last_tick(double now, double period_s, double phase_s, double jitter_s, uint64_t seed,
                 long long *number) {
  *number = 0;
  if (period_s <= 0) return now;
  /* Jitter may move a tick over the border to its neighbour's place. */
  long long k = (long long)floor((now - phase_s) / period_s) + 1;
  double tick_s;
  while ((tick_s = tick_time(period_s, phase_s, jitter_s, seed, k)) > now) k--;
  *number = k;
  return tick_s;
}

double sensor_power_w(const Gpu *gpu, int sensor, double tick_s, long long number) {
  double window_s = gpu->sensors[sensor].window_s, seen_s = tick_s - gpu->delay_s, power_w;
  if (window_s > 0)
    power_w = (true_energy(gpu, seen_s) - true_energy(gpu, seen_s - window_s)) / window_s;
  else
    power_w = true_power(gpu, seen_s);
  if (gpu->noise > 0) {
    uint64_t seed = (uint64_t)number * 7919 + (uint64_t)(sensor * 31 + gpu->index);
    power_w *= 1 + gpu->noise * (2 * random01(seed) - 1);
  }
  return power_w * gpu->gain + gpu->offset_w;
}

double read_power_w(const Gpu *gpu, int sensor, double now) {
  long long number;
  double period_s = gpu->sensors[sensor].period_s;
  double tick_s = last_tick(now, period_s, gpu->phase_s, 0, 0, &number);
  if (period_s <= 0) number = (long long)(now * 1e6);
  return fmax(sensor_power_w(gpu, sensor, tick_s, number), 0);
}

/* --- the counter ---------------------------------------------------------------------------- */

/* Adds one sample of the sensor times the period at each tick, as some boards do. */
static double accumulated_j(const Gpu *gpu, long long number) {
  Accumulator *sum = gpu->accumulator;
  double period_s = gpu->counter.period_s, reset_s = gpu->counter.reset_s;
  pthread_mutex_lock(&accumulating);
  while (sum->tick < number) {
    sum->tick++;
    double tick_s = gpu->phase_s + (double)sum->tick * period_s;
    sum->energy_j += sensor_power_w(gpu, INSTANT, tick_s, sum->tick) * period_s;
    if (tick_s < reset_s) sum->at_reset_j = sum->energy_j;
  }
  double energy_j = sum->energy_j;
  pthread_mutex_unlock(&accumulating);
  return energy_j;
}

unsigned long long read_energy_mj(const Gpu *gpu, double now, double *tick_s) {
  const Counter *counter = &gpu->counter;
  long long number;
  double energy_j, at_reset_j;
  uint64_t seed = 17 + (uint64_t)gpu->index;
  *tick_s = last_tick(now, counter->period_s, gpu->phase_s, counter->jitter_s, seed, &number);
  if (counter->from_sensor && counter->period_s > 0) {
    energy_j = accumulated_j(gpu, number);
    at_reset_j = gpu->accumulator->at_reset_j;
  } else {
    energy_j = true_energy(gpu, *tick_s) * counter->gain;
    at_reset_j = true_energy(gpu, counter->reset_s) * counter->gain;
  }
  int was_reset = counter->reset_s > 0 && *tick_s >= counter->reset_s;
  double mj = was_reset ? (energy_j - at_reset_j) * 1000 : energy_j * 1000 + counter->base_mj;
  if (counter->quantum_mj > 0) mj = floor(mj / counter->quantum_mj) * counter->quantum_mj;
  unsigned long long value = mj > 0 ? (unsigned long long)mj : 0;
  int bits = (int)counter->bits;
  return bits > 0 && bits < 64 ? value & ((1ULL << bits) - 1) : value;
}

/* --- what follows from power ---------------------------------------------------------------- */

/* tau dT/dt = temp0 + temp_per_w P - T, solved as the mean of past power with the weight
 * exp(-age/tau): exact but for the shape of the power within a slice of an eighth of tau. */
double temperature_c(const Gpu *gpu, double now) {
  double tau_s = gpu->temp_tau_s, mean_w = 0, left = 1;
  if (tau_s <= 0) return gpu->temp0 + gpu->temp_per_w * true_power(gpu, now);
  double slice_s = tau_s / 8, before_j = true_energy(gpu, now);
  for (int i = 1; i <= TEMPERATURE_SLICES; i++) {
    double start_j = true_energy(gpu, now - i * slice_s);
    double left_then = i < TEMPERATURE_SLICES ? exp(-i / 8.0) : 0;
    mean_w += (left - left_then) * (before_j - start_j) / slice_s;
    left = left_then;
    before_j = start_j;
  }
  return gpu->temp0 + gpu->temp_per_w * mean_w;
}

unsigned utilization_percent(const Gpu *gpu, double now) {
  const State *state = gpu_state(gpu, now);
  if (state->utilization >= 0) return (unsigned)state->utilization;
  double recent_j = true_energy(gpu, now) - true_energy(gpu, now - UTILIZATION_WINDOW_S);
  double above_idle_w = recent_j / UTILIZATION_WINDOW_S - gpu->idle_w;
  double share = above_idle_w / (state->power_limit_w - gpu->idle_w);
  return share <= 0.001 ? 0 : (unsigned)fmin(100 * share, 100);
}

unsigned long long throttle_reasons(const Gpu *gpu, double now) {
  double set = gpu_state(gpu, now)->throttle;
  if (set != 0) return (unsigned long long)set;
  return true_power(gpu, now) <= gpu->idle_w + 1e-9 ? GPU_IDLE_REASON : 0;
}
