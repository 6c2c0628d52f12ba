/* SPDX-License-Identifier: Apache-2.0 */
#include "base/program.h"

#include "base/fs.h"
#include "base/mem.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define PROGRAM_MAX (64 << 20)
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

bool program_wants_seal(const char *path)
{
	static const char *const names[] = { "crun", "runc" };
	const char *name = path_base(path);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_equal(name, names[i]))
			return true;
	return false;
}

/* Kernels before 6.3 do not know that files may be executable or not. */
static int make_memfd(const char *path)
{
	int fd = memfd_create(path_base(path), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(path_base(path), MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd;
}

static int copy(int from, int to, off_t size)
{
	while (size > 0) {
		ssize_t n = sendfile(to, from, NULL, (size_t)size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		size -= n;
	}
	return 0;
}

int program_seal(const char *path, struct error *err)
{
	autoclose int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char magic[SELFMAG] = "";
	struct stat st;

	if (file < 0 || fstat(file, &st) < 0)
		return error_errno(err, errno, "open program '%s'", path);
	if (!S_ISREG(st.st_mode) || st.st_size > PROGRAM_MAX || st.st_mode & (S_ISUID | S_ISGID) ||
	    pread(file, magic, SELFMAG, 0) != SELFMAG || memcmp(magic, ELFMAG, SELFMAG) != 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "'%s' is no plain program", path);
	autoclose int fd = make_memfd(path);
	if (fd < 0)
		return error_errno(err, errno, "make a file in memory");
	int r = copy(file, fd, st.st_size);
	if (r < 0)
		return error_errno(err, -r, "copy '%s'", path);
	if (fchmod(fd, 0755) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return error_errno(err, errno, "seal the copy of '%s'", path);
	return TAKE_FD(fd);
}
