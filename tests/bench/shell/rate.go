package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/shell"
	"adl.run/adl-runtime/tests/bench/frame"
)

// bindUsr mounts this machine's programs.
func bindUsr() specs.Mount {
	return specs.Mount{Destination: "/usr", Type: "bind", Source: "/usr", Options: []string{"rbind", "ro"}}
}

// mbPerSecond is output that is streamed and not kept.
const mbPerSecond = "MB/s of output"

// throughput measures large outputs.
func (b *bench) throughput() error {
	const size = 256 << 20
	text := fmt.Sprintf("head -c %d /dev/zero", size)
	bare, err := b.startBare()
	if err != nil {
		return err
	}
	defer bare.close()
	for turn := range max(b.o.rounds/10, 2) + 1 {
		for who, run := range map[string]func() error{
			byLibrary: func() error {
				r, err := b.boxes[0].Run(b.ctx, text, &shell.Command{Stdout: io.Discard})
				if err == nil && r.ExitStatus != 0 {
					err = fmt.Errorf("%+v", *r)
				}
				return err
			},
			bareBash: func() error { return bare.run(text, size) },
		} {
			ms, err := b.timed(run)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", who, mbPerSecond, err)
			}
			if turn > 0 {
				b.rep.series.Add(key{who, mbPerSecond}, size/1e6/(ms/1000))
			}
		}
	}
	return nil
}

func perSecond(text string, n int) string {
	return fmt.Sprintf("%s, a second, %d at once", text, n)
}

// rates measures how many commands there are in a second, without a pause.
func (b *bench) rates() error {
	var bare []*piped
	for range crowd {
		p, err := b.startBare()
		if err != nil {
			return err
		}
		defer p.close()
		bare = append(bare, p)
	}
	for range 3 {
		for _, n := range []int{1, crowd} {
			for _, text := range []string{builtin, program} {
				ours := func(i int) error { return b.library(b.boxes[i].Run, text, 0) }
				floor := func(i int) error { return bare[i].run(text, 0) }
				for who, run := range map[string]func(int) error{byLibrary: ours, bareBash: floor} {
					rate, err := b.together(n, run)
					if err != nil {
						return fmt.Errorf("%s: %s: %w", who, text, err)
					}
					b.rep.series.Add(key{who, perSecond(text, n)}, rate)
				}
			}
		}
	}
	return nil
}

// together calls run for n numbers at once, again and again, and returns how many calls a
// second that makes.
func (b *bench) together(n int, run func(int) error) (float64, error) {
	ctx, cancel := context.WithTimeout(b.ctx, b.o.rate)
	defer cancel()
	var calls atomic.Int64
	errs := make([]error, n)
	began := time.Now()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for ctx.Err() == nil && errs[i] == nil {
				errs[i] = run(i)
				calls.Add(1)
			}
		})
	}
	all.Wait()
	return float64(calls.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}

// kibPSS is the memory of a process, shared pages in proportion.
const kibPSS = "KiB PSS of "

// memory measures what is alive because of a sandbox: its init and its shell and, where
// the verb is used, the holder.
func (b *bench) memory() error {
	const id = "box2"
	sb := b.boxes[2]
	if err := b.verb("shell", id, "--", builtin); err != nil {
		return err
	}
	holder, err := holderOf(id, b.storeRoot())
	if err != nil {
		return err
	}
	pids, err := sb.Processes()
	if err != nil {
		return err
	}
	parts := map[string]int64{}
	for _, pid := range append(pids, holder) {
		pss, _, err := frame.MemoryOf(pid)
		if err != nil {
			return err
		}
		switch pid {
		case sb.Pid():
			parts["init"] += pss
		case holder:
			parts["holder"] += pss
		default: // of the library and of the holder: the same program
			parts["shell"] = max(parts["shell"], pss)
		}
	}
	for part, kib := range parts {
		b.rep.series.Add(key{"adl-runtime", kibPSS + part}, float64(kib))
	}
	b.rep.series.Add(key{byLibrary, kibPSS + "a sandbox"}, float64(parts["init"]+parts["shell"]))
	b.rep.series.Add(key{byCommandLine, kibPSS + "a sandbox"}, float64(parts["init"]+parts["shell"]+parts["holder"]))
	return nil
}

// holderOf finds the process that holds the verb's sessions.
func holderOf(id, store string) (int, error) {
	list, err := os.ReadDir("/proc")
	for _, e := range list {
		raw, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if line := string(raw); strings.HasSuffix(line, "\x00--hold\x00"+id+"\x00") && strings.Contains(line, store) {
			return strconv.Atoi(e.Name())
		}
	}
	return 0, errors.Join(err, errors.New("there is no holder"))
}
