#include "settings.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LINE 4096

static char *trimmed(char *text) {
  while (isspace((unsigned char)*text)) text++;
  char *end = text + strlen(text);
  while (end > text && isspace((unsigned char)end[-1])) *--end = 0;
  return text;
}

/* Takes gpuN. and at.SECONDS. off the key, in either order. */
static char *split_prefixes(Setting *setting, char *key) {
  for (;;) {
    int gpu, length = 0;
    if (sscanf(key, "gpu%d.%n", &gpu, &length) == 1 && length) {
      setting->gpu = gpu;
      key += length;
    } else if (!strncmp(key, "at.", 3)) {
      char *end;
      setting->at_s = strtod(key + 3, &end);
      key = *end == '.' ? end + 1 : end;
    } else {
      return key;
    }
  }
}

int settings_read(Settings *settings, const char *path) {
  char line[MAX_LINE];
  FILE *file = fopen(path, "r");
  if (!file) return -1;
  while (settings->count < MAX_SETTINGS && fgets(line, sizeof line, file)) {
    line[strcspn(line, "#")] = 0;
    char *equals = strchr(line, '=');
    if (!equals) continue;
    *equals = 0;
    Setting *setting = &settings->list[settings->count++];
    *setting = (Setting){.gpu = ALL_GPUS, .at_s = FROM_THE_START};
    setting->key = strdup(split_prefixes(setting, trimmed(line)));
    setting->value = strdup(trimmed(equals + 1));
  }
  fclose(file);
  return 0;
}

const char *setting_value(Settings *settings, const char *key) {
  const char *value = NULL;
  for (int i = 0; i < settings->count; i++) {
    Setting *setting = &settings->list[i];
    if (setting->gpu != ALL_GPUS || setting->at_s >= 0 || strcmp(setting->key, key)) continue;
    setting->used = 1;
    value = setting->value;
  }
  return value;
}

void settings_free(Settings *settings) {
  for (int i = 0; i < settings->count; i++) {
    free(settings->list[i].key);
    free(settings->list[i].value);
  }
  free(settings);
}

/* A typing error would otherwise test something else than was meant. */
int settings_report_unused(const Settings *settings) {
  int unused = 0;
  for (int i = 0; i < settings->count; i++) {
    const Setting *setting = &settings->list[i];
    if (setting->used) continue;
    unused++;
    fprintf(stderr, "simnvml: not understood: %s=%s\n", setting->key, setting->value);
  }
  return unused;
}
