#!/bin/bash
# distros.sh [SUITE...] - the README's two commands, `make test` and `make sweep`, on a
# clean checkout of HEAD in fresh Debian systems; by default bookworm, trixie, testing.
# Needs root and debootstrap; not part of `make test`.  TRY: commands instead of the two,
# one a line.
#
# build/distros/SUITE holds the base system, kept from one run to the next, SUITE.log
# what the commands print.  All mounts are those of a namespace that ends with the
# command, so that nothing stays mounted below build/ whatever happens.
cd "$(dirname "$0")/.." || exit 1
. tests/check.sh
if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
    echo "distros.sh needs root and debootstrap; as root: apt-get install debootstrap"
    exit 3
fi
[ $# -gt 0 ] || set -- bookworm trixie testing
# What is in the base system that the README asks for.
first=make,git
commands=${TRY:-$'make test\nmake sweep'}
store=$PWD/build/distros
mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 2>/dev/null |
    sed -n 's/^Debian //p' | head -1)
mkdir -p "$store"

base() { # SUITE
    [ ! -e "$store/$1.done" ] || return 0
    rm -rf "${store:?}/$1"
    debootstrap --variant=minbase --include="$first" "$1" "$store/$1" $mirror >"$log" 2>&1 &&
        touch "$store/$1.done"
}

# inside ROOT COMMAND - as root of that system, with a /dev of its own.
inside() {
    unshare --mount --pid --fork --kill-child bash -c '
        root=$1
        mount -t proc proc "$root/proc" && mount -t sysfs -o ro sys "$root/sys" &&
            mount -t tmpfs dev "$root/dev" || exit 125
        for device in null zero full random urandom tty; do
            touch "$root/dev/$device"
            mount --bind "/dev/$device" "$root/dev/$device" || exit 125
        done
        mkdir "$root/dev/shm" "$root/dev/pts"
        mount -t tmpfs shm "$root/dev/shm" &&
            mount -t devpts -o newinstance,ptmxmode=0666 pts "$root/dev/pts" || exit 125
        ln -s pts/ptmx "$root/dev/ptmx"
        ln -s /proc/self/fd "$root/dev/fd"
        exec chroot "$root" env -i HOME=/root TERM=dumb \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            sh -c "cd /root/attnbench && $2"' inside "$1" "$2"
}

for suite; do
    log=$store/$suite.log
    base "$suite"
    check "$suite: debootstrap" $? || continue
    run=$store/$suite.run
    rm -rf "$run"
    cp -a --reflink=auto "$store/$suite" "$run"
    cp /etc/resolv.conf "$run/etc/"
    # A mirror may lag behind, and a clock go ahead.
    echo 'Acquire::Check-Valid-Until "false";' >"$run/etc/apt/apt.conf.d/90late"
    git clone -q --no-local . "$run/root/attnbench" 2>>"$log"
    check "$suite: a clean checkout" $? || continue
    : >"$log"
    while read -r command; do
        start=$SECONDS
        echo "==== $command" >>"$log"
        inside "$run" "$command" >>"$log" 2>&1 </dev/null
        status=$?
        check "$suite: $command: $status" $status
        # Sections of tests that failed, with what they say of it.
        [ $status = 0 ] || sed -n "/^==== $command/,\$p" "$log" |
            awk '/^[a-z_]+ +[0-9]+ passed, / { bad = $4 > 0 } bad' | head -60
        echo "$suite: $command: $([ $status = 0 ] && echo ok || echo "failed ($status)"), $((SECONDS - start)) s"
    done <<<"$commands"
    rm -rf "$run"
done
finish
