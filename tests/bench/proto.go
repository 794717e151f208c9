package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// The bench and its workers talk in JSON values over two pipes, strictly in
// turn:
//
//	bench                     worker (one for each runtime and slot)
//	  setup        ------->   own mount namespace, bundles
//	               <-------   reply
//	  request      ------->   sleep until request.At, run one step
//	               <-------   reply
//	  (close)      ------->   kill and remove whatever is left, exit
const (
	requestFD = 3 // the worker reads setup, then requests
	replyFD   = 4 // the worker writes replies
)

// setup is the first value a worker reads.
type setup struct {
	Runtime string // name in messages, and part of paths
	Path    string // the runtime's executable
	Slot    int    // 0 <= Slot < options.parallel
	Base    string // the scratch folder, shared by all workers
	Cgroup  string // cgroup below every hierarchy's root, shared by all workers
	Hide    bool   // unmount cgroup v2 where the layout is hybrid
	// Timeout ends a command that hangs; its step has failed then.
	Timeout time.Duration
}

// request asks for one step.
type request struct {
	Step string
	At   int64 // CLOCK_MONOTONIC, ns; 0 or the past means at once

	Rate, Count int // of stepRate only: commands a second, and in all
}

// reply answers setup or a request. A non-empty Err means the step failed and
// the other fields mean nothing.
type reply struct {
	Start, End int64 // CLOCK_MONOTONIC, ns, around ForkExec and wait4
	PSS, RSS   int64 // KiB, of stepMemory only
	Err        string

	Late []float64 // ms from when each command was due to its end, of stepRate only
}

// The steps of a container's life. Those that allOps lists are timed.
const (
	opRun         = "run"          // /bin/true in the foreground
	opCreate      = "create"       //
	opStart       = "start"        //
	opDelete      = "delete"       // of a stopped container, as a manager does it
	opDeleteForce = "delete-force" // of a running container, kill included
	opVersion     = "--version"    //

	stepProbe  = "probe"  // run a program that exits with probeStatus
	stepMemory = "memory" // PSS and RSS of the waiting init
	stepKill   = "kill"   // SIGKILL the init and wait for its end
)

// allOps lists the timed steps in report order.
func allOps() []string {
	return []string{opRun, opCreate, opStart, opDelete, opDeleteForce, opRunPodman, opPause, opResume, opExec, opExecUser, opShell, opVersion}
}

// now reads CLOCK_MONOTONIC, which all processes share, in nanoseconds.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // cannot fail for this clock
	}
	return ts.Nano()
}

// sleepUntil returns at the given CLOCK_MONOTONIC time or right away when it
// has passed. The kernel's timer slack (50 us) is the precision.
func sleepUntil(at int64) {
	for at > now() {
		ts := unix.NsecToTimespec(at)
		// EINTR: the loop looks at the clock again.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil)
	}
}

// after is the time d from now, for request.At.
func after(d time.Duration) int64 { return now() + int64(d) }
