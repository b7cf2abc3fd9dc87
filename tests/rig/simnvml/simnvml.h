/* simnvml: an NVML whose boards draw a power that is known exactly.
 *
 * The parts, from the bottom up:
 *   wave.c      a periodic power curve, its value and its integral in closed form
 *   timeline.c  load marks and tails -> true power and true energy of a board
 *   settings.c  the text file of key=value lines
 *   config.c    settings -> boards
 *   container.c what of the machine a container sees
 *   calls.c     what every call has in common: clock, counting, latency, injected errors
 *   sensors.c   what the board's sensors and its energy counter make of the truth
 *   nvml_*.c    the functions of NVML
 *   testing.c   functions for tests, which NVML doesn't have
 *
 * Times are seconds since the configured epoch, on the axis of CLOCK_MONOTONIC.
 * A configuration never changes once it is published, so that calls take no lock to read it. */
#ifndef SIMNVML_H
#define SIMNVML_H

#include <stddef.h>
#include <stdint.h>

#include "functions.h"

#define API __attribute__((visibility("default")))

#define MAX_GPUS 16
#define MAX_POINTS 128
#define MAX_STATES 16
#define MAX_PROCESSES 16
#define MAX_RULES 64

/* The numbers of nvmlReturn_t that the simulation itself gives. */
typedef enum {
  SUCCESS = 0,
  UNINITIALIZED = 1,
  INVALID_ARGUMENT = 2,
  NOT_SUPPORTED = 3,
  NO_PERMISSION = 4,
  NOT_FOUND = 6,
  INSUFFICIENT_SIZE = 7,
  FUNCTION_NOT_FOUND = 13,
} Result;

/* --- wave.c ------------------------------------------------------------------------------ */

typedef struct {
  int is_sine;
  double mean_w, amplitude_w; /* of a sine */
  int points;                 /* of every other kind: straight lines between */
  double time_s[MAX_POINTS], power_w[MAX_POINTS];
  double energy_j[MAX_POINTS]; /* from the start of a period to each point */
  double period_s;
} Wave;

/* Reads "kind:number,number,...". Returns 0, or -1 and leaves the wave as it was. */
int wave_parse(Wave *wave, const char *text);
/* Power at a time of the wave's own axis, in watts. */
double wave_power(const Wave *wave, double time_s);
/* Integral of the power from any fixed time of the wave's own axis, in joules. */
double wave_energy(const Wave *wave, double time_s);

/* --- timeline.c -------------------------------------------------------------------------- */

typedef struct Marks Marks; /* the mapped file of load marks */

typedef enum { TAIL_LINEAR, TAIL_EXPONENTIAL, TAIL_STEPS } TailShape;

typedef struct {
  double duration_s;
  TailShape shape;
} Tail;

/* From one load mark to the next. */
typedef struct {
  double start_s;
  double energy_j;     /* since the epoch, at the start */
  double gate;         /* share of the load: 0 is idle, 1 is all of the wave */
  double closed_s;     /* where gate is 0: when the load ended */
  double above_idle_w; /* where gate is 0: what was drawn above idle at that moment */
} Segment;

typedef struct {
  Segment *segments;
  uint32_t built; /* how many are ready to be read */
} Timeline;

struct Gpu;
Marks *marks_map(const char *path);
/* Makes room for the segments of all marks that the file can hold. */
int timeline_prepare(Timeline *timeline, const Marks *marks);
double true_power(const struct Gpu *gpu, double time_s);
/* Joules since the epoch. */
double true_energy(const struct Gpu *gpu, double time_s);

/* --- config.c ---------------------------------------------------------------------------- */

typedef struct {
  unsigned pid;
  unsigned long long memory_bytes;
} Process;

typedef struct {
  int count;
  Process list[MAX_PROCESSES];
} Processes;

/* What may change with time (at.SECONDS.key=value). */
typedef struct {
  double from_s;
  double mem_used, throttle, mig, persistence, sm_clock, mem_clock, power_limit_w, utilization;
  Processes compute, graphics;
} State;

enum { USAGE, INSTANT, AVERAGE, SENSORS };

typedef struct {
  double period_s; /* between updates; 0 is continuous */
  double window_s; /* averaged over; 0 is instantaneous */
} Sensor;

typedef struct {
  double period_s, jitter_s, gain, from_sensor, quantum_mj, bits, base_mj, reset_s, supported;
} Counter;

/* Sums of a counter that is fed by a sensor: what lies behind it can't be computed anew. */
typedef struct {
  long long tick;
  double energy_j;
  double at_reset_j;
} Accumulator;

typedef struct Gpu {
  int index; /* as NVML counts them here */
  int board; /* as the machine counts them */
  char name[96], uuid[80];
  double arch, cc_major, cc_minor, mem_total, power_min_w, power_max_w;
  double idle_w, gated, origin_is_mark, wave_phase_s;
  Wave wave;
  Tail tail;
  double temp0, temp_per_w, temp_tau_s;
  Sensor sensors[SENSORS];
  double gain, offset_w, noise, delay_s, phase_s; /* of all sensors */
  double instant_supported, average_supported, samples_supported, samples_period_s;
  double field_ts; /* 0: of the call, 1: of the tick, 2: none */
  Counter counter;
  int states;
  State state[MAX_STATES];
  int64_t epoch_ns;
  const Marks *marks;
  Timeline *timeline;
  Accumulator *accumulator;
} Gpu;

#define ANY_FUNCTION (-1)
#define NO_FUNCTION (-2)

typedef struct {
  int function, gpu, code;
  double after_s;
  uint64_t every, from_call;
} ErrorRule;

typedef struct {
  uint64_t inode, changed_ns;
} FileState;

typedef struct {
  int gpus;
  Gpu *gpu;
  int64_t epoch_ns;
  char driver[80];
  int cuda;
  double latency_us[FUNCTIONS], latency_jitter_us;
  int latency_spins;
  char missing[FUNCTIONS];
  int rules;
  ErrorRule rule[MAX_RULES];
  /* Where the file is looked at before each call, and which state of it was read. */
  int watched;
  const char *path;
  FileState file;
} Config;

/* The configuration in force; the environment's where none was named yet. */
const Config *config_current(void);
/* Reads a file (NULL: the environment's) and publishes it. Returns the lines it could not use. */
int config_load(const char *path);
const State *gpu_state(const Gpu *gpu, double time_s);

/* --- container.c ------------------------------------------------------------------------- */

/* Where a container finds the machine's settings, and what is set for it alone. */
#define CONTAINER_CONFIG "/run/simnvml/simnvml.conf"
#define CONTAINER_OWN_CONFIG "/run/simnvml/container.conf"

/* Keeps the GPUs that a text like "1,3" names, and counts them anew from 0. */
void keep_visible(Config *config, const char *text);
/* All zeros where there is no such file. */
FileState file_state(const char *path);
int file_was_replaced(const Config *config);

/* --- calls.c ----------------------------------------------------------------------------- */

/* What NVML's users hold; it stays valid when another configuration is loaded. */
typedef struct {
  int index, is_mig;
} Handle;

extern Handle whole_gpus[MAX_GPUS], mig_instances[MAX_GPUS];

int64_t clock_ns(void);
void clock_set_ns(int64_t now_ns); /* 0: the real clock */
void clock_advance_ns(int64_t by_ns);
double now_s(const Config *config);
int64_t unix_us(void);
double random01(uint64_t seed);
int function_by_name(const char *name);
void stats_open(const char *path);
void calls_reset(void);
Result library_opened(int by);
int library_is_open(void);
/* Counts the call, delays it and says whether it fails. */
Result call_begin(const Config *config, Function function, const Handle *handle, int needs_init);

/* --- sensors.c --------------------------------------------------------------------------- */

/* Time of the last update at or before now, and its number. */
double last_tick(double now, double period_s, double phase_s, double jitter_s, uint64_t seed,
                 long long *number);
double sensor_power_w(const Gpu *gpu, int sensor, double tick_s, long long number);
double read_power_w(const Gpu *gpu, int sensor, double now);
unsigned long long read_energy_mj(const Gpu *gpu, double now, double *tick_s);
double temperature_c(const Gpu *gpu, double now);
unsigned utilization_percent(const Gpu *gpu, double now);
unsigned long long throttle_reasons(const Gpu *gpu, double now);

/* --- for the functions of NVML ----------------------------------------------------------- */

Result copy_text(char *out, unsigned size, const char *text);

#define SYSTEM_CALL(function)                                    \
  const Config *config = config_current();                       \
  do {                                                           \
    Result refused = call_begin(config, FN_##function, NULL, 1); \
    if (refused) return refused;                                 \
  } while (0)

#define DEVICE_CALL(function)                                            \
  const Config *config = config_current();                               \
  const Handle *handle = device;                                         \
  do {                                                                   \
    Result refused = call_begin(config, FN_##function, handle, 1);       \
    if (refused) return refused;                                         \
  } while (0);                                                           \
  if (!handle || handle->index >= config->gpus) return INVALID_ARGUMENT; \
  const Gpu *gpu = &config->gpu[handle->index];                          \
  const double now = now_s(config);                                      \
  (void)gpu;                                                             \
  (void)now

/* Power, energy and the like are of the whole board: an instance has none of its own. */
#define WHOLE_GPU_ONLY \
  if (handle->is_mig) return NOT_SUPPORTED

#endif
