#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches the host's packet filter: when somebody else deletes rules of ours ("nft flush ruleset"),
 * or changes iptables' filter table, what is missing is made again a moment later.
 * Internal to src/network.
 */

struct network_service;
struct rules_watch;

/* Begins soon, on the loop. Any thread. */
struct rules_watch *rules_watch_new(struct network_service *s);
/* A check that is on its way is waited for by whoever ends the pools. NULL is fine. Any thread. */
void rules_watch_free(struct rules_watch *w);
