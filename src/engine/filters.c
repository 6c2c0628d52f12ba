/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crun compiles a container's seccomp profile with libseccomp at each start, which takes longer
 * than anything else that it does. It leaves the result in its state directory, and takes one from
 * the annotation run.oci.seccomp_bpf_data instead of compiling. So the first start with a profile
 * is made plainly, and the later ones of the same profile by the same runtime are given its filter.
 *
 * Filters live in memory only: a new daemon has them compiled again, by the libseccomp of that
 * time.
 */
#include "engine/filters.h"

#include "base/fs.h"
#include "base/hex.h"
#include "base/map.h"
#include "base/mem.h"
#include "oci/digest.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define ANNOTATION "run.oci.seccomp_bpf_data"
#define INSTRUCTION_SIZE 8
#define FILTER_MAX (4096 * INSTRUCTION_SIZE) /* the kernel's limit */
#define FILTERS_MAX 16
#define RUNTIME_MAX (64 << 10)

struct filters {
	pthread_mutex_t lock;
	struct map map; /* key -> base64 */
	size_t n;
};

struct filters *filters_new(void)
{
	struct filters *f = xnew(struct filters);

	pthread_mutex_init(&f->lock, NULL);
	return f;
}

void filters_free(struct filters *f)
{
	if (!f)
		return;
	map_done_values(&f->map, free);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* Runtimes that know the annotation and leave their filter behind. */
static bool is_known(const char *runtime)
{
	const char *slash = strrchr(runtime, '/');

	return str_equal(slash ? slash + 1 : runtime, "crun");
}

static char *key_of(const char *runtime, const struct json *seccomp)
{
	char digest[DIGEST_MAX];
	struct stat st;

	if (stat(runtime, &st) < 0)
		return NULL;
	autofree char *profile = json_format(seccomp, /* pretty */ false);
	autofree char *text =
		xasprintf("%s %llu %llu %lld.%ld\n%s", runtime, (unsigned long long)st.st_dev,
			  (unsigned long long)st.st_ino, (long long)st.st_mtim.tv_sec,
			  st.st_mtim.tv_nsec, profile);

	digest_bytes(text, strlen(text), digest);
	return xstrdup(digest);
}

char *filters_apply(struct filters *f, const char *runtime, struct json *spec)
{
	const struct json *seccomp = json_get(json_get(spec, "linux"), "seccomp");
	struct json *annotations = json_get(spec, "annotations");

	if (!seccomp || json_get(seccomp, "listenerPath") || json_get(annotations, ANNOTATION) ||
	    !is_known(runtime))
		return NULL;
	autofree char *key = key_of(runtime, seccomp);
	if (!key)
		return NULL;
	pthread_mutex_lock(&f->lock);
	autofree char *filter = map_get(&f->map, key) ? xstrdup(map_get(&f->map, key)) : NULL;
	pthread_mutex_unlock(&f->lock);
	if (!filter)
		return TAKE_PTR(key);
	if (!annotations) {
		annotations = json_new_object();
		json_set(spec, "annotations", annotations);
	}
	json_set_string(annotations, ANNOTATION, filter);
	return NULL;
}

/* Where the runtime keeps its state the shim has noted in the bundle. */
static char *filter_path(const char *bundle, const char *id)
{
	autofree char *path = path_join(bundle, "runtime.json", NULL);
	autojson struct json *runtime = json_load_at(AT_FDCWD, path, RUNTIME_MAX, NULL);
	const char *root = json_get_string(runtime, "root");

	return root ? path_join(root, id, "seccomp.bpf", NULL) : NULL;
}

void filters_learn(struct filters *f, const char *key, const char *bundle, const char *id)
{
	autobuf struct buf filter = BUF_INIT(FILTER_MAX + 1);
	autobuf struct buf text = BUF_INIT(2 * FILTER_MAX);
	autofree char *path = key ? filter_path(bundle, id) : NULL;

	if (!path || fs_read(AT_FDCWD, path, &filter) < 0 || filter.len == 0 ||
	    filter.len % INSTRUCTION_SIZE != 0 || filter.len > FILTER_MAX ||
	    base64_encode(filter.data, filter.len, &text) < 0)
		return;
	pthread_mutex_lock(&f->lock);
	/* Few machines have so many profiles: beginning anew is good enough. */
	if (f->n == FILTERS_MAX) {
		map_done_values(&f->map, free);
		f->map = MAP_INIT;
		f->n = 0;
	}
	char *old = map_set(&f->map, key, buf_steal(&text, NULL));
	f->n += !old;
	pthread_mutex_unlock(&f->lock);
	free(old);
}
