#pragma once

/* `cofferd key status | rotate-root | rotate-workspace NAME|UUID | rotate-workspace --all`. Returns the exit status. */
int key_command(int argc, char **argv);
