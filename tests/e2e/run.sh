#!/usr/bin/env bash
# The program as a user meets it: three nodes from the conf files, certificates from `headwater certs`,
# messages from mosquitto_pub and paho, answers through curl. What was published is counted here,
# never asked of the program. Waits on what can be seen, each time within a bound.
#
#   tests/e2e/run.sh target/release/headwater
set -euo pipefail
export LC_ALL=C

HEADWATER=$(realpath "${1:?usage: tests/e2e/run.sh PATH_TO_HEADWATER}")
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/headwater-e2e.XXXXXX")
PRIMARY_PID=
SECONDARY_PID=
RELAY_PID=
PUBLISHER_PID=

finish() {
    local code=$? pid
    for pid in $PRIMARY_PID $SECONDARY_PID $RELAY_PID $PUBLISHER_PID; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    if [ "$code" -ne 0 ]; then
        tail -n 30 "$WORK"/*.log 2>/dev/null || true
        echo "end to end: FAILED; data and logs are in $WORK" >&2
    else
        rm -rf "$WORK"
    fi
    exit "$code"
}
trap finish EXIT

say() {
    printf '  %s\n' "$*"
}

die() {
    printf 'end to end: %s\n' "$*" >&2
    exit 1
}

# within SECONDS COMMAND...: until the command succeeds.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || die "this did not come true in time: $*"
        sleep 0.1
    done
}

# expect CODE COMMAND...: the command must end with this exit code; its output is in $WORK/out.
expect() {
    local wanted=$1 code=0
    shift
    "$@" >"$WORK/out" 2>&1 || code=$?
    [ "$code" -eq "$wanted" ] || { cat "$WORK/out" >&2; die "exit code $code, not $wanted: $*"; }
}

read -r MQTT_PORT PRIMARY_HTTP_PORT SECONDARY_HTTP_PORT RELAY_HTTP_PORT SHIP_PORT RELAY_SHIP_PORT \
    < <(python3 - <<'PYTHON'
import socket
kinds = [socket.SOCK_STREAM] * 4 + [socket.SOCK_DGRAM] * 2
sockets = [socket.socket(socket.AF_INET, kind) for kind in kinds]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))
PYTHON
)
PRIMARY=http://127.0.0.1:$PRIMARY_HTTP_PORT
SECONDARY=http://127.0.0.1:$SECONDARY_HTTP_PORT
RELAY=http://127.0.0.1:$RELAY_HTTP_PORT

cat "$ROOT/conf/primary.toml" - >"$WORK/primary.toml" <<'CONF'
[[table]]
name = "meters"
dedup = "key"
strict = true
tags = ["site"]
columns = { energy = "float", state = "text" }
CONF

start_primary() {
    "$HEADWATER" serve --conf "$WORK/primary.toml" --set log.segment_size="1 MiB" \
        --set node.name=primary-1 --set node.data_dir="$WORK/primary" \
        --set mqtt.listen=127.0.0.1:"$MQTT_PORT" \
        --set http.listen=127.0.0.1:"$PRIMARY_HTTP_PORT" \
        --set replication.listen=127.0.0.1:"$SHIP_PORT" \
        --set replication.certs="$WORK/certs/primary-1" --set log.reserve_disk="64 MiB" 2>>"$WORK/primary.log" &
    PRIMARY_PID=$!
    within 30 curl -fsS "$PRIMARY/ready"
    within 10 bash -c "exec 3<>/dev/tcp/127.0.0.1/$MQTT_PORT"
}

# start_secondary [PORT]: following the primary, or the relay that listens there.
start_secondary() {
    "$HEADWATER" serve --conf "$ROOT/conf/secondary.toml" \
        --set node.name=secondary-1 --set node.data_dir="$WORK/secondary" \
        --set http.listen=127.0.0.1:"$SECONDARY_HTTP_PORT" \
        --set replication.upstream=127.0.0.1:"${1:-$SHIP_PORT}" \
        --set replication.certs="$WORK/certs/secondary-1" --set log.reserve_disk="64 MiB" 2>>"$WORK/secondary.log" &
    SECONDARY_PID=$!
    within 30 curl -fsS "$SECONDARY/ready"
}

start_relay() {
    "$HEADWATER" serve --conf "$ROOT/conf/relay.toml" \
        --set node.name=relay-1 --set node.data_dir="$WORK/relay" \
        --set http.listen=127.0.0.1:"$RELAY_HTTP_PORT" \
        --set replication.listen=127.0.0.1:"$RELAY_SHIP_PORT" \
        --set replication.upstream=127.0.0.1:"$SHIP_PORT" \
        --set replication.certs="$WORK/certs/relay-1" --set log.reserve_disk="64 MiB" 2>>"$WORK/relay.log" &
    RELAY_PID=$!
    within 30 curl -fsS "$RELAY/ready"
}

# sql URL STATEMENT [LSN]: the rows as CSV, without the header; as of an LSN.
sql() {
    curl -sS --fail-with-body --max-time 60 -G "$1/api/v3/query_sql" ${3:+--data-urlencode as_of_lsn="$3"} \
        --data-urlencode format=csv --data-urlencode "q=$2" | tail -n +2 | tr -d '\r'
}

# shows URL PATTERN: a line of the status tree.
shows() {
    "$HEADWATER" status --url "$1" | grep -Eq "$2"
}

answers() {
    [ "$(sql "$1" "$2")" = "$3" ]
}

publish() {
    python3 "$HERE/publish.py" --port "$MQTT_PORT" "$@"
}

messages() {
    awk -v first="$1" -v last="$2" -v client="$3" 'BEGIN {
        for (n = first; n <= last; n++)
            printf "{\"n\": %d, \"value\": %.2f, \"client\": \"%s\"}\n", n, n / 4, client
    }'
}

pub() {
    timeout 60 mosquitto_pub -h 127.0.0.1 -p "$MQTT_PORT" -q 1 "$@"
}

echo "end to end with $("$HEADWATER" --version)"

say "a bad conf ends with 2 and one line"
expect 2 "$HEADWATER" serve --conf "$ROOT/conf/primary.toml" --set mqtt.max_packets=1
grep -q 'mqtt.max_packets is unknown; the nearest known key is mqtt.max_packet' "$WORK/out" ||
    die "the refusal names no key: $(cat "$WORK/out")"
expect 0 "$HEADWATER" check-conf "$ROOT/conf/primary.toml" \
    --topic plant/a/d1 --payload '{"value": 1.5}'
grep -q 'table plant' "$WORK/out" || die "check-conf does not explain the message"

say "certificates and two nodes"
expect 0 "$HEADWATER" certs init "$WORK/certs"
expect 0 "$HEADWATER" certs node "$WORK/certs" primary-1
expect 0 "$HEADWATER" certs node "$WORK/certs" secondary-1
expect 0 "$HEADWATER" certs node "$WORK/certs" relay-1
expect 1 "$HEADWATER" certs node "$WORK/certs" secondary-1
start_primary
start_secondary

say "mosquitto_pub 3.1.1 and 5, paho 3.1.1 and 5"
messages 1 1000 v311 | pub -V mqttv311 -t plant/a/d1 -l
messages 1001 2000 v5 | pub -V mqttv5 -t plant/a/d2 -l
publish --protocol 311 --topic plant/b/d3 --first 2001 --count 500 --acknowledged "$WORK/acked"
publish --protocol 5 --topic plant/b/d4 --first 2501 --count 500 --acknowledged "$WORK/acked"
! pub -V mqttv31 -t plant/a/d1 -m '{"n": 0}' 2>/dev/null || die 'MQTT 3.1 was let in' # CONNACK 1, and a line
grep -q 'MQTT 3.1 (MQIsdp, level 3) is not spoken' "$WORK/primary.log" || die "MQTT 3.1 left no line"
[ "$(wc -l <"$WORK/acked")" -eq 1000 ] || die "paho saw $(wc -l <"$WORK/acked") acknowledgements"
# 1 + 2 + ... + 3000, and four topics.
within 30 answers "$SECONDARY" "SELECT count(*), sum(n), count(DISTINCT topic) FROM plant" \
    3000,4501500,4
answers "$PRIMARY" "SELECT count(*), sum(n), count(DISTINCT topic) FROM plant" 3000,4501500,4 ||
    die "the primary itself does not hold what it acknowledged"

say "what cannot be stored is kept aside, what is too large ends only its connection"
pub -t plant/a/d1 -m '{"n": '
within 30 answers "$SECONDARY" 'SELECT count(*) FROM system.dead_letters' 1
head -c 10485760 /dev/zero | pub -t plant/a/d1 -s || true
pub -t plant/a/d1 -m '{"n": 3001, "value": 0.25}'
within 30 answers "$SECONDARY" 'SELECT count(*), max(n) FROM plant' 3001,3001

say "a declared table: the last write wins, what does not fit is kept aside"
pub -t meters/m1 -m '{"site": "north", "energy": 1, "time": 1700000000}'
pub -t meters/m1 -m '{"site": "north", "state": "ok", "time": 1700000000}'
pub -t meters/m1 -m '{"site": "north", "energy": 2.5, "time": 1700000000}'
pub -t meters/m1 -m '{"site": "north", "speed": 9}'
within 30 answers "$SECONDARY" 'SELECT site, energy, state FROM meters' north,2.5,ok
within 30 answers "$SECONDARY" 'SELECT count(*) FROM system.dead_letters' 2

say "a secondary only reads"
for statement in 'DROP TABLE plant' 'INSERT INTO plant (n) VALUES (1)' "COPY plant TO '/tmp/x'" \
    "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'" "SELECT * FROM '/etc/passwd'"; do
    expect 1 "$HEADWATER" sql --url "$SECONDARY" "$statement"
    [ -s "$WORK/out" ] || die "no reason is given for refusing: $statement"
done
answers "$SECONDARY" 'SELECT count(*) FROM plant' 3001 || die "a refused statement changed rows"

say "rows over HTTP: JSON, CSV, line protocol, with an LSN to ask for"
lsn=$(curl -fsS "$PRIMARY/api/v1/ingest/web?tags=site" -d '[{"site": "a", "n": 1}, {"site": "b", "n": 2}]' |
    sed 's/.*"lsn":\([0-9]*\).*/\1/')
[ "$(curl -fsS -G "$SECONDARY/api/v3/query_sql" --data-urlencode min_lsn="$lsn" --data-urlencode format=csv \
    --data-urlencode 'q=SELECT sum(n) FROM web' | tail -n +2 | tr -d '\r')" = 3 ] || die "the rows of LSN $lsn are not there"
printf 'site,n\nc,3\n' | curl -fsS -H 'Content-Type: text/csv' --data-binary @- -o /dev/null "$PRIMARY/api/v1/ingest/web"
printf 'web,site=d n=4i\nweb,site=e n=5i\n' | gzip |
    curl -fsS -H 'Content-Encoding: gzip' --data-binary @- "$PRIMARY/api/v2/write?bucket=x"
within 30 answers "$SECONDARY" 'SELECT count(*), sum(n), count(DISTINCT site) FROM web' 5,15,5
code=$(curl -sS -o "$WORK/out" -w '%{http_code}' "$SECONDARY/write" -d 'web n=6i')
[ "$code" = 403 ] && grep -q '"primary":"http://127.0.0.1:' "$WORK/out" || die "a secondary answers a write with $code: $(cat "$WORK/out")"

say "the command line and the headers"
expect 0 "$HEADWATER" sql --url "$SECONDARY" 'SELECT count(*) AS messages FROM plant'
grep -q '3001' "$WORK/out" || die "headwater sql: $(cat "$WORK/out")"
expect 0 "$HEADWATER" status --url "$PRIMARY"
grep -q 'secondary-1 .* streaming' "$WORK/out" || die "headwater status: $(cat "$WORK/out")"
curl -sS -D "$WORK/headers" -o /dev/null -G "$SECONDARY/api/v3/query_sql" --data-urlencode 'q=SELECT 1'
for header in x-headwater-role x-headwater-lsn x-headwater-epoch x-headwater-lag-ms x-request-id; do
    grep -qi "^$header:" "$WORK/headers" || die "the answer has no header $header"
done
curl -fsS -o "$WORK/metrics" "$PRIMARY/metrics"
grep -q '^headwater_log_durable_lsn ' "$WORK/metrics" || die "no metrics"

say "enough for segments to fill"
awk 'BEGIN {
    pad = sprintf("%0800d", 0)
    for (n = 1; n <= 1000; n++)
        printf "%s{\"n\": %d, \"pad\": \"%s\"}", (n == 1 ? "[" : ", "), n, pad
    print "]"
}' >"$WORK/bulk.json"
for _ in 1 2 3 4; do
    pub -t bulk/a -f "$WORK/bulk.json"
done
within 30 answers "$SECONDARY" 'SELECT count(*), sum(n) FROM bulk' 4000,2002000

say "kill -9 of the primary under load, and of the secondary"
: >"$WORK/crash"
first=1
for round in 1 2 3; do
    before=$(wc -l <"$WORK/crash")
    publish --protocol 5 --topic crash/r"$round" --first "$first" --count 1000000 \
        --acknowledged "$WORK/crash" 2>/dev/null &
    PUBLISHER_PID=$!
    within 30 bash -c "[ \$(wc -l <'$WORK/crash') -ge $((before + 2000)) ]"
    [ "$round" -ne 2 ] || { kill -KILL "$SECONDARY_PID"; wait "$SECONDARY_PID" || true; }
    kill -KILL "$PRIMARY_PID"
    wait "$PRIMARY_PID" || true
    code=0
    wait "$PUBLISHER_PID" || code=$?
    PUBLISHER_PID=
    [ "$code" -eq 3 ] || die "the publisher ended with $code, not with a lost connection"
    start_primary
    [ "$round" -ne 2 ] || start_secondary
    first=$((first + 1000000))
done
sort -u "$WORK/crash" >"$WORK/acknowledged"
sql "$PRIMARY" 'SELECT n FROM crash' | sort -u >"$WORK/stored"
lost=$(comm -23 "$WORK/acknowledged" "$WORK/stored" | wc -l)
[ "$lost" -eq 0 ] || die "$lost acknowledged messages are missing on the primary"
within 30 answers "$SECONDARY" 'SELECT count(*) FROM crash' \
    "$(sql "$PRIMARY" 'SELECT count(*) FROM crash')"
for table in crash plant; do
    statement="SELECT * FROM $table ORDER BY topic, n, time"
    sql "$PRIMARY" "$statement" >"$WORK/primary.csv"
    sql "$SECONDARY" "$statement" >"$WORK/secondary.csv"
    cmp "$WORK/primary.csv" "$WORK/secondary.csv" || die "the secondary's $table differs"
done
say "$(wc -l <"$WORK/acknowledged") acknowledged, $(wc -l <"$WORK/stored") stored, none missing"

say "what is compacted is in Parquet files on both"
compacted() {
    [ "$(sql "$1" 'SELECT count(*) > 0 FROM system.files')" = true ]
}
within 30 compacted "$PRIMARY"
within 30 compacted "$SECONDARY"
expect 0 "$HEADWATER" verify --url "$SECONDARY"

say "a relay between the primary and the secondary"
kill -TERM "$SECONDARY_PID"
wait "$SECONDARY_PID" || die "the secondary did not exit with 0"
start_relay
start_secondary "$RELAY_SHIP_PORT"
within 30 shows "$PRIMARY" '^.-- relay-1  relay .* streaming'
within 30 shows "$PRIMARY" '^    .-- secondary-1  secondary .* streaming'
within 30 shows "$SECONDARY" '^    .-- secondary-1  secondary  streaming .* <- asked'
for node in "$PRIMARY" "$SECONDARY"; do
    expect 0 "$HEADWATER" status --url "$node"
    sed 's/^/    /' "$WORK/out"
    grep -q '^primary-1  primary ' "$WORK/out" || die "the primary is not at the top"
done
grep -q '^.-- relay-1  relay' "$WORK/out" || die "the relay is not on the way to the primary"

say "the primary and the secondary behind the relay hold the same, while messages come in"
publish --protocol 5 --topic live/a --first 1 --count 5000 --acknowledged "$WORK/live" &
PUBLISHER_PID=$!
within 30 test -s "$WORK/live"
expect 0 "$HEADWATER" verify --url "$PRIMARY" --against "$SECONDARY"
grep -q ': equal$' "$WORK/out" || die "headwater verify --against: $(cat "$WORK/out")"
say "$(cat "$WORK/out")"
wait "$PUBLISHER_PID" || die "not every message was acknowledged"
PUBLISHER_PID=

say "as of one LSN every node gives the same answer"
pub -t moments/a -m '{"n": 1}'
within 30 answers "$PRIMARY" 'SELECT count(*) FROM moments' 1
curl -sS -D "$WORK/headers" -o /dev/null -G "$PRIMARY/api/v3/query_sql" --data-urlencode 'q=SELECT 1'
lsn=$(tr -d '\r' <"$WORK/headers" | awk 'tolower($1) == "x-headwater-lsn:" { print $2 }')
pub -t moments/a -m '{"n": 2}'
for node in "$PRIMARY" "$RELAY" "$SECONDARY"; do
    within 30 answers "$node" 'SELECT count(*), max(n) FROM moments' 2,2
    found=$(sql "$node" 'SELECT count(*), max(n) FROM moments' "$lsn")
    [ "$found" = 1,1 ] || die "as of LSN $lsn $node answers $found"
done

say "acknowledged once another node has it on its disk, too"
pub -V mqttv5 -D publish user-property ack replicated:1 -t acks/a -m '{"n": 1}'
replicated() {
    curl -fsS -o "$WORK/status" "$PRIMARY/api/v1/status" &&
        grep -Eq '"acknowledged_replicated": ?1[,}]' "$WORK/status"
}
within 10 replicated

say "a node that is gone is forgotten, one that is connected is not"
expect 1 "$HEADWATER" forget --url "$PRIMARY" relay-1
grep -q 'is connected' "$WORK/out" || die "headwater forget: $(cat "$WORK/out")"
kill -TERM "$SECONDARY_PID" "$RELAY_PID"
wait "$SECONDARY_PID" || die "the secondary did not exit with 0"
wait "$RELAY_PID" || die "the relay did not exit with 0"
RELAY_PID=
start_secondary
within 30 "$HEADWATER" forget --url "$PRIMARY" relay-1
expect 1 "$HEADWATER" forget --url "$PRIMARY" relay-1
within 30 shows "$PRIMARY" '^.-- secondary-1  secondary .* streaming'
if shows "$PRIMARY" relay-1; then
    die "the relay is still in the tree"
fi

say "orderly stop; the secondary answers on without its primary"
kill -TERM "$PRIMARY_PID"
wait "$PRIMARY_PID" || die "the primary did not exit with 0"
PRIMARY_PID=
answers "$SECONDARY" 'SELECT count(*) FROM plant' 3001 || die "the secondary needs its primary"
curl -fsS "$SECONDARY/ready" >/dev/null || die "the secondary is not ready without its primary"
kill -TERM "$SECONDARY_PID"
wait "$SECONDARY_PID" || die "the secondary did not exit with 0"
SECONDARY_PID=

say "every block and file of both is whole, and a flipped byte is found"
for node in primary secondary; do
    expect 0 "$HEADWATER" verify "$WORK/$node"
    grep -q 'all good' "$WORK/out" || die "headwater verify: $(cat "$WORK/out")"
done
expect 0 "$HEADWATER" dump "$WORK/secondary"
grep -q '^{"table":"moments",.*"n":2}' "$WORK/out" || die "headwater dump leaves rows out"
damaged=$(find "$WORK/secondary" -name '*.parquet' | sort | head -n 1)
printf '\xff' | dd of="$damaged" bs=1 seek=100 conv=notrunc status=none
expect 1 "$HEADWATER" verify "$WORK/secondary"
grep -q "$(basename "$damaged")" "$WORK/out" || die "headwater verify: $(cat "$WORK/out")"

say "a damaged file is fetched from the primary again"
start_primary
start_secondary
expect 1 "$HEADWATER" verify --url "$SECONDARY"
within 30 "$HEADWATER" verify --url "$SECONDARY"
answers "$SECONDARY" 'SELECT count(*), sum(n) FROM bulk' 4000,2002000 ||
    die "rows are missing after the repair"
kill -TERM "$PRIMARY_PID" "$SECONDARY_PID"
wait "$PRIMARY_PID" || die "the primary did not exit with 0"
wait "$SECONDARY_PID" || die "the secondary did not exit with 0"
PRIMARY_PID=
SECONDARY_PID=

say "quickstart"
expect 0 timeout 120 "$HEADWATER" quickstart --seconds 5 --devices 10 --rate 500
grep -q 'acknowledged to the devices' "$WORK/out" || die "quickstart: $(cat "$WORK/out")"

echo "end to end: ok"
