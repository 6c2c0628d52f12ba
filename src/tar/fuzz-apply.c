/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile layer onto a temporary directory beside which a file must stay as it is. The first byte
 * chooses the kind of whiteouts.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "tar/apply.h"
#include "tar/testing-tar.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int apply_step(struct apply *a, struct tar *t, int event, const struct tar_data *d,
		      struct error *err)
{
	switch (event) {
	case TAR_ENTRY:
		/* Nothing that would make the fuzzer's host special. */
		if (tar_entry(t)->type == TAR_CHAR || tar_entry(t)->type == TAR_BLOCK)
			return -1;
		return apply_entry(a, tar_entry(t), err);
	case TAR_DATA:
		return d->offset > 1 << 24 ? -1 : apply_data(a, d->p, d->n, d->offset, err);
	case TAR_ENTRY_END:
		return apply_entry_end(a, err);
	default:
		return event < 0 || event == TAR_END ? -1 : 0;
	}
}

static void run(int dir, const uint8_t *data, size_t size)
{
	struct apply_config config = { .dir = dir,
				       .lower = -1,
				       .whiteouts = data[0] & 1 ? APPLY_OVERLAY : APPLY_DELETE,
				       .max_entries = 200 };
	CLEANUP(apply_freep) struct apply *a = apply_new(&config);
	CLEANUP(tar_freep) struct tar *t = tar_new();
	autostrv struct strv implied = STRV_INIT;
	autoerror struct error err = ERROR_INIT;
	const uint8_t *p = data + 1;
	size_t n = size - 1;

	while (n > 0) {
		struct tar_data d = { 0 };
		int event = tar_next(t, &p, &n, &d, &err);
		if (apply_step(a, t, event, &d, &err) < 0)
			return;
	}
	if (tar_finish(t, &err) == 0)
		apply_finish(a, &implied, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	char path[] = "/tmp/fuzz-apply-XXXXXX";
	struct stat before, after;

	if (size < 2)
		return 0;
	autofree uint8_t *data = xmemdup(input, size);
	tar_fix_checksums(data + 1, size - 1);
	umask(0);
	assert(mkdtemp(path));
	autoclose int outer = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(outer >= 0 && mkdirat(outer, "layer", 0755) == 0);
	autoclose int victim = openat(outer, "victim", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert(victim >= 0 && write(victim, "x", 1) == 1 && fstat(victim, &before) == 0);
	autoclose int dir = openat(outer, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(dir >= 0);

	run(dir, data, size);

	assert(fstatat(outer, "victim", &after, AT_SYMLINK_NOFOLLOW) == 0);
	assert(memcmp(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim)) == 0 &&
	       memcmp(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim)) == 0 &&
	       before.st_ino == after.st_ino);
	assert(chdir("/") == 0);
	fs_remove_tree(AT_FDCWD, path);
	return 0;
}
