#pragma once

#include <coffer/coffer.h>
#include <coffer/template.h>
#include <coffer/view.h>

#include "common/attr.h"
#include "tests/unit/client/scripted_server.h"

/* What tests of resolves have in common: a server whose answers can be edited, a client of it, and a call's parts. */

typedef void (*edit_answer)(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                            Coffer__V1__ResolveResponse *answer);

struct stage {
    struct resolve_script script;
    struct scripted_server *server;
    coffer_client *client;
    coffer_request *request;
    coffer_result *result;
    coffer_error *error;
    /* Made of the result by some tests. */
    coffer_template *parsed;
    coffer_text *text;
    coffer_view *view;
};

/* `edit` may be NULL: the answers stay as they are; `settings` are the client's. */
void stage_open(struct stage *stage, edit_answer edit, void *context, const char *settings);
void stage_done(struct stage *stage);

/* Asks for the stage's request. */
coffer_status stage_resolve(struct stage *stage);

#define STAGE_WITH(edit, context, settings)    \
    AUTO(stage_done) struct stage stage = {0}; \
    stage_open(&stage, (edit), (context), (settings))
