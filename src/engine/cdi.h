#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Container Device Interface: devices by qualified name ("vendor.com/class=name") are what files in
 * /etc/cdi and /var/run/cdi (or dirs) say: edits of a runtime specification. Files that are broken
 * only take their own devices away. Any thread.
 */

#include "base/error.h"
#include "base/json.h"
#include "base/strv.h"

/* Is it "vendor.com/class=name"? */
bool cdi_name_valid(const char *name);
/* Is there any device of that kind ("nvidia.com/gpu")? dirs NULL: the usual ones. */
bool cdi_has_kind(const struct strv *dirs, const char *kind);
/* Applies the edits to the spec. NOT_FOUND: "CDI device injection failed: unresolvable CDI devices
 * ..." */
int cdi_apply(const struct strv *dirs, const struct strv *names, struct json *spec,
	      struct error *err);

/* Sans-IO, for the above and for tests. One file's document; INVALID_ARGUMENT. */
int cdi_check(const struct json *document, struct error *err);
/* One containerEdits object. */
int cdi_edit(const struct json *edits, struct json *spec, struct error *err);
