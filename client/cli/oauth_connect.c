#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <coffer/v1/connection.pb-c.h>

#include "client/cli/listener.h"
#include "client/cli/oauth.h"
#include "client/cli/progress.h"

/* `coffer oauth connect`: somebody authorises a connection in a browser. */

#define SERVICE "coffer.v1.ConnectionService/"
#define STATE(name) COFFER__V1__AUTHORIZATION_STATE__AUTHORIZATION_STATE_##name

enum { WAIT_S = 600, LOOK_S = 1, STATE_MOST = 128 };

struct connecting {
    struct cli *cli;
    struct listener listener; /* unless it comes back to the server's page, or a code is typed */
    Coffer__V1__StartAuthorizationResponse *started;
};

struct device {
    struct cli *cli;
    Coffer__V1__StartDeviceAuthorizationResponse *started;
};

static void pause_for(uint32_t seconds)
{
    struct timespec left = {.tv_sec = seconds};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* --- Starting --------------------------------------------------------------------------------------------------- */

static cli_exit start(struct connecting *connecting)
{
    struct cli *cli = connecting->cli;
    Coffer__V1__StartAuthorizationRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__start_authorization_request__init(&request);
    OAUTH_NAME(&request, START_AUTHORIZATION_REQUEST);
    if (!cli->page) {
        request.redirect_uri = connecting->listener.redirect_uri;
    }
    const cli_exit code = cli_call(cli, SERVICE "StartAuthorization", &request.base,
                                   &coffer__v1__start_authorization_response__descriptor, &answer);
    connecting->started = (Coffer__V1__StartAuthorizationResponse *) (void *) answer;
    return code;
}

/* --- The browser ------------------------------------------------------------------------------------------------ */

/* The one that the variable names, or the desktop's; nothing where there is no desktop. */
static const char *browser_of(void)
{
    const char *named = getenv("BROWSER");
    if (named != NULL && named[0] != '\0') {
        return named;
    }
    return getenv("DISPLAY") != NULL || getenv("WAYLAND_DISPLAY") != NULL ? "xdg-open" : NULL;
}

/* What it says is nobody's business, and it may live longer than this command. */
static void run_browser(const char *browser, const char *url)
{
    const pid_t first = fork();
    if (first > 0) {
        (void) waitpid(first, NULL, 0);
        return;
    }
    if (first < 0) {
        return;
    }
    if (fork() == 0) {
        (void) setsid();
        if (freopen("/dev/null", "w", stdout) != NULL && freopen("/dev/null", "w", stderr) != NULL) {
            (void) execlp(browser, browser, url, (char *) NULL);
        }
    }
    _exit(0);
}

/* The URL is shown in any case, since a browser that does not open says nothing. */
static void send_there(const struct connecting *connecting)
{
    const char *browser = connecting->cli->no_browser ? NULL : browser_of();
    const char *url = connecting->started->url;
    fprintf(
        stderr, "%s\n\n  %s\n\n",
        browser == NULL ? "Open this page in a browser:" : "A browser opens; if none does, open this page:", url);
    fprintf(stderr, "The provider sends it back to %s, with which the client has to be registered there.\n\n",
            connecting->started->redirect_uri);
    if (browser != NULL) {
        run_browser(browser, url);
    }
}

/* --- How it went ------------------------------------------------------------------------------------------------ */

static void tell_scopes(const char *what, char *const *scopes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cli_print_field(what, scopes[i]);
    }
}

static void show(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__Connection *connection =
        ((const Coffer__V1__GetAuthorizationResponse *) (const void *) answer)->connection;
    (void) cli;
    if (connection == NULL) {
        return;
    }
    const bool all = connection->scope_case != COFFER__V1__CONNECTION__SCOPE_ENVIRONMENT;
    cli_print_field("provider", connection->provider);
    cli_print_field("environment", all ? "all environments" : connection->environment);
    tell_scopes("granted", connection->granted_scopes, connection->n_granted_scopes);
    tell_scopes("not granted", connection->missing_scopes, connection->n_missing_scopes);
    if (connection->expire_time != NULL) {
        cli_print_field("expires", cli_time(connection->expire_time));
    }
    cli_print_field("refresh token", connection->has_refresh_token ? "yes" : "no");
    cli_note("%s: connected", connection->provider);
}

static void name_request(struct cli *cli, const Coffer__V1__Authorization *started,
                         Coffer__V1__GetAuthorizationRequest *request)
{
    coffer__v1__get_authorization_request__init(request);
    request->workspace = cli_workspace(cli);
    request->authorization = started->uid;
}

static cli_exit show_connected(struct cli *cli, const Coffer__V1__Authorization *started)
{
    static const struct cli_method method = {SERVICE "GetAuthorization",
                                             &coffer__v1__get_authorization_response__descriptor, show};
    Coffer__V1__GetAuthorizationRequest request;
    name_request(cli, started, &request);
    return cli_do(cli, &method, &request.base);
}

/* A failure if it has ended without tokens. */
static cli_exit tell_end(const struct cli *cli, const Coffer__V1__Authorization *found)
{
    if (found->state == STATE(FAILED)) {
        return cli_refuse(CLI_ERROR, "correct what the provider names, and start anew", "%s was not connected: %s",
                          cli->arguments[0], found->error_text);
    }
    if (found->state == STATE(EXPIRED)) {
        return cli_refuse(CLI_ERROR, "start anew, and go through the pages to their end",
                          "nobody agreed at the provider in time; nothing was changed");
    }
    return CLI_OK;
}

/* What the provider refuses is often where it should send people back to. */
static void tell_redirect_uri(const struct connecting *connecting)
{
    cli_note("the client has to be registered at the provider with the redirect URI %s",
             connecting->started->redirect_uri);
}

static cli_exit look(const struct connecting *connecting, Coffer__V1__AuthorizationState *ret_state)
{
    Coffer__V1__GetAuthorizationRequest request;
    ProtobufCMessage *answer = NULL;
    name_request(connecting->cli, connecting->started->authorization, &request);
    cli_exit code = cli_call(connecting->cli, SERVICE "GetAuthorization", &request.base,
                             &coffer__v1__get_authorization_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__Authorization *found =
            ((const Coffer__V1__GetAuthorizationResponse *) (const void *) answer)->authorization;
        *ret_state = found->state;
        code = tell_end(connecting->cli, found);
    }
    cli_free_message(answer);
    return code;
}

static cli_exit wait_until_over(const struct connecting *connecting)
{
    Coffer__V1__AuthorizationState state = STATE(PENDING);
    cli_exit code = CLI_OK;
    progress_begin("waiting for the browser");
    while (code == CLI_OK && state != STATE(CONNECTED)) {
        code = look(connecting, &state);
        if (code == CLI_OK && state != STATE(CONNECTED)) {
            pause_for(LOOK_S);
        }
    }
    progress_end();
    return code;
}

/* --- Back on this host ------------------------------------------------------------------------------------------ */

static bool state_of(const char *url, char state[STATE_MOST])
{
    const char *at = strstr(url, "state=");
    while (at != NULL && at[-1] != '?' && at[-1] != '&') {
        at = strstr(at + 1, "state=");
    }
    if (at == NULL) {
        return false;
    }
    at += strlen("state=");
    const size_t length = strcspn(at, "&");
    if (length >= STATE_MOST) {
        return false;
    }
    memcpy(state, at, length);
    state[length] = '\0';
    return true;
}

static cli_exit complete(const struct connecting *connecting, char *query)
{
    Coffer__V1__CompleteAuthorizationRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__complete_authorization_request__init(&request);
    request.workspace = cli_workspace(connecting->cli);
    request.authorization = connecting->started->authorization->uid;
    request.query = (ProtobufCBinaryData){strlen(query), (uint8_t *) query};
    const cli_exit code = cli_call(connecting->cli, SERVICE "CompleteAuthorization", &request.base,
                                   &coffer__v1__complete_authorization_response__descriptor, &answer);
    cli_free_message(answer);
    return code == CLI_OK ? wait_until_over(connecting) : code;
}

static cli_exit wait_here(struct connecting *connecting)
{
    char state[STATE_MOST];
    char *query = NULL;
    if (!state_of(connecting->started->url, state)) {
        return cli_refuse(CLI_ERROR, NULL, "the server's answer has no state in its URL");
    }
    progress_begin("waiting for the browser");
    cli_exit code = listener_wait(&connecting->listener, state, WAIT_S, &query);
    progress_end();
    if (code == CLI_OK) {
        code = complete(connecting, query);
        listener_answer(&connecting->listener, code == CLI_OK);
    }
    free(query);
    return code;
}

/* --- A code that is typed elsewhere ----------------------------------------------------------------------------- */

static cli_exit start_device(struct device *device)
{
    struct cli *cli = device->cli;
    Coffer__V1__StartDeviceAuthorizationRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__start_device_authorization_request__init(&request);
    OAUTH_NAME(&request, START_DEVICE_AUTHORIZATION_REQUEST);
    const cli_exit code = cli_call(cli, SERVICE "StartDeviceAuthorization", &request.base,
                                   &coffer__v1__start_device_authorization_response__descriptor, &answer);
    device->started = (Coffer__V1__StartDeviceAuthorizationResponse *) (void *) answer;
    return code;
}

static void tell_code(const Coffer__V1__StartDeviceAuthorizationResponse *started)
{
    fprintf(stderr, "Open this page on any device:\n\n  %s\n\nand type the code %s\n", started->verification_uri,
            started->user_code);
    if (started->verification_uri_complete[0] != '\0') {
        fprintf(stderr, "or open this one, which has the code already:\n\n  %s\n\n",
                started->verification_uri_complete);
    }
}

/* One question; `ret_pause` is 0 when it has ended. */
static cli_exit poll_device(const struct device *device, uint32_t *ret_pause)
{
    Coffer__V1__PollDeviceAuthorizationRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__poll_device_authorization_request__init(&request);
    request.workspace = cli_workspace(device->cli);
    request.authorization = device->started->authorization->uid;
    cli_exit code = cli_call(device->cli, SERVICE "PollDeviceAuthorization", &request.base,
                             &coffer__v1__poll_device_authorization_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__PollDeviceAuthorizationResponse *polled =
            (const Coffer__V1__PollDeviceAuthorizationResponse *) (const void *) answer;
        *ret_pause = polled->poll_after_seconds;
        code = tell_end(device->cli, polled->authorization);
    }
    cli_free_message(answer);
    return code;
}

static cli_exit wait_until_typed(const struct device *device)
{
    uint32_t pause = device->started->interval_seconds;
    cli_exit code = CLI_OK;
    progress_begin("waiting until the code is typed");
    while (code == CLI_OK && pause > 0) {
        pause_for(pause);
        code = poll_device(device, &pause);
    }
    progress_end();
    return code;
}

static cli_exit connect_device(struct cli *cli)
{
    struct device device = {.cli = cli};
    cli_exit code = start_device(&device);
    if (code == CLI_OK) {
        tell_code(device.started);
        code = wait_until_typed(&device);
    }
    if (code == CLI_OK) {
        code = show_connected(cli, device.started->authorization);
    }
    cli_free_message(device.started == NULL ? NULL : &device.started->base);
    return code;
}

/* --- The command ------------------------------------------------------------------------------------------------ */

static cli_exit connect_it(struct connecting *connecting)
{
    cli_exit code = start(connecting);
    if (code != CLI_OK) {
        return code;
    }
    send_there(connecting);
    code = connecting->cli->page ? wait_until_over(connecting) : wait_here(connecting);
    if (code != CLI_OK) {
        tell_redirect_uri(connecting);
        return code;
    }
    return show_connected(connecting->cli, connecting->started->authorization);
}

static cli_exit connect_browser(struct cli *cli)
{
    struct connecting connecting = {.cli = cli, .listener = {.socket = -1, .peer = -1}};
    cli_exit code = cli->page ? CLI_OK : listener_open(cli->port, &connecting.listener);
    if (code == CLI_OK) {
        code = connect_it(&connecting);
    }
    listener_close(&connecting.listener);
    cli_free_message(connecting.started == NULL ? NULL : &connecting.started->base);
    return code;
}

cli_exit cmd_oauth_connect(struct cli *cli)
{
    if (cli->page && cli->port != NULL) {
        return cli_usage(NULL, "--port is for the page of this command, not for the server's");
    }
    if (cli->device && (cli->page || cli->port != NULL || cli->no_browser)) {
        return cli_usage(NULL, "--device opens no page, so it goes with none of --page, --port and --no-browser");
    }
    return cli->device ? connect_device(cli) : connect_browser(cli);
}
