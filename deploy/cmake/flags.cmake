# How all of our own code is compiled. coffer_flags carries warnings and hardening; generated code does not use it.

add_library(coffer_flags INTERFACE)
target_include_directories(coffer_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(coffer_flags INTERFACE _GNU_SOURCE)

set(warnings
    -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wformat=2 -Wnull-dereference
    -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wredundant-decls -Wundef -Wvla -Walloca
    -Wwrite-strings -Wpointer-arith -Wdouble-promotion -Wunused-macros -Wbad-function-cast -Wenum-conversion
    -Wframe-larger-than=4096)
set(warnings_gcc
    -Wcast-align=strict -Wformat-signedness -Wformat-overflow=2 -Wformat-truncation=2 -Wduplicated-cond
    -Wduplicated-branches -Wlogical-op -Wimplicit-fallthrough=5 -Wjump-misses-init -Warith-conversion -Walloc-zero
    -Wtrampolines)
set(warnings_clang -Wmissing-variable-declarations -Wcovered-switch-default -Wassign-enum -Wcomma)

target_compile_options(coffer_flags INTERFACE ${warnings}
    $<$<C_COMPILER_ID:GNU>:${warnings_gcc}> $<$<C_COMPILER_ID:Clang>:${warnings_clang}>
    $<$<BOOL:${COFFER_WERROR}>:-Werror>)

# Hardening holds for every target, generated code included; .ci/hardening looks for it in what is installed.
check_pie_supported(LANGUAGES C)
add_compile_options(-fno-common -fno-delete-null-pointer-checks -fno-strict-overflow -fno-strict-aliasing
    -fstack-protector-strong -fstack-clash-protection -fcf-protection=full)
add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code -Wl,--as-needed)
if(COFFER_SANITIZE)
    add_compile_options(-fsanitize=${COFFER_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${COFFER_SANITIZE})
else()
    add_compile_options($<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=3>)
    # Zeroed variables would hide reads of uninitialised ones from the sanitizers and from valgrind.
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
        add_compile_options(-ftrivial-auto-var-init=zero -fzero-call-used-regs=used-gpr)
    endif()
endif()
# Asserts stay on: in a secrets service a broken invariant must stop the process.
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
# The libraries tell the fuzzer which way an input went; the sanitizer's runtime has what all other programs need then.
if(COFFER_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang" OR NOT COFFER_SANITIZE MATCHES "address")
        message(FATAL_ERROR "COFFER_FUZZ needs clang and -DCOFFER_SANITIZE=address,undefined")
    endif()
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(COFFER_FAULTS)
    target_compile_definitions(coffer_flags INTERFACE COFFER_FAULTS=1)
endif()
