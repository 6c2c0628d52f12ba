#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image references: grammar and Docker Hub normalisation of distribution/reference
 * (shared fact sheet images.md, 1.6). Sans-IO. Any thread.
 */

#include "base/error.h"

struct reference {
	char *domain; /* "docker.io", "localhost:5000" */
	char *path;   /* "library/busybox" */
	char *tag;    /* NULL when absent */
	char *digest; /* NULL when absent */
};

#define REFERENCE_INIT ((struct reference){ 0 })

/* "busybox" -> docker.io / library/busybox, no tag. INVALID_ARGUMENT with Docker's wording
 * ("invalid reference format", "... repository name must be lowercase"). */
int reference_parse(const char *s, struct reference *ret, struct error *err);
void reference_done(struct reference *r);
/* Adds tag "latest" when there is neither tag nor digest. */
void reference_default_tag(struct reference *r);
/* "docker.io/library/busybox:latest" with whatever is there. malloc'ed. */
char *reference_string(const struct reference *r);
/* "docker.io/library/busybox"; "busybox"; "busybox:latest". malloc'ed. */
char *reference_name(const struct reference *r);
char *reference_familiar_name(const struct reference *r);
char *reference_familiar(const struct reference *r);
bool reference_tag_valid(const char *tag);

#define autoreference CLEANUP(reference_done)
