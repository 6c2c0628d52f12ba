/* SPDX-License-Identifier: Apache-2.0 */
/* A container as Docker's documents show it; its HostConfig is in view-host.c. */

#include "api/docker/internal.h"
#include "base/human.h"
#include "base/mem.h"
#include "store/snapshots.h"

#include <stdio.h>
#include <string.h>

static bool is_running(const struct container_view *v)
{
	return v->status == CONTAINER_RUNNING || v->status == CONTAINER_PAUSED;
}

char *container_status_text(const struct container_view *v, int64_t now)
{
	autofree char *up = human_duration((now - v->started_at) / NSEC_PER_SEC);
	autofree char *ago = human_duration((now - v->finished_at) / NSEC_PER_SEC);

	switch (v->status) {
	case CONTAINER_PAUSED:
		return xasprintf("Up %s (Paused)", up);
	case CONTAINER_RUNNING:
		if (!str_empty(v->health))
			return xasprintf("Up %s (%s%s)", up,
					 str_equal(v->health, "starting") ? "health: " : "",
					 v->health);
		return xasprintf("Up %s", up);
	case CONTAINER_RESTARTING:
		return xasprintf("Restarting (%d) %s ago", v->exit_code, ago);
	case CONTAINER_REMOVING:
		return xstrdup("Removal In Progress");
	case CONTAINER_DEAD:
		return xstrdup("Dead");
	case CONTAINER_CREATED:
		return xstrdup("Created");
	default:
		if (v->finished_at == 0)
			return xstrdup("Created");
		return xasprintf("Exited (%d) %s ago", v->exit_code, ago);
	}
}

static struct json *health_document(const struct container_view *v)
{
	struct json *j = json_new_object(), *log = json_new_array();

	for (size_t i = 0; i < v->n_health_results; i++) {
		const struct health_result *r = &v->health_results[i];
		struct json *one = json_new_object();

		json_set_time(one, "Start", r->start);
		json_set_time(one, "End", r->end);
		json_set_int(one, "ExitCode", r->exit_code);
		json_set_string(one, "Output", r->output ? r->output : "");
		json_add(log, one);
	}
	json_set_string(j, "Status", v->health);
	json_set_int(j, "FailingStreak", v->health_failures);
	json_set(j, "Log", log);
	return j;
}

static struct json *state_document(const struct container_view *v)
{
	struct json *j = json_new_object();

	json_set_string(j, "Status", container_status_name(v->status));
	json_set_bool(j, "Running", is_running(v) || v->status == CONTAINER_RESTARTING);
	json_set_bool(j, "Paused", v->status == CONTAINER_PAUSED);
	json_set_bool(j, "Restarting", v->status == CONTAINER_RESTARTING);
	json_set_bool(j, "OOMKilled", v->oom_killed);
	json_set_bool(j, "Dead", v->status == CONTAINER_DEAD);
	json_set_int(j, "Pid", is_running(v) ? v->pid : 0);
	json_set_int(j, "ExitCode", v->exit_code);
	json_set_string(j, "Error", v->error ? v->error : "");
	json_set_time(j, "StartedAt", v->started_at);
	json_set_time(j, "FinishedAt", v->finished_at);
	if (!str_empty(v->health)) {
		json_set(j, "Health", health_document(v));
	}
	return j;
}

/* The third part of -v as the user wrote it; for a named volume without one Docker shows "z". */
static char *mount_mode(const struct container_view *v, const struct mount_view *m)
{
	const struct json *binds = json_get(json_get(v->extension, "HostConfig"), "Binds");

	for (size_t i = 0; i < json_array_len(binds); i++) {
		autostrv struct strv parts = STRV_INIT;

		strv_split(&parts, json_string(json_array_get(binds, i)), ":");
		if (parts.n == 3 && str_equal(parts.v[1], m->destination))
			return xstrdup(parts.v[2]);
		if (parts.n == 2 && str_equal(parts.v[1], m->destination))
			break;
	}
	return xstrdup(str_equal(m->type, "volume") && !m->anonymous ? "z" : "");
}

static struct json *mounts_document(const struct container_view *v)
{
	struct json *list = json_new_array();

	for (size_t i = 0; i < v->mounts.n; i++) {
		const struct mount_view *m = &v->mounts.v[i];
		struct json *j = json_new_object();
		autofree char *mode = mount_mode(v, m);

		json_set_string(j, "Type", m->type);
		if (!str_empty(m->name))
			json_set_string(j, "Name", m->name);
		json_set_string(j, "Source", m->source ? m->source : "");
		json_set_string(j, "Destination", m->destination);
		if (!str_empty(m->driver))
			json_set_string(j, "Driver", m->driver);
		json_set_string(j, "Mode", mode);
		json_set_bool(j, "RW", m->rw);
		json_set_string(j, "Propagation", m->propagation ? m->propagation : "");
		json_add(list, j);
	}
	return list;
}

static struct json *tail_args(const struct strv *args)
{
	struct json *list = json_new_array();

	for (size_t i = 1; i < args->n; i++)
		json_add(list, json_new_string(args->v[i]));
	return list;
}

/* The configuration as stored, with what the image added. */
static struct json *config_document(const struct container_view *v)
{
	struct json *j = json_copy(json_get(v->extension, "Config"));

	if (!j)
		j = json_new_object();
	json_set_string(j, "Hostname", v->config.hostname ? v->config.hostname : "");
	json_set(j, "Env", json_new_strv(&v->config.env));
	json_set_string(j, "User", v->config.user ? v->config.user : "");
	json_set_string(j, "WorkingDir", v->config.cwd ? v->config.cwd : "");
	json_set(j, "Labels", json_new_kvs(&v->config.labels));
	if (v->config.exposed_ports.n > 0)
		json_set(j, "ExposedPorts", json_new_keys(&v->config.exposed_ports));
	else
		json_del(j, "ExposedPorts");
	if (json_object_len(json_get(j, "Volumes")) == 0)
		json_set(j, "Volumes", NULL);
	/* [""] takes the image's entrypoint away. */
	if (json_array_len(json_get(j, "Entrypoint")) == 1 &&
	    str_equal(json_string(json_array_get(json_get(j, "Entrypoint"), 0)), ""))
		json_set(j, "Entrypoint", NULL);
	if (!str_empty(v->config.stop_signal))
		json_set_string(j, "StopSignal", v->config.stop_signal);
	return j;
}

struct json *container_inspect_document(const struct docker_api *d, const struct container_view *v)
{
	struct json *j = json_new_object();
	autofree char *name = xasprintf("/%s", v->name);

	json_set_string(j, "Id", v->id);
	json_set_time(j, "Created", v->created_at);
	json_set_string(j, "Path", v->config.args.n > 0 ? v->config.args.v[0] : "");
	json_set(j, "Args", tail_args(&v->config.args));
	json_set(j, "State", state_document(v));
	json_set_string(j, "Image", v->config.image_id ? v->config.image_id : "");
	json_set_string(j, "ResolvConfPath", v->resolv_conf_path ? v->resolv_conf_path : "");
	json_set_string(j, "HostnamePath", v->hostname_path ? v->hostname_path : "");
	json_set_string(j, "HostsPath", v->hosts_path ? v->hosts_path : "");
	json_set_string(j, "LogPath", v->log_path ? v->log_path : "");
	json_set_string(j, "Name", name);
	json_set_int(j, "RestartCount", v->restart_count);
	json_set_string(j, "Driver", v->snapshotter ? v->snapshotter : "overlayfs");
	json_set_string(j, "Platform", "linux");
	json_set_string(j, "MountLabel", "");
	json_set_string(j, "ProcessLabel", "");
	json_set_string(j, "AppArmorProfile", "");
	json_set(j, "ExecIDs", json_strv_or_null(&v->exec_ids));
	json_set(j, "HostConfig", container_host_document(d, v));
	json_set(j, "GraphDriver", container_driver_document(d, v));
	json_set(j, "Mounts", mounts_document(v));
	json_set(j, "Config", config_document(v));
	json_set(j, "NetworkSettings", container_network_settings(v));
	return j;
}

/* As ps shows it: arguments with a space are quoted, the program is not. */
static char *command_text(const struct strv *args)
{
	autostrv struct strv words = STRV_INIT;

	for (size_t i = 0; i < args->n; i++)
		strv_push_printf(&words, i > 0 && strchr(args->v[i], ' ') ? "'%s'" : "%s",
				 args->v[i]);
	return strv_join(&words, " ");
}

struct json *container_summary_document(const struct container_view *v)
{
	struct json *j = json_new_object();
	struct json *names = json_new_array();
	struct json *host = json_new_object();
	struct json *networks = json_new_object();
	autofree char *name = xasprintf("/%s", v->name);
	autofree char *command = command_text(&v->config.args);
	autofree char *status = container_status_text(v, time_realtime());

	json_add(names, json_new_string(name));
	json_set_string(j, "Id", v->id);
	json_set(j, "Names", names);
	json_set_string(j, "Image", v->config.image ? v->config.image : "");
	json_set_string(j, "ImageID", v->config.image_id ? v->config.image_id : "");
	json_set_string(j, "Command", command);
	json_set_int(j, "Created", v->created_at / NSEC_PER_SEC);
	json_set(j, "Ports", container_ports_summary(v));
	json_set(j, "Labels", json_new_kvs(&v->config.labels));
	json_set_string(j, "State", container_status_name(v->status));
	json_set_string(j, "Status", status);
	json_set_string(host, "NetworkMode", v->config.network_mode ? v->config.network_mode : "");
	json_set(j, "HostConfig", host);
	json_set(networks, "Networks", container_networks_document(v));
	json_set(j, "NetworkSettings", networks);
	json_set(j, "Mounts", mounts_document(v));
	return j;
}
