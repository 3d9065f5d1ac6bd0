#include "tests/unit/client/stage.h"

void stage_open(struct stage *stage, edit_answer edit, void *context, const char *settings)
{
    stage->script = (struct resolve_script){edit, context};
    stage->server = scripted_server_new(NULL, 1, script_resolve, &stage->script);
    stage->client = scripted_client(scripted_server_address(stage->server), settings);
    stage->request = coffer_request_new();
}

void stage_done(struct stage *stage)
{
    coffer_view_free(stage->view);
    coffer_text_free(stage->text);
    coffer_template_free(stage->parsed);
    coffer_request_free(stage->request);
    coffer_client_close(stage->client);
    coffer_result_free(stage->result);
    coffer_error_free(stage->error);
    scripted_server_free(stage->server);
}

coffer_status stage_resolve(struct stage *stage)
{
    return coffer_resolve(stage->client, stage->request, &stage->result, &stage->error);
}
