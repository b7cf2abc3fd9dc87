/* The text file of key=value lines, before the keys mean anything. gpuN.key is for one GPU only,
 * and at.SECONDS.key=value holds from that time on; # begins a comment. */
#ifndef SIMNVML_SETTINGS_H
#define SIMNVML_SETTINGS_H

#define MAX_SETTINGS 512
#define ALL_GPUS (-1)
#define FROM_THE_START (-1.0)

typedef struct {
  int gpu;
  double at_s;
  char *key, *value;
  int used;
} Setting;

typedef struct {
  int count;
  Setting list[MAX_SETTINGS];
} Settings;

/* Adds the lines of a file. */
int settings_read(Settings *settings, const char *path);
/* The value of a key of the whole library, which counts as used; NULL where it is not set. The last
 * line that sets it wins. */
const char *setting_value(Settings *settings, const char *key);
/* Tells of the settings that were not used, and how many they are. */
int settings_report_unused(const Settings *settings);
void settings_free(Settings *settings);

#endif
