#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The low-level OCI runtime (crun, runc and their like), driven by its command line,
 * asynchronously. Loop thread only.
 */

#include "base/error.h"
#include "base/json.h"
#include "base/process.h"
#include "base/strv.h"
#include "google.protobuf.pb-c.h"

struct runtime {
	char *binary; /* absolute */
	char *root;   /* --root, the namespace included */
	bool systemd_cgroup;
	bool no_pivot_root;
	bool no_new_keyring;
	uint32_t io_uid, io_gid;
};

void runtime_done(struct runtime *r);
/* From Create's options: containerd.runc.v1.Options, or nothing. NOT_FOUND: no such binary. */
int runtime_init(struct runtime *r, const char *ns, const Google__Protobuf__Any *options,
		 struct error *err);
/* What is executed for the binary of this path from now on: a sealed copy (base/program.h). */
void runtime_set_sealed(const char *path, int fd);
/* For `kistl-shim delete`, which has only the bundle: what Create used is kept in it. */
int runtime_save(const struct runtime *r, const char *bundle, struct error *err);
int runtime_load(struct runtime *r, const char *ns, const char *bundle, struct error *err);

struct runtime_call {
	const char *verb;	 /* for messages: "create" */
	const struct strv *args; /* the verb and what follows */
	const char *bundle;	 /* working directory */
	const char *log;	 /* path for the runtime's own messages */
	const struct process_fd *fds;
	size_t n_fds;
};

/* Starts it; done runs once, on the loop, not from within. Its error is UNKNOWN "OCI runtime VERB
 * failed: <the runtime's own words>". */
int runtime_run(const struct runtime *r, const struct runtime_call *call,
		void (*done)(const struct error *err, void *arg), void *arg, struct error *err);

/* The last error in a runtime's JSON log from offset on; malloc'ed, NULL when there is none.
 * Sans-IO. */
char *runtime_log_message(const char *text, size_t len);
/* The whole argv of a call. */
void runtime_argv(const struct runtime *r, const struct runtime_call *call, struct strv *ret);
