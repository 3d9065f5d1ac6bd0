#pragma once

/* `cofferd audit verify` and `cofferd audit export`: the audit log in a server's state directory, read beside a server
 * that runs; with --writes the records of writes in the database as well. */

int audit_command(int argc, char **argv);
