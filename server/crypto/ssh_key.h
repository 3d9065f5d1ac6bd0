#pragma once

#include <openssl/evp.h>

#include "common/arena.h"
#include "common/error.h"
#include "common/slice.h"

/*
 * Keys as SSH writes them: the public part (RFC 4253, 5656, 8709), and the private format of OpenSSH, which OpenSSL
 * does not read.
 *
 *   public  = string name, then  rsa: mpint e, mpint n;  ecdsa: string curve, string point;  ed25519: string key
 *   file    = "openssh-key-v1" NUL, string cipher, string kdf, string kdf options, u32 number of keys, string public,
 *             string private
 *   private = u32 check, u32 check, string name, the parts, string comment, 1 2 3 ... to a multiple of 8 bytes
 *   parts   = rsa: mpint n, e, d, iqmp, p, q;  ecdsa: string curve, string point, mpint scalar;
 *             ed25519: string public, string (seed, public)
 *
 * A string is u32 length and bytes; an mpint is a string that holds a big-endian number.
 */

/* The public part of a key, in the arena; an empty slice if SSH has no such keys. Fails with OUT_OF_MEMORY or
 * INTERNAL. */
COF_CODE ssh_public_part(const EVP_PKEY *key, struct cof_arena *arena, struct cof_slice *ret_public,
                         struct cof_error *err);

/* Reads a file's bytes. Fails with FIELD_INVALID at `field` for what is encrypted, damaged or of a foreign type. */
COF_CODE ssh_private_read(struct cof_slice bytes, const char *field, struct cof_arena *arena, EVP_PKEY **ret_key,
                          struct cof_error *err);
