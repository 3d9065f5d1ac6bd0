#include "common/fault_list.h"

enum { FIRST_ROOM = 8 };

void cof_fault_list_init(struct cof_fault_list *list, struct cof_arena *arena)
{
    *list = (struct cof_fault_list){.arena = arena};
}

static bool make_room(struct cof_fault_list *list)
{
    if (list->count < list->room) {
        return true;
    }
    const size_t room = list->room == 0 ? FIRST_ROOM : list->room * 2;
    struct cof_fault *items = cof_arena_array(list->arena, room, sizeof *items);
    if (items == NULL) {
        return false;
    }
    if (list->count > 0) {
        memcpy(items, list->items, list->count * sizeof *items);
    }
    list->items = items;
    list->room = room;
    return true;
}

static bool copy_fault(const struct cof_fault_list *list, const struct cof_fault *fault, struct cof_fault *ret_copy)
{
    *ret_copy = *fault;
    ret_copy->path = cof_arena_text(list->arena, cof_slice_text(fault->path == NULL ? "" : fault->path));
    ret_copy->message = cof_arena_text(list->arena, cof_slice_text(fault->message));
    return ret_copy->path != NULL && ret_copy->message != NULL;
}

static bool append(struct cof_fault_list *list, const struct cof_fault *fault)
{
    struct cof_fault copy;
    if (!copy_fault(list, fault, &copy) || !make_room(list)) {
        return false;
    }
    list->items[list->count++] = copy;
    return true;
}

void cof_fault_list_add(struct cof_fault_list *list, const struct cof_fault *fault)
{
    list->total++;
    if (list->total <= COF_FAULTS_MAX && !append(list, fault)) {
        list->exhausted = true;
    }
}

void cof_fault_list_withhold(struct cof_fault_list *list, const struct cof_fault *fault)
{
    if (!list->withheld && !copy_fault(list, fault, &list->spare)) {
        list->exhausted = true;
    }
    list->withheld = true;
}

cof_code cof_fault_list_check(const struct cof_fault_list *list, struct cof_error *err)
{
    if (list->exhausted) {
        return cof_arena_exhausted(err);
    }
    if (list->total == 0 && !list->withheld) {
        return COF_OK;
    }
    const struct cof_fault *first = list->total == 0 ? &list->spare : &list->items[0];
    cof_ignore(cof_fail(err, first->reason, "%s", first->message));
    cof_ignore(cof_error_fact(err, "line", "%u", first->place.line));
    cof_ignore(cof_error_fact(err, "column", "%u", first->place.column));
    return cof_error_fact(err, "faults", "%zu", list->total);
}
