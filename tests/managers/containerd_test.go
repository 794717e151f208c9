package managers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"adl.run/adl-runtime/tests/harness"
)

// The runtime class that the suite's pods ask for.
const handler = "tested"

// restrict_oom_score_adj: without CAP_SYS_RESOURCE nobody may lower the score.
const containerdConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + image + `"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "%[1]s/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "` + handler + `"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%[3]s]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%[3]s.options]
  BinaryName = "%[2]s"
  SystemdCgroup = %[4]t
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = %[4]t
`

const cniConfig = `{"cniVersion": "0.4.0", "name": "tests", "plugins": [
  {"type": "bridge", "bridge": "cni-tests", "isGateway": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "%s/ipam", "ranges": [[{"subnet": "10.99.0.0/24"}]]}},
  {"type": "loopback"}]}
`

// containerd is one daemon, with its own storage and sockets.
type containerd struct{ dir string }

func newContainerd(t *testing.T) *containerd {
	need(t, "containerd", "ctr", "containerd-shim-runc-v2", "/usr/lib/cni/bridge")
	dir := filepath.Join(env.dir, "containerd")
	harness.Must(t, os.MkdirAll(filepath.Join(dir, "cni"), 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "config.toml")
	harness.WriteFile(t, config, fmt.Sprintf(containerdConfig, dir, env.runtime, handler, systemd()), 0o644)
	harness.WriteFile(t, filepath.Join(dir, "cni/10-tests.conflist"), fmt.Sprintf(cniConfig, dir), 0o644)
	d := &containerd{dir}
	startDaemon(t, dir, func() bool { return d.client(t).do("version").code == 0 }, "containerd", "--config", config)
	for _, namespace := range []string{env.cgroup, "k8s.io"} {
		c := d.client(t)
		c.global = []string{"-a", dir + "/socket", "-n", namespace}
		c.line("images import " + env.image)
	}
	return d
}

// client is ctr in a namespace that is also the cgroup of all its containers.
func (d *containerd) client(t *testing.T) client {
	create := []string{"--runtime", "io.containerd.runc.v2", "--runc-binary", env.runtime}
	if systemd() {
		create = append(create, "--runc-systemd-cgroup")
	}
	return client{T: t, program: "ctr", global: []string{"-a", d.dir + "/socket", "-n", env.cgroup}, create: create}
}

func (d *containerd) tidy(c client) {
	for _, id := range strings.Fields(c.line("tasks ls -q")) {
		c.do("tasks", "kill", "-s", "SIGKILL", id)
		eventually(c.T, "the end of "+id, func() bool { return c.do("tasks", "rm", "-f", id).code == 0 })
	}
	if ids := strings.Fields(c.line("containers ls -q")); len(ids) > 0 {
		c.do(append([]string{"containers", "rm"}, ids...)...)
	}
}

func TestContainerd(t *testing.T) {
	d := newContainerd(t)
	t.Run("ctr", func(t *testing.T) { runScenarios(t, ctrScenarios(), d.client, d.tidy) })
	t.Run("cri", func(t *testing.T) { d.testCRI(t) })
}

// ctr runs a script in a new container under the id c1.
func ctr(c client, flags, script string) result {
	c.Helper()
	if systemd() && !strings.Contains(flags, "--cgroup ") {
		flags += " --cgroup " + env.cgroup + ".slice:ctr:c1"
	}
	args := append(words("run "+flags), c.create...)
	return c.do(append(args, image, "c1", "sh", "-c", script)...)
}

func ctrScenarios() []scenario {
	return []scenario{
		{"run", true, func(c client) {
			is(c.T, "run", ctr(c, "--rm --env A=b", "echo $A $$; hostname").ok(), "b 1\n.*")
			ctr(c, "--rm", "exit 5").fails(5, "")
		}},
		{"run -t", false, func(c client) {
			args := append(words("run --rm -t"), c.create...)
			if systemd() {
				args = append(args, "--cgroup", env.cgroup+".slice:ctr:c1")
			}
			x := c.terminal(append(args, image, "c1", "sh")...)
			x.see("# ")
			x.Type("tty; " + sized + "; exit 4\n")
			is(c.T, "exit status", fmt.Sprint(x.exit()), "4")
			if !strings.Contains(x.Text(), "/dev/pts/0") || !strings.Contains(x.Text(), "30 100") {
				c.Errorf("the terminal shows %q", x.Text())
			}
		}},
		{"missing program", false, func(c client) {
			args := append(words("run --rm"), c.create...)
			c.do(append(args, image, "c1", "missing")...).fails(1, `executable file not found in \$PATH`)
		}},
		{"exec", true, func(c client) {
			ctr(c, "-d --env A=b", forever).ok()
			is(c.T, "exec", c.ok("tasks", "exec", "--exec-id", "e1", "c1", "sh", "-c", "echo $A; tr '\\0' ' ' </proc/1/cmdline"), "b\nsh -c trap.*")
			c.do("tasks", "exec", "--exec-id", "e2", "c1", "sh", "-c", "exit 6").fails(6, "")
			is(c.T, "exec --cwd", c.line("tasks exec --exec-id e3 --cwd /tmp --user 1000 c1 pwd"), "/tmp")
			c.line("tasks exec -d --exec-id e4 c1 sleep 1000")
			is(c.T, "ps", c.line("tasks ps c1"), "PID.*\n.*\n.*")
		}},
		{"exec -t", false, func(c client) {
			ctr(c, "-d", forever).ok()
			x := c.terminal("tasks", "exec", "-t", "--exec-id", "e1", "c1", "sh")
			x.see("# ")
			x.Type("tty; " + sized + "; exit 4\n")
			is(c.T, "exit status", fmt.Sprint(x.exit()), "4")
			if !strings.Contains(x.Text(), "/dev/pts/") || !strings.Contains(x.Text(), "30 100") {
				c.Errorf("the terminal shows %q", x.Text())
			}
		}},
		{"kill", true, func(c client) {
			ctr(c, "-d", forever).ok()
			c.line("tasks kill -s SIGTERM c1")
			eventually(c.T, "the end", func() bool { return strings.Contains(c.line("tasks ls"), "STOPPED") })
			c.do("tasks", "rm", "c1").fails(0, "exit code 7")
		}},
		{"kill --all", false, func(c client) {
			ctr(c, "-d", "sleep 1000 & sleep 1000").ok()
			c.line("tasks kill --all -s SIGKILL c1")
			eventually(c.T, "the end", func() bool { return strings.Contains(c.line("tasks ls"), "STOPPED") })
		}},
		{"pause", true, func(c client) {
			ctr(c, "-d", forever).ok()
			c.line("tasks pause c1")
			is(c.T, "status", c.line("tasks ls"), ".*PAUSED.*")
			if r := c.do("tasks", "exec", "--exec-id", "e1", "c1", "true"); r.code == 0 {
				c.Error("exec in a paused container succeeds")
			}
			c.line("tasks resume c1")
			is(c.T, "status", c.line("tasks ls"), ".*RUNNING.*")
		}},
		{"metrics", true, func(c client) {
			ctr(c, "-d --memory-limit 67108864", forever).ok()
			is(c.T, "metrics", c.line("tasks metrics c1"), ".*67108864.*|.*memory.usage.*")
		}},
		{"layers", false, ctrLayers},
		{"flags", false, ctrFlags},
	}
}

func ctrFlags(c client) {
	dir := prepareDir(c.T)
	for _, f := range []struct{ flags, script, want string }{
		{"--read-only", "touch /x 2>&1 || true", ".*Read-only file system"},
		{"--cap-add CAP_NET_ADMIN --cap-drop CAP_CHOWN", "grep CapEff /proc/self/status", `CapEff:\t0+a80435fa|CapEff:\t0+a80435fa.*|CapEff:\t0+a80435fb`},
		{"--seccomp", "grep Seccomp: /proc/self/status", `Seccomp:\t2`},
		{"--seccomp --seccomp-profile " + dir + "/seccomp.json", "mkdir /tmp/x 2>&1 || true", ".*Too many links"},
		{"--mount type=bind,src=" + dir + "/v,dst=/v,options=rbind:ro", "cat /v/file", "content"},
		{"--net-host", "readlink /proc/self/ns/net", ns("net")},
		{"--with-ns ipc:/proc/self/ns/ipc", "echo ok", "ok"},
		{"--cpus 0.5 --mount type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro", "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max", "50000.*"},
		{"--cwd /tmp", "pwd", "/tmp"},
		{"--device /dev/kmsg", "test -c /dev/kmsg && echo ok", "ok"},
		{"--allow-new-privs", "grep NoNewPrivs /proc/self/status", `NoNewPrivs:\t0`},
		{"--rootfs-propagation rshared", "grep -c ' / / .* shared:' /proc/self/mountinfo || true", "[01]"},
		{"--no-pivot", "echo ok", "ok"},
	} {
		is(c.T, f.flags, ctr(c, "--rm "+f.flags, f.script).ok(), f.want)
	}
}
