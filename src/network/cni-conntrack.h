#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that the kernel remembers: what goes to a UDP port keeps going where it went, also
 * after that port has been published, as long as its client sends. */

#include "base/error.h"
#include "network/cni-nft.h"

/* Forgets the UDP flows to these ports (others are left out) in the family. Any thread. */
int cni_conntrack_forget(int family, const struct cni_port *ports, size_t n, struct error *err);
