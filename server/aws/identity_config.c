#include "server/aws/identity_config.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/attr.h"

#define CONTAINER_HOST "http://169.254.170.2"
#define INSTANCE_HOST "http://169.254.169.254"
#define OWN_SESSION "cofferd"

/* NULL also for a variable that is empty. */
static const char *filled(const char *(*get)(const char *name), const char *name)
{
    const char *value = get(name);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

/* --- Addresses ------------------------------------------------------------------------------------------------ */

static bool is_octet(const char **text)
{
    int number = 0;
    size_t digits = 0;
    while (**text >= '0' && **text <= '9' && digits < 4) {
        number = number * 10 + (*(*text)++ - '0');
        digits++;
    }
    return digits > 0 && digits < 4 && number <= 255;
}

/* 127.a.b.c */
static bool is_loopback(const char *host)
{
    if (strncmp(host, "127.", 4) != 0) {
        return false;
    }
    const char *rest = host + 4;
    for (size_t i = 0; i < 3; i++) {
        if (!is_octet(&rest) || (i < 2 && *rest++ != '.')) {
            return false;
        }
    }
    return *rest == '\0';
}

static bool may_be_asked_plainly(const char *host)
{
    static const char *const hosts[] = {"localhost", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
    for (size_t i = 0; i < COF_COUNT(hosts); i++) {
        if (strcasecmp(host, hosts[i]) == 0) {
            return true;
        }
    }
    return is_loopback(host);
}

/* The host of what stands behind "http://": to the port or the path. */
static bool host_of(const char *rest, char *to, size_t size)
{
    const size_t whole = strcspn(rest, "/?#");
    const char *bracket = rest[0] == '[' ? strchr(rest, ']') : NULL;
    const size_t length = bracket != NULL ? (size_t) (bracket - rest) + 1 : strcspn(rest, ":/?#");
    if (memchr(rest, '@', whole) != NULL || length == 0 || length >= size || length > whole) {
        return false;
    }
    if (length < whole && rest[length] != ':') {
        return false;
    }
    memcpy(to, rest, length);
    to[length] = '\0';
    return true;
}

bool aws_authority_of(const char *url, char *to, size_t size)
{
    char host[256];
    const bool tls = strncasecmp(url, "https://", 8) == 0;
    if ((!tls && strncasecmp(url, "http://", 7) != 0) || !host_of(url + (tls ? 8 : 7), host, sizeof host)) {
        return false;
    }
    const char *port = url + (tls ? 8 : 7) + strlen(host);
    const size_t digits = *port == ':' ? strcspn(port + 1, "/?#") : 0;
    const int length = digits > 0 ? snprintf(to, size, "%s:%.*s", host, (int) digits, port + 1)
                                  : snprintf(to, size, "%s:%s", host, tls ? "443" : "80");
    return length > 0 && (size_t) length < size;
}

bool aws_container_url_is_allowed(const char *url)
{
    char host[256];
    for (const char *at = url; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~' || *at == '\\') {
            return false;
        }
    }
    if (strncasecmp(url, "https://", 8) == 0) {
        return host_of(url + 8, host, sizeof host);
    }
    return strncasecmp(url, "http://", 7) == 0 && host_of(url + 7, host, sizeof host) && may_be_asked_plainly(host);
}

struct cof_slice aws_header_token(struct cof_slice text)
{
    while (text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r')) {
        text.len--;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < ' ' || text.data[i] > '~') {
            return (struct cof_slice){NULL, 0};
        }
    }
    return text.len <= AWS_HEADER_TOKEN_MAX ? text : (struct cof_slice){NULL, 0};
}

/* --- Sources -------------------------------------------------------------------------------------------------- */

static bool from_environment(const char *(*get)(const char *name), struct aws_identity_config *config)
{
    const char *access_key = filled(get, "AWS_ACCESS_KEY_ID");
    const char *secret_key = filled(get, "AWS_SECRET_ACCESS_KEY");
    const char *token = filled(get, "AWS_SESSION_TOKEN");
    if (access_key == NULL && secret_key == NULL) {
        return false;
    }
    config->source = AWS_SOURCE_ENVIRONMENT;
    if (access_key == NULL || secret_key == NULL) {
        config->fault = "the server's environment has one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; set both";
        return true;
    }
    config->credentials = (struct aws_credentials){
        .access_key_id = aws_header_token(cof_slice_text(access_key)),
        .secret_access_key = aws_header_token(cof_slice_text(secret_key)),
        .session_token = cof_slice_text(token == NULL ? "" : token),
        .expire_us = AWS_NEVER,
    };
    if (!aws_credentials_are_usable(&config->credentials)) {
        config->fault = "the AWS keys in the server's environment have characters that no keys have";
    }
    return true;
}

static bool from_web_identity(const char *(*get)(const char *name), struct aws_identity_config *config)
{
    config->token_file = filled(get, "AWS_WEB_IDENTITY_TOKEN_FILE");
    if (config->token_file == NULL) {
        return false;
    }
    config->source = AWS_SOURCE_WEB_IDENTITY;
    config->role_arn = filled(get, "AWS_ROLE_ARN");
    config->session_name = filled(get, "AWS_ROLE_SESSION_NAME");
    config->session_name = config->session_name == NULL ? OWN_SESSION : config->session_name;
    if (config->role_arn == NULL) {
        config->fault = "the server's environment has AWS_WEB_IDENTITY_TOKEN_FILE and no AWS_ROLE_ARN; set both";
    }
    return true;
}

static bool from_container(const char *(*get)(const char *name), struct aws_identity_config *config)
{
    const char *relative = filled(get, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = filled(get, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    if (relative == NULL && full == NULL) {
        return false;
    }
    config->source = AWS_SOURCE_CONTAINER;
    config->token_file = filled(get, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    config->token = filled(get, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    const int length = relative != NULL ? snprintf(config->url, sizeof config->url, "%s%s%s", CONTAINER_HOST,
                                                   relative[0] == '/' ? "" : "/", relative)
                                        : snprintf(config->url, sizeof config->url, "%s", full);
    if (length < 0 || (size_t) length >= sizeof config->url || !aws_container_url_is_allowed(config->url)) {
        config->fault =
            "the address of the container's AWS credentials in the server's environment is not one that may "
            "be asked: by https, or by http at this host or a container's own address";
    }
    return true;
}

static bool from_instance(const char *(*get)(const char *name), struct aws_identity_config *config)
{
    const char *disabled = filled(get, "AWS_EC2_METADATA_DISABLED");
    const char *endpoint = filled(get, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    if (disabled != NULL && strcasecmp(disabled, "true") == 0) {
        return false;
    }
    config->source = AWS_SOURCE_INSTANCE;
    endpoint = endpoint == NULL ? INSTANCE_HOST : endpoint;
    size_t length = strlen(endpoint);
    while (length > 0 && endpoint[length - 1] == '/') {
        length--;
    }
    if (length >= sizeof config->url || strncasecmp(endpoint, "http", 4) != 0) {
        config->fault = "AWS_EC2_METADATA_SERVICE_ENDPOINT in the server's environment is no address of HTTP";
        return true;
    }
    memcpy(config->url, endpoint, length);
    config->url[length] = '\0';
    return true;
}

void aws_identity_configure(const char *(*get)(const char *name), struct aws_identity_config *ret_config)
{
    const char *region = filled(get, "AWS_REGION");
    *ret_config = (struct aws_identity_config){
        .source = AWS_SOURCE_NONE,
        .region = region != NULL ? region : filled(get, "AWS_DEFAULT_REGION"),
    };
    if (from_environment(get, ret_config) || from_web_identity(get, ret_config) ||
        from_container(get, ret_config)) {
        return;
    }
    (void) from_instance(get, ret_config);
}
