#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WWW-Authenticate (RFC 9110, 11.6.1) as registries send it: scheme and parameters, several
 * challenges in one header or in several. Sans-IO, bounded. Any thread.
 */

#include "base/map.h"

#define CHALLENGE_HEADER_MAX (16 << 10)
#define CHALLENGES_MAX 8
#define CHALLENGE_PARAMS_MAX 16

struct challenge {
	char *scheme;	   /* lower case */
	struct kvs params; /* keys in lower case; the first of equal keys counts */
};

struct challenges {
	struct challenge v[CHALLENGES_MAX];
	size_t n;
};

#define CHALLENGES_INIT ((struct challenges){ .n = 0 })

void challenges_done(struct challenges *c);
/* Appends what one header value says; what cannot be understood ends the parse of this value, what
 * came before it stays. -EINVAL then, also when a bound is passed. */
int challenges_parse(struct challenges *c, const char *value);
/* First one of this scheme (lower case), or NULL. Borrowed. */
const struct challenge *challenges_find(const struct challenges *c, const char *scheme);

#define autochallenges CLEANUP(challenges_done)
