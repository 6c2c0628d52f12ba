#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What test-pods.c stands on: an image, a network that takes notes, pods and containers to order.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/time.h"
#include "engine/sandbox-internal.h"
#include "network/cni.h"
#include "store/snapshots.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#define CHAIN "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define NS "k8s.io"

extern struct engine *engine;
extern char *base_dir;
extern struct error error_last;

#define ERR (error_done(&error_last), &error_last)
#define assert_ok(expr)                                                    \
	do {                                                               \
		if ((expr) < 0)                                            \
			fail_msg("%s: %s", #expr, error_msg(&error_last)); \
	} while (0)
#define assert_fails(expr, want, text)                                                        \
	do {                                                                                  \
		assert_int_equal((expr), -1);                                                 \
		assert_string_equal(error_code_name(error_last.code), error_code_name(want)); \
		if (!strstr(error_last.msg, (text)))                                          \
			fail_msg("%s has not '%s'", error_last.msg, (text));                  \
	} while (0)

struct net_notes {
	pthread_mutex_t lock;
	int attached, detached;
	bool refuse_attach, refuse_detach;
	bool had_netns;
};

extern struct net_notes net;
extern const struct pod_network network;

struct container_view *look(const char *id);
char *read_text(const char *path);
/* The log's text without what CRI's format puts before each line. */
char *log_text(const char *path);
/* Runs to the end and removes; what it printed. */
char *run(struct container_config *k, int *ret_code);
char *run_script(const char *pod, const char *script);
void make_image(struct store *s);
void pod_configure(struct sandbox_config *c, const char *name);
void pod_run(struct sandbox_config *c, char id[65]);
/* Gives it a user namespace. */
void userns(struct sandbox_config *c);
enum sandbox_state state_of(const char *id);
void configure(struct container_config *k, const char *pod, const char *script);
void create(struct container_config *k, char id[65]);
int await_exit(const char *id);
void assert_has(const char *text, const char *want);
size_t count_entries(const char *dir);
