#include "server/jobs/refresh_exchange.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/service/connection_exchange.h"

enum {
    SECOND = 1000000,
    ERROR_TEXT = TOKEN_CODE_MAX + TOKEN_DESCRIPTION_MAX + 64,
    ANSWER_MEMORY = 512 * 1024,
};

static const char retry_after[] = "Retry-After";

/* One that is under way. Everything that it needs once the answer is there lies in its arena. */
struct exchange {
    void (*answered)(void *context, uint64_t ticket, const struct refresher_answer *answer);
    void *context;
    uint64_t ticket;
    struct cof_arena arena;
    struct connection_exchange what;
};

static void free_exchange(struct exchange *exchange)
{
    cof_arena_reset(&exchange->arena);
    free(exchange);
}

/* --- Answers -------------------------------------------------------------------------------------------------- */

static token_end end_of(outbound_end end)
{
    switch (end) {
    case OUTBOUND_ANSWERED:
        return TOKEN_END_WHOLE;
    case OUTBOUND_CUT:
        return TOKEN_END_CUT;
    case OUTBOUND_TOO_LARGE:
        return TOKEN_END_TOO_LARGE;
    case OUTBOUND_LOST:
        return TOKEN_END_LOST;
    case OUTBOUND_NOT_SENT:
    case OUTBOUND_REFUSED_URL:
    case OUTBOUND_REFUSED_ADDRESS:
    case OUTBOUND_BREAKER_OPEN:
    case OUTBOUND_QUEUE_FULL:
    case OUTBOUND_STOPPED:
        break;
    }
    return TOKEN_END_NOT_SENT;
}

/* A row has so many; what is more was granted all the same. */
static struct row_texts scopes_of(struct exchange *exchange, struct cof_slice scope)
{
    struct row_texts scopes = {cof_arena_array(&exchange->arena, ROW_TEXTS_MAX, sizeof(struct cof_slice)), 0};
    size_t begin = 0;
    for (size_t i = 0; scopes.items != NULL && i <= scope.len && scopes.count < ROW_TEXTS_MAX; i++) {
        if (i < scope.len && scope.data[i] != ' ') {
            continue;
        }
        if (i > begin) {
            scopes.items[scopes.count++] = cof_slice_of(scope.data + begin, i - begin);
        }
        begin = i + 1;
    }
    return scopes;
}

static int64_t life_of(const struct exchange *exchange, const struct token_found *found)
{
    return found->life_s > 0 ? found->life_s * SECOND : exchange->what.life_us;
}

/* A refresh token that came without its life has what the provider's entry says; of one that stays nothing is known anew. */
static int64_t refresh_end_of(const struct exchange *exchange, const struct token_found *found, int64_t now_us)
{
    if (found->refresh_life_s > 0) {
        return now_us + found->refresh_life_s * SECOND;
    }
    if (found->refresh_forever) {
        return REFRESH_NEVER;
    }
    if (found->refresh_token.len == 0) {
        return 0;
    }
    const int64_t life_us = exchange->what.refresh_life_us;
    return life_us == REFRESH_NEVER ? REFRESH_NEVER : now_us + life_us;
}

static cof_reason reason_of(token_verdict verdict)
{
    switch (verdict) {
    case TOKEN_GRANTED:
        return COF_REASON_NONE;
    case TOKEN_REFUSED:
        return COF_REASON_REAUTH_REQUIRED;
    case TOKEN_MISCONFIGURED:
    case TOKEN_UNAVAILABLE:
        break;
    }
    return COF_REASON_PROVIDER_UNAVAILABLE;
}

/* The provider's words where it had some, else ours. */
static struct cof_slice words_of(struct exchange *exchange, const struct outbound_answer_view *view,
                                 const struct token_found *found)
{
    char text[ERROR_TEXT];
    const bool said = found->code[0] != '\0' || found->description[0] != '\0';
    if (said) {
        (void) snprintf(text, sizeof text, "%s%s%s", found->code,
                        found->code[0] != '\0' && found->description[0] != '\0' ? ": " : "", found->description);
    } else {
        (void) snprintf(text, sizeof text, "%s", view->what[0] != '\0' ? view->what : found->reason);
    }
    const char *kept = cof_arena_text(&exchange->arena, cof_slice_text(text));
    return cof_slice_text(kept == NULL ? "" : kept);
}

static struct refresher_answer answer_of(struct exchange *exchange, const struct outbound_answer_view *view,
                                         const struct token_found *found)
{
    const token_end end = end_of(view->end);
    const int64_t told_us = found->retry_after_s * SECOND;
    const int64_t breaker_us = (int64_t) view->retry_after_ms * 1000;
    struct refresher_answer answer = {
        .meaning = {.verdict = found->verdict,
                    .lost = end != TOKEN_END_WHOLE && end != TOKEN_END_NOT_SENT,
                    .may_be_spent = found->may_be_spent,
                    .life = life_of(exchange, found),
                    .retry_after = told_us > breaker_us ? told_us : breaker_us},
        .failure = {.reason = reason_of(found->verdict), .text = cof_slice_text("")},
    };
    if (found->verdict == TOKEN_GRANTED) {
        answer.tokens = (struct refresh_tokens){
            .access_token = found->access_token,
            .refresh_token = found->refresh_token,
            .scopes = scopes_of(exchange, found->scope),
            .refresh_expires = refresh_end_of(exchange, found, view->received_us),
        };
    } else {
        answer.failure.text = words_of(exchange, view, found);
    }
    return answer;
}

/* An answer that there is no memory for is one that was lost. */
static void tell_lost(struct exchange *exchange)
{
    const struct refresher_answer answer = {
        .meaning = {.verdict = TOKEN_UNAVAILABLE, .lost = true, .may_be_spent = true},
        .failure = {COF_REASON_OUT_OF_MEMORY, cof_slice_text("")},
    };
    exchange->answered(exchange->context, exchange->ticket, &answer);
}

static void answered(void *context, struct outbound_answer *answer)
{
    struct exchange *exchange = context;
    const struct outbound_answer_view view = outbound_answer_view(answer);
    const struct token_reply reply = {
        .end = end_of(view.end),
        .status = view.status,
        .retry_after = outbound_answer_header(answer, retry_after),
        .body = view.body,
        .now_us = view.received_us,
    };
    struct token_found found;
    struct cof_error err;
    if (token_answer_read(&exchange->what.question, &reply, &exchange->arena, &found, &err) == COF_OK) {
        const struct refresher_answer told = answer_of(exchange, &view, &found);
        exchange->answered(exchange->context, exchange->ticket, &told);
    } else {
        tell_lost(exchange);
    }
    outbound_answer_free(answer);
    free_exchange(exchange);
}

/* --- Requests ------------------------------------------------------------------------------------------------- */

/* What makes no request is not sent; it is the configuration's fault, or the server's. */
static void tell_unmade(const struct refresh_exchange_order *order, const struct cof_error *err)
{
    const bool configuration = err->code == COF_INVALID_ARGUMENT;
    const struct refresher_answer answer = {
        .meaning = {.verdict = configuration ? TOKEN_MISCONFIGURED : TOKEN_UNAVAILABLE},
        .failure = {err->reason, cof_slice_text(configuration ? err->message : "")},
    };
    order->answered(order->context, order->ticket, &answer);
}

static void post(const struct refresh_exchange_options *options, struct exchange *exchange, int64_t not_after)
{
    static const char *const wanted[] = {retry_after};
    const struct connection_exchange *what = &exchange->what;
    struct outbound_header headers[CONNECTION_EXCHANGE_HEADERS];
    const size_t count = connection_exchange_headers(what, headers);
    outbound_send(options->outbound, &(struct outbound_request){
                                         .group = what->group,
                                         .method = "POST",
                                         .url = what->url,
                                         .headers = headers,
                                         .header_count = count,
                                         .body = what->request.body,
                                         .wanted = wanted,
                                         .wanted_count = COF_COUNT(wanted),
                                         .timeout_ms = options->timeout_ms,
                                         .send_until_us = not_after,
                                         .done = answered,
                                         .context = exchange,
                                     });
}

static cof_code make(struct call *call, const struct refresh_exchange_order *order, struct exchange *exchange)
{
    return order->code != NULL
               ? connection_exchange_make_code(call, order->rows, order->provider, order->code, &exchange->what)
               : connection_exchange_make(call, order->rows, order->provider, order->refresh_token,
                                          &exchange->what);
}

void refresh_exchange_send(const struct refresh_exchange_options *options,
                           const struct refresh_exchange_order *order)
{
    struct call call = *order->call;
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL) {
        cof_ignore(cof_arena_exhausted(call.err));
        tell_unmade(order, call.err);
        return;
    }
    exchange->answered = order->answered;
    exchange->context = order->context;
    exchange->ticket = order->ticket;
    cof_arena_init(&exchange->arena, options->pool, options->memory + (size_t) ANSWER_MEMORY);
    call.arena = &exchange->arena;
    if (make(&call, order, exchange) != COF_OK) {
        tell_unmade(order, call.err);
        free_exchange(exchange);
        return;
    }
    post(options, exchange, order->not_after);
}
