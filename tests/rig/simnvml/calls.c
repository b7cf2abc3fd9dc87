/* What every call of NVML has in common: it is counted, takes its time, and may fail. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "simnvml.h"

#define STATS_SLOTS 128

/* Layout of the file of counters. All processes that use this library have the same slots. */
typedef struct {
  uint64_t reserved, total, unused[6];
  struct {
    char name[56];
    uint64_t calls;
  } slot[STATS_SLOTS];
} Stats;

#define AS_TEXT(name) #name,
static const char *const NAMES[FUNCTIONS] = {FOR_EACH_FUNCTION(AS_TEXT)};
#undef AS_TEXT

Handle whole_gpus[MAX_GPUS], mig_instances[MAX_GPUS];

static Stats own_stats, *stats = &own_stats;
static int opened = 0;
static int64_t virtual_ns = 0;

/* --- the clock ------------------------------------------------------------------------------ */

static int64_t read_clock_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t clock_ns(void) {
  int64_t set_ns = __atomic_load_n(&virtual_ns, __ATOMIC_RELAXED);
  return set_ns ? set_ns : read_clock_ns(CLOCK_MONOTONIC);
}

void clock_set_ns(int64_t now_ns) { __atomic_store_n(&virtual_ns, now_ns, __ATOMIC_SEQ_CST); }

void clock_advance_ns(int64_t by_ns) {
  if (virtual_ns) __atomic_add_fetch(&virtual_ns, by_ns, __ATOMIC_SEQ_CST);
}

double now_s(const Config *config) { return (double)(clock_ns() - config->epoch_ns) * 1e-9; }

int64_t unix_us(void) { return (virtual_ns ? virtual_ns : read_clock_ns(CLOCK_REALTIME)) / 1000; }

/* A fixed number in [0, 1) for each seed (splitmix64), so that noise can be repeated. */
double random01(uint64_t seed) {
  seed += 0x9E3779B97F4A7C15ULL;
  seed = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9ULL;
  seed = (seed ^ (seed >> 27)) * 0x94D049BB133111EBULL;
  seed ^= seed >> 31;
  return (double)(seed >> 11) / 9007199254740992.0;
}

/* --- counting ------------------------------------------------------------------------------- */

int function_by_name(const char *name) {
  for (int i = 0; i < FUNCTIONS; i++)
    if (!strcmp(NAMES[i], name)) return i;
  return -1;
}

void stats_open(const char *path) {
  Stats *target = &own_stats;
  int file = path && *path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
  if (file >= 0) {
    void *mapped = MAP_FAILED;
    if (!ftruncate(file, sizeof(Stats)))
      mapped = mmap(NULL, sizeof(Stats), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) target = mapped;
    close(file);
  }
  for (int i = 0; i < FUNCTIONS; i++)
    snprintf(target->slot[i].name, sizeof target->slot[i].name, "%s", NAMES[i]);
  __atomic_store_n(&stats, target, __ATOMIC_RELEASE);
}

/* --- one call ------------------------------------------------------------------------------- */

void calls_reset(void) {
  __atomic_store_n(&opened, 0, __ATOMIC_SEQ_CST);
  memset(own_stats.slot, 0, sizeof own_stats.slot);
}

Result library_opened(int by) {
  __atomic_add_fetch(&opened, by, __ATOMIC_SEQ_CST);
  return SUCCESS;
}

int library_is_open(void) { return __atomic_load_n(&opened, __ATOMIC_SEQ_CST) > 0; }

static void take_time(const Config *config, Function function, uint64_t call) {
  double us = config->latency_us[function];
  if (config->latency_jitter_us > 0) us += config->latency_jitter_us * random01(call * 2654435761U);
  if (us <= 0) return;
  int64_t ns = (int64_t)(us * 1000);
  if (virtual_ns) {
    clock_advance_ns(ns);
  } else if (config->latency_spins) {
    int64_t end_ns = read_clock_ns(CLOCK_MONOTONIC) + ns;
    while (read_clock_ns(CLOCK_MONOTONIC) < end_ns) continue;
  } else {
    struct timespec time = {ns / 1000000000, ns % 1000000000};
    nanosleep(&time, NULL);
  }
}

static Result injected(const Config *config, Function function, const Handle *handle,
                       uint64_t call) {
  for (int i = 0; i < config->rules; i++) {
    const ErrorRule *rule = &config->rule[i];
    if (rule->function != ANY_FUNCTION && rule->function != (int)function) continue;
    if (call < rule->from_call) continue;
    if (rule->gpu >= 0 && (!handle || handle->index != rule->gpu)) continue;
    if ((call - rule->from_call) % rule->every || now_s(config) < rule->after_s) continue;
    return (Result)rule->code;
  }
  return SUCCESS;
}

Result call_begin(const Config *config, Function function, const Handle *handle, int needs_init) {
  Stats *counters = __atomic_load_n(&stats, __ATOMIC_ACQUIRE);
  uint64_t call = __atomic_add_fetch(&counters->slot[function].calls, 1, __ATOMIC_RELAXED);
  __atomic_add_fetch(&counters->total, 1, __ATOMIC_RELAXED);
  if (config->missing[function]) return FUNCTION_NOT_FOUND;
  if (needs_init && !library_is_open()) return UNINITIALIZED;
  take_time(config, function, call);
  return injected(config, function, handle, call);
}
