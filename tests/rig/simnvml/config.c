/* From settings to boards. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "settings.h"
#include "simnvml.h"

/* A number's place in a Gpu, its Counter or its State, and what it is multiplied with. */
typedef struct {
  const char *key;
  size_t offset;
  double scale;
} NumberKey;

#define OF_GPU(member) offsetof(Gpu, member)
#define OF_STATE(member) offsetof(State, member)

static const NumberKey GPU_NUMBERS[] = {
    {"arch", OF_GPU(arch), 1},
    {"mem_total", OF_GPU(mem_total), 1},
    {"power_min_w", OF_GPU(power_min_w), 1},
    {"power_max_w", OF_GPU(power_max_w), 1},
    {"idle", OF_GPU(idle_w), 1},
    {"gated", OF_GPU(gated), 1},
    {"wave_phase", OF_GPU(wave_phase_s), 1},
    {"tail_ms", OF_GPU(tail.duration_s), 1e-3},
    {"temp0", OF_GPU(temp0), 1},
    {"temp_per_w", OF_GPU(temp_per_w), 1},
    {"temp_tau_s", OF_GPU(temp_tau_s), 1},
    {"usage_period_ms", OF_GPU(sensors[USAGE].period_s), 1e-3},
    {"instant_period_ms", OF_GPU(sensors[INSTANT].period_s), 1e-3},
    {"average_period_ms", OF_GPU(sensors[AVERAGE].period_s), 1e-3},
    {"usage_window_ms", OF_GPU(sensors[USAGE].window_s), 1e-3},
    {"instant_window_ms", OF_GPU(sensors[INSTANT].window_s), 1e-3},
    {"average_window_ms", OF_GPU(sensors[AVERAGE].window_s), 1e-3},
    {"gain", OF_GPU(gain), 1},
    {"offset_w", OF_GPU(offset_w), 1},
    {"noise", OF_GPU(noise), 1},
    {"sensor_delay_ms", OF_GPU(delay_s), 1e-3},
    {"tick_phase_ms", OF_GPU(phase_s), 1e-3},
    {"instant_supported", OF_GPU(instant_supported), 1},
    {"average_supported", OF_GPU(average_supported), 1},
    {"samples_supported", OF_GPU(samples_supported), 1},
    {"samples_period_ms", OF_GPU(samples_period_s), 1e-3},
    {"energy_period_ms", OF_GPU(counter.period_s), 1e-3},
    {"energy_jitter_ms", OF_GPU(counter.jitter_s), 1e-3},
    {"energy_gain", OF_GPU(counter.gain), 1},
    {"energy_quant_mj", OF_GPU(counter.quantum_mj), 1},
    {"energy_bits", OF_GPU(counter.bits), 1},
    {"energy_base_mj", OF_GPU(counter.base_mj), 1},
    {"energy_reset_s", OF_GPU(counter.reset_s), 1},
    {"energy_supported", OF_GPU(counter.supported), 1},
    {NULL, 0, 0},
};

static const NumberKey STATE_NUMBERS[] = {
    {"mem_used", OF_STATE(mem_used), 1},
    {"throttle", OF_STATE(throttle), 1},
    {"mig", OF_STATE(mig), 1},
    {"persistence", OF_STATE(persistence), 1},
    {"sm_clock", OF_STATE(sm_clock), 1},
    {"mem_clock", OF_STATE(mem_clock), 1},
    {"power_limit_w", OF_STATE(power_limit_w), 1},
    {"utilization", OF_STATE(utilization), 1},
    {NULL, 0, 0},
};

static const Config *current = NULL;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

/* --- values --------------------------------------------------------------------------------- */

static int set_number(const NumberKey *keys, void *owner, const char *key, const char *value) {
  for (; keys->key; keys++) {
    if (strcmp(keys->key, key)) continue;
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end) return 0;
    *(double *)((char *)owner + keys->offset) = number * keys->scale;
    return 1;
  }
  return 0;
}

/* One of some words, as its number. */
static int set_word(double *out, const char *value, const char *const *words) {
  for (int i = 0; words[i]; i++) {
    if (strcmp(value, words[i])) continue;
    *out = i;
    return 1;
  }
  return 0;
}

static int set_text(char *out, size_t size, const char *value) {
  return (size_t)snprintf(out, size, "%s", value) < size;
}

/* "pid:bytes,pid:bytes"; without bytes the driver doesn't tell them. */
static int set_processes(Processes *processes, const char *text) {
  processes->count = 0;
  while (*text) {
    char *end;
    if (processes->count == MAX_PROCESSES) return 0;
    Process *process = &processes->list[processes->count++];
    process->pid = (unsigned)strtoul(text, &end, 10);
    process->memory_bytes = ~0ULL;
    if (end == text) return 0;
    if (*end == ':') process->memory_bytes = (unsigned long long)strtod(end + 1, &end);
    if (*end && *end != ',') return 0;
    text = end + strspn(end, ", ");
  }
  return 1;
}

static int set_state(State *state, const char *key, const char *value) {
  if (!strcmp(key, "procs")) return set_processes(&state->compute, value);
  if (!strcmp(key, "graphics_procs")) return set_processes(&state->graphics, value);
  return set_number(STATE_NUMBERS, state, key, value);
}

static int set_capability(Gpu *gpu, const char *value) {
  int major, minor = 0;
  if (sscanf(value, "%d.%d", &major, &minor) < 1) return 0;
  gpu->cc_major = major;
  gpu->cc_minor = minor;
  return 1;
}

static int set_gpu(Gpu *gpu, const char *key, const char *value) {
  static const char *const ORIGINS[] = {"epoch", "mark", NULL};
  static const char *const SOURCES[] = {"true", "sensor", NULL};
  static const char *const STAMPS[] = {"call", "tick", "zero", NULL};
  static const char *const SHAPES[] = {"linear", "exponential", "steps", NULL};
  double shape;
  if (!strcmp(key, "name")) return set_text(gpu->name, sizeof gpu->name, value);
  if (!strcmp(key, "uuid")) return set_text(gpu->uuid, sizeof gpu->uuid, value);
  if (!strcmp(key, "cc")) return set_capability(gpu, value);
  if (!strcmp(key, "wave")) return wave_parse(&gpu->wave, value) == 0;
  if (!strcmp(key, "origin")) return set_word(&gpu->origin_is_mark, value, ORIGINS);
  if (!strcmp(key, "energy_source")) return set_word(&gpu->counter.from_sensor, value, SOURCES);
  if (!strcmp(key, "field_ts")) return set_word(&gpu->field_ts, value, STAMPS);
  if (!strcmp(key, "tail_shape")) {
    if (!set_word(&shape, value, SHAPES)) return 0;
    gpu->tail.shape = (TailShape)shape;
    return 1;
  }
  return set_number(GPU_NUMBERS, gpu, key, value) || set_state(&gpu->state[0], key, value);
}

/* "code,after_s,every_n,from_call", more of them after a semicolon; for all functions: "*". */
static int add_rules(Config *config, int gpu, const char *name, const char *value) {
  int for_all = !strcmp(name, "*");
  int function = for_all ? ANY_FUNCTION : function_by_name(name);
  if (function < 0 && !for_all) return 0;
  while (value) {
    if (config->rules == MAX_RULES) return 0;
    ErrorRule *rule = &config->rule[config->rules++];
    *rule = (ErrorRule){.function = function, .gpu = gpu, .every = 1};
    long every = 1, from_call = 0;
    if (sscanf(value, "%d,%lf,%ld,%ld", &rule->code, &rule->after_s, &every, &from_call) < 1)
      return 0;
    rule->every = every < 1 ? 1 : (uint64_t)every;
    rule->from_call = from_call < 0 ? 0 : (uint64_t)from_call;
    value = strchr(value, ';');
    if (value) value++;
  }
  return 1;
}

/* --- keys of the whole library -------------------------------------------------------------- */

static int set_missing(Config *config, char *value) {
  char *rest = NULL;
  for (char *name = strtok_r(value, ", ", &rest); name; name = strtok_r(NULL, ", ", &rest)) {
    int function = function_by_name(name);
    if (function < 0) return 0;
    config->missing[function] = 1;
  }
  return 1;
}

/* latency.FUNCTION_us */
static int set_function_latency(Config *config, char *key, const char *value) {
  size_t length = strlen(key);
  if (length < 4 || strcmp(key + length - 3, "_us")) return 0;
  char name[64];
  snprintf(name, sizeof name, "%.*s", (int)(length - 3), key);
  int function = function_by_name(name);
  if (function < 0) return 0;
  config->latency_us[function] = atof(value);
  return 1;
}

static int set_library(Config *config, char *key, char *value) {
  if (!strcmp(key, "driver")) return set_text(config->driver, sizeof config->driver, value);
  if (!strcmp(key, "missing")) return set_missing(config, value);
  if (!strncmp(key, "latency.nvml", 12)) return set_function_latency(config, key + 8, value);
  if (!strcmp(key, "cuda")) return (config->cuda = atoi(value)) > 0;
  if (!strcmp(key, "latency_jitter_us")) return (config->latency_jitter_us = atof(value)) >= 0;
  if (!strcmp(key, "latency_mode")) {
    config->latency_spins = !strcmp(value, "spin");
    return config->latency_spins || !strcmp(value, "sleep");
  }
  return 0;
}

/* --- from settings to a configuration ------------------------------------------------------- */

/* A board like an H100: a counter and power averaged over 1 s, both every 100 ms. */
static void set_defaults(Gpu *gpu, int index) {
  *gpu = (Gpu){
      .index = index,
      .board = index,
      .name = "Simulated H100",
      .arch = 9,
      .cc_major = 9,
      .mem_total = 80e9,
      .power_min_w = 200,
      .power_max_w = 700,
      .idle_w = 70,
      .gated = 1,
      .origin_is_mark = 1,
      .temp0 = 30,
      .temp_per_w = 0.06,
      .temp_tau_s = 2,
      .sensors = {{0.1, 1.0}, {0.1, 0.025}, {0.1, 1.0}},
      .gain = 1,
      .phase_s = 0.0137 * (index + 1),
      .instant_supported = 1,
      .average_supported = 1,
      .samples_supported = 1,
      .samples_period_s = 0.02,
      .counter =
          {.period_s = 0.1, .gain = 1, .quantum_mj = 1, .base_mj = 123456789, .supported = 1},
      .states = 1,
  };
  snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-51301337-0000-4000-8000-%012d", index);
  wave_parse(&gpu->wave, "const:400");
  gpu->state[0] = (State){.from_s = -INFINITY,
                          .mem_used = 1e9,
                          .persistence = 1,
                          .sm_clock = 1980,
                          .mem_clock = 2619,
                          .power_limit_w = 700,
                          .utilization = -1};
  const char *pid = getenv("SIMNVML_PID");
  if (pid) gpu->state[0].compute = (Processes){1, {{(unsigned)atoi(pid), 1000000000ULL}}};
}

/* Settings for all GPUs first, so that those for one of them win. */
static void apply_constant(Config *config, Settings *settings) {
  for (int for_one = 0; for_one < 2; for_one++) {
    for (int i = 0; i < settings->count; i++) {
      Setting *setting = &settings->list[i];
      if (setting->used || setting->at_s >= 0 || (setting->gpu != ALL_GPUS) != for_one) continue;
      if (!strncmp(setting->key, "err.", 4)) {
        setting->used = add_rules(config, setting->gpu, setting->key + 4, setting->value);
        continue;
      }
      if (!for_one && (setting->used = set_library(config, setting->key, setting->value))) continue;
      for (int g = 0; g < MAX_GPUS; g++) {
        if (setting->gpu != ALL_GPUS && setting->gpu != g) continue;
        Gpu ignored;
        setting->used =
            set_gpu(g < config->gpus ? &config->gpu[g] : &ignored, setting->key, setting->value);
      }
    }
  }
}

static int earlier(const void *a, const void *b) {
  double difference = (*(Setting *const *)a)->at_s - (*(Setting *const *)b)->at_s;
  return difference < 0 ? -1 : difference > 0;
}

static int change_state(Gpu *gpu, const Setting *setting) {
  State *last = &gpu->state[gpu->states - 1];
  if (last->from_s < setting->at_s) {
    if (gpu->states == MAX_STATES) return 0;
    last[1] = last[0];
    last++;
    last->from_s = setting->at_s;
    gpu->states++;
  }
  return set_state(last, setting->key, setting->value);
}

static void apply_changes(Config *config, Settings *settings) {
  Setting *changes[MAX_SETTINGS];
  size_t count = 0;
  for (int i = 0; i < settings->count; i++)
    if (settings->list[i].at_s >= 0) changes[count++] = &settings->list[i];
  qsort(changes, count, sizeof *changes, earlier);
  for (size_t i = 0; i < count; i++) {
    for (int g = 0; g < config->gpus; g++)
      if (changes[i]->gpu == ALL_GPUS || changes[i]->gpu == g)
        changes[i]->used = change_state(&config->gpu[g], changes[i]);
  }
}

/* What is shared by all boards: the marks, and room for what is computed from them. */
static void attach(Config *config, const char *marks_path) {
  Marks *marks = marks_path && *marks_path ? marks_map(marks_path) : NULL;
  if (marks_path && *marks_path && !marks)
    fprintf(stderr, "simnvml: no file of marks: %s\n", marks_path);
  for (int i = 0; i < config->gpus; i++) {
    Gpu *gpu = &config->gpu[i];
    gpu->epoch_ns = config->epoch_ns;
    gpu->timeline = calloc(1, sizeof *gpu->timeline);
    gpu->accumulator = calloc(1, sizeof *gpu->accumulator);
    if (marks && timeline_prepare(gpu->timeline, marks) == 0) gpu->marks = marks;
  }
}

static Config *make_config(Settings *settings) {
  Config *config = calloc(1, sizeof *config);
  const char *gpus = setting_value(settings, "ngpus");
  const char *epoch = setting_value(settings, "epoch_ns");
  const char *latency_us = setting_value(settings, "latency_us");
  for (int i = 0; i < FUNCTIONS; i++) config->latency_us[i] = latency_us ? atof(latency_us) : 0;
  config->gpus = gpus ? atoi(gpus) : 1;
  if (config->gpus > MAX_GPUS) config->gpus = MAX_GPUS;
  if (config->gpus < 0) config->gpus = 0;
  config->epoch_ns = epoch ? strtoll(epoch, NULL, 10) : 0;
  config->cuda = 12080;
  set_text(config->driver, sizeof config->driver, "570.86.15");
  config->gpu = calloc((size_t)config->gpus + 1, sizeof *config->gpu);
  for (int i = 0; i < config->gpus; i++) set_defaults(&config->gpu[i], i);
  return config;
}

/* A container can't be told by its environment, which is its image's and its user's: it finds what
 * was mounted into it. */
static const char *read_settings(Settings *settings, const char *path, int *wrong) {
  int in_container = path == NULL && access(CONTAINER_CONFIG, R_OK) == 0;
  if (in_container) path = CONTAINER_CONFIG;
  if (path && settings_read(settings, path)) {
    fprintf(stderr, "simnvml: no configuration at %s\n", path);
    *wrong = 1;
  }
  if (in_container) settings_read(settings, CONTAINER_OWN_CONFIG);
  return path;
}

int config_load(const char *path) {
  Settings *settings = calloc(1, sizeof *settings);
  int from_environment = path == NULL, wrong = 0;
  if (from_environment) path = getenv("SIMNVML_CONFIG");
  FileState file = file_state(path ? path : CONTAINER_CONFIG); /* before it is read */
  path = read_settings(settings, path, &wrong);
  const char *marks = setting_value(settings, "marks");
  const char *stats = setting_value(settings, "stats");
  /* A named file tells all; the environment is for programs that are started from outside. */
  if (from_environment && getenv("SIMNVML_MARKS")) marks = getenv("SIMNVML_MARKS");
  if (from_environment && getenv("SIMNVML_STATS")) stats = getenv("SIMNVML_STATS");
  const char *visible = setting_value(settings, "visible");
  const char *watch = setting_value(settings, "watch");
  Config *config = make_config(settings);
  config->watched = watch && atoi(watch);
  config->path = path ? strdup(path) : "";
  config->file = file;
  apply_constant(config, settings);
  apply_changes(config, settings);
  if (visible) keep_visible(config, visible);
  wrong += settings_report_unused(settings);
  attach(config, marks);
  stats_open(stats);
  settings_free(settings);
  /* The one before is not freed: a call in another thread may still be reading it. */
  __atomic_store_n(&current, config, __ATOMIC_RELEASE);
  return wrong;
}

const Config *config_current(void) {
  const Config *config = __atomic_load_n(&current, __ATOMIC_ACQUIRE);
  if (config && !(config->watched && file_was_replaced(config))) return config;
  pthread_mutex_lock(&loading);
  if (current == config) {
    const char *named = config && strcmp(config->path, CONTAINER_CONFIG) ? config->path : NULL;
    config_load(named);
  }
  pthread_mutex_unlock(&loading);
  return current;
}

const State *gpu_state(const Gpu *gpu, double time_s) {
  int i = gpu->states - 1;
  while (i > 0 && gpu->state[i].from_s > time_s) i--;
  return &gpu->state[i];
}
