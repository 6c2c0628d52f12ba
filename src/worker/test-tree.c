/* SPDX-License-Identifier: Apache-2.0 */
/* Trees to archives and back; what test_docker_files.py cannot make: odd names, differences of
 * copies. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/strv.h"
#include "tar/apply.h"
#include "tar/pack.h"
#include "tar/tar-write.h"
#include "worker/gzip.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

struct fixture {
	char path[40];
	int dir, upper, lower;
};

static int setup(void **state)
{
	struct fixture *f = xnew(struct fixture);

	strncpy(f->path, "/var/tmp/test-tree-XXXXXX", sizeof(f->path) - 1);
	assert_non_null(mkdtemp(f->path));
	f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	umask(0);
	assert_int_equal(mkdirat(f->dir, "upper", 0755), 0);
	assert_int_equal(mkdirat(f->dir, "lower", 0755), 0);
	f->upper = openat(f->dir, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->lower = openat(f->dir, "lower", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->upper);
	close(f->lower);
	close(f->dir);
	assert_int_equal(fs_remove_tree(AT_FDCWD, f->path), 0);
	free(f);
	return 0;
}

static void put_file(int dir, const char *name, const char *text)
{
	struct timespec times[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	autoclose int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_int_equal(fs_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(futimens(fd, times), 0);
}

static int to_buf(void *arg, const void *p, size_t n, struct error *err)
{
	return buf_append(arg, p, n) < 0 ? error_set(err, ERROR_RESOURCE_EXHAUSTED, "full") : 0;
}

/* "type path link" of each entry, joined by newlines. */
static char *list(const struct buf *b)
{
	CLEANUP(tar_freep) struct tar *t = tar_new();
	autostrv struct strv lines = STRV_INIT;
	const uint8_t *p = (const uint8_t *)b->data;
	size_t n = b->len;
	struct tar_data d;
	int r;

	while ((r = tar_next(t, &p, &n, &d, NULL)) >= 0 && r != TAR_END && r != TAR_NEED_INPUT) {
		const struct tar_entry *e = tar_entry(t);

		if (r == TAR_ENTRY)
			strv_push_printf(&lines, "%d %s %s", e->type, e->path, e->link);
	}
	assert_int_equal(r, TAR_END);
	return strv_join(&lines, "\n");
}

static void test_long_values(void **state)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);
	char path[300], link[200];
	struct tar_xattr x = { .name = (char *)(uintptr_t) "user.x",
			       .value = (char *)(uintptr_t) "a\0b\n",
			       .len = 4 };
	struct tar_entry e = { .type = TAR_SYMLINK,
			       .path = path,
			       .link = link,
			       .uid = 3000000,
			       .gid = 4000000,
			       .mtime = -5,
			       .mode = 04755,
			       .xattrs = &x,
			       .n_xattrs = 1 };
	CLEANUP(tar_freep) struct tar *t = tar_new();
	struct tar_data d;

	(void)state;
	memset(path, 'p', sizeof(path));
	memset(link, 'l', sizeof(link));
	path[sizeof(path) - 1] = link[sizeof(link) - 1] = '\0';
	assert_int_equal(tar_write_header(&b, &e), 0);
	assert_int_equal(tar_write_end(&b), 0);
	assert_int_equal(b.len % TAR_UNIT, 0);
	const uint8_t *p = (const uint8_t *)b.data;
	size_t n = b.len;
	assert_int_equal(tar_next(t, &p, &n, &d, NULL), TAR_ENTRY);
	const struct tar_entry *got = tar_entry(t);
	assert_string_equal(got->path, path);
	assert_string_equal(got->link, link);
	assert_int_equal(got->uid, e.uid);
	assert_int_equal(got->gid, e.gid);
	assert_int_equal(got->mtime, -5);
	assert_int_equal(got->mode, 04755);
	assert_int_equal(got->n_xattrs, 1);
	assert_memory_equal(got->xattrs[0].value, "a\0b\n", 4);
}

static void test_overlay(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf b = BUF_INIT(1 << 20);
	CLEANUP(packer_done) struct packer p = { .kind = PACK_OVERLAY, .write = to_buf, .arg = &b };

	put_file(f->upper, "b", "1");
	assert_int_equal(linkat(f->upper, "b", f->upper, "c", 0), 0);
	assert_int_equal(symlinkat("/b", f->upper, "s"), 0);
	assert_int_equal(mknodat(f->upper, "gone", S_IFCHR, makedev(0, 0)), 0);
	assert_int_equal(mkdirat(f->upper, "d", 0700), 0);
	assert_int_equal(mkfifoat(f->upper, "d/p", 0600), 0);
	assert_int_equal(mknodat(f->upper, "d/gone", S_IFCHR, makedev(0, 0)), 0);
	assert_int_equal(pack_directory(&p, f->upper, "", NULL), 0);
	assert_int_equal(pack_end(&p, NULL), 0);
	autofree char *got = list(&b);
	assert_string_equal(got, "0 b \n1 c b\n5 d/ \n0 d/.wh.gone \n6 d/p \n0 .wh.gone \n2 s /b");
}

static void test_difference(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf b = BUF_INIT(1 << 20);
	CLEANUP(packer_done) struct packer p = { .write = to_buf, .arg = &b };

	for (int i = 0; i < 2; i++) {
		int dir = i ? f->upper : f->lower;

		assert_int_equal(mkdirat(dir, "d", 0755), 0);
		assert_int_equal(mkdirat(dir, "same", 0755), 0);
		put_file(dir, "same/f", "same");
		put_file(dir, "d/changed", i ? "longer" : "short");
	}
	put_file(f->lower, "d/gone", "");
	put_file(f->lower, "kind", "");
	assert_int_equal(mkdirat(f->upper, "kind", 0755), 0);
	put_file(f->upper, "kind/new", "");
	assert_int_equal(pack_difference(&p, f->lower, f->upper, NULL), 0);
	assert_int_equal(pack_end(&p, NULL), 0);
	autofree char *got = list(&b);
	assert_string_equal(got, "0 d/.wh.gone \n0 d/changed \n5 kind/ \n0 kind/new ");
}

/* Onto files that are there: kinds, owners, whiteouts that are none. */
static void test_plain(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf b = BUF_INIT(1 << 20);
	CLEANUP(packer_done) struct packer p = { .write = to_buf, .arg = &b };
	struct apply_owner owner = { 77, 88 };
	struct apply_config config = { .dir = f->lower,
				       .lower = -1,
				       .whiteouts = APPLY_PLAIN,
				       .keep_kinds = true,
				       .owner = &owner };
	CLEANUP(apply_freep) struct apply *a = apply_new(&config);
	CLEANUP(tar_freep) struct tar *t = tar_new();
	autoerror struct error err = ERROR_INIT;
	struct tar_data d;
	struct stat st;
	int r = 0;

	put_file(f->upper, ".wh.x", "1");
	put_file(f->upper, "x", "1");
	put_file(f->upper, "z", "1");
	put_file(f->lower, "x", "old");
	assert_int_equal(mkdirat(f->lower, "z", 0755), 0);
	assert_int_equal(pack_directory(&p, f->upper, "", NULL), 0);
	assert_int_equal(pack_end(&p, NULL), 0);
	const uint8_t *at = (const uint8_t *)b.data;
	size_t n = b.len;
	while (r >= 0 && (r = tar_next(t, &at, &n, &d, NULL)) != TAR_END) {
		if (r == TAR_ENTRY)
			r = apply_entry(a, tar_entry(t), &err);
		else if (r == TAR_DATA)
			r = apply_data(a, d.p, d.n, d.offset, &err);
		else if (r == TAR_ENTRY_END)
			r = apply_entry_end(a, &err);
	}
	assert_int_equal(r, -1);
	assert_string_equal(error_msg(&err),
			    "cannot overwrite directory \"/z\" with non-directory \"/z\"");
	assert_int_equal(fstatat(f->lower, ".wh.x", &st, 0), 0);
	assert_int_equal(fstatat(f->lower, "x", &st, 0), 0);
	assert_int_equal(st.st_size, 1);
	assert_int_equal(st.st_uid, 77);
	assert_int_equal(st.st_gid, 88);
}

static void test_gzip(void **state)
{
	struct fixture *f = *state;
	autoclose int fd = openat(f->dir, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CLEANUP(gzip_sink_freep) struct gzip_sink *s = gzip_sink_new(fd);
	char digest[DIGEST_MAX], diff_id[DIGEST_MAX], want[DIGEST_MAX];
	autofree char *data = xmalloc(3 << 20);
	int64_t size, raw;

	for (size_t i = 0; i < (3 << 20); i++)
		data[i] = (char)(i * 2654435761U >> 13);
	for (size_t at = 0; at < (3 << 20); at += 1 << 20)
		assert_int_equal(gzip_sink_write(s, data + at, 1 << 20, NULL), 0);
	assert_int_equal(gzip_sink_finish(s, NULL), 0);
	gzip_sink_result(s, digest, diff_id, &size, &raw);
	digest_bytes(data, 3 << 20, want);
	assert_string_equal(diff_id, want);
	assert_int_equal(raw, 3 << 20);
	assert_int_equal(lseek(fd, 0, SEEK_END), size);
	CLEANUP(digester_freep) struct digester *file = digester_new(NULL);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(digester_update_fd(file, fd, NULL), 0);
	digester_peek(file, want);
	assert_string_equal(digest, want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long_values),
		cmocka_unit_test_setup_teardown(test_overlay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_difference, setup, teardown),
		cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gzip, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
