#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of api/cri/ share. Handlers are grpc_unary functions: the reply's memory is the
 * call's arena, except for what they keep.
 */

#include "api/cri/cri.h"
#include "image/service.h"

#include "runtime.v1.pb-c.h"

struct cri_api {
	struct cri_config config;
	struct engine *engine;
	struct image_service *images;
	struct store *store;
	struct grpc_service runtime_service, image_service;
};

struct cri_api *cri_of(const struct grpc_call *c);

/* --- convert.c --- */

/* All texts that go out: bytes that are no UTF-8 become U+FFFD, since one of them would make a
 * client drop the whole message. NULL gives "". */
char *cri_text(struct arena *a, const char *s);
char **cri_texts(struct arena *a, const struct strv *s);
/* A map<string, string>: entries of the given type, to be assigned to any array of them. */
void *cri_map(struct arena *a, const ProtobufCMessageDescriptor *entry, const struct kvs *k,
	      size_t *ret_n);
/* The other way; entries is an array of pointers to any map's entries. */
void cri_kvs(struct kvs *ret, void *entries, size_t n);
/* One pair more on an info map. Takes json. */
void cri_info(struct arena *a, const ProtobufCMessageDescriptor *entry, void *entries, size_t *n,
	      const char *key, struct json *json);
/* Array of n pointers in the arena. */
void *cri_array(struct arena *a, size_t n);
/* An initialised message in the arena. */
void *cri_message(struct arena *a, const ProtobufCMessageDescriptor *d);
Runtime__V1__Int64Value *cri_int64(struct arena *a, int64_t v);
Runtime__V1__UInt64Value *cri_uint64(struct arena *a, uint64_t v);

#define CRI_NEW(arena, name) cri_message(arena, &runtime__v1__##name##__descriptor)

/* --- streams.c --- */

/* Sends n messages as items of replies of the given type, whose one field is a repeated message, in
 * chunks that suit a network; ends the call. Keeps the call and what is in its arena until then. */
void cri_stream_items(struct grpc_call *c, const ProtobufCMessageDescriptor *reply, void *items,
		      size_t n);

/* --- images.c --- */
extern const struct grpc_method cri_image_methods[];
/* The canonical form of a familiar name, in the arena. */
char *cri_canonical(struct arena *a, const char *familiar);

/* --- pull.c --- */
int cri_pull_image(struct grpc_call *c, const ProtobufCMessage *request, ProtobufCMessage *reply,
		   struct error *err);

/* --- runtime.c --- */
extern const struct grpc_method cri_runtime_methods[];

/* --- status.c --- */
int cri_status(struct grpc_call *c, const ProtobufCMessage *request, ProtobufCMessage *reply,
	       struct error *err);
