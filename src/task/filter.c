/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled seccomp filters. libseccomp takes 8 ms to compile the default profile for the three
 * architectures of x86-64, for each container anew, more than all else that crun does in user
 * space. crun leaves what it has compiled in its state directory (`exec` needs it), and takes a
 * compiled filter by annotation in place of the profile. So the first container of a profile
 * compiles it, and the others of this daemon's life get the result. The profile stays in the
 * specification for whoever does not know the annotation.
 */

#include "base/buf.h"
#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "oci/digest.h"
#include "task/internal.h"

#include <fcntl.h>
#include <string.h>

#define ANNOTATION "run.oci.seccomp_bpf_data"
#define ANNOTATIONS_PREFIX "run.oci.seccomp"
#define INSTRUCTION_SIZE 8
#define FILTER_MAX (4096 * INSTRUCTION_SIZE) /* the kernel's BPF_MAXINSNS */
#define FILTERS_MAX 16

struct filter {
	struct list node; /* the oldest first */
	char key[DIGEST_MAX];
	char *text; /* base64 */
};

static int find_own(const char *key, struct json *value UNUSED, void *arg)
{
	bool *found = arg;

	*found |= str_has_prefix(key, ANNOTATIONS_PREFIX);
	return 0;
}

bool filter_key(const char *runtime, const struct json *spec, char ret[DIGEST_MAX])
{
	const struct json *profile = json_get(json_get(spec, "linux"), "seccomp");
	bool own = false;

	/* With a listener or the user's own annotations it is not the profile alone that counts. */
	json_object_each(json_get(spec, "annotations"), find_own, &own);
	if (own || !profile || json_get(profile, "listenerPath") ||
	    !str_equal(path_base(runtime), "crun"))
		return false;
	autofree char *text = json_format(profile, /* pretty */ false);
	digest_bytes(text, strlen(text), ret);
	return true;
}

static struct filter *find(struct tasks *m, const char *key)
{
	LIST_FOREACH (f, &m->filters, struct filter, node)
		if (str_equal(f->key, key))
			return f;
	return NULL;
}

static void filter_free(struct filter *f)
{
	list_remove(&f->node);
	free(f->text);
	free(f);
}

bool filter_use(struct tasks *m, const char *key, struct json *spec)
{
	pthread_mutex_lock(&m->lock);
	const struct filter *f = find(m, key);
	autofree char *text = f ? xstrdup(f->text) : NULL;
	pthread_mutex_unlock(&m->lock);
	if (!text)
		return false;
	if (!json_get(spec, "annotations"))
		json_set(spec, "annotations", json_new_object());
	json_set_string(json_get(spec, "annotations"), ANNOTATION, text);
	return true;
}

void filter_learn(struct task *t, const char *key)
{
	autofree char *path = path_join(t->m->config.state, RUNTIME_DIR, t->ns, t->id,
					"seccomp.bpf", NULL);
	autobuf struct buf program = BUF_INIT(FILTER_MAX);
	autobuf struct buf text = BUF_INIT(2 * FILTER_MAX);

	if (fs_read(AT_FDCWD, path, &program) < 0 || program.len == 0 ||
	    program.len % INSTRUCTION_SIZE || base64_encode(program.data, program.len, &text) < 0)
		return;
	struct filter *f = xnew(struct filter);
	memcpy(f->key, key, sizeof(f->key));
	f->text = buf_steal(&text, NULL);
	pthread_mutex_lock(&t->m->lock);
	struct filter *same = find(t->m, key);
	if (same)
		filter_free(same);
	list_append(&t->m->filters, &f->node);
	size_t n = 0;
	LIST_FOREACH (one, &t->m->filters, struct filter, node)
		n++;
	if (n > FILTERS_MAX)
		filter_free(LIST_ENTRY(t->m->filters.next, struct filter, node));
	pthread_mutex_unlock(&t->m->lock);
}

void filters_free(struct tasks *m)
{
	LIST_FOREACH (f, &m->filters, struct filter, node)
		filter_free(f);
}
