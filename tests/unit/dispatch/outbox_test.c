#include <stdio.h>
#include <unistd.h>

#include "common/log.h"
#include "server/dispatch/outbox.h"
#include "tests/support/test.h"

/* Replies as the transport gets them, in the order in which it does. */
struct sent {
    char text[256];
    size_t filled;
    off_t logged; /* bytes of the log before the first one */
    FILE *file;
};

static struct sent sent;

struct reply {
    struct exchange exchange; /* first */
    char name;
};

static void take(struct exchange *exchange, uint32_t send_timeout_ms, bool malformed, bool more)
{
    const struct reply *reply = (const struct reply *) (const void *) exchange;
    if (sent.filled == 0) {
        sent.logged = lseek(fileno(sent.file), 0, SEEK_END);
    }
    sent.filled +=
        (size_t) snprintf(sent.text + sent.filled, sizeof sent.text - sent.filled, "%c:%u%s%s ", reply->name,
                          send_timeout_ms, malformed ? " malformed" : "", more ? " more" : "");
}

static const struct exchange_ops operations = {NULL, take};

static struct reply reply_of(char name, uint32_t connection)
{
    return (struct reply){.exchange = {.ops = &operations, .peer.connection = connection}, .name = name};
}

static void begin(void)
{
    sent = (struct sent){.file = tmpfile()};
}

static void end(void)
{
    (void) fclose(sent.file);
}

static void answers_leave_in_their_order_and_are_followed_by_those_of_the_same_connection(void)
{
    struct reply replies[] = {reply_of('a', 1), reply_of('b', 2), reply_of('c', 1), reply_of('d', 1)};
    struct outbox outbox = {0};
    begin();
    outbox_open(&outbox);
    for (uint32_t i = 0; i < 4; i++) {
        outbox_put(&outbox, &replies[i].exchange, 100 + i, i == 1);
    }
    CHECK_INT(sent.filled, 0);
    outbox_close(&outbox);
    CHECK_TEXT(sent.text, "a:100 more b:101 malformed c:102 more d:103 ");
    end();
}

static void what_was_let_go_is_not_sent_again_and_what_comes_then_is_held_back(void)
{
    struct reply replies[] = {reply_of('a', 1), reply_of('b', 1)};
    struct outbox outbox = {0};
    begin();
    outbox_let_go(&outbox);
    outbox_open(&outbox);
    outbox_put(&outbox, &replies[0].exchange, 1, false);
    outbox_let_go(&outbox);
    CHECK_TEXT(sent.text, "a:1 ");
    outbox_put(&outbox, &replies[1].exchange, 2, false);
    CHECK_TEXT(sent.text, "a:1 ");
    outbox_close(&outbox);
    outbox_let_go(&outbox);
    CHECK_TEXT(sent.text, "a:1 b:2 ");
    end();
}

static void lines_of_the_log_wait_for_the_answers_and_are_written_before_them(void)
{
    struct reply reply = reply_of('a', 1);
    struct outbox outbox = {0};
    struct cof_log log;
    begin();
    cof_log_init(&log, fileno(sent.file), COF_LOG_JSON, COF_LOG_INFO, &cof_system_clock);
    outbox_open(&outbox);
    COF_LOG(&log, COF_LOG_INFO, "request", "answered", cof_log_number("number", 1));
    outbox_put(&outbox, &reply.exchange, 1, false);
    CHECK_INT(lseek(fileno(sent.file), 0, SEEK_END), 0);
    outbox_close(&outbox);
    CHECK(sent.logged > 0);
    COF_LOG(&log, COF_LOG_INFO, "request", "answered", cof_log_number("number", 2));
    CHECK(lseek(fileno(sent.file), 0, SEEK_END) > sent.logged);
    end();
}

TEST_MAIN(TEST(answers_leave_in_their_order_and_are_followed_by_those_of_the_same_connection),
          TEST(what_was_let_go_is_not_sent_again_and_what_comes_then_is_held_back),
          TEST(lines_of_the_log_wait_for_the_answers_and_are_written_before_them))
