#include <dirent.h>

#include "tests/fuzz/fuzz.h"

/* Gives every file of the folder named to the harness, so that what was once found stays found. */

enum { FILE_MAX = 1 << 20, PATH_SIZE = 1024 };

static void replay(const char *path)
{
    FILE *file = fopen(path, "re");
    uint8_t *room = malloc(FILE_MAX);
    MUST(file != NULL && room != NULL);
    const size_t size = fread(room, 1, FILE_MAX, file);
    /* Memory of exactly that size, so that a read beyond it is seen. */
    uint8_t *data = malloc(size + (size == 0));
    MUST(data != NULL);
    for (size_t i = 0; i < size; i++) {
        data[i] = room[i];
    }
    (void) fclose(file);
    free(room);
    (void) LLVMFuzzerTestOneInput(data, size);
    free(data);
}

int main(int argc, char **argv)
{
    size_t count = 0;
    MUST(argc == 2);
    DIR *folder = opendir(argv[1]);
    MUST(folder != NULL);
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char path[PATH_SIZE];
        if (entry->d_name[0] != '.') {
            (void) snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
            replay(path);
            count++;
        }
    }
    (void) closedir(folder);
    MUST(count > 0);
    printf("%zu inputs\n", count);
    return 0;
}
