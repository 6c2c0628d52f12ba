# SPDX-License-Identifier: Apache-2.0
"""A CRI client on gRPC's own Python library: messages and stubs come from proto/ by protoc's descriptors, so that
nothing generated is kept. Cri(socket).RunPodSandbox(config={...}) takes what the message's constructor takes."""

import contextlib
import functools
import subprocess
import tempfile
import uuid

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from harness import TOP

MAX_MESSAGE = 16 << 20
TIMEOUT = 60


@functools.lru_cache(maxsize=None)
def pool():
    with tempfile.NamedTemporaryFile(suffix=".pb") as f:
        names = ["runtime.v1.proto", *(p.name for p in sorted((TOP / "proto").glob("containerd.services.*.v1.proto"))
                                       if "ttrpc" not in p.name)]
        subprocess.run(["protoc", f"-I{TOP / 'proto'}", "--include_imports", f"--descriptor_set_out={f.name}", *names],
                       check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(f.read())
    result = descriptor_pool.DescriptorPool()
    for file in files.file:
        result.Add(file)
    return result


@functools.lru_cache(maxsize=None)
def message(name, package="runtime.v1"):
    return message_factory.MessageFactory(pool()).GetPrototype(pool().FindMessageTypeByName(f"{package}.{name}"))


class Service:
    """All methods of a service as attributes: call(timeout=, wait=, **fields of the request)."""

    def __init__(self, channel, name, metadata=None):
        self.channel = channel
        self.methods = {m.name: m for m in pool().FindServiceByName(name).methods}
        self.name, self.metadata = name, metadata

    def __getattr__(self, name):
        if name not in self.methods:
            raise AttributeError(name)
        m = self.methods[name]
        factory = message_factory.MessageFactory(pool())
        request, reply = factory.GetPrototype(m.input_type), factory.GetPrototype(m.output_type)
        make = self.channel.unary_stream if m.server_streaming else self.channel.unary_unary
        stub = make(f"/{self.name}/{name}", request_serializer=request.SerializeToString,
                    response_deserializer=reply.FromString)

        def call(_timeout=TIMEOUT, _future=False, **fields):
            function = stub.future if _future else stub
            return function(request(**fields), timeout=_timeout, metadata=self.metadata)

        return call


class Cri:
    """Both services on one connection."""

    def __init__(self, socket):
        self.channel = grpc.insecure_channel("unix://" + socket, options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", 64 << 20),
            ("grpc.use_local_subchannel_pool", 1)])
        self.runtime = Service(self.channel, "runtime.v1.RuntimeService")
        self.images = Service(self.channel, "runtime.v1.ImageService")

    def __getattr__(self, name):
        for service in (self.runtime, self.images):
            if name in service.methods:
                return getattr(service, name)
        raise AttributeError(name)

    def close(self):
        self.channel.close()


@contextlib.contextmanager
def fails(code, *texts):
    """The call inside ends with this status, and its message has all the texts."""
    try:
        yield
    except grpc.RpcError as e:
        assert e.code() == getattr(grpc.StatusCode, code), f"{e.code()}: {e.details()}"
        for text in texts:
            assert text in e.details(), f"no {text!r} in {e.details()!r}"
    else:
        raise AssertionError(f"did not fail with {code}")


def pod(name=None, **fields):
    """A PodSandboxConfig's fields, for a pod on the host's network unless told otherwise."""
    name = name or "pod-" + uuid.uuid4().hex[:8]
    config = {"metadata": {"name": name, "uid": str(uuid.uuid4()), "namespace": "default", "attempt": 0},
              "hostname": name, "labels": {"io.kubernetes.pod.name": name}, "annotations": {"note": "of " + name},
              "linux": {"security_context": {"namespace_options": {"network": 2, "pid": 1}}}}
    config.update(fields)
    return config


def container(name="c", image="docker.io/library/busybox:latest", command=("sleep", "1000"), **fields):
    spec = image if isinstance(image, dict) else {"image": image}
    config = {"metadata": {"name": name, "attempt": 0}, "image": spec, "command": list(command),
              "labels": {"io.kubernetes.container.name": name}, "annotations": {"note": "of " + name}}
    config.update(fields)
    return config
