#include "server/aws/sts_answer.h"

#include <expat.h>
#include <stdio.h>

#include "common/attr.h"

enum {
    NAME_MAX_BYTES = 48, /* of an element that is looked for */
    TEXT_MOST = AWS_SESSION_TOKEN_MAX,
    CLIENT_ERROR = 400,
    FORBIDDEN = 403,
    TOO_MANY = 429,
    SERVER_ERROR = 500,
};

struct known_code {
    const char *code;
    sts_verdict verdict;
};

static const struct known_code known_codes[] = {
#define STS_CODE(code, verdict) {code, STS_##verdict},
#include "server/aws/sts_code.def"
#undef STS_CODE
};

/* --- XML ------------------------------------------------------------------------------------------------------ */

typedef enum field {
    FIELD_ACCESS_KEY,
    FIELD_SECRET_KEY,
    FIELD_TOKEN,
    FIELD_EXPIRATION,
    FIELD_CODE,
    FIELD_MESSAGE,
    FIELDS,
} field;

/* Paths below the root; an error's are those of ErrorResponse, the others those of the action's answer. */
static const char *const field_paths[FIELDS] = {
    [FIELD_ACCESS_KEY] = "Result/Credentials/AccessKeyId",
    [FIELD_SECRET_KEY] = "Result/Credentials/SecretAccessKey",
    [FIELD_TOKEN] = "Result/Credentials/SessionToken",
    [FIELD_EXPIRATION] = "Result/Credentials/Expiration",
    [FIELD_CODE] = "Error/Code",
    [FIELD_MESSAGE] = "Error/Message",
};

struct document {
    XML_Parser parser;
    const char *action;
    struct cof_arena *arena;
    size_t depth;
    size_t skipped; /* elements that are open and too deep, or have too long a name */
    char names[STS_DEPTH_MAX][NAME_MAX_BYTES];
    bool granted_root;
    bool error_root;
    bool exhausted;
    field into; /* FIELDS: nothing is taken */
    struct {
        uint8_t *bytes;
        size_t length;
        bool seen;
    } fields[FIELDS];
};

/* "AssumeRoleResult" is "Result" behind the action. */
static const char *without_action(const struct document *document, const char *name)
{
    const size_t length = strlen(document->action);
    return strncmp(name, document->action, length) == 0 ? name + length : name;
}

static field field_at(const struct document *document)
{
    char path[STS_DEPTH_MAX * NAME_MAX_BYTES];
    size_t length = 0;
    if (document->skipped > 0 || document->depth < 3 || document->depth > 4) {
        return FIELDS;
    }
    for (size_t i = 1; i < document->depth; i++) {
        const char *name = i == 1 ? without_action(document, document->names[i]) : document->names[i];
        length += (size_t) snprintf(path + length, sizeof path - length, "%s%s", i == 1 ? "" : "/", name);
    }
    for (field one = FIELD_ACCESS_KEY; one < FIELDS; one++) {
        const bool of_error = one >= FIELD_CODE;
        if (strcmp(path, field_paths[one]) == 0 && (of_error ? document->error_root : document->granted_root)) {
            return one;
        }
    }
    return FIELDS;
}

static void note_root(struct document *document, const char *name)
{
    document->error_root = strcmp(name, "ErrorResponse") == 0;
    document->granted_root =
        name != without_action(document, name) && strcmp(without_action(document, name), "Response") == 0;
}

static void XMLCALL element_begins(void *context, const XML_Char *name, const XML_Char **attributes)
{
    struct document *document = context;
    (void) attributes;
    if (document->skipped > 0 || document->depth == STS_DEPTH_MAX || strlen(name) >= NAME_MAX_BYTES) {
        document->skipped++;
        return;
    }
    (void) snprintf(document->names[document->depth++], NAME_MAX_BYTES, "%s", name);
    if (document->depth == 1) {
        note_root(document, name);
    }
    document->into = field_at(document);
    if (document->into != FIELDS && document->fields[document->into].seen) {
        XML_StopParser(document->parser, XML_FALSE); /* which of two would be meant? */
    } else if (document->into != FIELDS) {
        document->fields[document->into].seen = true;
    }
}

static void XMLCALL element_ends(void *context, const XML_Char *name)
{
    struct document *document = context;
    (void) name;
    if (document->skipped > 0) {
        document->skipped--;
    } else {
        document->depth--;
    }
    document->into = FIELDS;
}

static void XMLCALL characters(void *context, const XML_Char *text, int length)
{
    struct document *document = context;
    if (document->into == FIELDS || document->skipped > 0) {
        return;
    }
    const field into = document->into;
    uint8_t **bytes = &document->fields[into].bytes;
    if (*bytes == NULL) {
        *bytes = cof_arena_alloc(document->arena, TEXT_MOST);
    }
    if (*bytes == NULL || document->fields[into].length + (size_t) length > TEXT_MOST) {
        document->exhausted = *bytes == NULL;
        XML_StopParser(document->parser, XML_FALSE);
        return;
    }
    memcpy(*bytes + document->fields[into].length, text, (size_t) length);
    document->fields[into].length += (size_t) length;
}

/* STS's answers have none, and without one there are no entities that could grow. */
static void XMLCALL doctype_begins(void *context, const XML_Char *name, const XML_Char *system,
                                   const XML_Char *public, int internal)
{
    struct document *document = context;
    (void) name;
    (void) system;
    (void) public;
    (void) internal;
    XML_StopParser(document->parser, XML_FALSE);
}

static void free_parser(XML_Parser *parser)
{
    if (*parser != NULL) {
        XML_ParserFree(*parser);
    }
}

/* Whether the body is XML to its end. */
static bool parse(struct document *document, struct cof_slice body)
{
    AUTO(free_parser) XML_Parser parser = XML_ParserCreate(NULL);
    if (parser == NULL || body.len > INT32_MAX) {
        document->exhausted = parser == NULL;
        return false;
    }
    document->parser = parser;
    document->into = FIELDS;
    XML_SetUserData(parser, document);
    XML_SetElementHandler(parser, element_begins, element_ends);
    XML_SetCharacterDataHandler(parser, characters);
    XML_SetStartDoctypeDeclHandler(parser, doctype_begins);
    const enum XML_Status status = XML_Parse(parser, (const char *) body.data, (int) body.len, XML_TRUE);
    document->parser = NULL;
    return status == XML_STATUS_OK;
}

/* --- What it means -------------------------------------------------------------------------------------------- */

static struct cof_slice text_of(const struct document *document, field one)
{
    return cof_slice_of(document->fields[one].bytes, document->fields[one].length);
}

static sts_verdict verdict_of_status(int status)
{
    if (status == TOO_MANY) {
        return STS_THROTTLED;
    }
    if (status == FORBIDDEN) {
        return STS_REFUSED;
    }
    return status >= CLIENT_ERROR && status < SERVER_ERROR ? STS_REQUEST : STS_UNAVAILABLE;
}

static void copy_code(struct cof_slice from, char to[STS_CODE_MAX + 1])
{
    size_t length = 0;
    for (size_t i = 0; i < from.len && length < STS_CODE_MAX; i++) {
        const uint8_t byte = from.data[i];
        if ((byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z')) {
            to[length++] = (char) byte;
        }
    }
    to[length] = '\0';
}

static void refused(const struct document *document, int status, struct sts_found *found)
{
    static const char tagging[] = "sts:TagSession";
    const struct cof_slice message = text_of(document, FIELD_MESSAGE);
    copy_code(text_of(document, FIELD_CODE), found->code);
    found->verdict = verdict_of_status(status);
    for (size_t i = 0; i < COF_COUNT(known_codes); i++) {
        if (strcmp(found->code, known_codes[i].code) == 0) {
            found->verdict = known_codes[i].verdict;
        }
    }
    found->about_tags = found->verdict == STS_REFUSED && message.len > 0 &&
                        memmem(message.data, message.len, tagging, sizeof tagging - 1) != NULL;
}

static void unusable(struct sts_found *found, int status, const char *fault)
{
    /* What is no answer of STS, as by a proxy on the way, says nothing about the role. */
    found->verdict = status == TOO_MANY ? STS_THROTTLED : STS_UNAVAILABLE;
    found->fault = fault;
}

static void granted(const struct document *document, int status, struct sts_found *found)
{
    found->credentials = (struct aws_credentials){
        .access_key_id = text_of(document, FIELD_ACCESS_KEY),
        .secret_access_key = text_of(document, FIELD_SECRET_KEY),
        .session_token = text_of(document, FIELD_TOKEN),
    };
    if (!aws_credentials_are_usable(&found->credentials) || found->credentials.session_token.len == 0) {
        unusable(found, status, "its credentials are not whole");
    } else if (!aws_time_read(text_of(document, FIELD_EXPIRATION), &found->credentials.expire_us)) {
        unusable(found, status, "its expiry is no time");
    } else {
        found->verdict = STS_GRANTED;
    }
}

const char *sts_verdict_name(sts_verdict verdict)
{
    static const char *const names[STS_VERDICTS] = {
        [STS_GRANTED] = "GRANTED",         [STS_REFUSED] = "REFUSED", [STS_IDENTITY] = "IDENTITY",
        [STS_REGION] = "REGION",           [STS_REQUEST] = "REQUEST", [STS_THROTTLED] = "THROTTLED",
        [STS_UNAVAILABLE] = "UNAVAILABLE",
    };
    return names[verdict];
}

cof_code sts_answer_read(const char *action, const struct sts_reply *reply, struct cof_arena *arena,
                         struct sts_found *ret_found, struct cof_error *err)
{
    struct document document = {.action = action, .arena = arena};
    const bool parsed = reply->whole && parse(&document, reply->body);
    *ret_found = (struct sts_found){.verdict = STS_UNAVAILABLE};
    if (document.exhausted) {
        return cof_arena_exhausted(err);
    }
    if (!reply->whole) {
        unusable(ret_found, reply->status, "it did not come to its end");
    } else if (!parsed) {
        unusable(ret_found, reply->status, "it is not the XML that STS writes");
    } else if (document.error_root && reply->status >= CLIENT_ERROR) {
        refused(&document, reply->status, ret_found);
    } else if (document.granted_root && reply->status == 200) {
        granted(&document, reply->status, ret_found);
    } else {
        unusable(ret_found, reply->status, "it is not one of STS; check the endpoint");
    }
    return COF_OK;
}

cof_reason sts_reason(sts_verdict verdict)
{
    switch (verdict) {
    case STS_GRANTED:
        return COF_REASON_NONE;
    case STS_REFUSED:
        return COF_REASON_AWS_ROLE_REFUSED;
    case STS_IDENTITY:
        return COF_REASON_AWS_IDENTITY_REFUSED;
    case STS_REGION:
        return COF_REASON_AWS_REGION_INVALID;
    case STS_REQUEST:
        return COF_REASON_AWS_SESSION_REFUSED;
    case STS_THROTTLED:
        return COF_REASON_AWS_THROTTLED;
    case STS_UNAVAILABLE:
        break;
    }
    return COF_REASON_AWS_UNAVAILABLE;
}
