/* True power and true energy of a board: idle, load between marks, and the tail after it.
 *
 * Marks are only ever appended, so what came before each of them is summed once and kept: a
 * reading costs the same after ten thousand windows as after the first. */
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simnvml.h"

typedef struct {
  int64_t time_ns; /* CLOCK_MONOTONIC */
  double gate;
} Mark;

/* Layout of the file; its writer raises count last. */
struct Marks {
  char magic[8];
  uint32_t count, capacity;
  Mark mark[];
};

static pthread_mutex_t building = PTHREAD_MUTEX_INITIALIZER;

Marks *marks_map(const char *path) {
  struct stat status;
  Marks *marks = NULL;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return NULL;
  if (!fstat(file, &status) && status.st_size >= (off_t)sizeof(Marks)) {
    void *mapped = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) marks = mapped;
  }
  close(file);
  if (marks && (memcmp(marks->magic, "SIMMARK1", 8) ||
                sizeof(Marks) + marks->capacity * sizeof(Mark) > (size_t)status.st_size))
    return NULL;
  return marks;
}

int timeline_prepare(Timeline *timeline, const Marks *marks) {
  /* Pages that are never touched take no memory, so room for all marks costs nothing. */
  timeline->segments = calloc(marks->capacity, sizeof(Segment));
  return timeline->segments ? 0 : -1;
}

static double load_time(const Gpu *gpu, double time_s, double start_s) {
  return (gpu->origin_is_mark ? time_s - start_s : time_s) + gpu->wave_phase_s;
}

/* --- tails: what is drawn above idle after the end of the load ------------------------------ */

/* Share of the load's power above idle that is still drawn. */
static double tail_share(const Tail *tail, double since_s) {
  if (since_s < 0 || since_s >= tail->duration_s) return 0;
  double passed = since_s / tail->duration_s;
  switch (tail->shape) {
    case TAIL_LINEAR:
      return 1 - passed;
    case TAIL_EXPONENTIAL: /* a time constant of a quarter; 1.8 % are cut off at the end */
      return exp(-4 * passed);
    default: /* three equally long steps, at 3/4, 2/4 and 1/4 */
      return 0.75 - 0.25 * floor(3 * passed);
  }
}

/* Integral of that share from the end of the load, in seconds. */
static double tail_share_s(const Tail *tail, double since_s) {
  if (tail->duration_s <= 0 || since_s <= 0) return 0;
  double passed = fmin(since_s / tail->duration_s, 1);
  switch (tail->shape) {
    case TAIL_LINEAR:
      return tail->duration_s * passed * (1 - passed / 2);
    case TAIL_EXPONENTIAL:
      return tail->duration_s / 4 * -expm1(-4 * passed);
    default: {
      double step = fmin(floor(3 * passed), 2);
      double whole_steps = step / 3 * (0.875 - 0.125 * step);
      return tail->duration_s * (whole_steps + (0.75 - 0.25 * step) * (passed - step / 3));
    }
  }
}

/* --- segments ------------------------------------------------------------------------------- */

static double segment_power(const Gpu *gpu, const Segment *segment, double time_s) {
  if (segment->gate == 0)
    return gpu->idle_w + segment->above_idle_w * tail_share(&gpu->tail, time_s - segment->closed_s);
  double load_w = wave_power(&gpu->wave, load_time(gpu, time_s, segment->start_s));
  return gpu->idle_w + segment->gate * (load_w - gpu->idle_w);
}

/* From the segment's start. */
static double segment_energy(const Gpu *gpu, const Segment *segment, double time_s) {
  double start_s = segment->start_s, idle_j = gpu->idle_w * (time_s - start_s);
  if (segment->gate == 0) {
    double seconds = tail_share_s(&gpu->tail, time_s - segment->closed_s) -
                     tail_share_s(&gpu->tail, start_s - segment->closed_s);
    return idle_j + segment->above_idle_w * seconds;
  }
  double load_j = wave_energy(&gpu->wave, load_time(gpu, time_s, start_s)) -
                  wave_energy(&gpu->wave, load_time(gpu, start_s, start_s));
  return idle_j + segment->gate * (load_j - idle_j);
}

static void build_segment(const Gpu *gpu, uint32_t i) {
  Segment *segment = &gpu->timeline->segments[i];
  const Mark *mark = &gpu->marks->mark[i];
  segment->start_s = (double)(mark->time_ns - gpu->epoch_ns) * 1e-9;
  segment->gate = mark->gate;
  segment->closed_s = segment->start_s;
  segment->above_idle_w = 0;
  if (i == 0) {
    segment->energy_j = gpu->idle_w * segment->start_s;
    return;
  }
  const Segment *before = segment - 1;
  segment->energy_j = before->energy_j + segment_energy(gpu, before, segment->start_s);
  if (segment->gate != 0) return;
  if (before->gate == 0) { /* closed twice: the tail goes on */
    segment->closed_s = before->closed_s;
    segment->above_idle_w = before->above_idle_w;
  } else {
    segment->above_idle_w = segment_power(gpu, before, segment->start_s) - gpu->idle_w;
  }
}

/* Segments that are ready, after all marks of this moment have been added to them. */
static uint32_t built_segments(const Gpu *gpu) {
  uint32_t wanted = __atomic_load_n(&gpu->marks->count, __ATOMIC_ACQUIRE);
  uint32_t built = __atomic_load_n(&gpu->timeline->built, __ATOMIC_ACQUIRE);
  if (wanted > gpu->marks->capacity) wanted = gpu->marks->capacity;
  if (built >= wanted) return built;
  pthread_mutex_lock(&building);
  for (built = gpu->timeline->built; built < wanted; built++) build_segment(gpu, built);
  __atomic_store_n(&gpu->timeline->built, built, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&building);
  return built;
}

/* The segment that a time lies in; NULL before the first mark. */
static const Segment *segment_at(const Gpu *gpu, double time_s) {
  uint32_t low = 0, high = built_segments(gpu);
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (gpu->timeline->segments[middle].start_s <= time_s)
      low = middle + 1;
    else
      high = middle;
  }
  return low ? &gpu->timeline->segments[low - 1] : NULL;
}

double true_power(const Gpu *gpu, double time_s) {
  if (!gpu->gated || !gpu->marks) return wave_power(&gpu->wave, time_s + gpu->wave_phase_s);
  const Segment *segment = segment_at(gpu, time_s);
  return segment ? segment_power(gpu, segment, time_s) : gpu->idle_w;
}

double true_energy(const Gpu *gpu, double time_s) {
  if (!gpu->gated || !gpu->marks)
    return wave_energy(&gpu->wave, time_s + gpu->wave_phase_s) -
           wave_energy(&gpu->wave, gpu->wave_phase_s);
  const Segment *segment = segment_at(gpu, time_s);
  if (!segment) return gpu->idle_w * time_s;
  return segment->energy_j + segment_energy(gpu, segment, time_s);
}
