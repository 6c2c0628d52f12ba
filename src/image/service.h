#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: pull, push, load, save, unpack, look-up. Orchestrates kistl-image workers
 * (oci/worker-proto.h) and writes the store. Blocking calls for pool threads (JOB_TRANSFER for the
 * long ones); progress is called on the calling thread. Two pulls of one layer download it once.
 */

#include "loop/job.h"
#include "oci/image.h"
#include "oci/reference.h"
#include "store/content.h"
#include "store/images.h"
#include "store/snapshots.h"

struct image_service;

struct image_service_config {
	struct store *store;
	const char *worker;	       /* path of kistl-image */
	const struct strv *hosts_dirs; /* certs.d roots, e.g. /etc/kistl/certs.d,
					  /etc/containerd/certs.d, /etc/docker/certs.d */
	const struct strv
		*insecure; /* hosts (host:port or CIDR) to speak plain HTTP or unverified TLS to */
	unsigned max_downloads; /* parallel layers a pull; 0: 3 */
	int64_t stall_timeout;	/* ns without a byte before a download is retried; 0: 60 s */
};

struct image_service *image_service_new(const struct image_service_config *config,
					struct error *err);
void image_service_free(struct image_service *s);
/* The path of kistl-image, for what else it does. Borrowed. */
const char *image_service_worker(const struct image_service *s);

struct registry_auth {
	char *username, *password, *identity_token, *registry_token;
	char *server; /* as the client wrote it, may be NULL */
};

void registry_auth_done(struct registry_auth *a);

enum progress_phase {
	PROGRESS_MESSAGE,     /* text only: "Pulling from library/busybox" */
	PROGRESS_WAITING,     /* the layer has been found; "Pulling fs layer" */
	PROGRESS_EXISTS,      /* "Already exists" */
	PROGRESS_DOWNLOADING, /* current, total */
	PROGRESS_DOWNLOADED,
	PROGRESS_EXTRACTING,
	PROGRESS_DONE,	    /* "Pull complete" */
	PROGRESS_RETRYING,  /* text says why and how long */
	PROGRESS_PREPARING, /* push */
	PROGRESS_PUSHING,
	PROGRESS_PUSHED,
	PROGRESS_MOUNTED, /* text: from which repository */
	PROGRESS_LAYER_EXISTS,
};

struct progress {
	enum progress_phase phase;
	const char *id;	  /* first 12 hex digits of the layer's digest, or tag; may be NULL */
	const char *text; /* may be NULL */
	int64_t current, total;
};

typedef void (*progress_fn)(const struct progress *p, void *arg);

struct transfer {
	const char *ns;
	const char *ref;		  /* as the user wrote it */
	const struct platform *platform;  /* NULL: the host's */
	const struct registry_auth *auth; /* NULL: Docker's config.json of the daemon's user */
	struct cancel *cancel;		  /* may be NULL */
	progress_fn progress;		  /* may be NULL */
	void *arg;
};

/* Resolves, downloads, unpacks, records. ret (may be NULL). *ret_fresh: false when it was up to
 * date. NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE, RESOURCE_EXHAUSTED, DATA_LOSS
 * (digest). */
int image_pull(struct image_service *s, const struct transfer *t, struct image *ret,
	       bool *ret_fresh, struct error *err);
/* ret_digest: DIGEST_MAX; ret_size may be NULL. */
int image_push(struct image_service *s, const struct transfer *t, char *ret_digest,
	       int64_t *ret_size, struct error *err);
/* Checks credentials against a registry; *ret_token (malloc'ed) an identity token, or NULL. */
int image_login(struct image_service *s, const struct registry_auth *auth, char **ret_token,
		struct error *err);
/* What a registry has under a name, without its layers: the descriptor, and the platforms as
 * JSON objects of the image index (one of the config where there is none). */
int image_distribution(struct image_service *s, const struct transfer *t, struct descriptor *ret,
		       struct json **ret_platforms, struct error *err);
/* Repositories of Docker Hub, or of "host[:port]/term"; *ret an array of Docker's search results.
 */
int image_search(struct image_service *s, const char *term, int64_t limit,
		 const struct registry_auth *auth, struct json **ret, struct error *err);
/* Archive from fd; progress messages "Loaded image: NAME" / "Loaded image ID: sha256:..." come as
 * PROGRESS_MESSAGE. ret_names may be NULL. */
int image_load(struct image_service *s, const struct transfer *t, int input, struct strv *ret_names,
	       struct error *err);
/* docker-archive and OCI layout in one tar, as Docker >= 25 writes. names: references or ids. */
int image_save(struct image_service *s, const char *ns, const struct strv *names, int output,
	       struct cancel *cancel, struct error *err);
/* Makes sure that the image's layers are committed snapshots; *ret_chain (DIGEST_MAX) is their
 * chain id. */
int image_unpack(struct image_service *s, const struct transfer *t, const struct image *image,
		 const char *snapshotter, char *ret_chain, struct error *err);

/* What is known of one image: everything the APIs show. */
struct image_details {
	struct image image; /* name may be "" (by id only) */
	char *id;	    /* config digest "sha256:..." */
	char *manifest_digest;
	struct image_config config;
	struct descriptors layers;
	int64_t size;	      /* content + unpacked */
	int64_t unpacked;     /* of all layers; 0 when it is not unpacked */
	int64_t *layer_sizes; /* unpacked, one a layer */
	struct strv tags;     /* familiar "busybox:latest" of all names with this id */
	struct strv digests;  /* familiar "busybox@sha256:..." */
	int64_t created;      /* ns, of the config; 0 unknown */
	bool pinned;
};

struct image_details_list {
	struct image_details *v;
	size_t n;
};

void image_details_done(struct image_details *d);
void image_details_list_done(struct image_details_list *l);

/* Docker's look-up: name (normalised, default tag), name@digest, id, unique id prefix.
 * NOT_FOUND "No such image: X"; INVALID_ARGUMENT for an ambiguous prefix. */
int image_lookup(struct image_service *s, const char *ns, const char *name,
		 struct image_details *ret, struct error *err);
/* One entry per id (all its tags in it); dangling ones too. */
int image_list_details(struct image_service *s, const char *ns, struct image_details_list *ret,
		       struct error *err);
int image_tag(struct image_service *s, const char *ns, const char *source, const char *target,
	      struct error *err);
/* Docker's rmi: by tag removes the name, by id all (FAILED_PRECONDITION when several and not
 * force). ret_untagged, ret_deleted: what the reply lists. Whether containers use it is the
 * caller's matter. */
int image_untag(struct image_service *s, const char *ns, const char *name, bool force,
		struct strv *ret_untagged, struct strv *ret_deleted, struct error *err);
