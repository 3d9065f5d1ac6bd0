#pragma once

#include "common/document.h"

/*
 * A walk through a document, whatever it is written in: the readers of JSON and YAML say what comes, and the walk
 * keeps the path, expands strings, compares keys and puts the new document together. Nobody else includes this.
 */

typedef enum cof_walk_mode {
    COF_WALK_COLLECT, /* references */
    COF_WALK_MEASURE, /* faults, and the length of the new document */
    COF_WALK_WRITE,
} cof_walk_mode;

/* A string where it stands in the document. */
struct cof_walk_string {
    struct cof_slice text; /* decoded; need not outlive the call */
    size_t begin;          /* the bytes of the document that a new string takes the place of */
    size_t end;
    struct cof_place place;
    bool typed;       /* a tag says what it is, so it cannot become null */
    bool alias;       /* stands for another node; has no text */
    const char *flaw; /* why nothing can be put into it; NULL: something can */
    bool leading;     /* a space has to stand before what takes its place */
};

struct cof_walk_key;

/* A mapping or list that was entered. */
struct cof_walk_frame {
    bool mapping;
    bool is_key;      /* it is a key itself */
    size_t index;     /* of the next element of a list */
    size_t first_key; /* of a mapping, in the walk's keys */
    bool changed;     /* a key of it changed */
    bool alias;       /* a key of it is an alias */
};

struct cof_walk {
    const struct cof_document *document;
    cof_walk_mode mode;
    cof_encoding encoding;
    const struct cof_lookup *lookup;   /* not to collect */
    struct cof_references *references; /* only to collect */
    struct cof_fault_list *faults;
    struct cof_arena *arena;
    struct cof_error *err;
    struct cof_path *path;
    struct cof_sink sink;
    size_t copied; /* bytes of the document that are in the sink, or were replaced */
    size_t depth;
    struct cof_walk_frame frames[COF_PATH_DEPTH];
    struct cof_walk_key *keys; /* of all mappings that are open; only to measure */
    size_t key_count;
    size_t key_room;
    bool key_follows; /* the mapping or list that comes next is a key */
    size_t in_key;    /* mappings and lists around this place that are keys */
};

/* A key of the mapping entered last; then what it belongs to must come. */
COF_CODE cof_walk_take_key(struct cof_walk *walk, const struct cof_walk_string *key);

/* A value that is a string. */
COF_CODE cof_walk_take_string(struct cof_walk *walk, const struct cof_walk_string *string);

/* Any other value that is neither mapping nor list. */
void cof_walk_take_other(struct cof_walk *walk);

/* A mapping or a list begins, or ends. `place` is for DOCUMENT_TOO_DEEP. */
COF_CODE cof_walk_enter(struct cof_walk *walk, bool mapping, const struct cof_place *place);
void cof_walk_leave(struct cof_walk *walk);

/* The mapping or list that comes next is a key. No reference may stand in it. */
void cof_walk_enter_key(struct cof_walk *walk);

/* The readers: they tell a walk the whole document. */
COF_CODE cof_walk_json(struct cof_walk *walk);
COF_CODE cof_walk_yaml(struct cof_walk *walk);
