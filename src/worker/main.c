/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kistl-image: the process in which bytes from strangers are parsed. It is started by kistld with
 * one socket and one verb, does that, and ends.
 */

#include "base/log.h"
#include "base/macros.h"
#include "oci/worker-proto.h"
#include "worker/verbs.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const struct verb {
	const char *name;
	int (*run)(int sock, struct error *err);
	const char *help;
} verbs[] = {
	{ "fetch", worker_fetch, "download an image from a registry" },
	{ "push", worker_push, "upload an image to a registry" },
	{ "login", worker_login, "check credentials against a registry" },
	{ "unpack", worker_unpack, "apply one layer to a directory" },
	{ "load", worker_load, "read an image archive" },
	{ "save", worker_save, "write an archive" },
	{ "search", worker_search, "search a registry" },
	{ "pack", worker_pack, "read files of a container" },
	{ "extract", worker_extract, "write files to a container" },
	{ "layer", worker_layer, "make a layer of a container's changes" },
	{ "import", worker_import, "make a layer of an archive" },
};

/* A worker that waits for a registry or a disk must still end with its daemon. */
static void *watch(void *arg)
{
	struct pollfd p = { .fd = (int)(intptr_t)arg };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	_exit(1);
}

int worker_start(int sock, const struct sandbox *sandbox, struct error *err)
{
	pthread_t thread;
	pthread_attr_t attr;
	sigset_t all, old;

	if (sandbox_enter(sandbox, err) < 0)
		return -1;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int r = pthread_create(&thread, &attr, watch, (void *)(intptr_t)sock);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r ? error_errno(err, r, "start a thread") : 0;
}

static bool is_packet_socket(int fd)
{
	int type;
	socklen_t len = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}

static int run(const struct verb *verb)
{
	autoerror struct error err = ERROR_INIT, lost = ERROR_INIT;
	struct json *last = NULL;

	int r = verb->run(WORKER_FD, &err);
	if (r < 0) {
		last = worker_error_encode(&err);
	} else {
		last = json_new_object();
		json_set_string(last, "event", "done");
	}
	if (worker_send(WORKER_FD, last, NULL, 0, &lost) < 0)
		return 1;
	return r < 0;
}

static int usage(FILE *to)
{
	fprintf(to, "usage: kistl-image VERB\n\n"
		    "Started by kistld, with a SOCK_SEQPACKET socket as descriptor 3.\n\nverbs:\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].help);
	return to == stderr ? 2 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("kistl-image %s\n", KISTL_VERSION);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return usage(stdout);
	const struct verb *verb = NULL;
	for (size_t i = 0; argc == 2 && i < ARRAY_SIZE(verbs); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			verb = &verbs[i];
	if (!verb)
		return usage(stderr);
	if (!is_packet_socket(WORKER_FD)) {
		fprintf(stderr,
			"kistl-image: descriptor %d is no SOCK_SEQPACKET socket; "
			"kistl-image is started by kistld\n",
			WORKER_FD);
		return 2;
	}
	log_setup("kistl-image", LOG_WARN, LOG_FORMAT_AUTO);
	signal(SIGPIPE, SIG_IGN);
	umask(0);
	/* Without exit handlers: libraries' threads may still run, and nothing is left to flush. */
	_exit(run(verb));
}
