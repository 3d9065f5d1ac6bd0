#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/libcoffer/failure.h"

/*
 * Reads lines "REASON tab message" and prints each as the command line prints the failure of a call: for the test that people can
 * read all of them.
 */

static bool find_reason(const char *name, cof_reason *ret_reason)
{
    for (int i = 1; i < 1000; i++) {
        if (strcmp(cof_reason_name((cof_reason) i), name) == 0) {
            *ret_reason = (cof_reason) i;
            return true;
        }
    }
    return false;
}

static int show(const char *name, const char *message)
{
    static const struct cof_uuid request = {{1, 2, 3}};
    struct cof_error err = {0};
    cof_reason reason;
    if (!find_reason(name, &reason)) {
        (void) fprintf(stderr, "%s: there is no such reason\n", name);
        return EXIT_FAILURE;
    }
    /* As a server completes what has no next step of its own. */
    const bool whole = strstr(message, "; ") != NULL;
    cof_ignore(
        cof_fail(&err, reason, "%s%s%s", message, whole ? "" : "; ", whole ? "" : cof_reason_next_step(reason)));
    coffer_error *error = failure_new(&err, &request);
    const cli_exit code = cli_fail(error);
    coffer_error_free(error);
    (void) fprintf(stderr, "=> %d\n", (int) code);
    return EXIT_SUCCESS;
}

int main(void)
{
    char line[2048];
    int code = EXIT_SUCCESS;
    while (code == EXIT_SUCCESS && fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *tab = strchr(line, '\t');
        if (tab != NULL) {
            *tab = '\0';
            code = show(line, tab + 1);
        }
    }
    return code;
}
