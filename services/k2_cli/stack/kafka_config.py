"""What the one-node Kafka is told: its properties file and the JVM's options.

Pure text building; called by `k2_cli.stack.kafka` only. Paths in it are relative to the broker's working directory, so
that no character of the user's folder names needs escaping and the folder can be moved.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from k2_cli.stack.ports import LOOPBACK
from k2_core.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path

    from k2_cli.stack.java import JavaRuntime

DATA_DIR = "data"
TEMP_DIR = "tmp"
NODE_ID = 1

_INTERNAL_TOPIC_PARTITIONS = 4
"""Kafka's default of 50 costs 50 folders and open files a topic; one laptop has few groups."""


def server_properties(port: int, controller_port: int) -> str:
    """The properties of a broker and controller in one process, on 127.0.0.1 only.

    Names and defaults: Apache Kafka documentation, "Broker Configs". Limits are for a laptop: a topic sets its own
    retention; what sets none keeps 7 days, at most 2 GiB a partition.
    """
    properties = {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": DATA_DIR,
        # There is nobody to replicate to.
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "offsets.topic.num.partitions": _INTERNAL_TOPIC_PARTITIONS,
        "transaction.state.log.num.partitions": _INTERNAL_TOPIC_PARTITIONS,
        "share.coordinator.state.topic.num.partitions": _INTERNAL_TOPIC_PARTITIONS,
        # A mistyped topic must be an error, not a new topic with default partitions.
        "auto.create.topics.enable": "false",
        # The first member of a group need not wait for others: they rebalance in later.
        "group.initial.rebalance.delay.ms": 0,
        # After a kill the controller waits for the old session's end before it lets the broker in again (default 9 s).
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        # A sink that was killed is replaced within seconds; the default lower bound is 6 s.
        "group.min.session.timeout.ms": 1_000,
        "log.retention.hours": 168,
        "log.retention.bytes": 2 * 1024**3,
        "log.segment.bytes": 256 * 1024**2,
        "log.retention.check.interval.ms": 60_000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.recovery.threads.per.data.dir": 2,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def class_path(jars: Path) -> list[str]:
    """The options that put all jars of a folder on the class path, in an order that never changes.

    Raises:
        SetupError: The folder's name holds a colon, which Java takes for the end of a path.
    """
    if os.pathsep in str(jars):
        raise SetupError(f"found {os.pathsep!r} in {jars}, expected a cache folder without it; set K2_CACHE_DIR")
    return ["-cp", os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))]


def jvm_options(java: JavaRuntime, heap_mb: int) -> list[str]:
    """The JVM's options beside the class path.

    Args:
        java: The runtime; options that it does not know would stop it, so they depend on its version.
        heap_mb: Upper bound of the heap, in MiB. The process takes about 150 MiB beside it.
    """
    options = [
        f"-Xmx{heap_mb}m",
        "-XX:+ExitOnOutOfMemoryError",
        # Measured on two cores, 2 M messages in and out: at the same throughput the serial collector and the first
        # compiler tier take 4.5 s of CPU from start to end where Java's defaults take 8.2 s.
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        # No /tmp/hsperfdata file; native libraries of the codecs are unpacked below the broker's own folder.
        "-XX:-UsePerfData",
        f"-Djava.io.tmpdir={TEMP_DIR}",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        # log4j-core is on the class path for Kafka's log-level API only; without this it complains of no configuration.
        "-Dlog4j2.statusLoggerLevel=OFF",
        # Java's own remarks (an archive of classes that does not fit) are none of the reader's concern.
        "-Xlog:disable",
        "-Xlog:all=error:stderr",
    ]
    if java.major >= 24:
        # Codecs load native code and Kafka unmaps files: both warn from Java 24 on (JEP 472, JEP 498).
        options += ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
    return options
