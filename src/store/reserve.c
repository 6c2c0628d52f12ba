/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reserve.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#define NAME "reserve"
#define SIZE (1 << 20)
#define LOW (512 << 10)	  /* below this it is needed */
#define PLENTY (16 << 20) /* above this it can be had */

static void make(struct reserve *r)
{
	autoclose int fd = openat(r->dir_fd, NAME, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	r->held = fd >= 0 && posix_fallocate(fd, 0, SIZE) == 0;
	if (fd >= 0 && !r->held)
		unlinkat(r->dir_fd, NAME, 0);
}

void reserve_open(struct reserve *r, const char *directory)
{
	r->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r->held = r->dir_fd >= 0 && faccessat(r->dir_fd, NAME, F_OK, 0) == 0;
	reserve_adjust(r);
}

void reserve_adjust(struct reserve *r)
{
	struct statvfs st;

	if (r->dir_fd < 0 || fstatvfs(r->dir_fd, &st) < 0)
		return;
	uint64_t available = (uint64_t)st.f_bavail * st.f_frsize;
	if (r->held && available < LOW) {
		unlinkat(r->dir_fd, NAME, 0);
		r->held = false;
	} else if (!r->held && available > PLENTY) {
		make(r);
	}
}

void reserve_close(struct reserve *r)
{
	closep(&r->dir_fd);
	*r = RESERVE_INIT;
}
