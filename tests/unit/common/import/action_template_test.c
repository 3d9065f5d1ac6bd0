#include "common/import/action_template.h"
#include "tests/support/test.h"

enum { POOL = 32 << 20, MEMORY = 16 << 20, TEXT = 1024 };

/* A file and what was read of it, in memory of its own. */
struct reading {
    struct cof_pool *pool;
    struct cof_arena arena;
    struct cof_action_template template;
    bool other;
    struct cof_error err;
    cof_code code;
};

static void begin(struct reading *reading, struct cof_slice file)
{
    *reading = (struct reading){.code = COF_INTERNAL};
    if (cof_pool_new(POOL, COF_LOCK_NONE, &reading->pool, &reading->err) == COF_OK) {
        cof_arena_init(&reading->arena, reading->pool, MEMORY);
        reading->code =
            cof_action_template_read(file, &reading->arena, &reading->template, &reading->other, &reading->err);
    }
}

static void end(struct reading *reading)
{
    cof_arena_reset(&reading->arena);
    cof_pool_free(reading->pool);
}

static void add(char *text, const char *before, struct cof_slice part, const char *behind)
{
    const size_t length = strlen(text);
    char copy[TEXT / 4] = "";
    if (part.len > 0) {
        memcpy(copy, part.data, part.len < sizeof copy ? part.len : sizeof copy - 1);
    }
    (void) snprintf(text + length, TEXT - length, "%s%s%s", before, copy, behind);
}

static void add_all(char *text, const char *before, const struct cof_action_texts *texts, const char *behind)
{
    for (size_t i = 0; i < texts->count; i++) {
        add(text, before, texts->items[i], behind);
    }
}

/* "tools.a|secret=type:KEY,OPTIONAL?,(may be missing):|step>|undeclared!" */
static void describe(const struct cof_action_template *template, char text[TEXT])
{
    text[0] = '\0';
    add(text, "", template->name, "|");
    for (size_t i = 0; i < template->secret_count; i++) {
        const struct cof_action_secret *secret = &template->secrets[i];
        add(text, secret->optional ? "(" : "", secret->name, secret->optional ? ")" : "");
        add(text, secret->type.len == 0 ? "" : "=", secret->type, ":");
        add_all(text, "", &secret->keys, ",");
        add_all(text, "", &secret->optional_keys, "?,");
    }
    for (size_t i = 0; i < template->oauth_count; i++) {
        const struct cof_action_oauth *oauth = &template->oauth[i];
        add(text, "@", oauth->provider, oauth->service ? " service" : " user");
        add(text, oauth->optional ? "?" : "", cof_slice_text(""), "");
    }
    add_all(text, "|", &template->steps, ">");
    add_all(text, "|", &template->undeclared, "!");
}

static void gives(const char *definition, const char *expected)
{
    struct reading reading;
    char file[TEXT];
    char text[TEXT] = "";
    (void) snprintf(file, sizeof file, "type: action\ndefinition:\n  namespace: tools\n  name: a\n%s", definition);
    begin(&reading, cof_slice_text(file));
    if (reading.code == COF_OK) {
        describe(&reading.template, text);
    }
    end(&reading);
    CHECK_OK(reading.code, &reading.err);
    CHECK(!reading.other);
    CHECK_TEXT(text, expected);
}

static void refuses(const char *file, const char *message)
{
    struct reading reading;
    begin(&reading, cof_slice_text(file));
    end(&reading);
    CHECK(reading.code != COF_OK);
    CHECK_INT(reading.err.reason, COF_REASON_FILE_INVALID);
    CHECK_CONTAINS(reading.err.message, message);
}

static void names_secrets_and_steps_are_read(void)
{
    gives("", "tools.a|");
    gives("  secrets:\n    - name: vt\n      keys: [K, L]\n      optional_keys: [M]\n"
          "    - {name: ssh, keys: [PRIVATE_KEY], type: ssh_key, optional: true}\n",
          "tools.a|vt:K,L,M?,(ssh)=ssh_key:PRIVATE_KEY,");
    gives("  steps:\n    - {ref: a, action: core.http}\n    - {ref: b}\n    - {action: tools.other}\n",
          "tools.a||core.http>|tools.other>");
}

static void oauth_is_declared_with_its_grant(void)
{
    gives("  secrets:\n    - {type: oauth, provider_id: github, grant_type: authorization_code}\n"
          "    - {type: oauth, provider_id: azure, grant_type: client_credentials, optional: true}\n",
          "tools.a|@github user@azure service?");
}

static void what_expressions_use_and_nothing_declares_is_told_once(void)
{
    gives("  secrets: [{name: vt, keys: [K]}]\n  steps:\n    - action: core.x\n      args:\n"
          "        a: ${{ SECRETS.vt.K }} and ${{ SECRETS.vt.L }}\n        b: [{c: '${{ SECRETS.vt.L }}'}]\n"
          "  returns: ${{ SECRETS.other.X || 'none' }}\n",
          "tools.a|vt:K,|core.x>|vt.L!|other.X!");
}

static void fields_that_are_not_known_are_not_looked_at(void)
{
    gives("  title: ${{ SECRETS.a.B }}\n  expects: {x: {type: str, default: [1, 2]}}\n  anything: {name: [a, b]}\n",
          "tools.a|");
}

static void documents_of_other_types_are_left_alone(void)
{
    struct reading reading;
    begin(&reading, cof_slice_text("type: workflow\ndefinition: 7\n"));
    end(&reading);
    CHECK_OK(reading.code, &reading.err);
    CHECK(reading.other);
}

static void what_is_wrong_is_told_with_its_place(void)
{
    refuses("", "this is no template");
    refuses("type: action\n", "this is no template");
    refuses("- a\n", "this is no template");
    refuses("type: action\ndefinition: {namespace: tools}\n", "line 2, column 13: name is missing");
    refuses("type: action\ndefinition: {namespace: tools, name: 'a b'}\n", "line 2, column 38");
    refuses("type: action\ndefinition:\n  namespace: t\n  name: a\n  secrets: {}\n",
            "line 5, column 12: secrets is no list");
    refuses("type: action\ndefinition:\n  namespace: t\n  name: a\n  secrets: [{name: x, keys: K}]\n", "line 5");
    refuses("type: action\ndefinition:\n  namespace: t\n  name: a\n  secrets: [{name: x_oauth, keys: [K]}]\n",
            "line 5");
    refuses("type: action\ndefinition:\n  namespace: t\n  name: a\n  returns: ${{ SECRETS.a }\n", "line 5");
    refuses("type: action\ntype: action\n", "line 2");
    refuses("type: &a action\n", "line 1, column 7: an anchor");
    refuses("type: action\ndefinition: {a: *b}\n", "line 2");
    refuses("a: [", "line ");
}

static void limits_of_size_and_depth_hold(void)
{
    static char large[COF_ACTION_FILE_MAX + 2];
    struct reading reading;
    memset(large, '#', sizeof large);
    begin(&reading, cof_slice_of(large, sizeof large));
    end(&reading);
    CHECK_INT(reading.err.reason, COF_REASON_LIMIT_EXCEEDED);
    memset(large, '[', COF_ACTION_FILE_MAX);
    begin(&reading, cof_slice_of(large, COF_ACTION_FILE_MAX));
    end(&reading);
    CHECK_INT(reading.err.reason, COF_REASON_FILE_INVALID);
    CHECK_CONTAINS(reading.err.message, "nested too deep");
}

TEST_MAIN(TEST(names_secrets_and_steps_are_read), TEST(oauth_is_declared_with_its_grant),
          TEST(what_expressions_use_and_nothing_declares_is_told_once),
          TEST(fields_that_are_not_known_are_not_looked_at), TEST(documents_of_other_types_are_left_alone),
          TEST(what_is_wrong_is_told_with_its_place), TEST(limits_of_size_and_depth_hold))
