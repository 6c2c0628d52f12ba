#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room for cleaning up on a full disk: a file of 1 MiB beside the database. Deleting records needs
 * space too (the log of the database grows), so that on a file system that is full to the last
 * block nothing could ever be freed. When little is left the file goes; when there is plenty again
 * it comes back. Not locked: the database's writer lock guards it.
 */

#include "base/macros.h"

struct reserve {
	int dir_fd; /* owned */
	bool held;
};

#define RESERVE_INIT ((struct reserve){ .dir_fd = -EBADF })

/* Failures are no errors: there is no reserve then. */
void reserve_open(struct reserve *r, const char *directory);
/* Gives it up or makes it again, by what is free now. One system call when there is nothing to do.
 */
void reserve_adjust(struct reserve *r);
void reserve_close(struct reserve *r);
