#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What protobuf-c does not look at, done on packed messages by their descriptors. proto3 strings
 * are UTF-8; other implementations refuse a whole message for one byte that is not. Any thread.
 */

#include "base/error.h"

#include <protobuf-c/protobuf-c.h>

/* Of a message from outside: its strings are UTF-8 without NUL bytes (protobuf-c would cut them
 * short), and unpacking takes no more than about max_memory, whatever it claims to hold.
 * INVALID_ARGUMENT naming the field or the message, RESOURCE_EXHAUSTED. */
int protobuf_check(const ProtobufCMessageDescriptor *d, const void *p, size_t len,
		   size_t max_memory, struct error *err);
/* Of a message of ours: what is not UTF-8 in its strings becomes '?', byte by byte. */
void protobuf_repair(const ProtobufCMessageDescriptor *d, void *p, size_t len);
/* Bytes of the character that begins at s: 1 to 4; 0 when it is none. */
size_t utf8_sequence(const unsigned char *s, size_t len);
