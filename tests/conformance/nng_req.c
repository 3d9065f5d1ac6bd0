#include <stdio.h>
#include <string.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

/*
 * A client that is nobody's: nng's own REQ socket, as it comes with the system. Sends what standard input holds as one
 * request, and writes the reply to standard output: nng_req ADDRESS.
 */

enum { TIMEOUT_MS = 60000, MESSAGE_MOST = 1 << 20 };

static int fail(const char *what, int problem)
{
    fprintf(stderr, "nng_req: %s: %s\n", what, nng_strerror(problem));
    return 1;
}

static int exchange(nng_socket socket, const void *request, size_t size)
{
    void *reply = NULL;
    size_t reply_size = 0;
    int problem = nng_send(socket, (void *) (uintptr_t) request, size, 0);
    if (problem == 0) {
        problem = nng_recv(socket, &reply, &reply_size, NNG_FLAG_ALLOC);
    }
    if (problem != 0) {
        return fail("exchange", problem);
    }
    const size_t written = fwrite(reply, 1, reply_size, stdout);
    nng_free(reply, reply_size);
    return written == reply_size && fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static char request[MESSAGE_MOST];
    nng_socket socket;
    const size_t size = fread(request, 1, sizeof request, stdin);
    if (argc != 2) {
        fprintf(stderr, "nng_req ADDRESS\n");
        return 2;
    }
    int problem = nng_req0_open(&socket);
    if (problem != 0) {
        return fail("open", problem);
    }
    (void) nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, TIMEOUT_MS);
    (void) nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, TIMEOUT_MS);
    problem = nng_dial(socket, argv[1], NULL, 0);
    const int status = problem != 0 ? fail("dial", problem) : exchange(socket, request, size);
    (void) nng_close(socket);
    return status;
}
