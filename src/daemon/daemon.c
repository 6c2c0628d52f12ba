/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start: state directory, loop and pools; then, on a pool thread with the loop running (recovery
 * talks to shims), the services; then the servers and the socket; then READY. Nobody connects
 * before that.
 *
 * End: the socket; running requests may finish; then the servers are freed, which tells what still
 * runs that its client has gone; when the pools are empty the loop stops and the rest is unwound on
 * the main thread. What does not end in time is left to the end of the process: all truth is on
 * disk or in the shims, so that a daemon may die at any moment.
 */

#include "daemon/daemon.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "daemon/listener.h"
#include "daemon/notify.h"
#include "daemon/services.h"
#include "daemon/state.h"
#include "rpc/grpc-health.h"
#include "rpc/ttrpc-server.h"

#include <assert.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define LISTEN_FDS_MAX 16
#define DRAIN_TIME (10 * NSEC_PER_SEC) /* for running requests */
#define ABORT_TIME (5 * NSEC_PER_SEC)  /* more, for what was told that its client has gone */
#define DRAIN_TICK_MS 20
#define IDLE_TICK_MS 500

enum phase { PHASE_STARTING, PHASE_SERVING, PHASE_DRAINING, PHASE_ABORTING, PHASE_ENDED };

struct daemon {
	const struct options *options;
	const struct config *config;
	struct state state;
	int fds[LISTEN_FDS_MAX];
	size_t n_fds;
	struct loop *loop;
	struct jobs *jobs;
	struct services *services;
	struct listener *listener;
	struct http_server *http;
	struct grpc_server *grpc;
	struct grpc_health *health;
	struct ttrpc_server *ttrpc;
	uv_signal_t signals[3];
	enum phase phase;
	bool stop_asked; /* while starting */
	int64_t since;	 /* of the phase, or of the last sign of use */
	int result;
	struct error *err;
};

int daemon_log_level(const struct config *config, int *ret, struct error *err)
{
	const char *level = config->log_level ? config->log_level : "info";

	*ret = log_level_parse(strcmp(level, "trace") == 0 ? "debug" : level);
	if (*ret < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "unknown log level '%s'", level);
	return 0;
}

/* SIGHUP: the level is what can change while containers run. */
static void reload(struct daemon *d)
{
	autoerror struct error err = ERROR_INIT;
	autoconfig struct config config = { 0 };
	int level;

	if (config_load(&config, d->options->config_path, &err) < 0) {
		log_err("keeping the configuration: %s", error_msg(&err));
		return;
	}
	options_apply(d->options, &config);
	if (daemon_log_level(&config, &level, &err) < 0) {
		log_err("keeping the configuration: %s", error_msg(&err));
		return;
	}
	log_set_level((enum log_level)level);
	log_info("configuration read again");
}

static void drain_tick(void *arg);
static void idle_tick(void *arg);

/* With no client any more, or none that we wait for. */
static void end(struct daemon *d)
{
	d->phase = PHASE_ENDED;
	loop_stop(d->loop);
}

static void free_servers(struct daemon *d)
{
	http_server_free(TAKE_PTR(d->http));
	grpc_server_free(TAKE_PTR(d->grpc));
	ttrpc_server_free(TAKE_PTR(d->ttrpc));
}

static void drain(struct daemon *d)
{
	log_info("stopping");
	notify_send("STOPPING=1");
	d->phase = PHASE_DRAINING;
	d->since = time_monotonic();
	if (d->health)
		grpc_health_set(d->health, "", /* serving= */ false);
	if (d->http)
		http_server_drain(d->http);
	if (d->grpc)
		grpc_server_drain(d->grpc);
	loop_timer_start(d->loop, DRAIN_TICK_MS, drain_tick, d);
}

static void drain_tick(void *arg)
{
	struct daemon *d = arg;
	int64_t waited = time_monotonic() - d->since;
	bool done = jobs_active(d->jobs) == 0;

	if (d->phase == PHASE_DRAINING && (done || waited > DRAIN_TIME)) {
		free_servers(d);
		d->phase = PHASE_ABORTING;
		d->since = time_monotonic();
	} else if (d->phase == PHASE_ABORTING && done) {
		end(d);
		return;
	} else if (d->phase == PHASE_ABORTING && waited > ABORT_TIME) {
		log_warn("%u operations do not end, leaving them", jobs_active(d->jobs));
		_exit(0);
	}
	loop_timer_start(d->loop, DRAIN_TICK_MS, drain_tick, d);
}

static void on_signal(uv_signal_t *handle, int signal)
{
	struct daemon *d = handle->data;

	if (signal == SIGHUP) {
		reload(d);
	} else if (d->phase == PHASE_STARTING) {
		d->stop_asked = true;
	} else if (d->phase == PHASE_SERVING) {
		listener_stop(d->listener, /* force= */ true);
		drain(d);
	}
}

static bool is_idle(struct daemon *d)
{
	return http_server_connections(d->http) == 0 && grpc_server_connections(d->grpc) == 0 &&
	       listener_undecided(d->listener) == 0 && jobs_active(d->jobs) == 0 &&
	       services_idle(d->services);
}

static void idle_tick(void *arg)
{
	struct daemon *d = arg;
	int64_t now = time_monotonic();

	if (d->phase != PHASE_SERVING)
		return;
	if (!is_idle(d))
		d->since = now;
	if (now - d->since >= d->config->idle_exit * NSEC_PER_SEC) {
		log_info("idle for %lld s", (long long)d->config->idle_exit);
		if (listener_stop(d->listener, /* force= */ false)) {
			drain(d);
			return;
		}
		d->since = now;
	}
	loop_timer_start(d->loop, IDLE_TICK_MS, idle_tick, d);
}

static void on_connection(int fd, enum protocol protocol, void *arg)
{
	struct daemon *d = arg;
	autoerror struct error err = ERROR_INIT;

	if (d->phase != PHASE_SERVING && d->phase != PHASE_DRAINING) {
		close(fd);
		return;
	}
	d->since = d->phase == PHASE_SERVING ? time_monotonic() : d->since;
	if (protocol == PROTOCOL_GRPC)
		grpc_server_adopt(d->grpc, fd);
	else if (protocol == PROTOCOL_HTTP)
		http_server_adopt(d->http, fd);
	else if (ttrpc_server_adopt(d->ttrpc, fd, &err) < 0)
		log_warn("refused a shim's connection: %s", error_msg(&err));
}

static int make_servers(struct daemon *d)
{
	struct http_server_config http = { .loop = d->loop, .jobs = d->jobs };

	services_http_config(d->services, &http);
	d->http = http_server_new(&http, d->err);
	if (!d->http)
		return -1;
	d->grpc = grpc_server_new(d->loop, d->jobs, d->services, d->err);
	if (!d->grpc)
		return -1;
	services_grpc(d->services, d->grpc);
	d->health = grpc_health_new(d->grpc, d->loop);
	d->ttrpc = ttrpc_server_new(d->loop);
	ttrpc_server_add(d->ttrpc, services_shim_events(d->services));
	return 0;
}

static int listen_now(struct daemon *d)
{
	struct listener_config config = {
		.loop = d->loop,
		.path = d->config->socket,
		.group = d->config->group,
		.fds = d->fds,
		.n_fds = d->n_fds,
		.on_connection = on_connection,
		.arg = d,
	};

	d->listener = listener_new(&config, d->err);
	return d->listener ? 0 : -1;
}

static void start_services(void *arg)
{
	struct daemon *d = arg;

	d->services = services_start(d->config, d->loop, d->jobs, d->err);
}

static void on_services(void *arg)
{
	struct daemon *d = arg;

	if (!d->services || make_servers(d) < 0 || listen_now(d) < 0) {
		d->result = -1;
		drain(d);
		return;
	}
	d->phase = PHASE_SERVING;
	d->since = time_monotonic();
	log_info("kistld %s serves '%s'", KISTL_VERSION,
		 d->n_fds ? "sockets of the service manager" : d->config->socket);
	notify_send("READY=1");
	if (d->config->idle_exit > 0)
		loop_timer_start(d->loop, IDLE_TICK_MS, idle_tick, d);
	if (d->stop_asked) {
		listener_stop(d->listener, /* force= */ true);
		drain(d);
	}
}

static void watch_signals(struct daemon *d)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < ARRAY_SIZE(d->signals); i++) {
		uv_signal_init(loop_uv(d->loop), &d->signals[i]);
		d->signals[i].data = d;
		uv_signal_start(&d->signals[i], on_signal, numbers[i]);
	}
}

static void unwind(struct daemon *d)
{
	free_servers(d);
	listener_free(d->listener);
	jobs_free(d->jobs);
	services_stop(d->services);
	for (size_t i = 0; i < ARRAY_SIZE(d->signals); i++)
		uv_close((uv_handle_t *)&d->signals[i], NULL);
	loop_free(d->loop);
	grpc_health_free(d->health);
}

/* Shims report their events to this address; containerd has a second socket for that. Set before
 * there are threads, and inherited. */
static void export_address(const struct daemon *d)
{
	struct sockaddr_un addr = { 0 };
	socklen_t len = sizeof(addr) - 1;

	if (d->n_fds > 0 && getsockname(d->fds[0], (struct sockaddr *)&addr, &len) == 0 &&
	    addr.sun_family == AF_UNIX && addr.sun_path[0])
		setenv("TTRPC_ADDRESS", addr.sun_path, 1);
	else
		setenv("TTRPC_ADDRESS", d->config->socket, 1);
}

int daemon_run(const struct options *options, const struct config *config, struct error *err)
{
	struct daemon d = { .options = options, .config = config, .state = STATE_INIT, .err = err };
	int n = notify_listen_fds(d.fds, LISTEN_FDS_MAX, err);

	if (n < 0)
		return -1;
	d.n_fds = (size_t)n;
	export_address(&d);
	if (state_open(&d.state, config->root, config->state, config->socket, err) < 0)
		return -1;
	d.loop = loop_new(err);
	if (!d.loop) {
		state_close(&d.state);
		return -1;
	}
	d.jobs = jobs_new(d.loop);
	watch_signals(&d);
	job_submit(d.jobs, JOB_OPS, start_services, on_services, &d);
	loop_run(d.loop);
	assert(d.phase == PHASE_ENDED);
	unwind(&d);
	state_close(&d.state);
	return d.result;
}
