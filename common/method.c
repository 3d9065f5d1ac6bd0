#include "common/method.h"

#include <assert.h>
#include <pthread.h>

#include "common/attr.h"

static const struct cof_method methods[] = {
#define METHOD(service, method, Type, handler, access, permission, class, audit) \
    {service "/" method, COF_METHOD_##access, (cof_permission) (permission)},
#include "common/method.def"
#undef METHOD
};

/* Open addressing over the names; a power of two, at least twice the number of methods. */
enum { PLACES = 256 };
static struct {
    struct cof_slice name; /* without data: the place is free */
    size_t index;
} places[PLACES];

_Static_assert(COF_COUNT(methods) * 2 <= PLACES, "PLACES is too small");

static uint32_t hash_of(struct cof_slice name)
{
    uint32_t hash = 2166136261U; /* FNV-1a: the names are ours, not a peer's */
    for (size_t i = 0; i < name.len; i++) {
        hash = (hash ^ name.data[i]) * 16777619U;
    }
    return hash;
}

/* Where the name is, or would be. */
static size_t place_of(struct cof_slice name)
{
    size_t at = hash_of(name) % PLACES;
    while (places[at].name.data != NULL && !cof_slice_equal(places[at].name, name)) {
        at = (at + 1) % PLACES;
    }
    return at;
}

static void fill_places(void)
{
    for (size_t i = 0; i < COF_COUNT(methods); i++) {
        const struct cof_slice name = cof_slice_text(methods[i].name);
        const size_t at = place_of(name);
        places[at].name = name;
        places[at].index = i;
    }
}

size_t cof_method_count(void)
{
    return COF_COUNT(methods);
}

const struct cof_method *cof_method_at(size_t index)
{
    assert(index < COF_COUNT(methods));
    return &methods[index];
}

bool cof_method_find(struct cof_slice name, size_t *ret_index)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void) pthread_once(&once, fill_places);
    const size_t at = place_of(name);
    if (places[at].name.data != NULL) {
        *ret_index = places[at].index;
        return true;
    }
    return false;
}
