#include "server/service/account_fields.h"

#include "server/service/networks.h"
#include "server/service/rights.h"
#include "server/service/text.h"

enum { DESCRIPTION_MAX = 1000 };

cof_code account_set_description(struct call *call, const char *description, struct principal_row *row)
{
    row->description = cof_slice_text(description);
    if (row->description.len <= DESCRIPTION_MAX) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "description",
                          "description has %zu bytes; at most %d are allowed", row->description.len,
                          DESCRIPTION_MAX);
}

cof_code account_set_expire_time(struct call *call, const Google__Protobuf__Timestamp *expire_time,
                                 struct principal_row *row)
{
    if (time_read(expire_time, &row->expire_time)) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "expire_time",
                          "expire_time lies outside the years 1 to 9999");
}

cof_code account_set_grants(struct call *call, Coffer__V1__Rule *const *grants, size_t count,
                            struct principal_row *row)
{
    struct rule_set rules;
    TRY(rights_read(grants, count, (cof_token_kind) row->token_kind, "grants", call->arena, &rules, call->err));
    return rights_pack(grants, count, call->arena, &row->grants, call->err);
}

cof_code account_set_networks(struct call *call, char *const *networks, size_t count, struct principal_row *row)
{
    return networks_read(networks, count, "networks", call->arena, &row->networks, call->err);
}
