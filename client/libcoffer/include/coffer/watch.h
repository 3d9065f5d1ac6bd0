#ifndef COFFER_WATCH_H
#define COFFER_WATCH_H

/*
 * Watches: what becomes of secrets, as it happens. Names and versions, never values.
 *
 *     coffer_watch *watch = coffer_watch_new(client);
 *     coffer_changes *changes = NULL;
 *
 *     coffer_watch_add_environment(watch, "prod");
 *     while (coffer_watch_next(watch, &changes, &error) == COFFER_OK) {
 *         for (i = 0; i < coffer_changes_count(changes); i++)
 *             apply(coffer_changes_at(changes, i));
 *         remember(coffer_changes_resume_token(changes));
 *         coffer_changes_free(changes);
 *     }
 *     coffer_watch_free(watch);
 *
 * A watch has a position: the token of the last answer. Every change behind it is told once and in order, whichever
 * server answers, and after any failure coffer_watch_next goes on from there. A program that wants to go on after its
 * own end stores the token of the changes that it has applied.
 *
 * To follow a list: make a watch, call coffer_watch_next once for the position of now, list, and go on watching. Apply
 * changes by their UID: COFFER_CHANGE_DELETED takes the secret away, every other kind, also one that is newer than this
 * library, sets its environment, name and version. The first changes may be in the list already. After
 * COFFER_REASON_WATCH_EXPIRED, when a watch was away for too long, or the database was restored, do all of that anew.
 *
 * A watch belongs to one thread at a time and must be freed before its client is closed. Changes belong to whoever got
 * them, and outlive both.
 */

#include <coffer/coffer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct coffer_watch coffer_watch;

/*
 * A watch of all secrets that the client's token may read in its workspace, from now on. NULL if there is no memory,
 * which all functions accept; coffer_watch_next tells it, and what else was wrong with what was set.
 */
COFFER_API coffer_watch *coffer_watch_new(coffer_client *client);
/* Not while coffer_watch_start has not called back. NULL is allowed. */
COFFER_API void coffer_watch_free(coffer_watch *watch);

/* UUID of the workspace, lower case. Not set: the client's, or the token's own. */
COFFER_API void coffer_watch_set_workspace(coffer_watch *watch, const char *workspace);
/* Adds an environment; none added: all. */
COFFER_API void coffer_watch_add_environment(coffer_watch *watch, const char *environment);
/* Only names that begin with this. */
COFFER_API void coffer_watch_set_name_prefix(coffer_watch *watch, const char *prefix);
/* Goes on behind the changes that had this token; it belongs to the workspace. NULL: from now. Also later. */
COFFER_API void coffer_watch_set_resume_token(coffer_watch *watch, const char *token);
/* Longest wait for a change, in milliseconds, 1 to 60,000. Not set: 20 s. */
COFFER_API void coffer_watch_set_wait(coffer_watch *watch, uint32_t milliseconds);

typedef struct coffer_changes coffer_changes;

/*
 * Waits for changes. COFFER_OK without a change means that there was none for the time of a wait, or that the caller
 * may not see what there was, or that this was the first call, which takes the position of now: call again.
 *
 * Lost connections, servers that shut down or are busy are overcome as in coffer_resolve; a server that does not
 * answer is left five seconds after the end of the wait. What lasts longer than ten seconds beyond it is an error, for
 * example COFFER_UNAVAILABLE: wait a while, and call again.
 *
 * Errors besides those of coffer_resolve: COFFER_REASON_WATCH_EXPIRED; COFFER_REASON_IN_PROGRESS if the watch is waiting
 * already. Not in a callback.
 */
COFFER_API coffer_status coffer_watch_next(coffer_watch *watch, coffer_changes **ret_changes,
                                           coffer_error **ret_error) COFFER_MUST_USE;

/* Takes over the changes and the error, one of which is NULL. The rules of coffer_resolve_done; it may start the next
 * wait, and free the watch. */
typedef void (*coffer_watch_done)(coffer_changes *changes, coffer_error *error, void *context);

/* The same without waiting; the rules of coffer_resolve_start. Until the callback the watch is left alone. */
COFFER_API coffer_status coffer_watch_start(coffer_watch *watch, coffer_watch_done done, void *context,
                                            coffer_error **ret_error) COFFER_MUST_USE;

/*
 * Changes. Everything that is returned below is valid until they are freed.
 */

/* NULL is allowed. */
COFFER_API void coffer_changes_free(coffer_changes *changes);
COFFER_API size_t coffer_changes_count(const coffer_changes *changes);
/* The position behind them, for coffer_watch_set_resume_token. */
COFFER_API const char *coffer_changes_resume_token(const coffer_changes *changes);
/* The state that they lead to, for coffer_request_set_consistency_token. */
COFFER_API const char *coffer_changes_consistency_token(const coffer_changes *changes);
/* Whether there are more already. */
COFFER_API bool coffer_changes_more(const coffer_changes *changes);

typedef struct coffer_change coffer_change;

/* NULL if the index is not less than the count. */
COFFER_API const coffer_change *coffer_changes_at(const coffer_changes *changes, size_t index);

/* What became of a secret. Newer servers may send others: treat them as COFFER_CHANGE_METADATA_CHANGED. */
typedef enum coffer_change_kind {
    COFFER_CHANGE_UNSPECIFIED = 0,
    COFFER_CHANGE_CREATED = 1,          /* New, or renamed into the filter or what the caller may read. */
    COFFER_CHANGE_VALUES_CHANGED = 2,   /* It has a new version. */
    COFFER_CHANGE_METADATA_CHANGED = 3, /* Neither a value nor the name. */
    COFFER_CHANGE_RENAMED = 4,          /* It has another name. */
    COFFER_CHANGE_DELETED = 5,          /* Gone, or renamed out of the filter or what the caller may read. */
    COFFER_CHANGE_RESTORED = 6,         /* It was deleted and is back. */
    COFFER_CHANGE_VERSION_DESTROYED = 7 /* The values of an older version are gone. */
} coffer_change_kind;

/* "VALUES_CHANGED"; "UNKNOWN" for a number outside the enum. Static. */
COFFER_API const char *coffer_change_kind_name(coffer_change_kind kind);

COFFER_API coffer_change_kind coffer_change_what(const coffer_change *change);
COFFER_API const char *coffer_change_environment(const coffer_change *change);
COFFER_API const char *coffer_change_name(const coffer_change *change);
/* The name before it was renamed; else empty. */
COFFER_API const char *coffer_change_old_name(const coffer_change *change);
COFFER_API const char *coffer_change_uid(const coffer_change *change);
/* The current version after the change. */
COFFER_API uint64_t coffer_change_version(const coffer_change *change);
/* The version whose values are gone; else 0. */
COFFER_API uint64_t coffer_change_destroyed_version(const coffer_change *change);
/* The workspace's revision: higher ones came later, those of one write are the same. */
COFFER_API uint64_t coffer_change_revision(const coffer_change *change);
/* Milliseconds since 1970-01-01 UTC, by the clock of the server that wrote it. */
COFFER_API int64_t coffer_change_time_ms(const coffer_change *change);

#ifdef __cplusplus
}
#endif

#endif
