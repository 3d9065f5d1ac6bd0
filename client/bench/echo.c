#include "client/bench/echo.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

#include "common/encode.h"

enum {
    SERVER_CONTEXTS = 64,
    LENGTH = 4, /* at the front of a request: the bytes of its reply */
    REPLY_MAX = 4 << 20,
    TIMEOUT_MS = 10000,
};

/* --- The server ----------------------------------------------------------------------------------------------- */

struct server_context {
    nng_aio *aio;
    nng_ctx context;
    bool replying;
};

static void answer(struct server_context *slot)
{
    nng_msg *message = nng_aio_get_msg(slot->aio);
    const size_t size = nng_msg_len(message) >= LENGTH ? cof_get_u32(nng_msg_body(message)) : LENGTH;
    if (nng_msg_realloc(message, size < REPLY_MAX ? size : REPLY_MAX) != 0) {
        nng_msg_free(message);
        nng_ctx_recv(slot->context, slot->aio);
        return;
    }
    slot->replying = true;
    nng_aio_set_msg(slot->aio, message);
    nng_ctx_send(slot->context, slot->aio);
}

static void on_server(void *context)
{
    struct server_context *slot = context;
    const int result = nng_aio_result(slot->aio);
    if (result == NNG_ECLOSED || result == NNG_ECANCELED) {
        return;
    }
    if (result == 0 && !slot->replying) {
        answer(slot);
        return;
    }
    if (result != 0 && slot->replying) {
        nng_msg_free(nng_aio_get_msg(slot->aio));
    }
    slot->replying = false;
    nng_ctx_recv(slot->context, slot->aio);
}

static bool start_contexts(nng_socket socket)
{
    static struct server_context slots[SERVER_CONTEXTS];
    for (size_t i = 0; i < SERVER_CONTEXTS; i++) {
        if (nng_ctx_open(&slots[i].context, socket) != 0 ||
            nng_aio_alloc(&slots[i].aio, on_server, &slots[i]) != 0) {
            return false;
        }
        nng_ctx_recv(slots[i].context, slots[i].aio);
    }
    return true;
}

/* The address with the port that the system chose. */
static bool listen_on(nng_socket socket, const char *wanted, char address[ECHO_ADDRESS])
{
    nng_listener listener;
    int port = 0;
    if (nng_listen(socket, wanted, &listener, 0) != 0) {
        return false;
    }
    (void) snprintf(address, ECHO_ADDRESS, "%s", wanted);
    if (strncmp(wanted, "tcp:", 4) == 0) {
        (void) nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port);
        (void) snprintf(address, ECHO_ADDRESS, "tcp://127.0.0.1:%d", port);
    }
    return true;
}

/* Serves until it is killed, and not longer than the process that started it. */
static void serve(const char *wanted, int tell)
{
    char address[ECHO_ADDRESS] = "";
    nng_socket socket;
    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (nng_rep0_open(&socket) != 0 || !start_contexts(socket) || !listen_on(socket, wanted, address) ||
        write(tell, address, sizeof address) != (ssize_t) sizeof address) {
        _exit(EXIT_FAILURE);
    }
    (void) close(tell);
    for (;;) {
        (void) pause();
    }
}

static bool choose_address(bool ipc, struct echo_server *server)
{
    if (!ipc) {
        (void) snprintf(server->address, sizeof server->address, "tcp://127.0.0.1:0");
        return true;
    }
    (void) snprintf(server->directory, sizeof server->directory, "/tmp/coffer-bench-XXXXXX");
    if (mkdtemp(server->directory) == NULL) {
        server->directory[0] = '\0';
        return false;
    }
    (void) snprintf(server->address, sizeof server->address, "ipc://%s/echo.sock", server->directory);
    return true;
}

bool echo_server_start(bool ipc, struct echo_server *ret_server)
{
    int ends[2];
    *ret_server = (struct echo_server){.process = -1};
    if (!choose_address(ipc, ret_server) || pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    ret_server->process = fork();
    if (ret_server->process == 0) {
        (void) close(ends[0]);
        serve(ret_server->address, ends[1]);
    }
    (void) close(ends[1]);
    const bool told =
        ret_server->process > 0 && read(ends[0], ret_server->address, ECHO_ADDRESS) == (ssize_t) ECHO_ADDRESS;
    (void) close(ends[0]);
    return told;
}

void echo_server_stop(struct echo_server *server)
{
    if (server->process > 0) {
        (void) kill(server->process, SIGKILL);
        (void) waitpid(server->process, NULL, 0);
    }
    if (server->directory[0] != '\0') {
        (void) unlink(server->address + strlen("ipc://"));
        (void) rmdir(server->directory);
    }
    *server = (struct echo_server){.process = -1};
}

/* --- The client ----------------------------------------------------------------------------------------------- */

struct caller {
    nng_ctx context;
    nng_aio *aio;
    bool receiving;
    size_t reply;
    struct load_slot *slot;
};

struct echo_client {
    nng_socket socket;
    struct caller callers[LOAD_SLOTS_MAX];
};

static void finish(struct caller *caller, const char *reason)
{
    struct load_slot *slot = caller->slot;
    caller->receiving = false;
    load_done(slot, reason);
}

static void on_client(void *context)
{
    struct caller *caller = context;
    const int result = nng_aio_result(caller->aio);
    if (result != 0) {
        if (!caller->receiving) {
            nng_msg_free(nng_aio_get_msg(caller->aio));
        }
        finish(caller, "ECHO_FAILED");
        return;
    }
    if (!caller->receiving) {
        caller->receiving = true;
        nng_ctx_recv(caller->context, caller->aio);
        return;
    }
    nng_msg *message = nng_aio_get_msg(caller->aio);
    const bool whole = nng_msg_len(message) == caller->reply;
    nng_msg_free(message);
    finish(caller, whole ? NULL : "ECHO_CUT");
}

struct echo_client *echo_client_open(const char *address)
{
    struct echo_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return NULL;
    }
    if (nng_req0_open(&client->socket) != 0) {
        free(client);
        return NULL;
    }
    (void) nng_socket_set_ms(client->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    if (nng_dial(client->socket, address, NULL, 0) != 0) {
        echo_client_close(client);
        return NULL;
    }
    return client;
}

void echo_client_close(struct echo_client *client)
{
    if (client == NULL) {
        return;
    }
    for (size_t i = 0; i < LOAD_SLOTS_MAX; i++) {
        if (client->callers[i].aio == NULL) { /* slots are taken in any order */
            continue;
        }
        nng_aio_stop(client->callers[i].aio);
        (void) nng_ctx_close(client->callers[i].context);
        nng_aio_free(client->callers[i].aio);
    }
    (void) nng_close(client->socket);
    free(client);
}

static bool prepare(struct echo_client *client, struct caller *caller)
{
    if (caller->aio != NULL) {
        return true;
    }
    if (nng_ctx_open(&caller->context, client->socket) != 0) {
        return false;
    }
    if (nng_aio_alloc(&caller->aio, on_client, caller) != 0) {
        (void) nng_ctx_close(caller->context);
        caller->aio = NULL;
        return false;
    }
    nng_aio_set_timeout(caller->aio, TIMEOUT_MS);
    return true;
}

void echo_call(struct echo_client *client, const struct echo_sizes *sizes, struct load_slot *slot)
{
    struct caller *caller = &client->callers[slot->index];
    nng_msg *message = NULL;
    caller->slot = slot;
    if (!prepare(client, caller) || nng_msg_alloc(&message, sizes->request) != 0) {
        load_done(slot, "OUT_OF_MEMORY");
        return;
    }
    cof_put_u32(nng_msg_body(message), (uint32_t) sizes->reply);
    caller->reply = sizes->reply;
    nng_aio_set_msg(caller->aio, message);
    nng_ctx_send(caller->context, caller->aio);
}
