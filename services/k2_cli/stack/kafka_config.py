"""What the one-node Kafka is told: its properties file and the JVM's options.

Pure text building; called by `k2_cli.stack.kafka` only. Paths in it are relative to the broker's working directory, so
that no character of the user's folder names needs escaping and the folder can be moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from k2_cli.stack.ports import LOOPBACK

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


def java_command(java: JavaRuntime, jars: Path, heap_mb: int) -> list[str]:
    """The JVM and its options, up to the main class.

    Args:
        java: The runtime; options that it does not know would stop it, so they depend on its version.
        jars: The folder whose jars make the class path; without a path separator in its name.
        heap_mb: Upper bound of the heap, in MiB. The process takes about 150 MiB beside it.
    """
    options = [
        f"-Xmx{heap_mb}m",
        "-XX:+ExitOnOutOfMemoryError",
        # On two cores and a small heap the serial collector is the cheapest, and starts no threads.
        "-XX:+UseSerialGC",
        # The compiler's last tier costs seconds of CPU at each start and pays only after minutes of full load.
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
    ]
    if java.major >= 24:
        # Codecs load native code and Kafka unmaps files: both warn from Java 24 on (JEP 472, JEP 498).
        options += ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
    return [str(java.executable), *options, "-cp", ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))]
