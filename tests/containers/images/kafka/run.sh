#!/bin/bash
# As in the official image: Kafka's own wrapper makes server.properties of KAFKA_*, and formats a new directory.
set -u
answer=$(java -Xmx128m -cp "/opt/kafka/libs/*" kafka.docker.KafkaDockerWrapper setup \
    --default-configs-dir /etc/kafka/docker --mounted-configs-dir /mnt/shared/config \
    --final-configs-dir /opt/kafka/config 2>&1) || grep -qi "already formatted" <<<"$answer" || { echo "$answer"; exit 1; }
read -ra options <<<"$KAFKA_HEAP_OPTS $KAFKA_JVM_PERFORMANCE_OPTS"
exec java "${options[@]}" -Dlog4j2.configurationFile=/opt/kafka/config/log4j2.properties \
    -cp "/opt/kafka/libs/*" kafka.Kafka /opt/kafka/config/server.properties
