package runtime

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// slackNS is the timer slack of Go's watcher thread, in nanoseconds.
const slackNS = 2_000_000

// calmWatcher lets the thread that Go starts to watch the others (sysmon) sleep
// longer. Wherever a goroutine computes or is in a system call it wakes up every 20
// microseconds, which during the 10 ms that a container's start takes is some 60
// times, each with two context switches: a seventh of all processor time of the
// start, on Linux 6.18 with two processors. A greater timer slack (prctl(2),
// PR_SET_TIMERSLACK) makes a handful of them. What it delays is handing the place
// of a goroutine that blocks in a system call to another, which may take 10 ms in
// any Go program.
//
// The thread is the first that Go starts, so its id is the next free one after
// that of the first thread. Where it is not found, or the slack cannot be set
// (that needs CAP_SYS_NICE), nothing changes. A thread that the watcher starts
// inherits the slack; compile.Facts.TimerSlack keeps it from the containers.
func calmWatcher() {
	const near = 16 // ids that other processes may have been given in between
	pid := unix.Getpid()
	var self [16]byte // where /proc is of another pid namespace, ids name others there
	n, err := unix.Readlink("/proc/self", self[:])
	if err != nil || string(self[:n]) != strconv.Itoa(pid) {
		return
	}
	for tid := pid + 1; tid <= pid+near; tid++ {
		if unix.Tgkill(pid, tid, 0) != nil {
			continue
		}
		fd, err := unix.Open("/proc/"+strconv.Itoa(tid)+"/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		unix.Write(fd, strconv.AppendInt(nil, slackNS, 10))
		unix.Close(fd)
		return
	}
}
