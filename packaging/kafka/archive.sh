#!/bin/bash
# Makes the archive of loaded classes that shortens Kafka's start, by running a broker once.
#   archive.sh HOME JAVA VERSION      HOME holds libs/; VERSION is what JAVA calls its own
# The archive fits one Java only and is named after it; crates/local-servers looks for this name. One
# that is there is kept. Fails when the broker does not start or the folder cannot be written.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=$1 java=$2 version=$3
archive=$home/broker-$(printf %s "$version" | tr -c '[:alnum:]' -).jsa
if [ -e "$archive" ]; then exit 0; fi
[ -w "$home" ] || { printf '==> %s cannot be written\n' "$home" >&2; exit 1; }
printf '==> making Kafka'"'"'s class archive (ten seconds, once for each Java)\n'

work=$(mktemp -d)
broker=
cleanup() {
    if [ -n "$broker" ]; then kill -KILL "$broker" 2>/dev/null || true; fi
    rm -rf "$work" "$archive.$$"
}
trap cleanup EXIT
cd "$work"
cp "$here/log4j2.properties" .
cat "$here/server.properties.in" - >server.properties <<SETTINGS
node.id=1
log.dirs=data
listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:0
offsets.topic.replication.factor=1
SETTINGS
# The collector and the class path must be those of the broker that will use the archive.
flags=(-Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Dlog4j2.configurationFile=log4j2.properties -cp "$home/libs/*")
"$java" "${flags[@]}" kafka.tools.StorageTool format -c server.properties -t AAAAAAAAAAAAAAAAAAAAAA --standalone >log 2>&1 ||
    { tail -5 log >&2; exit 1; }
"$java" -XX:ArchiveClassesAtExit=broker.jsa "${flags[@]}" kafka.Kafka server.properties >log 2>&1 &
broker=$!
for _ in $(seq 300); do
    if grep -q 'Kafka Server started' log; then break; fi
    kill -0 "$broker" 2>/dev/null || break
    sleep 0.2
done
grep -q 'Kafka Server started' log || { tail -5 log >&2; exit 1; }
kill -TERM "$broker"
for _ in $(seq 150); do
    kill -0 "$broker" 2>/dev/null || break
    sleep 0.2
done
[ -s broker.jsa ] || { tail -5 log >&2; exit 1; }
# Whole or not at all.
cp broker.jsa "$archive.$$"
chmod 644 "$archive.$$"
mv "$archive.$$" "$archive"
