#include "tests/conformance/given.h"

#include <stdlib.h>

#include "tests/support/json_tree.h"

static cof_reason reason_of(struct cof_slice name)
{
    static const cof_reason reasons[] = {
#define REASON(name, number, code, meaning, next) COF_REASON_##name,
#include "common/reason.def"
#undef REASON
    };
    for (size_t i = 0; i < COF_COUNT(reasons); i++) {
        if (cof_slice_equal(name, cof_slice_text(cof_reason_name(reasons[i])))) {
            return reasons[i];
        }
    }
    abort();
}

static bool not_found(cof_reason reason)
{
    return reason == COF_REASON_SECRET_NOT_FOUND || reason == COF_REASON_KEY_NOT_FOUND ||
           reason == COF_REASON_CONNECTION_NOT_FOUND;
}

void given_find(void *context, struct cof_slice name, struct cof_slice key, struct cof_found *ret_found)
{
    const struct json_node *given = context;
    *ret_found =
        (struct cof_found){.kind = COF_FOUND_MISSING, .reason = COF_REASON_SECRET_NOT_FOUND, .message = "-"};
    for (const struct json_node *node = given->first; node != NULL; node = node->next) {
        const struct cof_slice outcome = json_element(node, 2)->text;
        if (!cof_slice_equal(name, node->first->text) || !cof_slice_equal(key, node->first->next->text)) {
            continue;
        }
        if (cof_slice_equal(outcome, cof_slice_text("RESOLVED"))) {
            *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = json_element(node, 3)->text};
        } else if (cof_slice_equal(outcome, cof_slice_text("ABSENT"))) {
            *ret_found = (struct cof_found){.kind = COF_FOUND_ABSENT};
        } else {
            ret_found->reason = reason_of(outcome);
            ret_found->kind = not_found(ret_found->reason) ? COF_FOUND_MISSING : COF_FOUND_FAILED;
        }
        return;
    }
}
