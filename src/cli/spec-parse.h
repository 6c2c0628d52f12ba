#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The values of run's and create's options, from their text to the API's JSON. Sans-IO but for
 * what names a file. Errors have Docker's wording.
 */

#include "base/error.h"
#include "base/json.h"
#include "base/strv.h"

/* -v: adds to binds (array of strings) or, for an anonymous volume, to volumes (object). */
int spec_volume(const char *s, struct json *binds, struct json *volumes, struct error *err);
/* --mount: an element of HostConfig.Mounts. */
struct json *spec_mount(const char *s, struct error *err);
/* -p: adds to exposed ("80/tcp": {}) and bindings ("80/tcp": [{HostIp, HostPort}]). */
int spec_publish(const char *s, struct json *exposed, struct json *bindings, struct error *err);
/* --expose: "80", "80-90/udp". */
int spec_expose(const char *s, struct json *exposed, struct error *err);
/* --ulimit: {Name, Soft, Hard}. */
struct json *spec_ulimit(const char *s, struct error *err);
/* --device: {PathOnHost, PathInContainer, CgroupPermissions}. */
struct json *spec_device(const char *s, struct error *err);
/* "vendor.com/class=name" */
bool spec_is_cdi_device(const char *s);
/* --gpus: an element of HostConfig.DeviceRequests. */
struct json *spec_gpus(const char *s, struct error *err);
/* --blkio-weight-device: {Path, Weight}; --device-read-bps, -iops and so on: {Path, Rate}. */
struct json *spec_weight_device(const char *s, struct error *err);
struct json *spec_rate_device(const char *s, struct error *err);
struct json *spec_iops_device(const char *s, struct error *err);
/* --restart: {Name, MaximumRetryCount}. */
struct json *spec_restart(const char *s, struct error *err);
/* Lines of an --env-file; with `environment` lone names take their value from ours. */
int spec_env_lines(const char *text, size_t len, bool environment, struct strv *ret,
		   struct error *err);
int spec_env_file(const char *path, bool environment, struct strv *ret, struct error *err);
/* --security-opt: appends to opts; reads seccomp profiles. *ret_unmasked: systempaths=unconfined.
 */
int spec_security_opt(const char *s, struct json *opts, bool *ret_unmasked, struct error *err);
/* Splits CSV with its quotes. */
int spec_csv(const char *s, struct strv *ret, struct error *err);

/* option.check functions */
int spec_check_env(const char *s, struct error *err);
int spec_check_label(const char *s, struct error *err);
int spec_check_ip(const char *s, struct error *err);
int spec_check_extra_host(const char *s, struct error *err);
int spec_check_attach(const char *s, struct error *err);
int spec_check_mount(const char *s, struct error *err);
int spec_check_ulimit(const char *s, struct error *err);
int spec_check_sysctl(const char *s, struct error *err);
int spec_check_link(const char *s, struct error *err);
int spec_check_gpus(const char *s, struct error *err);
int spec_check_weight_device(const char *s, struct error *err);
int spec_check_rate_device(const char *s, struct error *err);
int spec_check_iops_device(const char *s, struct error *err);
