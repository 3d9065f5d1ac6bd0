#include "server/service/watch_change.h"

#include "server/service/authorize.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

enum { FIRST_CAPACITY = 16 };

#define KIND(name) COFFER__V1__SECRET_CHANGE_KIND__SECRET_CHANGE_KIND_##name

/* By effect. The name that a secret lost is told with the one that it got. */
static const Coffer__V1__SecretChangeKind kinds[] = {
    [EFFECT(UNSPECIFIED)] = KIND(UNSPECIFIED),
    [EFFECT(CREATED)] = KIND(CREATED),
    [EFFECT(VALUES_CHANGED)] = KIND(VALUES_CHANGED),
    [EFFECT(METADATA_CHANGED)] = KIND(METADATA_CHANGED),
    [EFFECT(RENAMED_FROM)] = KIND(UNSPECIFIED),
    [EFFECT(RENAMED_TO)] = KIND(RENAMED),
    [EFFECT(DELETED)] = KIND(DELETED),
    [EFFECT(RESTORED)] = KIND(RESTORED),
    [EFFECT(VERSION_DESTROYED)] = KIND(VERSION_DESTROYED),
};

/* An effect that only a newer server knows is one all the same. */
static Coffer__V1__SecretChangeKind kind_of(const Coffer__Audit__V1__Object *object)
{
    const size_t effect = (size_t) object->effect;
    return effect < COF_COUNT(kinds) ? kinds[effect] : KIND(METADATA_CHANGED);
}

/* --- Sight ---------------------------------------------------------------------------------------------------- */

static bool passes(const Coffer__V1__WatchSecretsRequest *request, const Coffer__Audit__V1__Object *object)
{
    bool passes = request->n_environments == 0;
    for (size_t i = 0; i < request->n_environments && !passes; i++) {
        passes = strcmp(request->environments[i], object->environment) == 0;
    }
    return passes && cof_slice_starts_with(cof_slice_text(object->name), cof_slice_text(request->name_prefix));
}

static bool in_sight(const struct call *call, const struct watch_page *page,
                     const Coffer__Audit__V1__Object *object)
{
    return passes(page->request, object) &&
           authorize_sees(call, &page->workspace, cof_slice_text(object->environment), cof_slice_text(object->name),
                          COF_PERMISSION_SECRET_READ);
}

/* --- Adding --------------------------------------------------------------------------------------------------- */

static cof_code make_room(struct call *call, struct watch_page *page)
{
    Coffer__V1__WatchSecretsResponse *response = page->response;
    if (response->n_changes < page->capacity) {
        return COF_OK;
    }
    const size_t capacity = page->capacity == 0 ? FIRST_CAPACITY : 2 * page->capacity;
    Coffer__V1__SecretChange **changes = cof_arena_array(call->arena, capacity, sizeof(Coffer__V1__SecretChange *));
    if (changes == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < response->n_changes; i++) {
        changes[i] = response->changes[i];
    }
    response->changes = changes;
    page->capacity = capacity;
    return COF_OK;
}

static cof_code add(struct call *call, struct watch_page *page, const struct watch_event *event,
                    const Coffer__Audit__V1__Object *object, Coffer__V1__SecretChange **ret_change)
{
    TRY(make_room(call, page));
    Coffer__V1__SecretChange *change = cof_arena_alloc(call->arena, sizeof *change);
    if (change == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__secret_change__init(change);
    change->revision = event->revision;
    change->kind = kind_of(object);
    change->environment = text_of(call->arena, cof_slice_text(object->environment));
    change->name = text_of(call->arena, cof_slice_text(object->name));
    change->uid = text_of(call->arena, cof_slice_text(object->uid));
    change->version = object->version;
    change->destroyed_version = object->destroyed_version;
    change->time = time_of(call->arena, event->time);
    if (change->environment == NULL || change->name == NULL || change->uid == NULL || change->time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    page->response->changes[page->response->n_changes++] = change;
    *ret_change = change;
    return COF_OK;
}

/* --- Telling -------------------------------------------------------------------------------------------------- */

static cof_code tell_rename(struct call *call, struct watch_page *page, const struct watch_event *event,
                            const Coffer__Audit__V1__Object *from, const Coffer__Audit__V1__Object *to)
{
    Coffer__V1__SecretChange *change;
    const bool was_seen = in_sight(call, page, from);
    if (!in_sight(call, page, to)) {
        if (!was_seen) {
            return COF_OK;
        }
        TRY(add(call, page, event, from, &change));
        change->kind = KIND(DELETED);
        return COF_OK;
    }
    TRY(add(call, page, event, to, &change));
    if (!was_seen) {
        change->kind = KIND(CREATED);
        return COF_OK;
    }
    change->old_name = text_of(call->arena, cof_slice_text(from->name));
    return change->old_name == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code watch_tell(struct call *call, struct watch_page *page, const struct watch_event *event)
{
    const Coffer__Audit__V1__Record *record = event->record;
    for (size_t i = 0; i < record->n_objects; i++) {
        const Coffer__Audit__V1__Object *object = record->objects[i];
        Coffer__V1__SecretChange *change;
        if (strcmp(object->kind, "secret") != 0) {
            continue;
        }
        if (object->effect == EFFECT(RENAMED_TO) && i > 0) {
            TRY(tell_rename(call, page, event, record->objects[i - 1], object));
        } else if (kind_of(object) != KIND(UNSPECIFIED) && in_sight(call, page, object)) {
            TRY(add(call, page, event, object, &change));
        }
    }
    return COF_OK;
}
