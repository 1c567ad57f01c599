#!/bin/sh
# A foreign consumer: it takes every entry that its own look at the queue finds, but *stuck* ones.
#
#     consumer.sh DIRECTORY [GATE]
#
# DIRECTORY gets a line in `runs` for each run, and what was taken, under its name, in `taken`.
# With GATE, a FIFO, the consumer waits there after its look. It exits with what `status` says.
out=$1 gate=$2
cd "$WATCHER_DIRECTORY" || exit 70
ls | grep -v '\.tmp$' >"$out/look" # those are being written
echo "$(grep -c . "$out/look") $WATCHER_QUEUE $WATCHER_ENTRY" >>"$out/runs"
[ -z "$gate" ] || : <"$gate"
grep -v stuck "$out/look" | xargs -r mv -t "$out/taken" --
[ ! -e "$out/status" ] || exit "$(cat "$out/status")"
