/*
 * Writes a file with values of secrets in the places of their references, `${{ SECRETS.<name>.<KEY> }}`. What the
 * values are is neither printed nor given to anybody but the owner of the new file.
 *
 *     export COFFER_ADDR=ipc:///run/coffer/coffer.sock COFFER_TOKEN_FILE=/run/credentials/token
 *     expand yaml prod settings.yaml.in settings.yaml
 *
 *     cc expand.c $(pkg-config --cflags --libs coffer) -o expand
 */

#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <coffer/coffer.h>
#include <coffer/template.h>

#define LARGEST (1 << 20)

struct job {
    coffer_client *client;
    coffer_request *request;
    coffer_result *result;
    coffer_template *parsed;
    coffer_text *text;
    coffer_error *error;
};

static void job_done(struct job *job)
{
    coffer_text_free(job->text);
    coffer_template_free(job->parsed);
    coffer_result_free(job->result);
    coffer_request_free(job->request);
    coffer_client_close(job->client);
    coffer_error_free(job->error);
}

static int kind_of(const char *name, coffer_template_kind *ret_kind)
{
    static const char *const names[] = {"text", "json", "yaml"};
    int i;
    for (i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_kind = (coffer_template_kind) i;
            return 1;
        }
    }
    return 0;
}

/* Reads a file of at most a mebibyte; one byte more, so that the library says that it is too large. */
static char *read_file(const char *path, size_t *ret_length)
{
    FILE *file = fopen(path, "r");
    char *text = malloc(LARGEST + 1);
    if (file == NULL || text == NULL) {
        perror(path);
        free(text);
        text = NULL;
    } else {
        *ret_length = fread(text, 1, LARGEST + 1, file);
    }
    if (file != NULL) {
        fclose(file);
    }
    return text;
}

static int write_file(const char *path, coffer_bytes bytes)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    size_t written = 0;
    ssize_t count = 1;
    if (file < 0) {
        perror(path);
        return 0;
    }
    while (written < bytes.length && count > 0) {
        count = write(file, bytes.data + written, bytes.length - written);
        written += count > 0 ? (size_t) count : 0;
    }
    if (close(file) != 0 || written < bytes.length) {
        perror(path);
        unlink(path);
        return 0;
    }
    return 1;
}

/* Everything that is wrong, as compilers tell it. */
static int fail(const char *path, const coffer_error *error)
{
    size_t i;
    for (i = 0; i < coffer_error_fault_count(error); i++) {
        fprintf(stderr, "%s:%u:%u: %s: %s\n", path, coffer_error_fault_line(error, i),
                coffer_error_fault_column(error, i), coffer_reason_name(coffer_error_fault_reason(error, i)),
                coffer_error_fault_message(error, i));
    }
    if (i == 0) {
        fprintf(stderr, "expand: %s: %s\n", coffer_reason_name(coffer_error_reason(error)),
                coffer_error_message(error));
    }
    return 1;
}

static coffer_status expand(struct job *job, coffer_template_kind kind, const char *text, size_t length,
                            const char *environment)
{
    coffer_status status = coffer_template_new(kind, text, length, NULL, &job->parsed, &job->error);
    if (status == COFFER_OK) {
        status = coffer_client_open(NULL, &job->client, &job->error);
    }
    if (status != COFFER_OK) {
        return status;
    }
    job->request = coffer_request_new();
    coffer_request_add_environment(job->request, environment);
    coffer_request_add_template(job->request, job->parsed);
    status = coffer_resolve(job->client, job->request, &job->result, &job->error);
    return status == COFFER_OK ? coffer_template_expand(job->parsed, job->result, 0, &job->text, &job->error)
                               : status;
}

int main(int argc, char **argv)
{
    struct job job = {NULL, NULL, NULL, NULL, NULL, NULL};
    coffer_template_kind kind = COFFER_TEMPLATE_TEXT;
    size_t length = 0;
    char *text;
    int code = 1;
    if (argc != 5 || !kind_of(argv[1], &kind)) {
        fprintf(stderr, "usage: expand text|json|yaml ENVIRONMENT FILE NEW-FILE\n");
        return 2;
    }
    text = read_file(argv[3], &length);
    if (text != NULL) {
        if (expand(&job, kind, text, length, argv[2]) != COFFER_OK) {
            code = fail(argv[3], job.error);
        } else {
            code = write_file(argv[4], coffer_text_bytes(job.text)) ? 0 : 1;
        }
    }
    free(text);
    job_done(&job);
    return code;
}
