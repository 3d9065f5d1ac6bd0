#pragma once

/* `cofferd audit verify` and `cofferd audit export`: the audit log in a server's state directory, read without the
 * database and beside a server that runs. */

int audit_command(int argc, char **argv);
