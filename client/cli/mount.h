#pragma once

#include "client/cli/cli.h"

/*
 * A value as a file for a program: in memory, with mode 0400, sealed so that nobody changes it, and gone with the last process
 * that has it open, however that ends. The descriptor is not inherited by itself.
 */
cli_exit mount_make(coffer_bytes value, int *ret_fd);

/* The path by which the program that inherits `fd` under this number opens the file. */
enum { MOUNT_PATH = 40 };
void mount_path(int fd, char path[MOUNT_PATH]);
