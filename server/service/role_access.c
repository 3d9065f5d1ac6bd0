#include "server/aws/trust.h"
#include "server/service/authorize.h"
#include "server/service/aws_roles.h"
#include "server/service/resolve_aws.h"
#include "server/service/text.h"

static cof_code not_configured(struct call *call)
{
    return cof_fail(call->err, COF_REASON_AWS_NOT_CONFIGURED, "%s; %s",
                    cof_reason_meaning(COF_REASON_AWS_NOT_CONFIGURED),
                    cof_reason_next_step(COF_REASON_AWS_NOT_CONFIGURED));
}

static cof_code fill(struct call *call, const struct trust *trust,
                     Coffer__V1__GetAssumeRoleAccessResponse *response)
{
    struct trust_texts texts;
    struct aws_arn arn;
    TRY(aws_principal_arn_read(trust->principal_arn, &arn, call->err));
    TRY(trust_write(trust, call->arena, &texts, call->err));
    response->account_id = text_of(call->arena, arn.account);
    response->principal_arn = text_of(call->arena, trust->principal_arn);
    response->external_id = text_of(call->arena, trust->external_id);
    response->trust_policy = texts.policy;
    response->example_permissions = texts.example_permissions;
    response->aws_cli = texts.aws_cli;
    response->cloudformation = texts.cloudformation;
    response->terraform = texts.terraform;
    const bool whole =
        response->account_id != NULL && response->principal_arn != NULL && response->external_id != NULL;
    return whole ? COF_OK : cof_arena_exhausted(call->err);
}

cof_code role_get_access(struct call *call, const Coffer__V1__GetAssumeRoleAccessRequest *request,
                         Coffer__V1__GetAssumeRoleAccessResponse *response)
{
    struct cof_uuid workspace;
    struct trust trust;
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_SECRET_READ, &workspace));
    if (call->service->roles == NULL) {
        return not_configured(call);
    }
    trust.principal_arn = cof_slice_text(roles_options_of(call->service->roles)->principal_arn);
    if (trust.principal_arn.len == 0) {
        return not_configured(call);
    }
    TRY(aws_external_id(call, &workspace, &trust.external_id));
    return fill(call, &trust, response);
}
