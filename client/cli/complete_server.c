#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/v1/environment.pb-c.h>
#include <coffer/v1/identity.pb-c.h>
#include <coffer/v1/integration.pb-c.h>
#include <coffer/v1/provider.pb-c.h>
#include <coffer/v1/secret.pb-c.h>
#include <coffer/v1/workspace.pb-c.h>

#include "client/cli/command.h"
#include "client/cli/complete.h"
#include "client/cli/message.h"
#include "client/cli/profile.h"

enum { NAMES_MAX = 1000, WORDS_MAX = 256, REFERENCE_TEXT = 512 };

static char time_limit[] = "1s";

/* Lists all have the fields `name_prefix`, where they can be cut, and `page_size`; what they list has a name. */
struct list {
    const char *method;
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
    const char *items;
    const char *name; /* the field that has it */
};

#define LIST(service, of, many, items)                                                          \
    {                                                                                           \
        "coffer.v1." service "Service/List" many, &coffer__v1__list_##of##_request__descriptor, \
            &coffer__v1__list_##of##_response__descriptor, items, "name"                        \
    }

static const struct list lists[] = {
    [COMPLETE_ENVIRONMENTS] = LIST("Environment", environments, "Environments", "environments"),
    [COMPLETE_SECRETS] = LIST("Secret", secrets, "Secrets", "secrets"),
    [COMPLETE_REFERENCES] = LIST("Secret", secrets, "Secrets", "secrets"),
    [COMPLETE_ACTIONS] = LIST("Integration", actions, "Actions", "actions"),
    [COMPLETE_INTEGRATIONS] = LIST("Integration", definitions, "Definitions", "definitions"),
    [COMPLETE_WORKSPACES] = LIST("Workspace", workspaces, "Workspaces", "workspaces"),
    [COMPLETE_ACCOUNTS] = LIST("ServiceAccount", service_accounts, "ServiceAccounts", "service_accounts"),
    [COMPLETE_PROVIDERS] = {"coffer.v1.ProviderService/ListProviders",
                            &coffer__v1__list_providers_request__descriptor,
                            &coffer__v1__list_providers_response__descriptor, "providers", "id"},
};

/* NULL if there is no such field. */
static void *field_of(const ProtobufCMessage *message, const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
    return field == NULL ? NULL : (char *) (uintptr_t) message + field->offset;
}

static void set_text(ProtobufCMessage *message, const char *name, char *text)
{
    char **field = field_of(message, name);
    if (field != NULL) {
        *field = text;
    }
}

static char *text_of(const ProtobufCMessage *message, const char *name)
{
    char *const *field = field_of(message, name);
    return field == NULL ? NULL : *field;
}

/* --- Asking ----------------------------------------------------------------------------------------------------- */

/* As if the line so far had been given, with the options in it; an option whose argument is being written ends it. */
static bool read_line(struct cli *cli, char *const *words, size_t count)
{
    static char program[] = "coffer";
    static char *arguments[WORDS_MAX];
    struct options_given given = {0};
    int length = 0;
    if (count + 2 > WORDS_MAX) {
        return false;
    }
    arguments[length++] = program;
    for (size_t i = 0; i < count; i++) {
        arguments[length++] = words[i];
    }
    (void) options_read(cli, NULL, length, arguments, &given);
    return profile_apply(cli) == CLI_OK;
}

static cli_exit ask(struct cli *cli, complete_source source, char *prefix, ProtobufCMessage **ret_answer)
{
    const struct list *list = &lists[source];
    const uint32_t page = NAMES_MAX;
    ProtobufCMessage *request = calloc(1, list->request->sizeof_message);
    if (request == NULL) {
        return CLI_ERROR;
    }
    list->request->message_init(request);
    set_text(request, "name_prefix", prefix);
    if (source != COMPLETE_WORKSPACES) {
        set_text(request, "workspace", cli_workspace(cli));
    }
    memcpy(field_of(request, "page_size"), &page, sizeof page);
    Coffer__V1__ListSecretsRequest *secrets = (Coffer__V1__ListSecretsRequest *) (void *) request;
    char *environment = cli_environment(cli);
    if (list->request == &coffer__v1__list_secrets_request__descriptor && environment[0] != '\0') {
        secrets->environments = &environment;
        secrets->n_environments = 1;
    }
    const cli_exit code = cli_call(cli, list->method, request, list->response, ret_answer);
    free(request); /* it owns nothing */
    return code;
}

/* --- Names ------------------------------------------------------------------------------------------------------ */

static void tell_references(const Coffer__V1__Secret *secret, void (*each)(const char *name, void *context),
                            void *context)
{
    char reference[REFERENCE_TEXT];
    for (size_t i = 0; i < secret->n_keys; i++) {
        (void) snprintf(reference, sizeof reference, "%s.%s", secret->name, secret->keys[i]->name);
        each(reference, context);
    }
}

/* A secret that is in several environments is told once: the list is sorted by them, not by names. */
static bool told_before(const ProtobufCMessage *const *items, size_t index, const char *field, const char *name)
{
    for (size_t i = 0; i < index; i++) {
        const char *before = text_of(items[i], field);
        if (before != NULL && strcmp(before, name) == 0) {
            return true;
        }
    }
    return false;
}

static void tell(complete_source source, const ProtobufCMessage *answer,
                 void (*each)(const char *name, void *context), void *context)
{
    const void *first = NULL;
    const size_t count = cli_repeated(
        answer, protobuf_c_message_descriptor_get_field_by_name(answer->descriptor, lists[source].items), &first);
    const ProtobufCMessage *const *items = first;
    for (size_t i = 0; i < count; i++) {
        const char *name = text_of(items[i], lists[source].name);
        if (source == COMPLETE_REFERENCES) {
            tell_references((const Coffer__V1__Secret *) (const void *) items[i], each, context);
        } else if (name != NULL && !told_before(items, i, lists[source].name, name)) {
            each(name, context);
        }
    }
}

void complete_from_server(complete_source source, char *const *words, size_t count, const char *prefix,
                          void (*each)(const char *name, void *context), void *context)
{
    static struct cli cli;
    ProtobufCMessage *answer = NULL;
    char *begin = strndup(prefix, source == COMPLETE_REFERENCES ? strcspn(prefix, ".") : strlen(prefix));
    cli_catch(true);
    if (begin != NULL && read_line(&cli, words, count)) {
        cli.timeout = cli.timeout == NULL && getenv("COFFER_TIMEOUT") == NULL ? time_limit : cli.timeout;
        if (ask(&cli, source, begin, &answer) == CLI_OK) {
            tell(source, answer, each, context);
        }
    }
    cli_catch(false);
    cli_free_message(answer);
    coffer_client_close(cli.client);
    free(begin);
}
