#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts that a bundle's container (or, for a pod's own bundle, all containers of the pod) has
 * besides its root file system: sources for binds of its specification that must not be seen on the
 * host or have to be made first, as a pod's /dev/shm, image volumes, ID-mapped volumes. The daemon
 * lists them in <bundle>/mounts.json, as an array of {"type", "source", "target", "options"}, where
 * target is a plain name; they are mounted at <bundle>/mounts/<target> in the shim's own namespace.
 * A bind with the option "X-kistl.beneath=PATH" has as its source the directory that PATH is in the
 * given source, resolved as if that were the root directory.
 */

#include "base/error.h"

/* No list is success; undone on failure. */
int bundle_mounts_attach(const char *bundle, struct error *err);
/* What is mounted there goes; logs what cannot. */
void bundle_mounts_detach(const char *bundle);
