#pragma once

#include <stdint.h>

#include "common/slice.h"

/*
 * SipHash-2-4 (Aumasson and Bernstein): a hash for tables whose keys peers choose. Whoever does not know the key cannot
 * make names that meet in one bucket.
 */

enum { HASH_KEY = 16 };

uint64_t hash_bytes(const uint8_t key[HASH_KEY], struct cof_slice bytes);
