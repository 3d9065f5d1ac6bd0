#include <stdlib.h>

#include "common/document.h"
#include "tests/support/test.h"

enum { POOL = 24 << 20, LARGE = 1001 };

static struct cof_pool *pool;
static struct cof_arena arena;
static struct cof_path_rules *rules;
static struct cof_fault_list faults;
static struct cof_references *references;
static struct cof_value value;
static struct cof_error err;

/* The secret's name says what becomes of it; the value of `there` is its key, that of `same` is always `same`. */
static void find(void *context, struct cof_slice name, struct cof_slice key, struct cof_found *ret_found)
{
    static char large[LARGE];
    (void) context;
    memset(large, 'x', sizeof large);
    *ret_found = (struct cof_found){.kind = COF_FOUND_MISSING,
                                    .reason = COF_REASON_SECRET_NOT_FOUND,
                                    .message = "there is no such secret; check it"};
    if (cof_slice_equal(name, cof_slice_text("there"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = key};
    } else if (cof_slice_equal(name, cof_slice_text("same"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = cof_slice_text("same")};
    } else if (cof_slice_equal(name, cof_slice_text("nasty"))) {
        *ret_found = (struct cof_found){
            .kind = COF_FOUND_VALUE,
            .value = cof_slice_text("a\"b\\c\n\t\x01: # ${{ SECRETS.there.K }} \xC3\xA9\xE2\x80\xA8")};
    } else if (cof_slice_equal(name, cof_slice_text("nul"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = cof_slice_of("a\0b", 3)};
    } else if (cof_slice_equal(name, cof_slice_text("binary"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = cof_slice_text("\xFF")};
    } else if (cof_slice_equal(name, cof_slice_text("large"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = cof_slice_of(large, sizeof large)};
    } else if (cof_slice_equal(name, cof_slice_text("absent"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_ABSENT};
    }
}

static const struct cof_lookup lookup = {find, NULL};

static void begin(void)
{
    if (pool == NULL) {
        if (cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
            abort();
        }
        cof_arena_init(&arena, pool, SIZE_MAX);
    }
    cof_arena_reset(&arena);
    rules = NULL;
    cof_fault_list_init(&faults, &arena);
    if (cof_path_rules_new(&arena, &rules, &err) != COF_OK ||
        cof_references_new(&arena, &references, &err) != COF_OK) {
        abort();
    }
}

static cof_code expand_again(cof_document_kind kind, struct cof_slice text)
{
    const struct cof_document document = {kind, text, rules};
    return cof_document_expand(&document, &lookup, &faults, &arena, &value, &err);
}

static cof_code expand(cof_document_kind kind, const char *text)
{
    begin();
    return expand_again(kind, cof_slice_text(text));
}

static cof_code collect(cof_document_kind kind, const char *text)
{
    const struct cof_document document = {kind, cof_slice_text(text), rules};
    return cof_document_references(&document, references, &faults, &arena, &err);
}

static bool is(const char *expected)
{
    if (!value.null && cof_slice_equal(value.bytes, cof_slice_text(expected))) {
        return true;
    }
    fprintf(stderr, "it is %.*s\n", (int) value.bytes.len, (const char *) value.bytes.data);
    return false;
}

/* --- JSON ----------------------------------------------------------------------------------------------------- */

static void json_keeps_every_byte_outside_of_what_changes(void)
{
    CHECK_OK(
        expand(COF_DOCUMENT_JSON,
               "\t{ \"z\" : 1.10,\r\n \"a\":[1E400, -0.0,12345678901234567890123 ,\"\\u00e9\\/\" ],\"z\":null , "
               "\"t\":\"x ${{ SECRETS.there.K }}\" , \"u\":\"${{ FN.f(SECRETS.there.K) }} \\u0041\"}\n \n"),
        &err);
    CHECK(is("\t{ \"z\" : 1.10,\r\n \"a\":[1E400, -0.0,12345678901234567890123 ,\"\\u00e9\\/\" ],\"z\":null , "
             "\"t\":\"x K\" , \"u\":\"${{ FN.f(SECRETS.there.K) }} \\u0041\"}\n \n"));
}

static void json_substitutes_values_and_keys(void)
{
    CHECK_OK(expand(COF_DOCUMENT_JSON,
                    "{\"${{ SECRETS.there.K }}\":[\"${{ SECRETS.there.V }}\",{\"x\":\" ${{ SECRETS.absent.A "
                    "}} \"}],\"\\u0024{{ SECRETS['there'][\\\"L\\\"] }}\":true}"),
             &err);
    CHECK(is("{\"K\":[\"V\",{\"x\":null}],\"L\":true}"));
}

static void json_escapes_what_must_be_escaped(void)
{
    CHECK_OK(expand(COF_DOCUMENT_JSON, "\"<${{ SECRETS.nasty.K }}\\n>\""), &err);
    CHECK(is("\"<a\\\"b\\\\c\\n\\t\\u0001: # ${{ SECRETS.there.K }} \xC3\xA9\xE2\x80\xA8\\n>\""));
}

static void json_keys_that_become_equal_are_errors_that_name_them(void)
{
    CHECK_FAILS(expand(COF_DOCUMENT_JSON, "{\"a\":{\"same\":1,\n\"${{ SECRETS.same.K }}\":2,\"b\":3}}"), &err,
                DOCUMENT_KEY_CONFLICT);
    CHECK_TEXT(err.message,
               "line 1, column 7: a: the keys same and ['${{ SECRETS.same.K }}'] (line 2) of this mapping would "
               "become equal; rename one");
    CHECK_FAILS(expand(COF_DOCUMENT_JSON, "{\"${{ SECRETS.same.A }}\":1,\"${{ SECRETS.same.B }}\":2}"), &err,
                DOCUMENT_KEY_CONFLICT);
    CHECK_FAILS(expand(COF_DOCUMENT_JSON, "{\"${{ SECRETS.same.A }}\":1,\"s\\u0061me\":2}"), &err,
                DOCUMENT_KEY_CONFLICT);
    CHECK_OK(expand(COF_DOCUMENT_JSON, "{\"x\":1,\"x\":2,\"${{ SECRETS.same.A }}\":{\"same\":1}}"), &err);
    CHECK(is("{\"x\":1,\"x\":2,\"same\":{\"same\":1}}"));
}

static void key_that_becomes_null_is_an_error_that_names_it(void)
{
    CHECK_FAILS(expand(COF_DOCUMENT_JSON, "{\"a\":{\"${{ SECRETS.absent.K }}\":2}}"), &err, DOCUMENT_KEY_CONFLICT);
    CHECK_TEXT(err.message,
               "line 1, column 7: a['${{ SECRETS.absent.K }}']: this key would become null; write a default "
               "behind ||, or another key");
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "a:\n  ${{ SECRETS.absent.K }}: 2\n"), &err, DOCUMENT_KEY_CONFLICT);
    CHECK_CONTAINS(err.message, "line 2, column 3: a['${{ SECRETS.absent.K }}']");
}

static void value_that_is_not_utf8_cannot_go_into_a_document(void)
{
    CHECK_FAILS(expand(COF_DOCUMENT_JSON, "[\"${{ SECRETS.binary.K }}\"]"), &err, VALUE_NOT_TEXT);
    CHECK_CONTAINS(err.message, "line 1, column 2: 0: SECRETS.binary.K: the value is not UTF-8");
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "x: a ${{ SECRETS.binary.K }}"), &err, VALUE_NOT_TEXT);
    CHECK_OK(expand(COF_DOCUMENT_TEXT, "x: a ${{ SECRETS.binary.K }}"), &err);
}

static void all_faults_of_a_document_are_told_with_line_and_path(void)
{
    CHECK_FAILS(expand(COF_DOCUMENT_JSON,
                       "{\"a\":[0,\"${{ SECRETS.missing.K }}\"],\n\"b\":\"x ${{ SECRETS.absent.K }}\",\n"
                       "\"c\":\"\\n ${{ SECRETS.d }}\",\"${{ SECRETS.missing.L }}\":1}"),
                &err, SECRET_NOT_FOUND);
    CHECK_INT(faults.total, 4);
    CHECK_TEXT(faults.items[0].path, "a.1");
    CHECK_TEXT(faults.items[0].message,
               "line 1, column 9: a.1: SECRETS.missing.K: there is no such secret; check it");
    CHECK_TEXT(faults.items[1].path, "b");
    CHECK_INT(faults.items[1].reason, COF_REASON_VALUE_ABSENT);
    CHECK_INT(faults.items[2].reason, COF_REASON_EXPRESSION_INVALID);
    CHECK_CONTAINS(faults.items[2].message,
                   "line 3, column 5: c: in this text, line 2, column 16: the key is missing");
    CHECK_TEXT(faults.items[3].path, "['${{ SECRETS.missing.L }}']");
}

static void value_with_a_nul_is_text(void)
{
    CHECK_OK(expand(COF_DOCUMENT_JSON, "[\"\x7F${{ SECRETS.nul.K }}\"]"), &err);
    CHECK(is("[\"\x7F"
             "a\\u0000b\"]"));
    CHECK_OK(expand(COF_DOCUMENT_YAML, "- ${{ SECRETS.nul.K }}\n"), &err);
    CHECK(is("- \"a\\u0000b\"\n"));
}

static void half_of_a_surrogate_pair_beside_a_reference_is_refused(void)
{
    CHECK_FAILS(expand(COF_DOCUMENT_JSON, "[\"\\ud83d ${{ SECRETS.there.K }}\"]"), &err, DOCUMENT_INVALID);
    CHECK_OK(expand(COF_DOCUMENT_JSON, "[\"\\ud83d\",\"${{ SECRETS.there.K }}\"]"), &err);
    CHECK(is("[\"\\ud83d\",\"K\"]"));
}

/* --- YAML ----------------------------------------------------------------------------------------------------- */

static void yaml_keeps_every_byte_outside_of_what_changes(void)
{
    CHECK_OK(
        expand(COF_DOCUMENT_YAML,
               "# top ${{ SECRETS.there.K }}\n\xC3\xA9:   1.10   # n\r\nz: ~\nz: ${{ SECRETS.there.K }}   # c\n"
               "l: [ 'x' , \"${{ SECRETS.there.V }}\"   ]\n\n...\n---\n- plain\n"),
        &err);
    CHECK(is("# top ${{ SECRETS.there.K }}\n\xC3\xA9:   1.10   # n\r\nz: ~\nz: \"K\"   # c\n"
             "l: [ 'x' , \"V\"   ]\n\n...\n---\n- plain\n"));
}

static void yaml_substitutes_scalars_of_every_style(void)
{
    CHECK_OK(
        expand(
            COF_DOCUMENT_YAML,
            "plain: x ${{ SECRETS.there.A }}\n  over lines\nsingle: 'it''s ${{ SECRETS.there.B }}'\n"
            "double: \"\\t-${{ SECRETS.there.C }}\"\nliteral: |\n  1\n  ${{ SECRETS.there.D }}\n\n"
            "folded: >- # why\n  1\n  ${{ SECRETS.there.E }}\n${{ SECRETS.there.F }}: ${{ SECRETS.absent.G }}\n"),
        &err);
    CHECK(is("plain: \"x A over lines\"\nsingle: \"it's B\"\ndouble: \"\\t-C\"\nliteral: \"1\\nD\\n\"\n\nfolded: "
             "\"1 E\"\n"
             "\"F\": null\n"));
}

static void yaml_block_scalar_that_begins_a_line_does_not_become_a_key(void)
{
    CHECK_OK(expand(COF_DOCUMENT_YAML, "a:\n|\n  ${{ SECRETS.there.A }}\nb:\n  c:\n  |\n   ${{ SECRETS.there.B "
                                       "}}\nd: !t\n|\n  ${{ SECRETS.there.C }}\n"),
             &err);
    CHECK(is("a:\n \"A\"\nb:\n  c:\n   \"B\"\nd: !t\n \"C\"\n"));
}

static void yaml_scalar_that_follows_its_anchor_at_once_is_parted_from_it(void)
{
    CHECK_OK(expand(COF_DOCUMENT_YAML, "a: &x:${{ SECRETS.there.A }}\nb: &y:1${{"), &err);
    CHECK(is("a: &x \":A\"\nb: &y:1${{"));
}

static void yaml_lines_end_as_libyaml_sees_it(void)
{
    CHECK_OK(expand(COF_DOCUMENT_YAML, "a: |\n x ${{ SECRETS.there.A }}\xE2\x80\xA9"
                                       "b: !t # why\xC2\x85 ${{ SECRETS.there.B }}\xE2\x80\xA8"
                                       "c: |\r\n x ${{ SECRETS.there.C }}\r\n\r\nd: 1\r\n"),
             &err);
    CHECK(is("a: \"x A\\u2029\"\xE2\x80\xA9"
             "b: !t # why\xC2\x85 \"B\"\xE2\x80\xA8"
             "c: \"x C\\n\"\r\n\r\nd: 1\r\n"));
}

static void yaml_escapes_what_must_be_escaped(void)
{
    CHECK_OK(expand(COF_DOCUMENT_YAML, "- ${{ SECRETS.nasty.K }}\n"), &err);
    CHECK(is("- \"a\\\"b\\\\c\\n\\t\\u0001: # ${{ SECRETS.there.K }} \xC3\xA9\\u2028\"\n"));
}

static void yaml_tags_and_anchors_stay(void)
{
    CHECK_OK(expand(COF_DOCUMENT_YAML,
                    "a: &x !!str ${{ SECRETS.there.A }}\nb: *x\nc: !t # why\n  '${{ SECRETS.there.B }}'\n"),
             &err);
    CHECK(is("a: &x !!str \"A\"\nb: *x\nc: !t # why\n  \"B\"\n"));
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "a: !!str ${{ SECRETS.absent.A }}\n"), &err, DOCUMENT_INVALID);
    CHECK_CONTAINS(err.message, "the value is null, but a tag says what it must be");
}

static void yaml_refuses_what_it_cannot_keep(void)
{
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "? [x, '${{ SECRETS.there.K }}']\n: 1\n"), &err, DOCUMENT_INVALID);
    CHECK_CONTAINS(err.message, "within a key that is a mapping or a list");
    CHECK_FAILS(collect(COF_DOCUMENT_YAML, "? {x: '${{ SECRETS.there.K }}'}\n: 1\n"), &err, DOCUMENT_INVALID);
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "a: &x k\nb:\n  *x : 1\n  ${{ SECRETS.there.K }}: 2\n"), &err,
                DOCUMENT_INVALID);
    CHECK_CONTAINS(err.message, "an alias is a key");
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "${{ SECRETS.large.K }}: 2\n"), &err, DOCUMENT_INVALID);
    CHECK_CONTAINS(err.message, "more than 1000 bytes");
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "[${{ SECRETS.there.K }}]\n"), &err, DOCUMENT_INVALID);
    CHECK_CONTAINS(err.message, "put a template within [...] or {...} into quotes");
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "same: 1\n${{ SECRETS.same.K }}: 2\n"), &err, DOCUMENT_KEY_CONFLICT);
}

static void yaml_with_complex_keys_is_walked(void)
{
    CHECK_OK(expand(COF_DOCUMENT_YAML,
                    "? {a: [b], ? [c] : d}\n: - ${{ SECRETS.there.K }}\n? - e\n: f\ng: ${{ SECRETS.there.L }}\n"),
             &err);
    CHECK(is("? {a: [b], ? [c] : d}\n: - \"K\"\n? - e\n: f\ng: \"L\"\n"));
}

/* --- Parts ---------------------------------------------------------------------------------------------------- */

static cof_code add_rules(const char *excluded, const char *redacted)
{
    begin();
    TRY(cof_path_rules_add(rules, COF_PATH_EXCLUDED, cof_slice_text(excluded), &err));
    return cof_path_rules_add(rules, COF_PATH_REDACTED, cof_slice_text(redacted), &err);
}

static void excluded_parts_stay_and_their_references_are_not_resolved(void)
{
    static const char text[] =
        "{\"actions\":{\"x\":{\"args\":{\"url\":\"${{ SECRETS.missing.K }} ${{ SECRETS.bad }}\","
        "\"${{ SECRETS.there.L }}\":\"${{ SECRETS.there.M }}\"}}}}";
    CHECK_OK(add_rules("actions.*.args.url", "none"), &err);
    CHECK_OK(collect(COF_DOCUMENT_JSON, text), &err);
    CHECK_INT(cof_references_count(references), 2);
    CHECK_OK(expand_again(COF_DOCUMENT_JSON, cof_slice_text(text)), &err);
    CHECK(is(
        "{\"actions\":{\"x\":{\"args\":{\"url\":\"${{ SECRETS.missing.K }} ${{ SECRETS.bad }}\",\"L\":\"M\"}}}}"));
}

static void redacted_parts_show_stars_and_their_references_are_not_resolved(void)
{
    static const char text[] =
        "a:\n  b: x ${{ SECRETS.missing.K }} y\n  c: plain\n  d: ${{ SECRETS.bad }}\n  e: ${{ x }}\nf: ${{ "
        "SECRETS.there.K }}\n";
    CHECK_OK(add_rules("none", "a"), &err);
    CHECK_OK(collect(COF_DOCUMENT_YAML, text), &err);
    CHECK_INT(cof_references_count(references), 1);
    CHECK_OK(expand_again(COF_DOCUMENT_YAML, cof_slice_text(text)), &err);
    CHECK(is("a:\n  b: \"***\"\n  c: plain\n  d: \"***\"\n  e: ${{ x }}\nf: \"K\"\n"));
}

static void rule_for_an_entry_holds_for_its_key(void)
{
    CHECK_OK(add_rules("a.*", "b.*"), &err);
    CHECK_OK(
        expand_again(COF_DOCUMENT_JSON,
                     cof_slice_text("{\"a\":{\"${{ SECRETS.there.K }}\":1},\"b\":{\"${{ SECRETS.there.K }}\":2}}")),
        &err);
    CHECK(is("{\"a\":{\"${{ SECRETS.there.K }}\":1},\"b\":{\"***\":2}}"));
}

/* --- References and limits ------------------------------------------------------------------------------------ */

static void references_of_a_document_are_gathered_from_values_and_keys(void)
{
    begin();
    CHECK_OK(collect(COF_DOCUMENT_JSON,
                     "{\"${{ SECRETS.a.K }}\":[\"${{ SECRETS.b.K || SECRETS.a.K || 'x' }}\"],\"SECRETS.c.K\":"
                     "\"${{ FN.f(SECRETS.b.K) }}\"}"),
             &err);
    CHECK_INT(cof_references_count(references), 2);
    CHECK(cof_references_at(references, 0)->required && cof_references_at(references, 1)->required);
    begin();
    CHECK_FAILS(collect(COF_DOCUMENT_YAML, "a: ${{ SECRETS.a }}\nb: ${{ SECRETS.b.K }}\nc: ${{ SECRETS }}\n"), &err,
                EXPRESSION_INVALID);
    CHECK_INT(faults.total, 2);
    CHECK_INT(cof_references_count(references), 1);
}

static void nested_documents_have_a_limit_in_both_languages(void)
{
    char text[2 * COF_PATH_DEPTH + 8] = "";
    const cof_document_kind kinds[] = {COF_DOCUMENT_JSON, COF_DOCUMENT_YAML};
    for (size_t i = 0; i < COF_COUNT(kinds); i++) {
        memset(text, 0, sizeof text);
        memset(text, '[', COF_PATH_DEPTH);
        memset(text + COF_PATH_DEPTH, ']', COF_PATH_DEPTH);
        CHECK_OK(expand(kinds[i], text), &err);
        memset(text, '[', COF_PATH_DEPTH + 1);
        memset(text + COF_PATH_DEPTH + 1, ']', COF_PATH_DEPTH + 1);
        CHECK_FAILS(expand(kinds[i], text), &err, DOCUMENT_TOO_DEEP);
    }
}

static void document_that_is_too_large_is_refused(void)
{
    char *text = malloc(COF_TEXT_MAX + 1);
    CHECK(text != NULL);
    memset(text, ' ', COF_TEXT_MAX + 1);
    text[0] = '1';
    begin();
    CHECK_OK(expand_again(COF_DOCUMENT_JSON, cof_slice_of(text, COF_TEXT_MAX)), &err);
    CHECK_FAILS(expand_again(COF_DOCUMENT_JSON, cof_slice_of(text, COF_TEXT_MAX + 1)), &err, TEXT_TOO_LARGE);
    CHECK_FAILS(expand_again(COF_DOCUMENT_YAML, cof_slice_of(text, COF_TEXT_MAX + 1)), &err, TEXT_TOO_LARGE);
    free(text);
}

static void what_is_neither_json_nor_yaml_is_refused_with_the_place(void)
{
    CHECK_FAILS(expand(COF_DOCUMENT_JSON, "{\"a\":1,\n}"), &err, DOCUMENT_INVALID);
    CHECK_CONTAINS(err.message, "line 2, column 1: a key in double quotes is missing");
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "a: 1\n b: 2\n"), &err, DOCUMENT_INVALID);
    CHECK_CONTAINS(err.message, "line 2, column ");
    CHECK_FAILS(expand(COF_DOCUMENT_YAML, "a: \xFF\n"), &err, DOCUMENT_INVALID);
}

TEST_MAIN(TEST(json_keeps_every_byte_outside_of_what_changes), TEST(json_substitutes_values_and_keys),
          TEST(json_escapes_what_must_be_escaped), TEST(json_keys_that_become_equal_are_errors_that_name_them),
          TEST(key_that_becomes_null_is_an_error_that_names_it),
          TEST(value_that_is_not_utf8_cannot_go_into_a_document),
          TEST(all_faults_of_a_document_are_told_with_line_and_path), TEST(value_with_a_nul_is_text),
          TEST(half_of_a_surrogate_pair_beside_a_reference_is_refused),
          TEST(yaml_keeps_every_byte_outside_of_what_changes), TEST(yaml_substitutes_scalars_of_every_style),
          TEST(yaml_escapes_what_must_be_escaped), TEST(yaml_lines_end_as_libyaml_sees_it),
          TEST(yaml_scalar_that_follows_its_anchor_at_once_is_parted_from_it),
          TEST(yaml_block_scalar_that_begins_a_line_does_not_become_a_key), TEST(yaml_tags_and_anchors_stay),
          TEST(yaml_refuses_what_it_cannot_keep), TEST(yaml_with_complex_keys_is_walked),
          TEST(excluded_parts_stay_and_their_references_are_not_resolved),
          TEST(redacted_parts_show_stars_and_their_references_are_not_resolved),
          TEST(rule_for_an_entry_holds_for_its_key),
          TEST(references_of_a_document_are_gathered_from_values_and_keys),
          TEST(nested_documents_have_a_limit_in_both_languages), TEST(document_that_is_too_large_is_refused),
          TEST(what_is_neither_json_nor_yaml_is_refused_with_the_place))
