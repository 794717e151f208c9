package shell

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// jobs are a session's, and the goroutine that collects their outputs. It runs only while
// there is something to collect.
type jobs struct {
	s *Session

	mu      sync.Mutex
	list    []*Job
	number  int
	epoll   int
	running bool
	closed  bool
	ended   sync.WaitGroup
}

// What an event of the collector is about, beside Stdout and Stderr.
const (
	jobRecord = 3
	jobPidfd  = 4
	jobWake   = 5
)

func (js *jobs) init(s *Session) { js.s, js.epoll = s, -1 }

// make makes a job that nobody knows yet.
func (js *jobs) make(text string) *Job {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.number++
	j := &Job{Number: js.number, Text: text, js: js, done: make(chan struct{}), record: -1, pidfd: -1}
	for i := range j.out {
		j.out[i].fd, j.out[i].limit = -1, js.s.o.JobLimit
	}
	return j
}

// add puts a job on the list, and has its outputs collected. Where that cannot be done,
// the job ends at once.
func (js *jobs) add(j *Job) {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.list = append(js.list, j)
	js.trim()
	if err := js.collect(j); err != nil {
		j.end(Status{Signal: unix.SIGKILL})
		j.close()
	}
}

// collect watches a job's descriptors.
func (js *jobs) collect(j *Job) (err error) {
	if js.closed {
		return ErrClosed
	}
	if js.epoll < 0 {
		if js.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return err
		}
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET&0xffffffff, Pad: jobWake}
		if err := unix.EpollCtl(js.epoll, unix.EPOLL_CTL_ADD, js.s.wake, &ev); err != nil {
			return err
		}
	}
	for kind, fd := range map[int32]int{int32(Stdout): j.out[0].fd, int32(Stderr): j.out[1].fd, jobRecord: j.record, jobPidfd: j.pidfd} {
		if fd < 0 {
			continue
		}
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(j.Number), Pad: kind}
		if err := unix.EpollCtl(js.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return err
		}
	}
	if !js.running {
		js.running = true
		js.ended.Add(1)
		go js.run()
	}
	return nil
}

// trim forgets jobs beyond Options.Jobs: ended ones first, then what commands left behind.
func (js *jobs) trim() {
	for len(js.list) > js.s.o.Jobs {
		i := slices.IndexFunc(js.list, func(j *Job) bool { return j.status.Ended })
		if i < 0 {
			i = slices.IndexFunc(js.list, func(j *Job) bool { return !j.Background })
		}
		if i < 0 {
			return
		}
		j := js.list[i]
		if !j.status.Ended {
			j.end(Status{})
		}
		j.close()
		js.list = slices.Delete(js.list, i, i+1)
	}
}

// unfinished is how many jobs of Start there are that have not ended.
func (js *jobs) unfinished() (n int) {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.list {
		if j.Background && !j.status.Ended {
			n++
		}
	}
	return n
}

// run collects until nothing is left to collect.
func (js *jobs) run() {
	defer js.ended.Done()
	buf := make([]byte, 64<<10)
	for {
		var events [16]unix.EpollEvent
		n, err := unix.EpollWait(js.epoll, events[:], -1)
		if err != nil && err != unix.EINTR {
			n = 0
		}
		js.mu.Lock()
		for _, e := range events[:max(n, 0)] {
			js.event(&e, buf)
		}
		if js.closed || !slices.ContainsFunc(js.list, (*Job).open) {
			js.running = false
			js.mu.Unlock()
			return
		}
		js.mu.Unlock()
	}
}

// open says whether something of the job has to be watched.
func (j *Job) open() bool {
	return j.out[0].fd >= 0 || j.out[1].fd >= 0 || j.record >= 0
}

// event deals with one descriptor that is ready.
func (js *jobs) event(e *unix.EpollEvent, buf []byte) {
	j := js.find(int(e.Fd))
	if j == nil {
		return
	}
	switch e.Pad {
	case int32(Stdout), int32(Stderr):
		j.read(&j.out[e.Pad-1], e.Events, buf)
		if !j.Background && j.out[0].fd < 0 && j.out[1].fd < 0 {
			j.end(Status{})
		}
	case jobRecord:
		if st, ok := j.readRecord(); ok {
			j.finish(st, buf)
		}
	case jobPidfd:
		st, ok := j.readRecord()
		if !ok {
			st = Status{ExitStatus: 128 + int(unix.SIGKILL), Signal: unix.SIGKILL}
		}
		j.finish(st, buf)
	}
}

func (js *jobs) find(number int) *Job {
	for _, j := range js.list {
		if j.Number == number {
			return j
		}
	}
	return nil
}

// read reads some of an output, and closes it when its last writer has gone.
func (j *Job) read(g *ring, events uint32, buf []byte) {
	if g.fd < 0 {
		return
	}
	n, _ := kernel.Read(g.fd, buf)
	if n > 0 {
		g.write(buf[:n])
		return
	}
	if events&unix.EPOLLHUP != 0 {
		g.close()
	}
}

// readRecord reads the exit status that a job's subshell has written.
func (j *Job) readRecord() (st Status, ok bool) {
	if j.record < 0 {
		return st, false
	}
	var buf [64]byte
	n, _ := kernel.Read(j.record, buf[:])
	line, _, _ := strings.Cut(string(buf[:max(n, 0)]), "\n")
	status, err := strconv.ParseUint(line, 10, 8)
	return Status{ExitStatus: int(status)}, err == nil
}

// finish ends a job of Start, when all that it has written so far is read.
func (j *Job) finish(st Status, buf []byte) {
	if j.status.Ended {
		return
	}
	for i := range j.out {
		g := &j.out[i]
		for left := pending(max(g.fd, 0)); g.fd >= 0 && left > 0; {
			n, _ := kernel.Read(g.fd, buf[:min(left, len(buf))])
			if n <= 0 {
				break
			}
			g.write(buf[:n])
			left -= n
		}
		// An output that was never opened has never lost its last writer either.
		touch(j.js.s.dir.fd, jobName+strconv.Itoa(j.Number)+[]string{outName, errName}[i])
	}
	j.end(st)
	j.closeRecord()
}

// touch opens a FIFO for writing, and closes it.
func touch(dir int, name string) {
	if fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		unix.Close(fd)
	}
}

// end says that the job has ended.
func (j *Job) end(st Status) {
	if j.status.Ended {
		return
	}
	st.Ended = true
	j.status = st
	close(j.done)
}

// holds says whether a process has an output of an unfinished job open.
func (js *jobs) holds(pid int) bool {
	js.mu.Lock()
	defer js.mu.Unlock()
	var files []file
	for _, j := range js.list {
		for _, g := range j.out {
			if g.fd >= 0 {
				files = append(files, g.file)
			}
		}
	}
	return len(files) > 0 && holds(pid, files...)
}

// close ends all jobs: those of Start are killed.
func (js *jobs) close() {
	js.mu.Lock()
	js.closed = true
	for _, j := range js.list {
		if j.pidfd >= 0 {
			signalAll(below([]int{j.pid}), unix.SIGKILL)
		}
	}
	js.mu.Unlock()
	js.s.wakeUp()
	js.ended.Wait()
	for _, j := range js.list {
		j.end(Status{ExitStatus: 128 + int(unix.SIGKILL), Signal: unix.SIGKILL})
		j.close()
	}
	kernel.Close(js.epoll)
}

// Jobs returns the jobs that the session remembers, oldest first.
func (s *Session) Jobs() []*Job {
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	return slices.Clone(s.jobs.list)
}

// Job returns the job of a number, nil where there is none.
func (s *Session) Job(number int) *Job {
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	return s.jobs.find(number)
}
