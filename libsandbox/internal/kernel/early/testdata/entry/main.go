// Command entry prints what it was started with, one item a line. It is linked with
// -E adl_entry.
package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel/early"
)

func main() {
	fmt.Println("file", early.StateFile) // links the package in
	fmt.Println("procs", runtime.GOMAXPROCS(0))
	slack, _ := os.ReadFile("/proc/self/timerslack_ns") // the first thread's
	fmt.Printf("slack %d, now %s", early.Slack, slack)
	if n := early.TakeNetwork(); n != nil {
		network(n, slices.Contains(os.Args, "leave"))
	}
	fmt.Println("page", os.Getpagesize()) // of the auxiliary vector
	for _, a := range os.Args {
		fmt.Println("arg", a)
	}
	for _, kv := range os.Environ() {
		fmt.Println("env", kv)
	}
}

// network joins a network namespace on a thread, and looks for its loopback device. With
// leave, it is killed.
func network(n *early.Network, leave bool) {
	if leave {
		info, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", n.Pidfd()))
		fmt.Println("maker", strings.TrimSpace(strings.TrimPrefix(string(info[bytes.Index(info, []byte("Pid:")):]), "Pid:")))
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	defer n.End()
	runtime.LockOSThread()
	if err := unix.Setns(n.Pidfd(), unix.CLONE_NEWNET); err != nil {
		fmt.Println("setns", err)
		return
	}
	list, err := net.Interfaces()
	if err != nil || early.TakeNetwork() != nil {
		fmt.Println("interfaces", err)
	}
	for _, i := range list {
		fmt.Println("interface", i.Name, i.Flags)
	}
}
