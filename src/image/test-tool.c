/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Not a test by itself: the image service as a command, for
 *tests/integration/test_image_service.py.
 *
 *	test-image-tool ROOT WORKER COMMAND [ARGUMENT...]
 *
 * $SNAPSHOTTER, $HOSTS (a certs.d root), $NAMESPACE. Prints one JSON object a line.
 */
#include "base/log.h"
#include "base/mem.h"
#include "image/service.h"
#include "store/gc.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct tool {
	struct store *store;
	struct image_service *service;
	const char *ns;
};

static pthread_mutex_t print_lock = PTHREAD_MUTEX_INITIALIZER;

static void print(struct json *j)
{
	autofree char *text = json_format(j, false);

	pthread_mutex_lock(&print_lock);
	puts(text);
	fflush(stdout);
	pthread_mutex_unlock(&print_lock);
	json_unref(j);
}

static void on_progress(const struct progress *p, void *arg)
{
	struct json *j = json_new_object();

	json_set_int(j, "phase", p->phase);
	json_set_string(j, "id", p->id);
	json_set_string(j, "text", p->text);
	json_set_int(j, "current", p->current);
	json_set_int(j, "total", p->total);
	print(j);
}

static struct transfer transfer_for(const struct tool *t, const char *ref)
{
	return (struct transfer){ .ns = t->ns, .ref = ref, .progress = on_progress };
}

static int do_pull(struct tool *t, char **args, struct error *err)
{
	struct transfer x = transfer_for(t, args[0]);
	autoimage struct image image = { 0 };
	struct json *j;
	bool fresh;

	if (image_pull(t->service, &x, &image, &fresh, err) < 0)
		return -1;
	j = json_new_object();
	json_set_string(j, "pulled", image.name);
	json_set_string(j, "digest", image.target.digest);
	json_set_bool(j, "fresh", fresh);
	print(j);
	return 0;
}

struct parallel {
	struct tool *tool;
	char *ref;
	pthread_t thread;
	struct error err;
	int r;
};

static void *pull_thread(void *arg)
{
	struct parallel *p = arg;
	char *args[] = { p->ref, NULL };

	p->r = do_pull(p->tool, args, &p->err);
	return NULL;
}

/* All references at once. */
static int do_pulls(struct tool *t, char **args, struct error *err)
{
	struct parallel p[16];
	size_t n = 0;
	int r = 0;

	for (; args[n] && n < ARRAY_SIZE(p); n++) {
		p[n] = (struct parallel){ .tool = t, .ref = args[n] };
		pthread_create(&p[n].thread, NULL, pull_thread, &p[n]);
	}
	for (size_t i = 0; i < n; i++) {
		pthread_join(p[i].thread, NULL);
		if (p[i].r < 0) {
			error_move(err, &p[i].err);
			r = -1;
		}
	}
	return r;
}

static void print_details(const struct image_details *d)
{
	struct json *j = json_new_object();
	struct json *layers = json_new_array();

	json_set_string(j, "name", d->image.name);
	json_set_string(j, "id", d->id);
	json_set_string(j, "manifest", d->manifest_digest);
	json_set_int(j, "size", d->size);
	json_set(j, "tags", json_new_strv(&d->tags));
	json_set(j, "digests", json_new_strv(&d->digests));
	json_set(j, "diff_ids", json_new_strv(&d->config.diff_ids));
	for (size_t i = 0; i < d->layers.n; i++)
		json_add(layers, json_new_string(d->layers.v[i].digest));
	json_set(j, "layers", layers);
	print(j);
}

static int do_lookup(struct tool *t, char **args, struct error *err)
{
	struct image_details d = { 0 };

	if (image_lookup(t->service, t->ns, args[0], &d, err) < 0)
		return -1;
	print_details(&d);
	image_details_done(&d);
	return 0;
}

static int do_list(struct tool *t, char **args, struct error *err)
{
	struct image_details_list l = { 0 };

	if (image_list_details(t->service, t->ns, &l, err) < 0)
		return -1;
	for (size_t i = 0; i < l.n; i++)
		print_details(&l.v[i]);
	image_details_list_done(&l);
	return 0;
}

static int do_tag(struct tool *t, char **args, struct error *err)
{
	return image_tag(t->service, t->ns, args[0], args[1], err);
}

static int do_untag(struct tool *t, char **args, struct error *err)
{
	autostrv struct strv untagged = STRV_INIT;
	autostrv struct strv deleted = STRV_INIT;
	struct json *j;

	if (image_untag(t->service, t->ns, args[0], args[1] != NULL, &untagged, &deleted, err) < 0)
		return -1;
	j = json_new_object();
	json_set(j, "untagged", json_new_strv(&untagged));
	json_set(j, "deleted", json_new_strv(&deleted));
	print(j);
	return 0;
}

/* Mounts an image's snapshots read-only on a directory. */
static int do_mount(struct tool *t, char **args, struct error *err)
{
	const struct store_ctx c = { .store = t->store, .ns = t->ns };
	struct image_details d = { 0 };
	automounts struct mounts mounts = MOUNTS_INIT;
	char chain[144];
	int r;

	if (image_lookup(t->service, t->ns, args[0], &d, err) < 0)
		return -1;
	image_config_chain_id(&d.config, d.config.diff_ids.n, chain);
	image_details_done(&d);
	r = snapshot_view(&c, NULL, "test-view", chain, NULL, &mounts, err);
	return r < 0 ? -1 : mounts_attach(&mounts, args[1], err);
}

static int print_snapshot(const struct snapshot_info *i, void *arg)
{
	struct json *j = json_new_object();

	json_set_string(j, "snapshot", i->name);
	json_set_int(j, "kind", i->kind);
	print(j);
	return 0;
}

static int print_content(const struct content_info *i, void *arg)
{
	struct json *j = json_new_object();

	json_set_string(j, "content", i->digest);
	json_set_int(j, "size", i->size);
	json_set(j, "labels", json_new_kvs(&i->labels));
	print(j);
	return 0;
}

static int print_ingest(const struct ingest_status *i, void *arg)
{
	struct json *j = json_new_object();

	json_set_string(j, "ingest", i->ref);
	json_set_int(j, "offset", i->offset);
	print(j);
	return 0;
}

static int do_dump(struct tool *t, char **args, struct error *err)
{
	const struct store_ctx c = { .store = t->store, .ns = t->ns };

	if (snapshot_walk(&c, NULL, print_snapshot, NULL, err) < 0 ||
	    content_walk(&c, print_content, NULL, err) < 0)
		return -1;
	return ingest_walk(&c, print_ingest, NULL, err);
}

static int do_gc(struct tool *t, char **args, struct error *err)
{
	return gc_run(t->store, NULL, err);
}

/* unpack NAME SNAPSHOTTER */
static int do_unpack(struct tool *t, char **args, struct error *err)
{
	const struct store_ctx c = { .store = t->store, .ns = t->ns };
	struct transfer x = transfer_for(t, args[0]);
	autoimage struct image image = { 0 };
	char chain[144];
	struct json *j;

	if (image_get(&c, args[0], &image, err) < 0 ||
	    image_unpack(t->service, &x, &image, args[1], chain, err) < 0)
		return -1;
	j = json_new_object();
	json_set_string(j, "chain", chain);
	print(j);
	return 0;
}

static int do_push(struct tool *t, char **args, struct error *err)
{
	struct transfer x = transfer_for(t, args[0]);
	char digest[144];
	struct json *j;
	int64_t size;

	if (image_push(t->service, &x, digest, &size, err) < 0)
		return -1;
	j = json_new_object();
	json_set_string(j, "pushed", digest);
	json_set_int(j, "size", size);
	print(j);
	return 0;
}

/* login SERVER USER PASSWORD */
static int do_login(struct tool *t, char **args, struct error *err)
{
	const struct registry_auth auth = { .server = args[0],
					    .username = args[1],
					    .password = args[2] };
	autofree char *token = NULL;
	struct json *j;

	if (image_login(t->service, &auth, &token, err) < 0)
		return -1;
	j = json_new_object();
	json_set_string(j, "token", token);
	print(j);
	return 0;
}

static int do_load(struct tool *t, char **args, struct error *err)
{
	struct transfer x = transfer_for(t, NULL);
	autostrv struct strv names = STRV_INIT;
	autoclose int fd = open(args[0], O_RDONLY | O_CLOEXEC);
	struct json *j;

	if (image_load(t->service, &x, fd, &names, err) < 0)
		return -1;
	j = json_new_object();
	json_set(j, "loaded", json_new_strv(&names));
	print(j);
	return 0;
}

/* save FILE NAME... */
static int do_save(struct tool *t, char **args, struct error *err)
{
	autoclose int fd = open(args[0], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	autostrv struct strv names = STRV_INIT;

	for (char **name = args + 1; *name; name++)
		strv_push(&names, *name);
	return image_save(t->service, t->ns, &names, fd, NULL, err);
}

static const struct command {
	const char *name;
	int args;
	int (*run)(struct tool *t, char **args, struct error *err);
} commands[] = {
	{ "pull", 1, do_pull },	    { "pulls", 1, do_pulls }, { "lookup", 1, do_lookup },
	{ "list", 0, do_list },	    { "tag", 2, do_tag },     { "untag", 1, do_untag },
	{ "mount", 2, do_mount },   { "dump", 0, do_dump },   { "gc", 0, do_gc },
	{ "unpack", 1, do_unpack }, { "push", 1, do_push },   { "login", 3, do_login },
	{ "load", 1, do_load },	    { "save", 2, do_save },
};

static int run(const struct command *c, char **argv, char **args, struct error *err)
{
	struct store_config config = { .root = argv[1], .snapshotter = getenv("SNAPSHOTTER") };
	autostrv struct strv hosts = STRV_INIT;
	struct image_service_config images = { .worker = argv[2], .hosts_dirs = &hosts };
	struct tool t = { .ns = getenv("NAMESPACE") ? getenv("NAMESPACE") : "default" };
	int r;

	if (getenv("HOSTS"))
		strv_push(&hosts, getenv("HOSTS"));
	if (store_open(&config, &t.store, err) < 0)
		return -1;
	images.store = t.store;
	t.service = image_service_new(&images, err);
	r = t.service ? c->run(&t, args, err) : -1;
	image_service_free(t.service);
	store_close(t.store);
	return r;
}

int main(int argc, char **argv)
{
	autoerror struct error err = ERROR_INIT;

	log_setup("test-image-tool", LOG_INFO, LOG_FORMAT_TEXT);
	for (size_t i = 0; argc > 3 && i < ARRAY_SIZE(commands); i++) {
		struct json *j;

		if (strcmp(commands[i].name, argv[3]) != 0 || argc < 4 + commands[i].args)
			continue;
		if (run(&commands[i], argv, argv + 4, &err) == 0)
			return 0;
		j = json_new_object();
		json_set_string(j, "error", error_msg(&err));
		json_set_string(j, "code", error_code_name(err.code));
		print(j);
		return 1;
	}
	return 2;
}
