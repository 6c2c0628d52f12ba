# SPDX-License-Identifier: Apache-2.0
"""kistld's gRPC server under gRPC's own Python client (gRPC C), and under streams that no library sends."""

import concurrent.futures
import os
import socket
import struct
import threading
import time

import grpc
import pytest
from cri import Service, fails
from harness import Daemon, until

TIMEOUT = 60
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX = 16 << 20
SERVING, NOT_SERVING, UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
NO_LIMITS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1),
             ("grpc.use_local_subchannel_pool", 1))
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    d = Daemon()
    yield d
    assert d.alive(), d.log()[-4000:]
    d.close()


def connect(daemon, *options):
    return grpc.insecure_channel("unix://" + daemon.socket, options=NO_LIMITS + options)


@pytest.fixture
def channel(server):
    with connect(server) as c:
        yield c


def text(s):
    """A message whose field 1 is this text."""
    data = s if isinstance(s, bytes) else s.encode()
    n, length = len(data), b""
    while True:
        length += bytes([n & 0x7f | (0x80 if n > 0x7f else 0)])
        n >>= 7
        if not n:
            return b"\x0a" + length + data


def check(channel, message=b"", **kw):
    kw.setdefault("timeout", TIMEOUT)
    return channel.unary_unary(CHECK)(message, **kw)


def hurry(channel, timeout):
    """A call with too little time, or just enough."""
    try:
        assert check(channel, timeout=timeout) == SERVING
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.DEADLINE_EXCEEDED, e


def memory(daemon):
    """Resident, in KiB."""
    with open(f"/proc/{daemon.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def test_names_of_what_is_not_there(channel):
    for path, details in (("/runtime.v1.RuntimeService/Nope", "unknown method Nope for service runtime.v1.RuntimeService"),
                          ("/runtime.v1alpha2.RuntimeService/Version", "unknown service runtime.v1alpha2.RuntimeService"),
                          ("/Version", 'malformed method name: "/Version"')):
        with fails("UNIMPLEMENTED", details):
            channel.unary_unary(path)(b"", timeout=TIMEOUT)


def test_metadata_is_ignored_or_found(channel):
    metadata = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("baggage", "a=b"),
                ("x-bin", b"\x00\xff"), ("twice", "1"), ("twice", "2")]
    assert check(channel, metadata=metadata) == SERVING


def test_largest_messages(channel):
    # 5 bytes of tag and length; the name is not known, but it has arrived and been read.
    with fails("NOT_FOUND", "unknown service"):
        check(channel, text("x" * (MAX - 5)))
    with fails("RESOURCE_EXHAUSTED", f"grpc: received message larger than max ({MAX + 1} vs. {MAX})"):
        check(channel, text("x" * (MAX - 4)))
    with fails("RESOURCE_EXHAUSTED", "grpc: received message larger than max"):
        check(channel, text("x" * (40 << 20)))
    assert check(channel) == SERVING


def test_messages_that_are_wrong(channel):
    for message, details in ((text(b"\xff"), "'grpc.health.v1.HealthCheckRequest.service' is not valid UTF-8"),
                             (text(b"a\x00b"), "'grpc.health.v1.HealthCheckRequest.service' has a NUL byte"),
                             (b"\x0a\x05x", "malformed 'grpc.health.v1.HealthCheckRequest' message"),
                             (b"\x0f", "malformed 'grpc.health.v1.HealthCheckRequest' message")):
        with fails("INVALID_ARGUMENT", details):
            check(channel, message)
    # Two bytes a part that would be hundreds each in memory.
    with fails("RESOURCE_EXHAUSTED", "the message has too many parts"):
        sandbox_config = b"\x1a" + text(b"\x2a\x00" * (7 << 20))[1:]
        channel.unary_unary("/runtime.v1.ImageService/PullImage")(sandbox_config, timeout=TIMEOUT)


def test_compression_is_refused(channel):
    with fails("UNIMPLEMENTED", 'grpc: Decompressor is not installed for grpc-encoding "gzip"'):
        check(channel, text("x" * 100), compression=grpc.Compression.Gzip)
    assert check(channel, compression=grpc.Compression.NoCompression) == SERVING


def test_large_headers(server):
    with connect(server, ("grpc.max_metadata_size", 1 << 20)) as channel:
        assert check(channel, metadata=[("x-large", "v" * 30000)]) == SERVING
        # gRPC C keeps to what the server has announced only for what it receives.
        with pytest.raises(grpc.RpcError) as e:
            check(channel, metadata=[(f"x-{i}", "v" * 10000) for i in range(7)])
        assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert check(channel) == SERVING


def test_unary_needs_its_message(channel):
    with fails("INTERNAL", "the request has no message"):
        channel.stream_unary(CHECK)(iter(()), timeout=TIMEOUT)
    with fails("INTERNAL", "the request has more than one message"):
        channel.stream_unary(CHECK)(iter((b"", b"")), timeout=TIMEOUT)
    with fails("INTERNAL", "the request has no message"):
        list(channel.stream_stream(WATCH)(iter(()), timeout=TIMEOUT))


def test_many_streams_at_once(server, channel):
    """Far more calls on one connection than there are threads, half of them open for long."""
    watches = [channel.unary_stream(WATCH)(text(f"w{i}"), timeout=TIMEOUT) for i in range(400)]
    calls = [channel.unary_unary(CHECK).future(b"", timeout=TIMEOUT) for _ in range(400)]
    assert all(c.result() == SERVING for c in calls)
    assert all(next(w) == UNKNOWN for w in watches)
    for w in watches:
        w.cancel()
    assert check(channel) == SERVING


def test_threads_of_a_client(server):
    def work(_):
        with connect(server) as c:
            return [check(c) for _ in range(20)]

    with concurrent.futures.ThreadPoolExecutor(16) as executor:
        assert all(r == [SERVING] * 20 for r in executor.map(work, range(32)))


def test_deadlines(channel):
    watch = channel.unary_stream(WATCH)(b"", timeout=0.5)
    assert next(watch) == SERVING
    with fails("DEADLINE_EXCEEDED"):
        next(watch)
    hurry(channel, 0)
    assert check(channel) == SERVING


def test_cancelled_before_they_begin(channel):
    """gRPC C resets streams that it never opened, when calls are cancelled at the wrong moment: other calls on the
    connection must not notice."""
    for i in range(600):
        hurry(channel, i % 30 * 0.00003)
        assert check(channel) == SERVING


def test_cancellation_is_noticed(server, channel):
    """Calls whose clients have gone leave nothing: memory does not grow with their number."""
    def round_of_calls():
        watches = [channel.unary_stream(WATCH)(text("x" * 1000)) for _ in range(200)]
        for w in watches:
            next(w)
        for w in watches:
            w.cancel()

    round_of_calls()
    check(channel)
    before = memory(server)
    for _ in range(5):
        round_of_calls()
    assert check(channel) == SERVING
    assert until(lambda: memory(server) < before + 4096), (before, memory(server))


def test_large_messages_leave_no_memory(server):
    with connect(server) as c:
        check(c)
        before = memory(server)
        futures = [c.unary_unary(CHECK).future(text("x" * (8 << 20)), timeout=TIMEOUT) for _ in range(8)]
        for f in futures:
            assert f.code() == grpc.StatusCode.NOT_FOUND
        assert until(lambda: memory(server) < before + (16 << 10)), (before, memory(server))


def test_keepalive(server):
    """A client that pings more often than gRPC C's servers would bear."""
    with connect(server, ("grpc.keepalive_time_ms", 100), ("grpc.keepalive_timeout_ms", 5000),
                 ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0),
                 ("grpc.http2.min_time_between_pings_ms", 10)) as channel:
        watch = channel.unary_stream(WATCH)(b"", timeout=TIMEOUT)
        assert next(watch) == SERVING
        time.sleep(1)
        assert watch.is_active()
        assert check(channel) == SERVING
        watch.cancel()


def test_stopping_daemon(fresh):
    """Watchers hear of it, clients with calls see them end, and nobody hangs."""
    d = fresh()
    with connect(d) as channel:
        watch = channel.unary_stream(WATCH)(b"", timeout=TIMEOUT)
        assert next(watch) == SERVING
        stop = threading.Thread(target=d.stop)
        stop.start()
        assert next(watch) == NOT_SERVING
        with fails("UNAVAILABLE"):
            next(watch)
        stop.join(TIMEOUT)


def test_reconnects_after_restart(fresh):
    d = fresh()
    with connect(d, ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)) as channel:
        assert check(channel) == SERVING
        d.kill9()
        with fails("UNAVAILABLE"):
            check(channel)
        d.start()
        assert check(channel, wait_for_ready=True) == SERVING


def test_descriptors_of_the_cri(channel):
    """Requests and replies by the descriptors of proto/, with what proto3 cannot tell apart."""
    runtime = Service(channel, "runtime.v1.RuntimeService")
    version = runtime.Version(version="v1")
    assert version.runtime_name and version.runtime_api_version == "v1"
    images = Service(channel, "runtime.v1.ImageService")
    assert list(images.ListImages(filter={}).images) == []
    assert [i for r in images.StreamImages() for i in r.images] == []


# ---- by hand ----


class Raw:
    """Frames on a socket."""

    def __init__(self, daemon, settings=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(daemon.socket)
        self.data = b""
        self.send(PREFACE)
        if settings:
            self.frame(SETTINGS)

    def send(self, data):
        self.socket.sendall(data)

    def frame(self, kind, payload=b"", flags=0, stream=0):
        self.send(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

    def request(self, stream, end=True, extra=b""):
        """POST to Check, by literals without indexing."""
        fields = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", CHECK.encode()), (b":authority", b"x"),
                  (b"content-type", b"application/grpc"), (b"te", b"trailers"))
        block = b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in fields) + extra
        self.frame(HEADERS, block, 4, stream)
        if end:
            self.frame(DATA, bytes(5), 1, stream)

    def frames(self):
        """All until the server closes, or nothing has come for a second."""
        self.socket.settimeout(1)
        while True:
            while len(self.data) >= 9 and len(self.data) >= 9 + int.from_bytes(self.data[:3], "big"):
                size = int.from_bytes(self.data[:3], "big")
                head, payload, self.data = self.data[:9], self.data[9:9 + size], self.data[9 + size:]
                yield head[3], head[4], int.from_bytes(head[5:], "big"), payload
            try:
                more = self.socket.recv(65536)
            except socket.timeout:
                return
            except ConnectionError:
                more = b""
            if not more:
                return
            self.data += more

    def wait(self, kind):
        return next((f for f in self.frames() if f[0] == kind), None)

    def close(self):
        self.socket.close()


@pytest.fixture
def raw(server):
    made = []

    def make(**kw):
        made.append(Raw(server, **kw))
        return made[-1]

    yield make
    for r in made:
        r.close()
    with connect(server) as c:
        assert check(c) == SERVING


def test_ping_is_answered_at_once(raw):
    r = raw()
    for i in range(50):
        r.frame(PING, struct.pack(">Q", i))
    answers = [f[3] for f in r.frames() if f[0] == PING and f[1] == 1]
    assert answers == [struct.pack(">Q", i) for i in range(50)]


def test_reset_flood(server, raw):
    """CVE-2023-44487: the connection is ended, or what it asks is bounded; other clients are served."""
    before = memory(server)
    r = raw()
    # Who reads nothing is not read from.
    reader = threading.Thread(target=lambda: list(r.frames()))
    reader.start()
    try:
        for i in range(20000):
            r.request(2 * i + 1, end=i % 2)
            r.frame(RST_STREAM, struct.pack(">I", 8), stream=2 * i + 1)
    except (BrokenPipeError, ConnectionResetError):
        pass
    reader.join(TIMEOUT)
    assert memory(server) < before + (64 << 10)


def test_flow_control_that_never_opens(raw):
    """A client with a window of nothing gets the headers and no more; the rest waits without hurting others."""
    r = raw(settings=False)
    r.frame(SETTINGS, struct.pack(">HI", 4, 0))
    r.request(1)
    frames = list(r.frames())
    assert [f for f in frames if f[0] == HEADERS and f[2] == 1]
    assert not [f for f in frames if f[0] == DATA]
    r.frame(WINDOW_UPDATE, struct.pack(">I", 1000), stream=1)
    assert r.wait(DATA)[3] == b"\0\0\0\0\2\x08\x01"


def test_slow_bytes(raw):
    """One byte at a time is as good as all at once."""
    r = raw()
    payload = b"\0\0\0\0\0"
    r.request(1, end=False)
    for i in range(5):
        r.frame(DATA, payload[i:i + 1], flags=i == 4, stream=1)
    assert r.wait(DATA)[3] == b"\0\0\0\0\2\x08\x01"


@pytest.mark.parametrize("name, frames", [
    ("data on an idle stream", [(DATA, b"x", 0, 1)]),
    ("data on stream 0", [(DATA, b"x", 0, 0)]),
    ("headers that do not end", [(HEADERS, b"\xff" * 16000, 0, 1)]),
    ("index of nothing", [(HEADERS, b"\xbf", 5, 1)]),
    ("even stream", [(HEADERS, b"\x82", 5, 2)]),
    ("ping of 7 bytes", [(PING, b"1234567", 0, 0)]),
    ("window of nothing", [(WINDOW_UPDATE, bytes(4), 0, 0)]),
    ("frame size", [(SETTINGS, struct.pack(">HI", 5, 1), 0, 0)]),
    ("padding", [(DATA, b"\xff", 8, 1)]),
    ("headers twice", [(HEADERS, b"\x82", 4, 1), (HEADERS, b"\x82", 4, 1)]),
])
def test_hostile_frames(raw, name, frames):
    r = raw()
    try:
        for kind, payload, flags, stream in frames:
            r.frame(kind, payload, flags, stream)
        r.socket.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    assert all(f[0] != DATA for f in r.frames())


def test_noise(raw):
    """What only begins like HTTP/2."""
    for seed in range(20):
        r = raw(settings=False)
        noise = b"".join(struct.pack(">Q", hash((seed, i)) & 0xffffffffffffffff) for i in range(500))
        try:
            r.send(noise)
            r.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        list(r.frames())


def test_clients_that_say_nothing(server):
    """Connections without a preface cost little and stop nobody."""
    before = memory(server)
    quiet = []
    for _ in range(200):
        s = socket.socket(socket.AF_UNIX)
        s.connect(server.socket)
        quiet.append(s)
    greeted = [Raw(server) for _ in range(50)]
    with connect(server) as c:
        assert check(c) == SERVING
    assert memory(server) < before + (16 << 10)
    for s in quiet:
        s.close()
    for r in greeted:
        r.close()


def test_idle_daemon_is_small(fresh):
    d = fresh()
    with connect(d) as c:
        check(c)
        assert until(lambda: memory(d) < 10 << 10, 20), memory(d)
    assert os.path.exists(d.socket)
