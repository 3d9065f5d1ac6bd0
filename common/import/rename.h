#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/name.h"
#include "common/slice.h"

/*
 * The name that Coffer allows for a name of a file: itself if it is allowed. Else every character that may not stand
 * in a name becomes one `_`, and where the first one may not stand there, a `_` comes before it. So one name always
 * gives the same name, but two may give one. Too long and empty names stay so. `kind` is COF_NAME_SECRET or
 * COF_NAME_KEY; the name is UTF-8. NULL data if the arena is exhausted.
 */
struct cof_slice cof_import_rename(cof_name_kind kind, struct cof_slice name, struct cof_arena *arena);
