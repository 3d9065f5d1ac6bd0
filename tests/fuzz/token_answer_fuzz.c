#include <string.h>

#include "server/outbound/token_answer.h"
#include "tests/fuzz/fuzz.h"

/* Any body as the answer of a token endpoint. The first byte chooses how it came; what is granted is a token, what is
 * quoted is printable and nothing that was sent, and the same answer always means the same. */

enum { POOL = 1 << 22 };

static const char sent[] = "sent-refresh-token";

static struct cof_pool *the_pool(void)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL) {
        MUST(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    }
    return pool;
}

static bool printable(struct cof_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < 0x20 || text.data[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

static void check_found(const struct token_found *found)
{
    const bool granted = found->verdict == TOKEN_GRANTED;
    MUST(granted == (found->access_token.len > 0) && found->reason != NULL);
    MUST(printable(found->access_token) && printable(found->refresh_token) && printable(found->scope));
    MUST(printable(cof_slice_text(found->code)) && printable(cof_slice_text(found->description)));
    MUST(strstr(found->description, sent) == NULL);
    MUST(granted || (found->refresh_token.len == 0 && found->life_s == 0));
    MUST(found->life_s >= 0 && found->life_s <= TOKEN_LIFE_MOST_S);
    MUST(found->retry_after_s >= 0 && found->retry_after_s <= TOKEN_RETRY_MOST_S);
}

static void read_answer(uint8_t how, struct cof_slice body)
{
    static const int statuses[] = {200, 400, 401, 429, 500, 503, 302, 200};
    const struct cof_slice credential = cof_slice_text(sent);
    const struct token_question question = {.grant = (how & 8U) != 0 ? TOKEN_GRANT_OWN : TOKEN_GRANT_REFRESH,
                                            .member = (how & 16U) != 0 ? "authed_user" : NULL,
                                            .sent = &credential,
                                            .sent_count = 1};
    const struct token_reply reply = {.end = (token_end) (how >> 5U) % (TOKEN_END_NOT_SENT + 1),
                                      .status = statuses[how & 7U],
                                      .retry_after = body,
                                      .body = body};
    struct token_found found;
    struct token_found again;
    struct cof_arena arena;
    struct cof_error err;
    cof_arena_init(&arena, the_pool(), POOL);
    if (token_answer_read(&question, &reply, &arena, &found, &err) == COF_OK) {
        check_found(&found);
        MUST(token_answer_read(&question, &reply, &arena, &again, &err) != COF_OK ||
             again.verdict == found.verdict);
    }
    cof_arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        read_answer(data[0], cof_slice_of(data + 1, size - 1));
    }
    return 0;
}
