/* What of the machine a container sees, and how it follows what the machine's owner changes. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "simnvml.h"

void keep_visible(Config *config, const char *text) {
  Gpu *kept = calloc((size_t)config->gpus + 1, sizeof *kept);
  int count = 0, new_index[MAX_GPUS];
  for (int i = 0; i < MAX_GPUS; i++) new_index[i] = -1;
  while (*text) {
    char *end;
    long board = strtol(text, &end, 10);
    if (end == text) break;
    /* One that the machine no longer has is gone here too. */
    if (board >= 0 && board < config->gpus && new_index[board] < 0) {
      kept[count] = config->gpu[board];
      kept[count].index = count;
      new_index[board] = count++;
    }
    text = end + strspn(end, ", ");
  }
  for (int i = 0; i < config->rules; i++) {
    ErrorRule *rule = &config->rule[i];
    if (rule->gpu < 0) continue;
    rule->gpu = rule->gpu < MAX_GPUS ? new_index[rule->gpu] : -1;
    if (rule->gpu < 0) rule->function = NO_FUNCTION;
  }
  free(config->gpu);
  config->gpu = kept;
  config->gpus = count;
}

FileState file_state(const char *path) {
  struct stat status;
  if (stat(path, &status)) return (FileState){0, 0};
  int64_t changed_ns = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
  return (FileState){status.st_ino, (uint64_t)changed_ns};
}

/* A file that is gone for a moment is about to be replaced. */
int file_was_replaced(const Config *config) {
  FileState was = config->file, now = file_state(config->path);
  return now.inode && (now.inode != was.inode || now.changed_ns != was.changed_ns);
}
