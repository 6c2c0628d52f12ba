#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What the store's tests share: a store in a temporary directory, and shorthands that must succeed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* Needs the ones above. */
#include <cmocka.h>

#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/time.h"
#include "oci/digest.h"
#include "store/containers.h"
#include "store/content.h"
#include "store/gc.h"
#include "store/images.h"
#include "store/leases.h"
#include "store/snapshots.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct fixture {
	char dir[64];
	char *root;
	const char *snapshotter;
	struct store *store;
	struct store_ctx ctx;  /* namespace "test", lease "hold" */
	struct store_ctx bare; /* without lease */
};

/* assert_ok(content_stat(&c, d, &i, ERR)): ERR is the error that the message is taken from. */
#define assert_ok(call)                                              \
	do {                                                         \
		autoerror struct error ERR_ = ERROR_INIT;            \
		struct error *ERR UNUSED = &ERR_;                    \
		if ((call) < 0)                                      \
			fail_msg("%s: %s", #call, error_msg(&ERR_)); \
	} while (0)
#define assert_error(want, call)                                                  \
	do {                                                                      \
		autoerror struct error ERR_ = ERROR_INIT;                         \
		struct error *ERR UNUSED = &ERR_;                                 \
		if ((call) >= 0)                                                  \
			fail_msg("%s: succeeded", #call);                         \
		if (ERR_.code != (want))                                          \
			fail_msg("%s: %s: %s", #call, error_code_name(ERR_.code), \
				 error_msg(&ERR_));                               \
	} while (0)

static inline void fixture_open(struct fixture *f)
{
	struct store_config config = { .root = f->root, .snapshotter = f->snapshotter };

	assert_ok(store_open(&config, &f->store, ERR));
	f->bare = (struct store_ctx){ .store = f->store, .ns = "test" };
	f->ctx = (struct store_ctx){ .store = f->store, .ns = "test", .lease = "hold" };
}

static inline void fixture_close(struct fixture *f)
{
	store_close(f->store);
	f->store = NULL;
}

static inline void fixture_reopen(struct fixture *f)
{
	fixture_close(f);
	fixture_open(f);
}

static inline struct fixture *fixture_new(const char *snapshotter)
{
	struct fixture *f = xnew(struct fixture);

	snprintf(f->dir, sizeof(f->dir), "/var/tmp/kistl-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->root = path_join(f->dir, "root", NULL);
	f->snapshotter = snapshotter;
	fixture_open(f);
	assert_ok(lease_create(&f->bare, "hold", 0, NULL, ERR));
	return f;
}

static inline void fixture_free(struct fixture *f)
{
	store_close(f->store);
	assert_int_equal(fs_remove_tree(AT_FDCWD, f->dir), 0);
	free(f->root);
	free(f);
}

static inline int fixture_setup(void **state)
{
	*state = fixture_new(NULL);
	return 0;
}

static inline int fixture_teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

/* Stores text as a blob under the context's lease. */
static inline void put_text(const struct store_ctx *c, const char *text, const struct kvs *labels,
			    char digest[DIGEST_MAX])
{
	digest_bytes(text, strlen(text), digest);
	assert_ok(content_put(c, digest, text, strlen(text), labels, ERR));
}

static inline bool has_content(const struct store_ctx *c, const char *digest)
{
	struct content_info info = { 0 };
	bool found = content_stat(c, digest, &info, NULL) == 0;

	content_info_done(&info);
	return found;
}

static inline char *blob_file(const struct fixture *f, const char *digest)
{
	autofree char *tail = digest_blob_path(digest);

	return path_join(f->root, "io.containerd.content.v1.content", tail, NULL);
}

static inline bool blob_on_disk(const struct fixture *f, const char *digest)
{
	autofree char *path = blob_file(f, digest);

	return access(path, F_OK) == 0;
}

static inline void put_image(const struct store_ctx *c, const char *name, const char *digest)
{
	struct image i = { .name = (char *)name,
			   .target = { .media_type = (char *)MEDIA_OCI_MANIFEST,
				       .digest = (char *)digest,
				       .size = 1 } };

	assert_ok(image_put(c, &i, ERR));
}
