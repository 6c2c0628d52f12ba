/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Used only where the detached root of sandbox.c is not possible. Below ABI 2 landlock refuses
 * every hard link between directories, which layers have: then an unpacking worker goes without.
 */

#include "worker/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif

#define READ_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE)
#define READ_ALL (READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ABI_1_ALL ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

static int allow(int ruleset, int fd, uint64_t access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access, .parent_fd = fd };

	return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

static int allow_path(int ruleset, const char *path)
{
	struct stat st;
	autoclose int fd = open(path, O_PATH | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	return allow(ruleset, fd, S_ISDIR(st.st_mode) ? READ_ALL : READ_FILE);
}

int sandbox_landlock(int dir, int lower, const char *const *paths, struct error *err)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1 || (abi < 2 && dir >= 0))
		return 0;
	uint64_t all = ABI_1_ALL | (abi >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0);
	struct landlock_ruleset_attr attr = { .handled_access_fs = all };
	autoclose int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return error_errno(err, errno, "sandbox: landlock");
	int r = 0;
	if (dir >= 0)
		r = allow(ruleset, dir, all);
	if (r == 0 && lower >= 0)
		r = allow(ruleset, lower, READ_ALL);
	for (size_t i = 0; r == 0 && paths && paths[i]; i++)
		r = allow_path(ruleset, paths[i]);
	if (r == 0)
		r = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
	return r < 0 ? error_errno(err, errno, "sandbox: landlock") : 0;
}
