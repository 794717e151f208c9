// Command entry prints what it was started with, one item a line. It is linked with
// -E adl_entry.
package main

import (
	"fmt"
	"os"
	"runtime"

	"adl.run/adl-runtime/libsandbox/internal/kernel/early"
)

func main() {
	fmt.Println("file", early.StateFile) // links the package in
	fmt.Println("procs", runtime.GOMAXPROCS(0))
	slack, _ := os.ReadFile("/proc/self/timerslack_ns") // the first thread's
	fmt.Printf("slack %d, now %s", early.Slack, slack)
	fmt.Println("page", os.Getpagesize()) // of the auxiliary vector
	for _, a := range os.Args {
		fmt.Println("arg", a)
	}
	for _, kv := range os.Environ() {
		fmt.Println("env", kv)
	}
}
