package managers

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/tests/harness"
)

// podman is one installation of podman, with its own storage.
type podman struct {
	global  []string
	environ []string
}

// podman's own files and the runtime under test; nothing else differs from what a
// user has. nofile and nproc: podman asks for a million, which takes
// CAP_SYS_RESOURCE. /etc/hosts may name proxies of the machine.
const containersConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
http_proxy = false
[engine]
runtime = %[1]q
cgroup_manager = %[3]q
events_logger = "file"
runtime_supports_json = ["runc", "crun", "adl-runtime"]
[engine.runtimes]
%[1]s = [%[2]q]
`

func newPodman(t *testing.T) *podman {
	need(t, "podman", "conmon", "catatonit", "iptables", "/usr/lib/podman/netavark")
	dir := filepath.Join(env.dir, "podman")
	harness.Must(t, os.MkdirAll(dir, 0o755))
	driver := "cgroupfs"
	if systemd() {
		driver = "systemd"
	}
	conf := filepath.Join(dir, "containers.conf")
	harness.WriteFile(t, conf, fmt.Sprintf(containersConf, env.name, env.runtime, driver), 0o644)
	storage := filepath.Join(dir, "storage.conf")
	harness.WriteFile(t, storage, "[storage]\ndriver = \"overlay\"\nrunroot = \""+dir+"/run\"\ngraphroot = \""+dir+"/root\"\n", 0o644)
	p := &podman{
		global:  []string{"--tmpdir", dir + "/tmp"},
		environ: []string{"CONTAINERS_CONF=" + conf, "CONTAINERS_STORAGE_CONF=" + storage},
	}
	p.client(t).line("load -q -i " + env.image)
	p.client(t).run("", "true")
	return p
}

func (p *podman) client(t *testing.T) client {
	return client{T: t, program: "podman", global: p.global, environ: p.environ, create: []string{parent()}}
}

// parent is the flag that puts a container below the suite's cgroup.
func parent() string {
	if systemd() {
		return "--cgroup-parent=" + env.cgroup + ".slice"
	}
	return "--cgroup-parent=/" + env.cgroup
}

// tidy removes whatever a scenario may have made.
func (p *podman) tidy(c client) {
	c.do("pod", "rm", "-fa", "-t", "0")
	c.do("rm", "-fa", "-t", "0")
	c.do("volume", "prune", "-f")
	c.do("rmi", "-f", "built")
	// Of a pod's cgroup podman removes the parts in the controllers that it uses; on a
	// hybrid host there are others.
	for _, dir := range containerCgroups() {
		if name := filepath.Base(dir); len(name) == 64 || name == "build" {
			unix.Rmdir(dir)
		}
	}
}

func TestPodman(t *testing.T) {
	p := newPodman(t)
	for _, group := range []struct {
		name string
		list []scenario
	}{
		{"life", lifeScenarios("podman")}, {"flags", flagScenarios("podman")}, {"only", podmanScenarios()},
	} {
		t.Run(group.name, func(t *testing.T) { runScenarios(t, group.list, p.client, p.tidy) })
	}
}
