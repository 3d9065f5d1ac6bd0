#pragma once

/* `cofferd verify`, `cofferd backup` and `cofferd restore` (server/backup). They run beside servers; restore needs a
 * database that none uses. Exit status 3: they ran, and found faults. */

int verify_command(int argc, char **argv);
int backup_command(int argc, char **argv);
int restore_command(int argc, char **argv);
