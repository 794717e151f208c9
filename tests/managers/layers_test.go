package managers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"adl.run/adl-runtime/tests/harness"
)

// layered is a container of a manager's that has a layer.
type layered struct {
	client
	root   string // of the runtime's state; empty for its default
	id     string // by which the runtime knows it
	inside func(script string) string
}

// layerRoot is where the runtime keeps layers unless it is told otherwise.
const layerRoot = "/var/lib/adl-runtime"

// adl runs the runtime as its user does beside the manager.
func (l *layered) adl(args ...string) string {
	l.Helper()
	if l.root != "" {
		args = append([]string{"--root", l.root}, args...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit(time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, env.runtime, args...)
	file := filepath.Join(l.TempDir(), "out") // a fork keeps it; a pipe would not end
	out, err := os.Create(file)
	harness.Must(l, err)
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, rerr := os.ReadFile(file)
	harness.Must(l, rerr)
	if err != nil {
		l.Fatalf("%s %s: %v: %s", env.name, strings.Join(args, " "), err, text)
	}
	return strings.TrimSpace(string(text))
}

// needLayers skips for another runtime, which a comparison runs the suite with.
func needLayers(c client) {
	c.Helper()
	if env.name != "adl-runtime" {
		c.Skipf("%s has no layers", env.name)
	}
}

// resets goes through what a layer is for. The manager is to notice nothing.
func (l *layered) resets() {
	l.Helper()
	const look = "cat /new 2>/dev/null; ls /tmp; ps | grep -c '[s]leep 777' || true"
	first := l.inside(look)
	l.inside("echo 1 >/new; touch /tmp/made; sleep 777 >/dev/null 2>&1 </dev/null &")
	is(l.T, "before", l.inside(look), "1\nmade\n1")
	state := l.adl("state", l.id)
	l.adl("snapshot", "create", l.id, "one")
	l.inside("echo 2 >/new")
	l.adl("reset", l.id)
	is(l.T, "after a reset", l.inside(look), first)
	if now := l.adl("state", l.id); now != state {
		l.Errorf("the state was %s and is %s", state, now)
	}
	l.adl("reset", "--to", "one", l.id)
	is(l.T, "after a reset to the snapshot", l.inside("cat /new; ls /tmp"), "1\nmade")
	fork := "fork" + harness.Random()
	l.adl("fork", l.id, fork)
	l.inside("echo 3 >/new")
	is(l.T, "the fork", l.adl("exec", fork, "cat", "/new"), "1")
	l.adl("delete", "-f", fork)
	l.adl("reset", l.id)
	is(l.T, "after the last reset", l.inside(look), first)
}

// noLayers checks that no layer was left.
func noLayers(c client) {
	eventually(c.T, "an empty "+layerRoot, func() bool {
		left, err := filepath.Glob(layerRoot + "/*/*")
		return err == nil && len(left) == 0
	})
}

func podmanLayers(c client) {
	needLayers(c)
	c.start("c1", "--annotation run.adl.layer=overlay -w /", "exec sleep 1000")
	l := &layered{client: c, id: c.line("inspect -f {{.Id}} c1"), inside: func(script string) string { return c.exec("", "c1", script) }}
	l.resets()
	is(c.T, "status", c.line("inspect -f {{.State.Status}} c1"), "running")
	c.line("pause c1")
	l.adl("reset", l.id)
	c.line("unpause c1")
	is(c.T, "after the pause", l.inside("echo ok"), "ok")
	c.line("rm -f -t 0 c1")
	noLayers(c)
}

func ctrLayers(c client) {
	needLayers(c)
	ctr(c, "-d --annotation run.adl.layer=overlay", "exec sleep 1000").ok()
	execs := 0
	l := &layered{client: c, id: "c1", root: "/run/containerd/runc/" + env.cgroup, inside: func(script string) string {
		execs++
		return c.ok("tasks", "exec", "--exec-id", fmt.Sprint("e", execs), "c1", "sh", "-c", script)
	}}
	l.resets()
	is(c.T, "status", c.line("tasks ls"), ".*RUNNING.*")
	c.line("tasks kill -s SIGKILL c1")
	eventually(c.T, "the end", func() bool {
		return c.do("tasks", "rm", "c1").code == 137 || strings.TrimSpace(c.line("tasks ls -q")) == ""
	})
	noLayers(c)
}

// layerScript is a runtime for Docker, which passes no annotations on before version 24.
const layerScript = `#!/bin/sh
for a; do
	case $a in
	create) exec %[1]s "$@" --layer overlay ;;
	exec) break ;;
	esac
done
exec %[1]s "$@"
`

func dockerLayers(c client) {
	needLayers(c)
	c.start("c1", "--runtime layered", "exec sleep 1000")
	l := &layered{
		client: c, id: c.line("inspect -f {{.Id}} c1"), root: filepath.Join(env.dir, "docker/exec/runtime-runc/moby"),
		inside: func(script string) string { return c.exec("", "c1", script) },
	}
	l.resets()
	is(c.T, "status", c.line("inspect -f {{.State.Status}} c1"), "running")
	c.line("rm -f c1")
	noLayers(c)
}
