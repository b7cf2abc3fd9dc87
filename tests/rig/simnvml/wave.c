/* Periodic power curves. All but the sine are straight lines between points, so that value and
 * integral are exact. Two points at one time are a jump. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "simnvml.h"

#ifndef M_PI
#define M_PI 3.14159265358979323846
#endif

static int read_numbers(const char *text, double *numbers, int room) {
  int count = 0;
  while (*text && count < room) {
    char *end;
    double number = strtod(text, &end);
    if (end == text) return -1;
    numbers[count++] = number;
    text = end + strspn(end, ",; ");
  }
  return *text ? -1 : count;
}

static void add_point(Wave *wave, double time_s, double power_w) {
  int i = wave->points++;
  wave->time_s[i] = time_s;
  wave->power_w[i] = power_w;
  wave->energy_j[i] = 0;
  if (i > 0)
    wave->energy_j[i] = wave->energy_j[i - 1] +
                        0.5 * (power_w + wave->power_w[i - 1]) * (time_s - wave->time_s[i - 1]);
}

static int make_const(Wave *wave, const double *a, int count) {
  if (count != 1) return -1;
  add_point(wave, 0, a[0]);
  add_point(wave, 1, a[0]);
  return 0;
}

/* The high part comes first: it lasts the share a[3] of the period (half where not given). */
static int make_square(Wave *wave, const double *a, int count) {
  if (count < 3 || count > 4) return -1;
  double high_s = (count > 3 ? a[3] : 0.5) * a[2];
  add_point(wave, 0, a[1]);
  add_point(wave, high_s, a[1]);
  add_point(wave, high_s, a[0]);
  add_point(wave, a[2], a[0]);
  return 0;
}

static int make_ramp(Wave *wave, const double *a, int count) {
  if (count != 3) return -1;
  add_point(wave, 0, a[0]);
  add_point(wave, a[2], a[1]);
  return 0;
}

static int make_sine(Wave *wave, const double *a, int count) {
  if (count != 3) return -1;
  wave->is_sine = 1;
  wave->mean_w = a[0];
  wave->amplitude_w = a[1];
  wave->period_s = a[2];
  return 0;
}

static int make_pwl(Wave *wave, const double *a, int count) {
  if (count < 4 || count % 2 || count / 2 > MAX_POINTS || a[0] != 0) return -1;
  for (int i = 0; i < count; i += 2) {
    if (i && a[i] < a[i - 2]) return -1;
    add_point(wave, a[i], a[i + 1]);
  }
  return 0;
}

static int make_steps(Wave *wave, const double *a, int count) {
  if (count < 2 || count % 2 || count > MAX_POINTS) return -1;
  double start_s = 0;
  for (int i = 0; i < count; i += 2) {
    add_point(wave, start_s, a[i + 1]);
    start_s += a[i];
    add_point(wave, start_s, a[i + 1]);
  }
  return 0;
}

static const struct {
  const char *name;
  int (*make)(Wave *, const double *, int);
} KINDS[] = {{"const", make_const}, {"square", make_square}, {"ramp", make_ramp},
             {"sine", make_sine},   {"pwl", make_pwl},       {"steps", make_steps}};

int wave_parse(Wave *wave, const char *text) {
  double numbers[2 * MAX_POINTS];
  const char *colon = strchr(text, ':');
  if (!colon) return -1;
  int count = read_numbers(colon + 1, numbers, 2 * MAX_POINTS);
  if (count < 0) return -1;
  for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
    size_t length = strlen(KINDS[k].name);
    if ((size_t)(colon - text) != length || strncmp(text, KINDS[k].name, length)) continue;
    Wave made = {0};
    if (KINDS[k].make(&made, numbers, count)) return -1;
    if (!made.is_sine) made.period_s = made.time_s[made.points - 1];
    if (made.period_s <= 0) return -1;
    *wave = made;
    return 0;
  }
  return -1;
}

/* Index of the last point at or before a time within the period. */
static int point_before(const Wave *wave, double within_s) {
  int i = 0;
  while (i + 1 < wave->points && wave->time_s[i + 1] <= within_s) i++;
  return i;
}

static double power_after(const Wave *wave, int i, double within_s) {
  if (i + 1 >= wave->points) return wave->power_w[i];
  double width_s = wave->time_s[i + 1] - wave->time_s[i];
  double rise_w = wave->power_w[i + 1] - wave->power_w[i];
  return wave->power_w[i] + rise_w * (within_s - wave->time_s[i]) / width_s;
}

double wave_power(const Wave *wave, double time_s) {
  if (wave->is_sine)
    return wave->mean_w + wave->amplitude_w * sin(2 * M_PI * time_s / wave->period_s);
  double within_s = time_s - floor(time_s / wave->period_s) * wave->period_s;
  return power_after(wave, point_before(wave, within_s), within_s);
}

double wave_energy(const Wave *wave, double time_s) {
  if (wave->is_sine) {
    double omega = 2 * M_PI / wave->period_s;
    return wave->mean_w * time_s - wave->amplitude_w / omega * cos(omega * time_s);
  }
  double periods = floor(time_s / wave->period_s);
  double within_s = time_s - periods * wave->period_s;
  int i = point_before(wave, within_s);
  double mean_w = 0.5 * (wave->power_w[i] + power_after(wave, i, within_s));
  return periods * wave->energy_j[wave->points - 1] + wave->energy_j[i] +
         mean_w * (within_s - wave->time_s[i]);
}
