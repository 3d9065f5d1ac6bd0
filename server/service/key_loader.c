#include "server/service/key_loader.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/arena.h"
#include "server/service/guard.h"

struct key_loader {
    pthread_mutex_t lock;
    struct session *session;
};

cof_code key_loader_new(const struct session_options *options, struct key_loader **ret_loader,
                        struct cof_error *err)
{
    struct key_loader *loader = calloc(1, sizeof *loader);
    if (loader == NULL) {
        return cof_arena_exhausted(err);
    }
    const cof_code code = session_new(options, &loader->session, err);
    if (code != COF_OK) {
        free(loader);
        return code;
    }
    (void) pthread_mutex_init(&loader->lock, NULL);
    *ret_loader = loader;
    return COF_OK;
}

void key_loader_free(struct key_loader *loader)
{
    if (loader != NULL) {
        session_free(loader->session);
        (void) pthread_mutex_destroy(&loader->lock);
        free(loader);
    }
}

static cof_code load(struct key_loader *loader, struct keyring *keyring, const struct cof_uuid *workspace,
                     int64_t deadline_us, struct cof_error *err)
{
    session_deadline(loader->session, deadline_us);
    TRY(session_ready(loader->session, err));
    return guard_load_keys_anew(keyring, loader->session, workspace, err);
}

cof_code key_loader_load(struct key_loader *loader, struct keyring *keyring, const struct cof_uuid *workspace,
                         int64_t deadline_us, struct cof_error *err)
{
    (void) pthread_mutex_lock(&loader->lock);
    const cof_code code = load(loader, keyring, workspace, deadline_us, err);
    session_reset(loader->session);
    (void) pthread_mutex_unlock(&loader->lock);
    return code;
}
