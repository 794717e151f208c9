package managers

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"adl.run/adl-runtime/tests/harness"
)

// lifeScenarios are what podman and Docker do in the same words.
func lifeScenarios(manager string) []scenario {
	return []scenario{
		{"run -d", true, runDetached},
		{"run -it", true, runTerminal},
		{"run -i", false, func(c client) {
			is(c.T, "cat", c.input("text\n", c.args("run --rm -i", "cat")...).ok(), "text")
		}},
		{"run -t resized", false, resize},
		{"exit statuses", true, exitStatuses},
		{"create and start", false, func(c client) {
			c.ok(c.args("create --name c1", "sh", "-c", "echo out")...)
			is(c.T, "start -a", c.line("start -a c1"), "out")
			is(c.T, "start -a again", c.line("start -a c1"), "out")
		}},
		{"exec", true, execs},
		{"exec -it", true, execTerminal},
		{"exec fails", true, execFails},
		{"stop", true, stop},
		{"kill", true, kill},
		{"rm -f", true, func(c client) {
			c.start("c1", "", forever)
			c.line("rm -f c1")
			is(c.T, "containers", c.line("ps -aq"), "")
		}},
		{"restart", false, func(c client) {
			c.start("c1", "", "date +%s%N >>/starts; "+forever)
			c.line("restart -t 5 c1")
			eventually(c.T, "a second start", func() bool { return c.exec("", "c1", "wc -l </starts") == "2" })
		}},
		{"logs", true, logs},
		{"attach", false, attach},
		{"pause", true, pause},
		{"stats", true, stats},
		{"top", true, func(c client) {
			c.start("c1", "", forever)
			is(c.T, "top", c.line("top c1"), "(USER|UID) .*while :; do sleep.*")
		}},
		{"inspect", false, inspect},
		{"update", false, update},
		{"cp", false, copies},
		{"healthcheck", false, func(c client) { health(c, manager) }},
		{"restart policy", false, restartPolicy},
		{"shared namespaces", true, sharedNamespaces},
		{"propagation", false, propagation},
		{"out of memory", false, outOfMemory},
		{"many", false, func(c client) { many(c, 200) }},
		{"at once", false, atOnce},
	}
}

func runDetached(c client) {
	c.start("c1", "", "echo out; "+forever)
	is(c.T, "status", c.line("inspect -f {{.State.Status}} c1"), "running")
	pid, err := strconv.Atoi(c.line("inspect -f {{.State.Pid}} c1"))
	harness.Must(c, err)
	if !harness.Alive(pid) {
		c.Errorf("process %d is not there", pid)
	}
	is(c.T, "ps", c.line("ps --format {{.Names}}"), "c1")
	c.line("stop -t 5 c1")
	is(c.T, "exit status", c.line("inspect -f {{.State.ExitCode}} c1"), "7")
	is(c.T, "wait", c.line("wait c1"), "7")
}

func runTerminal(c client) {
	x := c.terminal(c.args("run --rm -it", "sh")...)
	x.see("# ")
	x.Type("tty; " + sized + "; test -c /dev/console && echo con''sole\n")
	x.see("console")
	x.Type("exit 5\n")
	is(c.T, "exit status", fmt.Sprint(x.exit()), "5")
	if !strings.Contains(x.Text(), "/dev/pts/0") || !strings.Contains(x.Text(), "30 100") {
		c.Errorf("the terminal shows %q", x.Text())
	}
}

func resize(c client) {
	x := c.terminal(c.args("run --rm -it", "sh", "-c", "trap 'stty size' WINCH; echo rea''dy; while :; do sleep 0.1; done")...)
	x.see("ready")
	rows := uint16(40)
	eventually(c.T, "the new size", func() bool {
		rows++ // again, for a client that was not ready
		x.SetSize(rows, 141)
		time.Sleep(300 * time.Millisecond)
		return strings.Contains(x.Text(), fmt.Sprint(rows, " 141"))
	})
	x.Type("\x03") // ctrl-C
	is(c.T, "exit status", fmt.Sprint(x.exit()), "130")
}

func exitStatuses(c client) {
	for _, f := range []struct {
		command string
		code    int
		err     string
	}{
		{"false", 1, ""},
		{"sh -c exit·42", 42, ""},
		{"missing", 127, `executable file not found in \$PATH|no such file`},
		{"/bin/missing", 127, "(?i)no such file or directory"},
		{"/etc", 126, "(?i)permission denied"},
		{"/etc/passwd", 126, "(?i)permission denied"},
	} {
		c.tryRun("", words(f.command)...).fails(f.code, f.err)
	}
	if c.program == "podman" { // Docker makes it
		c.tryRun("--workdir /etc/passwd", "true").fails(126, "(?i)not a directory|cwd|chdir")
	}
}

func execs(c client) {
	c.start("c1", "--env FROM=run", "sleep 1000")
	is(c.T, "exec", c.exec("", "c1", "echo $FROM $(id -u); cat /proc/1/comm"), "run 0\nsleep|run 0\nsh")
	is(c.T, "exec flags", c.exec("--env A=b --workdir /tmp --user user", "c1", "echo $A $PWD $(id -u)"), "b /tmp 1000")
	is(c.T, "exec -i", c.input("text\n", "exec", "-i", "c1", "cat").ok(), "text")
	is(c.T, "capabilities", c.exec("", "c1", "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status"),
		c.exec("", "c1", "grep CapEff /proc/1/status; grep Seccomp: /proc/1/status"))
	if c.program == "podman" || allCapabilities() {
		is(c.T, "exec --privileged", c.exec("--privileged", "c1", "grep -c 'CapEff:.*f$' /proc/self/status"), "1")
	}
	c.exec("-d", "c1", "echo >/tmp/made")
	eventually(c.T, "a file made by exec -d", func() bool { return c.do("exec", "c1", "test", "-e", "/tmp/made").code == 0 })
	for range 10 {
		is(c.T, "exec", c.exec("", "c1", "echo ok"), "ok")
	}
	c.do("exec", "c1", "sh", "-c", "exit 9").fails(9, "")
	c.do("exec", "c1", "sh", "-c", "kill -9 $$").fails(137, "")
}

func execTerminal(c client) {
	c.start("c1", "", forever)
	x := c.terminal("exec", "-it", "c1", "sh")
	x.see("# ")
	x.Type("tty; " + sized + "; echo do''ne\n")
	x.see("done")
	x.Type("exit 6\n")
	is(c.T, "exit status", fmt.Sprint(x.exit()), "6")
	if !strings.Contains(x.Text(), "/dev/pts/") || !strings.Contains(x.Text(), "30 100") {
		c.Errorf("the terminal shows %q", x.Text())
	}
}

func execFails(c client) {
	c.start("c1", "", forever)
	missing := 127
	if c.program != "podman" {
		missing = 126
	}
	c.do("exec", "c1", "missing").fails(missing, `(?i)executable file .*not found in \$PATH|no such file`)
	c.do("exec", "c1", "/bin/missing").fails(missing, "(?i)no such file or directory")
	c.do("exec", "c1", "/etc/passwd").fails(126, "(?i)permission denied")
	c.do("exec", "c1", "/etc").fails(126, "(?i)permission denied")
	c.do("exec", "--workdir", "/missing", "c1", "true").fails(missing, "(?i)no such file or directory")
	is(c.T, "after these", c.exec("", "c1", "echo ok"), "ok")
	c.line("stop -t 5 c1")
	if r := c.do("exec", "c1", "true"); r.code == 0 || r.err == "" {
		c.Errorf("exec in a stopped container: %+v", r)
	}
}

func stop(c client) {
	c.start("c1", "", forever)
	c.line("stop -t 20 c1")
	is(c.T, "exit status", c.line("inspect -f {{.State.ExitCode}} c1"), "7")
	c.start("deaf", "", "trap '' TERM; while :; do sleep 0.1; done")
	c.line("stop -t 1 deaf")
	is(c.T, "exit status", c.line("inspect -f {{.State.ExitCode}} deaf"), "137")
	c.start("int", "--stop-signal INT", "trap 'exit 8' INT; while :; do sleep 0.1; done")
	c.line("stop -t 20 int")
	is(c.T, "exit status", c.line("inspect -f {{.State.ExitCode}} int"), "8")
}

func kill(c client) {
	c.start("c1", "", "trap 'echo one' USR1; trap 'echo two' USR2; echo ready; while :; do sleep 0.1; done")
	hasLog(c, "c1", "ready")
	c.line("kill -s USR1 c1")
	hasLog(c, "c1", "one")
	c.line("kill --signal 12 c1")
	hasLog(c, "c1", "two")
	c.line("kill c1")
	eventually(c.T, "the end", func() bool { return c.line("inspect -f {{.State.Status}} c1") == "exited" })
	is(c.T, "exit status", c.line("inspect -f {{.State.ExitCode}} c1"), "137")
	if r := c.do("kill", "c1"); r.code == 0 {
		c.Error("a container that has ended was killed")
	}
}

func hasLog(c client, name, text string) {
	c.Helper()
	eventually(c.T, "log "+text, func() bool { return strings.Contains(c.line("logs "+name), text) })
}

func logs(c client) {
	c.start("c1", "", "echo out; echo err >&2; sleep 0.3; seq 1000")
	c.line("wait c1")
	r := c.do("logs", "c1")
	if lines := strings.Split(r.ok(), "\n"); len(lines) != 1001 || lines[0] != "out" || lines[1000] != "1000" || r.err != "err\n" {
		c.Errorf("logs: %q, %q", r.out, r.err)
	}
	eventually(c.T, "logs --tail", func() bool { return c.line("logs --tail 1 c1") == "1000" })
}

func attach(c client) {
	c.start("c1", "-i", "read x; echo got $x")
	c.input("line\n", "attach", "c1").ok()
	hasLog(c, "c1", "got line")
}

func pause(c client) {
	c.start("c1", "", "while :; do date +%s%N >/tick; sleep 0.05; done")
	pid := c.line("inspect -f {{.State.Pid}} c1")
	tick := func() string {
		data, _ := os.ReadFile("/proc/" + pid + "/root/tick")
		return string(data)
	}
	c.line("pause c1")
	is(c.T, "status", c.line("inspect -f {{.State.Status}} c1"), "paused")
	before := tick()
	time.Sleep(300 * time.Millisecond)
	is(c.T, "what a paused process wrote", tick(), strings.TrimSpace(before))
	if r := c.do("exec", "c1", "true"); r.code == 0 || r.err == "" {
		c.Errorf("exec in a paused container: %+v", r)
	}
	c.line("unpause c1")
	eventually(c.T, "a tick after unpause", func() bool { return tick() != before })
	is(c.T, "status", c.line("inspect -f {{.State.Status}} c1"), "running")
}

func stats(c client) {
	c.start("c1", "--memory 64m", forever)
	text := c.line("stats --no-stream --format {{json·.}} c1")
	if c.program == "podman" {
		text = c.line("stats --no-stream --format json c1")
	}
	for _, want := range []string{"67.11MB|64MiB", `"(PIDs|pids)": ?"[1-9]`} {
		is(c.T, "stats", text, ".*("+want+").*")
	}
}

func inspect(c client) {
	c.start("c1", "", forever)
	var list []struct {
		State      struct{ Running bool }
		OCIConfig  string `json:"OCIRuntime"`
		HostConfig struct{ Runtime string }
	}
	harness.Must(c, json.Unmarshal([]byte(c.line("inspect c1")), &list))
	if len(list) != 1 || !list[0].State.Running {
		c.Errorf("inspect: %+v", list)
	}
}

func update(c client) {
	c.start("c1", "--memory 64m --memory-swap 64m --cpus 1", forever)
	c.line("update --memory 32m --memory-swap 32m --cpus 0.5 c1")
	is(c.T, "memory", c.exec("", "c1", limitIs("memory/memory.limit_in_bytes", "memory.max")), "33554432")
	is(c.T, "cpus", c.exec("", "c1", limitIs("cpu/cpu.cfs_quota_us", "cpu.max")), "50000.*")
}

func copies(c client) {
	dir := prepareDir(c.T)
	c.start("c1", "--tmpfs /scratch", forever)
	c.line("cp " + dir + "/v/file c1:/tmp/in")
	is(c.T, "copied in", c.exec("", "c1", "cat /tmp/in"), "content")
	c.line("cp c1:/tmp/in " + dir + "/out")
	is(c.T, "copied out", harness.ReadFile(c, filepath.Join(dir, "out")), "content")
	c.line("stop -t 5 c1")
	c.line("cp c1:/tmp/in " + dir + "/later")
	is(c.T, "copied out of a stopped one", harness.ReadFile(c, filepath.Join(dir, "later")), "content")
}

func health(c client, manager string) {
	c.start("c1", "--health-interval 1s --health-retries 1 --health-cmd test·-e·/well", "touch /well; "+forever)
	healthy := func(want string) {
		c.Helper()
		eventually(c.T, want, func() bool {
			if manager == "podman" {
				c.do("healthcheck", "run", "c1") // without systemd there is no timer
			}
			return c.line("inspect -f {{.State.Health.Status}} c1") == want
		})
	}
	healthy("healthy")
	c.exec("", "c1", "rm /well")
	healthy("unhealthy")
}

func restartPolicy(c client) {
	c.start("c1", "--restart on-failure:2", "echo once; exit 3")
	eventually(c.T, "two restarts and the end", func() bool {
		return c.line("inspect -f {{.RestartCount}}{{.State.Status}} c1") == "2exited"
	})
	is(c.T, "output", c.line("logs c1"), "once\nonce\nonce")
	c.start("always", "--restart always", "echo again")
	hasLog(c, "always", "again\nagain")
	c.line("rm -f always")
}

func sharedNamespaces(c client) {
	c.start("c1", "--ipc shareable", "echo x >/dev/shm/seen; "+forever)
	list := []string{"pid", "ipc", "network"}
	if c.program == "podman" {
		list = append(list, "uts")
	}
	for _, name := range list {
		file := strings.Replace(name, "network", "net", 1)
		script := "readlink /proc/self/ns/" + file
		is(c.T, name+" of c", c.run("--"+name+" container:c1", script), strings.NewReplacer("[", `\[`, "]", `\]`).Replace(c.exec("", "c1", script)))
	}
	is(c.T, "shm of c", c.run("--ipc container:c1", "cat /dev/shm/seen"), "x")
	is(c.T, "processes of c", c.run("--pid container:c1", "ps | grep -c 'while :'"), "[1-9]")
}

func propagation(c client) {
	dir := prepareDir(c.T)
	harness.HostMount(c, "shared", dir, "tmpfs", 0, "")
	harness.Propagation(c, dir, 1<<20) // MS_SHARED
	for _, f := range []struct{ mode, want string }{
		{"private", "private"},
		{"rprivate", "private"},
		{"slave", "slave"},
		{"rslave", "slave"},
		{"shared", "shared"},
		{"rshared", "shared"},
	} {
		harness.Must(c, os.MkdirAll(filepath.Join(dir, "below"), 0o755))
		name := "c-" + f.mode
		c.start(name, "--cap-add SYS_ADMIN --security-opt seccomp=unconfined --volume "+dir+":/v:"+f.mode, forever)
		harness.HostMount(c, "below", filepath.Join(dir, "below"), "tmpfs", 0, "")
		sees := c.exec("", name, "grep -c ' /v/below ' /proc/mounts || true")
		c.exec("", name, "mkdir -p /v/inside; mount -t tmpfs inside /v/inside")
		shows := strings.Contains(harness.ReadFile(c, "/proc/self/mounts"), "inside "+dir+"/inside ")
		want := map[string]string{"private": "0 false", "slave": "1 false", "shared": "1 true"}[f.want]
		is(c.T, f.mode+": the container sees the host's mount, the host the container's", fmt.Sprint(sees, " ", shows), want)
		c.line("rm -f " + name)
		unmountAll(c, dir+"/inside", dir+"/below")
	}
}

func outOfMemory(c client) {
	c.start("c1", "--memory 16m --memory-swap 16m", "head -c 100000000 /dev/zero | tail >/dev/null; exec tail /dev/zero")
	eventually(c.T, "the end", func() bool { return c.line("inspect -f {{.State.Status}} c1") == "exited" })
	want := "137,true"
	if c.program == "podman" && !v2() {
		want = "137,.*" // conmon is not always told
	}
	is(c.T, "exit status, OOM", c.line("inspect -f {{.State.ExitCode}},{{.State.OOMKilled}} c1"), want)
}

// many makes containers one after the other; the scenario's leak check follows.
func many(c client, n int) {
	for i := range n {
		is(c.T, "run", c.run("--network none", fmt.Sprint("echo ", i)), fmt.Sprint(i))
	}
}

// atOnce makes containers from several goroutines, and ends them together.
func atOnce(c client) {
	results := make(chan result)
	const n = 8
	for range n {
		go func() { results <- c.tryRun("--network none", "sh", "-c", "sleep 0.5; echo ok") }()
	}
	for range n {
		is(c.T, "run", (<-results).ok(), "ok")
	}
}
