#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building replies of protobuf-c in a call's arena, and sending long lists in pieces. Nothing that
 * is made here is freed one by one.
 */

#include "base/map.h"
#include "base/strv.h"
#include "rpc/grpc.h"

/* An initialised message. */
void *message_new(struct arena *a, const ProtobufCMessageDescriptor *d);
/* Room for n pointers, NULL all. */
void *message_array(struct arena *a, size_t n);
/* A string field: never NULL; bytes that are no UTF-8 become U+FFFD, since one of them would make a
 * client drop the whole message. */
char *message_text(struct arena *a, const char *s);
bool message_text_valid(const char *s);
char **message_texts(struct arena *a, const struct strv *s);
/* A map<string, string>: entries of the given type, to be assigned to any array of them. */
void *message_map(struct arena *a, const ProtobufCMessageDescriptor *entry, const struct kvs *k,
		  size_t *ret_n);
void *message_entry(struct arena *a, const ProtobufCMessageDescriptor *d, const char *key,
		    const char *value);
/* The other way; entries is an array of pointers to any such map's entries. */
void message_kvs(struct kvs *ret, void *entries, size_t n);

/* Ends a server-streaming call with n messages as the items of replies of the given type, whose one
 * field is a repeated message; in chunks, as the client takes them. What is in the call's arena
 * lives until then. Any thread. */
void grpc_call_send_items(struct grpc_call *c, struct loop *l,
			  const ProtobufCMessageDescriptor *reply, void *items, size_t n);
