package shell

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// Stream is one of a job's outputs.
type Stream int

// The outputs of a job.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Job is a command in the background, or what a command left running in it. What its
// processes write is collected without anybody's asking, so that they never block.
type Job struct {
	// Number is its handle in the session, from 1.
	Number int
	// Text is the command's.
	Text string
	// Background: it was started by Start, and has an exit status. Otherwise it is what
	// a command left behind, and ends when nobody holds its outputs any more.
	Background bool

	js     *jobs
	done   chan struct{}
	status Status
	out    [2]ring
	record int // read end of the FIFO of its record
	pidfd  int // of the subshell that writes the record
	pid    int
	run    *run // whose stdin it has
}

// Status is where a job is.
type Status struct {
	// Ended: it has ended; for a job of Start the status is valid then.
	Ended bool
	// ExitStatus is as in Result.
	ExitStatus int
	// Signal is SIGKILL where something killed what would have told the exit status.
	Signal unix.Signal
	// Stdout and Stderr are how many bytes have been written.
	Stdout, Stderr int64
}

// ring keeps the last bytes of a stream.
type ring struct {
	fd    int
	file  file
	limit int
	buf   []byte
	next  int // where the oldest byte is, once buf has its full length
	total int64
}

// write appends bytes.
func (g *ring) write(p []byte) {
	g.total += int64(len(p))
	if n := min(len(p), g.limit-len(g.buf)); n > 0 {
		g.buf = append(g.buf, p[:n]...)
		p = p[n:]
	}
	if len(p) > g.limit {
		p = p[len(p)-g.limit:]
	}
	for len(p) > 0 {
		n := copy(g.buf[g.next:], p)
		p = p[n:]
		g.next = (g.next + n) % g.limit
	}
}

// read copies from an offset on.
func (g *ring) read(offset int64, p []byte) (n int, first int64) {
	first = min(max(offset, g.total-int64(len(g.buf))), g.total)
	at := len(g.buf) - int(g.total-first)
	for n < len(p) && at < len(g.buf) {
		i := at
		end := len(g.buf)
		if g.next > 0 {
			if i += g.next; i >= len(g.buf) {
				i -= len(g.buf)
				end = g.next
			}
		}
		m := copy(p[n:], g.buf[i:end])
		n += m
		at += m
	}
	return n, first
}

// close closes the descriptor.
func (g *ring) close() {
	kernel.Close(g.fd)
	g.fd = -1
}

// Start runs a command in the background, in a subshell. It returns when the command has
// been started; its outputs are collected and kept as Options.JobLimit has it. Timeouts,
// Stdout and Stderr of the command are not looked at. As in any shell without job
// control, commands in the background begin with SIGINT and SIGQUIT ignored.
func (s *Session) Start(ctx context.Context, c *Command) (*Job, error) {
	if strings.IndexByte(c.Text, 0) >= 0 {
		return nil, errNUL
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	const tries = 3 // a shell may have died since the last command
	for try := 1; ; try++ {
		if err := s.ready(ctx); err != nil {
			return nil, err
		}
		if n := s.jobs.unfinished(); n >= s.o.Jobs {
			return nil, fmt.Errorf("start job: %d run already", n)
		}
		j := s.jobs.make(c.Text)
		j.Background = true
		unseen, err := s.startJob(ctx, j, c)
		if err == nil {
			s.jobs.add(j)
			return j, nil
		}
		j.close()
		if !unseen || try == tries {
			return nil, err
		}
	}
}

// startJob makes a job's FIFOs and has the shell start it. unseen: the shell had died
// before it read the command.
func (s *Session) startJob(ctx context.Context, j *Job, c *Command) (unseen bool, err error) {
	base := jobName + strconv.Itoa(j.Number)
	for i, stream := range []string{outName, errName} {
		fd, err := s.dir.output(base + stream)
		if err != nil {
			return false, err
		}
		j.collect(Stream(i+1), fd)
	}
	if j.record, err = s.dir.fifo(base+recordName, unix.O_RDWR); err != nil {
		return false, err
	}
	plain := *c
	plain.Isolated, plain.Timeout = true, 0
	r := &run{s: s, c: &plain, job: true, external: true}
	res := &Result{}
	s.seq++
	r.seq = s.seq
	stdin, err := r.stdin()
	if err != nil {
		return false, err
	}
	j.run = r
	name := within + base
	t := text(s.line[:0]).status(s.last).str("{ ").eval(&plain).redirect(&plain, stdin, name+outName, name+errName)
	t = t.str("\n", `\command \echo "$?" >`, name, recordName, "\n} &\n")
	if err := r.trigger(t.record(r.seq, " $!")); err != nil {
		return false, err
	}
	if err := r.wait(ctx); err != nil {
		return false, err
	}
	status := s.last
	unseen = r.died && r.unseen() // before finish closes the shell's input
	j.run = &run{s: s, stdinName: r.stdinName, pumping: r.pumping}
	r.stdinName = ""
	r.finish(res)
	switch {
	case r.stopped != nil:
		return false, r.stopped
	case r.died || len(r.words) != 1:
		return unseen, fmt.Errorf("start job: the shell did not start it: %s", r.how())
	}
	s.last = status
	s.openJob(j, r.words[0])
	return false, nil
}

// openJob finds the process of a job, which the shell knows by its pid in its own
// namespace. One that has ended is not found.
func (s *Session) openJob(j *Job, inner string) {
	before := pids(s.children)
	for _, pid := range childrenOf(s.shell.Pid) {
		known := false
		for _, b := range before {
			known = known || b == pid
		}
		if known || innerPid(pid) != inner {
			continue
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			j.pid, j.pidfd = pid, fd
		}
		return
	}
}

// innerPid is a process's pid in its own pid namespace (NSpid, Linux 4.1).
func innerPid(pid int) string {
	status, _ := kernel.ReadAll("/proc/" + strconv.Itoa(pid) + "/status")
	_, rest, _ := bytes.Cut(status, []byte("\nNSpid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	f := bytes.Fields(line)
	if len(f) == 0 {
		return ""
	}
	return string(f[len(f)-1])
}

// collect gives the job an output.
func (j *Job) collect(s Stream, fd int) {
	j.out[s-1].fd, j.out[s-1].file = fd, inode(fd)
}

// close closes the job's descriptors and removes its FIFOs. The caller holds the lock, or
// is the only one who knows the job.
func (j *Job) close() {
	j.out[0].close()
	j.out[1].close()
	j.closeRecord()
}

// closeRecord is for a job whose end has been told.
func (j *Job) closeRecord() {
	kernel.Close(j.record, j.pidfd)
	j.record, j.pidfd = -1, -1
	if j.run != nil {
		j.run.release()
		j.run = nil
	}
	if j.Background {
		for _, name := range []string{outName, errName, recordName} {
			j.js.s.dir.remove(jobName + strconv.Itoa(j.Number) + name)
		}
	}
}

// Status returns where the job is.
func (j *Job) Status() Status {
	j.js.mu.Lock()
	defer j.js.mu.Unlock()
	st := j.status
	st.Stdout, st.Stderr = j.out[0].total, j.out[1].total
	return st
}

// Read copies output from offset on, in bytes since the job began, into p. It returns how
// many bytes, and the offset of the first: it is greater than the offset asked for where
// bytes in between are no longer kept. n is 0 at the end of what has been written.
func (j *Job) Read(s Stream, offset int64, p []byte) (n int, first int64) {
	j.js.mu.Lock()
	defer j.js.mu.Unlock()
	return j.out[s-1].read(offset, p)
}

// Wait waits for the job's end, or for that of ctx.
func (j *Job) Wait(ctx context.Context) (Status, error) {
	select {
	case <-j.done:
		return j.Status(), nil
	case <-ctx.Done():
		return j.Status(), context.Cause(ctx)
	}
}

// Signal sends a signal to the job's processes: those below the subshell of Start, and
// those below the shell that hold the job's outputs. The error is ESRCH where there are
// none.
func (j *Job) Signal(sig unix.Signal) error { return signal(j.processes(), sig) }

// processes are the job's, without the subshell that tells the exit status.
func (j *Job) processes() (all []int) {
	j.js.mu.Lock()
	defer j.js.mu.Unlock()
	if j.pidfd >= 0 {
		all = below(childrenOf(j.pid))
	}
	seen := map[int]bool{j.pid: true}
	for _, pid := range all {
		seen[pid] = true
	}
	shell := j.js.s.Pid()
	if shell == 0 || j.out[0].fd < 0 && j.out[1].fd < 0 {
		return all
	}
	for _, pid := range below(childrenOf(shell)) {
		if !seen[pid] && holds(pid, j.out[0].file, j.out[1].file) {
			all = append(all, pid)
		}
	}
	return all
}
