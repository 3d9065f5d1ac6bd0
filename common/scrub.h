#pragma once

/*
 * In a program that this is part of, free() and realloc() wipe what they give back. Our own code keeps values in
 * arenas, which are wiped; but what passes through libraries lies in memory that they free. The two functions take
 * the place of libc's for the whole process, its libraries included, so nothing has to be included or called.
 *
 * It costs the wiping of what is freed. Sanitizers bring functions of their own, so builds with one go without.
 */
