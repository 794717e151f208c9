package bundle_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

const ownShell = "persistent shells are this project's own"

// shelled is a running container for commands in sessions.
type shelled struct {
	*h.Bundle
	t  *testing.T
	id string
}

func newShelled(t *testing.T, more ...h.Mutate) *shelled {
	t.Helper()
	h.OursOnly(t, ownShell)
	b := h.New(t, append([]h.Mutate{writable, h.Args("sleep", "1000"), h.Cwd("/tmp")}, more...)...)
	return runShelled(t, b, b.NewID())
}

// runShelled runs a bundle as a container for commands.
func runShelled(t *testing.T, b *h.Bundle, id string) *shelled {
	t.Helper()
	flags := layers(t, b)
	s := &shelled{b, t, id}
	b.WriteSpec()
	b.Do(append([]string{"run", "-d", "-b", b.Dir}, append(flags, s.id)...)...).OK(t)
	return s
}

// shell runs the verb with flags before the id.
func (s *shelled) shell(command string, flags ...string) h.Result {
	s.t.Helper()
	return s.Do(append(append([]string{"shell"}, flags...), s.id, command)...)
}

// want fails the test unless the command ends as it should.
func (s *shelled) want(code int, stdout, stderr, command string, flags ...string) {
	s.t.Helper()
	if r := s.shell(command, flags...); r.Code != code || r.Stdout != stdout || r.Stderr != stderr {
		s.t.Errorf("%q: status %d, stdout %q, stderr %q; want %d, %q, %q", command, r.Code, r.Stdout, r.Stderr, code, stdout, stderr)
	}
}

// holder is the process that holds the container's sessions.
func (s *shelled) holder() int {
	s.t.Helper()
	all := s.holders()
	if len(all) == 0 {
		s.t.Fatal("nobody holds the sessions")
	}
	return all[0]
}

func (s *shelled) holders() (all []int) {
	s.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	h.Must(s.t, err)
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && strings.HasSuffix(string(raw), "\x00--hold\x00"+s.id+"\x00") {
			pid, err := strconv.Atoi(strings.Split(f, "/")[2])
			h.Must(s.t, err)
			all = append(all, pid)
		}
	}
	return all
}

func TestShell(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	s.want(7, "/tmp\n", "oops\n", "pwd; echo oops >&2; cd /dev; A=kept; f() { echo $A $1; }; (exit 7)")
	s.want(0, "7 /dev\nkept x\n", "", "echo $? $PWD; f x")
	s.want(3, "", "", "exit 3")
	s.want(137, "", "", "kill -9 $$")
	s.want(0, "/dev\n", "", "pwd")
	s.want(0, "", "", "cat")
	s.want(0, "\x00\xff\n", "", `printf '\0\377\n'`)
	s.want(0, "inner\n", "", "A=inner; echo $A", "--isolated")
	s.want(0, "/\n", "", "pwd", "--session", "other", "--cwd", "/")
	s.want(0, "1\n", "", "echo $B", "--session", "env", "-e", "B=1")
	s.want(124, "part\n", "", "echo part; sleep 100", "--timeout", "0.3")
	s.want(124, "part\n", "", "echo part; sleep 100", "--idle-timeout", "300ms")
	if r := s.DoWith([]string{"shell", "-i", s.id, "cat; echo end"}, h.Stdin("in\n")); r.Stdout != "in\nend\n" {
		t.Errorf("stdin: %+v", r)
	}
	long := strings.Repeat("x", 100_000)
	s.want(0, "100000\n", "", "A="+long+"; echo ${#A}")
	if r := s.Do("shell", s.id, "--", "echo", "a", "b;", "echo", "c"); r.Stdout != "a b\nc\n" {
		t.Errorf("several arguments: %+v", r)
	}
	r, w, err := os.Pipe() // that stays open
	h.Must(t, err)
	defer w.Close()
	defer r.Close()
	began := time.Now()
	s.want(0, "", "", "true")
	if res := s.DoWith([]string{"shell", "-i", s.id, "echo quick"}, func(c *exec.Cmd) { c.Stdin = r }); res.Stdout != "quick\n" || time.Since(began) > 5*time.Second {
		t.Errorf("with an idle stdin: %+v after %v", res, time.Since(began))
	}
}

// A container can be called as one of the verb's words, and a command begin as a flag does.
func TestShell_Words(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, ownShell)
	b := h.New(t, writable, h.Args("sleep", "1000"), h.Cwd("/tmp"))
	b.Track("jobs")
	s := runShelled(t, b, "jobs")
	for _, tt := range []struct {
		args   []string
		code   int
		stdout string
	}{
		{[]string{"--", "jobs", "pwd"}, 0, "/tmp\n"},
		{[]string{"--timeout", "20", "--", "jobs", "--", "pwd", "-P"}, 0, "/tmp\n"},
		{[]string{"--background", "--", "jobs", "true"}, 0, "1\n"},
		{[]string{"wait", "jobs", "1"}, 0, ""},
		{[]string{"--", "jobs", "--help"}, 127, ""},
		{[]string{"--", "jobs", "--", "-x", "foo"}, 127, ""},
		{[]string{"stop", "jobs"}, 0, ""},
	} {
		if r := s.Do(append([]string{"shell"}, tt.args...)...); r.Code != tt.code || r.Stdout != tt.stdout {
			t.Errorf("%q: status %d, stdout %q, stderr %q; want %d, %q", tt.args, r.Code, r.Stdout, r.Stderr, tt.code, tt.stdout)
		}
	}
}

// Errors of the runtime have a status of their own.
func TestShell_Errors(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"nobody", "true"}, "container does not exist"},
		{[]string{s.id}, "there is no command"},
		{[]string{"--timeout", "-1", s.id, "true"}, `--timeout \"-1\": must be a time`},
		{[]string{"--session", "none", "jobs", s.id}, `there is no session \"none\"`},
		{[]string{"--background", "-i", s.id, "true"}, "--background: there is nobody to pass stdin on"},
		{[]string{"--shell", "/none", "--session", "bad", s.id, "true"}, "/none"},
	} {
		if r := s.Do(append([]string{"shell"}, tt.args...)...); r.Code != 125 || !strings.Contains(r.Stderr, tt.want) {
			t.Errorf("%q: %+v", tt.args, r)
		}
	}
	s.want(0, "", "", "true", "--cwd", "/")
	if r := s.shell("true", "--cwd", "/dev"); r.Code != 125 || !strings.Contains(r.Stderr, "another first directory") {
		t.Errorf("%+v", r)
	}
}

// A background process holds up neither a result nor the next command.
func TestShell_Jobs(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	s.want(0, "begun\n", "", "(sleep 0.3; echo late) & echo begun")
	s.want(0, "next\n", "", "echo next")
	s.want(0, "2\n", "", "echo one; echo two >&2; sleep 0.1; echo three; exit 5", "--background")
	wait := func(job string) h.Result { return s.Do("shell", "wait", s.id, job) }
	if r := wait("2"); r.Code != 5 || r.Stdout+r.Stderr != "" {
		t.Errorf("wait: %+v", r)
	}
	if r := s.Do("shell", "output", s.id, "2").OK(t); r.Stdout != "one\nthree\n" || r.Stderr != "two\n" {
		t.Errorf("output: %+v", r)
	}
	if r := s.Do("shell", "output", "--stream", "stdout", "--offset", "4", s.id, "2").OK(t); r.Stdout+r.Stderr != "three\n" {
		t.Errorf("output from 4 on: %+v", r)
	}
	wait("1")
	if r := s.Do("shell", "output", s.id, "1").OK(t); r.Stdout != "late\n" {
		t.Errorf("late output: %+v", r)
	}
	s.want(0, "3\n", "", "touch /begun; sleep 1000", "--background")
	h.Eventually(t, "the job has not begun", func() bool { return s.shell("ps -o args | grep -c '^sleep 1000'").Stdout == "2\n" })
	s.Do("shell", "signal", s.id, "3", "TERM").OK(t)
	if r := wait("3"); r.Code != 143 {
		t.Errorf("a job that was signalled: %+v", r)
	}
	var jobs []struct {
		Job, Status       int
		Background, Ended bool
		Stdout            int64
		Command           string
	}
	h.Must(t, json.Unmarshal([]byte(s.Do("shell", "jobs", "-f", "json", s.id).OK(t).Stdout), &jobs))
	if len(jobs) != 3 || !jobs[2].Ended || jobs[1].Status != 5 || jobs[1].Stdout != 10 || jobs[2].Command != "touch /begun; sleep 1000" {
		t.Errorf("%+v", jobs)
	}
}

// The client's end is the command's, and not the session's.
func TestShell_Interrupted(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	s.want(0, "", "", "A=kept; sleep 777 &")
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGKILL} {
		c := s.Command([]string{"--root", s.Root, "shell", s.id, "echo begun; setsid sleep 888; echo not reached"})
		h.Eventually(t, "the command has not begun", func() bool { return c.Stdout() == "begun\n" })
		h.Must(t, c.Process.Signal(sig))
		if r := c.Finish(); r.Code != 128+int(sig) {
			t.Errorf("%v: %+v", sig, r)
		}
		s.want(0, "kept\n1\n0\n", "", "echo $A; ps -o args | grep -c '^sleep 777'; ps -o args | grep -c '^sleep 888'; true")
	}
}

// killHolder kills the holder. What it leaves are this process's children then.
func (s *shelled) killHolder() {
	s.t.Helper()
	var all []struct{ Pid int }
	h.Must(s.t, json.Unmarshal([]byte(s.Do("shell", "list", "-f", "json", s.id).OK(s.t).Stdout), &all))
	holder := s.holder()
	h.Must(s.t, unix.Kill(holder, unix.SIGKILL))
	h.Eventually(s.t, "the holder lives", func() bool { return reaped(holder) })
	for _, i := range all {
		h.Eventually(s.t, "a shell outlives its holder", func() bool { return i.Pid == 0 || reaped(i.Pid) })
	}
}

// reaped says whether a process has ended and, if it was a child of this one, is reaped.
func reaped(pid int) bool {
	got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return got == pid || err == unix.ECHILD && unix.Kill(pid, 0) == unix.ESRCH
}

// Sessions end one by one, with their holder, with a reset, and with the container.
func TestShell_Ends(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "changing the root filesystem of a running container")
	s := newShelled(t)
	list := func() string {
		t.Helper()
		var all []struct{ Name string }
		h.Must(t, json.Unmarshal([]byte(s.Do("shell", "list", "-f", "json", s.id).OK(t).Stdout), &all))
		names := []string{}
		for _, i := range all {
			names = append(names, i.Name)
		}
		return strings.Join(names, " ")
	}
	if got := list(); got != "" {
		t.Errorf("before the first command there are %q", got)
	}
	s.want(0, "", "", "cd /dev; A=1")
	s.want(0, "", "", "A=2", "--session", "two")
	if got := list(); got != "default two" {
		t.Errorf("there are %q", got)
	}
	s.Do("shell", "stop", s.id, "two").OK(t)
	s.want(0, "\n", "", "echo $A", "--session", "two")
	s.want(0, "1\n", "", "echo $A")
	for _, mode := range []string{"--restart", "--keep-init"} {
		s.want(0, "", "", "cd /dev; A=1; export B=2; touch /made")
		s.Do("reset", mode, s.id).OK(t)
		s.want(0, "/tmp   no\n", "", "echo \"$PWD $A $B\" $(test -e /made || echo no)")
	}
	s.want(0, "", "", "A=1")
	s.killHolder()
	s.want(0, "\n", "", "echo $A")
	s.Do("shell", "stop", s.id).OK(t)
	s.want(0, "\n", "", "echo $A")
	holder := s.holder()
	s.Do("delete", "--force", s.id).OK(t)
	h.Eventually(t, "the holder has not ended", func() bool { return reaped(holder) })
}

// An idle session keeps no snapshot from being taken by reference, and stays where it is.
func TestShell_Snapshot(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "changing the root filesystem of a running container")
	s := newShelled(t, h.Cwd("/"))
	s.want(3, "", "", "mkdir /d; cd /dev; cd /d; A=1; (exit 3)")
	var snap struct{ Method, Why string }
	h.Must(t, json.Unmarshal([]byte(s.Do("snapshot", "create", "-f", "json", s.id, "one").OK(t).Stdout), &snap))
	if snap.Method != "reference" {
		t.Errorf("%+v", snap)
	}
	s.want(0, "3 /d /dev 1\n", "", "echo $? $PWD $OLDPWD $A; touch new; test -e /d/new")
}

// The holder needs little memory.
func TestShell_Memory(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	s.want(0, "", "", "true")
	s.Do("shell", s.id, "head -c 20000000 /dev/zero").OK(t)
	for i := range 8 {
		s.want(0, "", "", "true", "--session", strconv.Itoa(i))
	}
	status := h.ReadFile(t, "/proc/"+strconv.Itoa(s.holder())+"/smaps_rollup")
	_, rest, _ := strings.Cut(status, "\nRss:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	h.Must(t, err)
	if t.Logf("%d KiB", kib); kib > 10<<10 {
		t.Errorf("the holder has %d KiB", kib)
	}
}

// typing is the verb with a terminal.
func (s *shelled) typing(args ...string) (*h.Cmd, *h.Console) {
	s.t.Helper()
	master, slave := h.OpenPTY(s.t)
	master.SetSize(33, 77)
	c := s.Command(append([]string{"--root", s.Root, "shell"}, args...), func(c *exec.Cmd) { c.Stdin, c.Stdout, c.Stderr = slave, slave, slave })
	slave.Close()
	return c, master
}

func TestShell_TTY(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	for range 2 { // the second time in the session of the first
		c, tty := s.typing("-t", s.id, "exit_status() { return 5; }; A=$A+; stty size; echo vars$A; test -t 2 && read line && echo got $line; sleep 100; echo not reached")
		tty.WaitText("33 77\r\nvars+")
		tty.Type("typed\r")
		tty.WaitText("got typed\r\n")
		tty.Type("\x1a") // what would stop it is a character like others
		stop := make(chan struct{})
		go func() { // until it is heard: a shell loses what comes between two commands
			for {
				_, _ = tty.WriteString("\x03")
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		}()
		if r := c.Finish(); r.Code != 130 {
			t.Errorf("interrupted: %+v, %q", r, tty.Text())
		}
		close(stop)
	}
	c, tty := s.typing("-t", s.id, "echo vars$A; exit_status; stty -echo; cat")
	tty.WaitText("vars++\r\n")
	tty.Type("last\n")
	tty.WaitText("last\r\n")
	tty.Type("\x04")
	if r := c.Finish(); r.Code != 0 {
		t.Errorf("%+v, %q", r, tty.Text())
	}
	if r := s.Do("shell", "-t", s.id, "seq 10000 | tail -1; exit_status"); r.Code != 5 || r.Stdout != "10000\r\n" {
		t.Errorf("without a terminal of the caller's: %+v", r)
	}
	if r := s.shell("true", "--session", "tty"); r.Code != 125 || !strings.Contains(r.Stderr, "a terminal is what only one of the two has") {
		t.Errorf("%+v", r)
	}
}

// An interactive shell outlives the terminal that it was begun from.
func TestShell_Interactive(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	c, tty := s.typing(s.id)
	tty.Type("stty size; A=kept; echo va''rs\r")
	tty.WaitText("33 77\r\nvars\r\n")
	tty.SetSize(11, 22)
	h.Must(t, c.Process.Signal(unix.SIGWINCH)) // which is sent for a controlling terminal
	tty.Type("until stty size | grep -q '11 22'; do sleep 0.01; done; echo resi''zed\r")
	tty.WaitText("resized\r\n")
	if second, other := s.typing(s.id); second.Finish().Code != 125 {
		t.Errorf("two terminals on one shell: %q", other.Text())
	}
	h.Must(t, c.Process.Signal(unix.SIGHUP))
	if r := c.Finish(); r.Code != 129 {
		t.Errorf("hung up: %+v", r)
	}
	c, tty = s.typing(s.id)
	tty.Type("echo $A.; exit 3\r")
	tty.WaitText("kept.\r\n")
	if r := c.Finish(); r.Code != 3 {
		t.Errorf("%+v, %q", r, tty.Text())
	}
	c, tty = s.typing(s.id)
	tty.Type("echo $A.\r")
	tty.WaitText("\n.\r\n")
	s.Do("shell", "stop", s.id, "interactive").OK(t)
	if r := c.Finish(); r.Code != 129 {
		t.Errorf("stopped: %+v, %q", r, tty.Text())
	}
}

// coprocess is `shell --json`.
type coprocess struct {
	t      *testing.T
	cmd    *h.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	reader *os.File          // that out reads
	events map[string]schema // by name
}

// schema is what the tests look at of a JSON schema.
type schema struct {
	Properties map[string]struct {
		Const string
	}
	Required []string
}

func (s *shelled) coprocess() *coprocess {
	s.t.Helper()
	in, stdin, err := os.Pipe()
	h.Must(s.t, err)
	stdout, out, err := os.Pipe()
	h.Must(s.t, err)
	p := &coprocess{t: s.t, in: stdin, out: bufio.NewScanner(stdout), reader: stdout, events: eventSchemas(s.t)}
	p.out.Buffer(nil, 64<<20)
	p.cmd = s.Command([]string{"--root", s.Root, "shell", "--json", s.id}, func(c *exec.Cmd) { c.Stdin, c.Stdout = in, out })
	in.Close()
	out.Close()
	s.t.Cleanup(func() { stdin.Close(); stdout.Close() })
	return p
}

func eventSchemas(t *testing.T) map[string]schema {
	t.Helper()
	var s struct {
		Defs map[string]struct{ OneOf []schema } `json:"$defs"`
	}
	h.Must(t, json.Unmarshal([]byte(h.ReadFile(t, "../../docs/schema/shell.json")), &s))
	byName := map[string]schema{}
	for _, e := range s.Defs["event"].OneOf {
		byName[e.Properties["event"].Const] = e
	}
	return byName
}

func (p *coprocess) send(line string) {
	p.t.Helper()
	_, err := io.WriteString(p.in, line+"\n")
	h.Must(p.t, err)
}

// next is the next event, which must be as the schema has it.
func (p *coprocess) next() map[string]any {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("no more events: %v", p.out.Err())
	}
	var e map[string]any
	h.Must(p.t, json.Unmarshal(p.out.Bytes(), &e))
	name, _ := e["event"].(string)
	s, ok := p.events[name]
	if !ok {
		p.t.Errorf("the schema has no event %q", name)
	}
	for field := range e {
		if _, ok := s.Properties[field]; !ok {
			p.t.Errorf("the schema's %s has no %s", name, field)
		}
	}
	for _, field := range s.Required {
		if _, ok := e[field]; !ok {
			p.t.Errorf("%s has no %s", name, field)
		}
	}
	return e
}

// want fails the test unless the answer to a request has certain fields.
func (p *coprocess) want(request string, fields map[string]any) map[string]any {
	p.t.Helper()
	p.send(request)
	e := p.next()
	for k, v := range fields {
		if e[k] != v {
			p.t.Errorf("%s: %s is %#v, want %#v", request, k, e[k], v)
		}
	}
	return e
}

// TestShell_JSONAskedAhead: requests are read while others run, and while nobody reads the
// answers.
func TestShell_JSONAskedAhead(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	p := s.coprocess()
	const many = 3000 // more than pipes hold, either way
	for i := range many {
		p.send(fmt.Sprintf(`{"id":%d,"command":":","session":"s%d"}`, i, i%2))
	}
	answered := map[any]bool{}
	for range many {
		answered[p.next()["id"]] = true
	}
	if len(answered) != many {
		t.Errorf("%d of %d requests answered", len(answered), many)
	}
	p.send(`{"id":"slow","command":"sleep 100","session":"s0"}`)
	p.want(`{"command":":","session":"s1"}`, map[string]any{"event": "result", "id": nil})
	p.want(`{"id":"cancel","op":"cancel","target":"slow"}`, map[string]any{"event": "done"})
	if e := p.next(); e["id"] != "slow" || e["cancelled"] != true {
		t.Errorf("%v", e)
	}
}

func TestShell_JSON(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "changing the root filesystem of a running container")
	s := newShelled(t, h.Cwd("/"))
	p := s.coprocess()
	type fields = map[string]any
	p.want(`{"id":[1],"command":"cd /dev; A=1; echo \"ö\"; echo err >&2; (exit 4)"}`, fields{"event": "result", "status": 4.0, "stdout": "ö\n", "stderr": "err\n", "dir": "/dev"})
	p.want(`{"command":"echo $A; cat","stdin":"in"}`, fields{"id": nil, "stdout": "1\nin"})
	p.want(`{"command":"cat","stdin_base64":"/wA="}`, fields{"stdout_base64": "/wA=", "stdout": nil})
	p.want(`{"command":"echo part; sleep 100","timeout":0.2}`, fields{"timed_out": true, "stdout": "part\n"})
	p.want(`{"command":"exit 3"}`, fields{"status": 3.0, "restarted": true})
	p.want(`{"command":"(sleep 0.1; echo late) & echo $A."}`, fields{"stdout": ".\n", "dir": "/dev", "job": 1.0})
	p.want(`{"op":"wait","job":1}`, fields{"event": "job", "background": false})
	p.want(`{"op":"output","job":1}`, fields{"data": "late\n", "next": 5.0})
	p.want(`{"op":"start","command":"echo bg >&2; exit 6"}`, fields{"event": "started", "job": 2.0})
	p.want(`{"op":"wait","job":2}`, fields{"event": "job", "status": 6.0, "background": true})
	p.want(`{"op":"output","job":2,"of":"stderr","offset":1}`, fields{"offset": 1.0, "data": "g\n", "ended": true})
	p.want(`{"op":"signal","job":2,"signal":"KILL"}`, fields{"event": "error"})
	p.want(`{"op":"jobs"}`, fields{"event": "jobs"})
	p.want(`{"op":"open","session":"t","tty":true,"env":["B=2"]}`, fields{"event": "done"})
	p.want(`{"op":"resize","session":"t","rows":10,"columns":20}`, fields{"event": "done"})
	p.want(`{"session":"t","command":"stty size; echo $B"}`, fields{"stdout": "10 20\r\n2\r\n"})
	p.want(`{"op":"open","session":"t"}`, fields{"error": `session "t": exists`})
	p.want(`{"op":"sessions"}`, fields{"event": "sessions"})
	p.want(`{"op":"close","session":"t"}`, fields{"event": "done"})
	p.want(`{"op":"snapshot","name":"one"}`, fields{"name": "one", "method": "reference"})
	p.want(`{"command":"pwd; touch /made"}`, fields{"stdout": "/dev\n"})
	p.want(`{"op":"reset","to":"one"}`, fields{"event": "done"})
	p.want(`{"command":"pwd; test -e /made"}`, fields{"stdout": "/\n", "status": 1.0, "restarted": false})
	for _, bad := range []string{`{`, `[]`, `{"op":"none"}`, `{"command":"a\u0000"}`, `{"command":"true","timeuot":1}`, `{}`, `null`, `5`, `{"command":5}`, `{"command":"true"} x`, ``, `{"command":"true","limit":-1}`, `{"timeout":-1}`, `{"op":"wait","job":9}`, `{"op":"close","session":"x"}`} {
		p.want(bad, fields{"event": "error", "id": nil})
	}
	p.send(`{"id":"s","command":"printf '\\303'; sleep 0.1; printf '\\266\\303'; echo e >&2","stream":true}`)
	got := map[string]string{}
	for e := p.next(); e["event"] != "result"; e = p.next() {
		for _, field := range []string{"data", "data_base64"} {
			if v, ok := e[field].(string); ok {
				got[e["event"].(string)+"."+field] += v
			}
		}
	}
	if got["stdout.data"] != "ö" || got["stdout.data_base64"] != "ww==" || got["stderr.data"] != "e\n" {
		t.Errorf("the stream is %q", got)
	}
	p.want(`{"id":1,"command":"echo begun; sleep 100","stream":true}`+"\n"+`{"id":2,"command":"echo next"}`, fields{"data": "begun\n"})
	p.want(`{"id":3,"op":"cancel","target":1}`, fields{"id": 3.0, "event": "done"})
	e := p.next()
	for e["event"] == "stderr" { // ash says so there where sleep had to be killed
		e = p.next()
	}
	if e["id"] != 1.0 || e["cancelled"] != true {
		t.Errorf("cancelled: %v", e)
	}
	if e := p.next(); e["id"] != 2.0 || e["stdout"] != "next\n" {
		t.Errorf("after it: %v", e)
	}
	p.send(`{"id":4,"command":"sleep 0.1; echo last"}`)
	p.in.Close()
	if e := p.next(); e["stdout"] != "last\n" {
		t.Errorf("at the end: %v", e)
	}
	if r := p.cmd.Finish(); r.Code != 0 || r.Stderr != "" {
		t.Errorf("%+v", r)
	}
}

// Whoever ends a co-process or a holder ends what runs, and leaves nothing paused.
func TestShell_Ended(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		p := s.coprocess()
		p.want(`{"command":"echo begun; setsid sleep 777 & while :; do :; done","stream":true}`, map[string]any{"data": "begun\n"})
		h.Must(t, p.cmd.Process.Signal(sig))
		p.cmd.Finish()
		s.none("sleep 777", "it goes on after "+sig.String())
	}
	for n := range 6 {
		run := s.Command([]string{"--root", s.Root, "shell", "--timeout", "0.1", s.id, "sleep 777 & sleep 777"})
		h.Eventually(t, "no holder", func() bool { return len(s.holders()) > 0 })
		time.Sleep(time.Duration(70+10*n) * time.Millisecond)
		for _, pid := range s.holders() { // or the command has ended, and the holder with it
			h.Must(t, unix.Kill(pid, unix.SIGTERM))
			h.Eventually(t, "the holder lives", func() bool { return reaped(pid) })
		}
		run.Finish()
		s.none("sleep 777", "it goes on after its holder's end")
		if got := stateOf(t, s.Bundle, s.id).Status; got != "running" {
			t.Errorf("the container is %s", got)
		}
	}
	s.want(0, "hello\n", "", "echo hello")
}

// none waits until no process of the container has this in its command line.
func (s *shelled) none(command, why string) {
	s.t.Helper()
	h.Eventually(s.t, why, func() bool {
		r := s.Do("exec", s.id, "sh", "-c", `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline; echo; done 2>/dev/null`)
		return r.Code == 0 && !strings.Contains("\n"+r.Stdout, "\n"+command)
	})
}

// A command is executed in a container that has lost /dev/null.
func TestShell_WithoutNull(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	p := s.coprocess()
	p.want(`{"command":"x=kept; rm /dev/null"}`, map[string]any{"status": 0.0})
	p.want(`{"command":"cat; echo $x; exec 2>&1; exit_status() { return 3; }; exit_status"}`, map[string]any{"stdout": "kept\n", "status": 3.0, "restarted": false})
	s.want(3, "begun\n", "", "cat; echo begun; exit 3")
}

// A session whose shell cannot be started is none.
func TestShell_NotStarted(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	if r := s.Do("shell", "--session", "q", "--shell", "/nope", s.id, "true"); r.Code != 125 || !strings.Contains(r.Stderr, "/nope") {
		t.Errorf("%+v", r)
	}
	s.want(0, "works\n", "", "echo works", "--session", "q", "--shell", "/bin/sh")
	p := s.coprocess()
	p.want(`{"op":"open","session":"z","shell":["/nope"]}`, map[string]any{"event": "done"})
	p.want(`{"session":"z","command":"true"}`, map[string]any{"event": "error"})
	p.want(`{"session":"z","command":"echo works"}`, map[string]any{"stdout": "works\n"})
}

// Nothing goes on for somebody who has gone.
func TestShell_JSONAbandoned(t *testing.T) {
	t.Parallel()
	s := newShelled(t)
	p := s.coprocess()
	p.want(`{"command":"echo hello"}`, map[string]any{"stdout": "hello\n"})
	p.send(`{"command":"sleep 778"}`)
	began := time.Now()
	h.Must(t, p.reader.Close()) // its stdin is still open
	p.cmd.Finish()
	s.none("sleep 778", "it goes on")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it has gone on for %v", took)
	}
}

func TestShell_PythonExample(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	s := newShelled(t)
	out, err := exec.Command(python, "../../docs/examples/shell.py", s.id, os.Getenv("ADL_RUNTIME"), "--root", s.Root).CombinedOutput()
	want := `(3, b'', b'to stderr\n')
(0, b'/dev\nkept\ninput\n\xff', b'')
b'part\n'
4 from the background
5 sessions
`
	if err != nil || string(out) != want {
		t.Errorf("%v: %s", err, out)
	}
}
