#include <inttypes.h>
#include <sanitizer/lsan_interface.h>
#include <stdint.h>
#include <stdio.h>

#include <openssl/crypto.h>

/*
 * Shows OpenSSL's secure heap to the leak sanitizer, which does not look into memory that was mapped. What OpenSSL
 * keeps for each thread (the state of its random numbers) is named from there alone, and nng's threads still run when
 * the process ends. The linker puts this in the place of CRYPTO_secure_malloc_init (--wrap).
 */

int __real_CRYPTO_secure_malloc_init(size_t size, size_t least); /* NOLINT(bugprone-reserved-identifier) */
int __wrap_CRYPTO_secure_malloc_init(size_t size, size_t least); /* NOLINT(bugprone-reserved-identifier) */

/* The mapping in which the address lies. */
static void show_mapping(uintptr_t address)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    uintptr_t from = 0;
    uintptr_t to = 0;
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        /* NOLINTNEXTLINE(cert-err34-c): the kernel writes it */
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2 && address >= from && address < to) {
            __lsan_register_root_region((const void *) from, to - from);
        }
    }
    if (maps != NULL) {
        (void) fclose(maps);
    }
}

int __wrap_CRYPTO_secure_malloc_init(size_t size, size_t least) /* NOLINT(bugprone-reserved-identifier) */
{
    const int made = __real_CRYPTO_secure_malloc_init(size, least);
    void *inside = made == 0 ? NULL : OPENSSL_secure_malloc(1);
    if (inside != NULL) {
        show_mapping((uintptr_t) inside);
        OPENSSL_secure_free(inside);
    }
    return made;
}
