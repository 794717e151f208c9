package managers

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"adl.run/adl-runtime/tests/harness"
)

// The places of Debian's packages: a machine may have another `docker` in PATH.
const (
	dockerProgram  = "/usr/bin/docker"
	dockerdProgram = "/usr/sbin/dockerd"
)

// docker is one dockerd, with its own storage, containerd and socket.
type docker struct{ socket string }

func newDocker(t *testing.T) *docker {
	need(t, dockerProgram, dockerdProgram, "containerd", "iptables")
	dir := filepath.Join(env.dir, "docker")
	harness.Must(t, os.MkdirAll(dir, 0o755))
	driver, parent := "cgroupfs", "/"+env.cgroup
	if systemd() {
		driver, parent = "systemd", env.cgroup+".slice"
	}
	script := filepath.Join(dir, "layered")
	harness.WriteFile(t, script, fmt.Sprintf(layerScript, env.runtime), 0o755)
	config, err := json.Marshal(map[string]any{
		"runtimes":        map[string]any{"tested": map[string]any{"path": env.runtime}, "layered": map[string]any{"path": script}},
		"default-runtime": "tested",
		"data-root":       dir + "/data", "exec-root": dir + "/exec", "pidfile": dir + "/pid",
		"hosts":         []string{"unix://" + dir + "/socket"},
		"exec-opts":     []string{"native.cgroupdriver=" + driver},
		"cgroup-parent": parent,
	})
	harness.Must(t, err)
	file := filepath.Join(dir, "daemon.json")
	harness.WriteFile(t, file, string(config), 0o644)
	d := &docker{socket: dir + "/socket"}
	startDaemon(t, dir, func() bool { return d.client(t).do("version").code == 0 }, dockerdProgram, "--config-file", file)
	d.client(t).line("load -q -i " + env.image)
	d.client(t).run("--network host", "true") // makes what the daemon keeps
	return d
}

func (d *docker) client(t *testing.T) client {
	return client{T: t, program: dockerProgram, global: []string{"-H", "unix://" + d.socket}, environ: []string{"DOCKER_CONFIG=" + env.dir, "DOCKER_BUILDKIT=0"}}
}

// tidy removes whatever a scenario may have made.
func (d *docker) tidy(c client) {
	if ids := words(c.line("ps -aq")); len(ids) > 0 {
		c.do(append([]string{"rm", "-fv"}, ids...)...)
	}
	c.do("volume", "prune", "-f")
	c.do("network", "prune", "-f")
	c.do("image", "prune", "-f")
}

func TestDocker(t *testing.T) {
	d := newDocker(t)
	for _, group := range []struct {
		name string
		list []scenario
	}{
		{"life", lifeScenarios("docker")}, {"flags", flagScenarios("docker")}, {"only", dockerScenarios()},
	} {
		t.Run(group.name, func(t *testing.T) { runScenarios(t, group.list, d.client, d.tidy) })
	}
}

// dockerScenarios are what only Docker has.
func dockerScenarios() []scenario {
	return []scenario{
		{"network of several", false, compose},
		{"build", false, dockerBuild},
		{"layers", false, dockerLayers},
		{"runtime by name", false, func(c client) {
			is(c.T, "runtime", c.run("--runtime tested", "echo ok"), "ok")
			c.start("c1", "", forever)
			is(c.T, "inspect", c.line("inspect -f {{.HostConfig.Runtime}} c1"), "tested")
		}},
		{"published port", false, func(c client) {
			c.start("web", "-p 127.0.0.1:8099:80", "echo hello >/tmp/index.html; httpd -f -p 80 -h /tmp & wait")
			out := c.run("--network host", "for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://127.0.0.1:8099/index.html && break; sleep 0.3; done")
			is(c.T, "page", out, "hello")
		}},
	}
}

// compose is what docker-compose does for a small project.
func compose(c client) {
	c.line("network create web")
	c.line("volume create data")
	c.start("db", "--network web --network-alias db --volume data:/data", "echo row >/data/table; cd /data; httpd -f -p 80 & wait")
	c.start("app", "--network web", forever)
	eventually(c.T, "the other by its name", func() bool {
		return c.do("exec", "app", "wget", "-q", "-O", "-", "http://db/table").out == "row\n"
	})
	is(c.T, "the volume", c.run("--volume data:/data:ro", "cat /data/table"), "row")
	c.line("restart -t 1 db")
	eventually(c.T, "the other after a restart", func() bool {
		return c.do("exec", "app", "wget", "-q", "-O", "-", "http://db/table").out == "row\n"
	})
	c.line("stop -t 1 app db")
	c.line("start db app")
}

func dockerBuild(c client) {
	dir := prepareDir(c.T)
	harness.WriteFile(c, filepath.Join(dir, "Dockerfile"), `FROM `+image+`
RUN echo built >/file && test $(id -u) = 0
USER user
WORKDIR /home
RUN id -u >/tmp/id && pwd >>/tmp/id
CMD ["cat", "/file", "/tmp/id"]
`, 0o644)
	c.line("build -q --no-cache -t built " + dir)
	is(c.T, "the built image", c.ok("run", "--rm", "built"), "built\n1000\n/home")
	c.line("rmi -f built")
	harness.WriteFile(c, filepath.Join(dir, "Dockerfile"), "FROM "+image+"\nRUN exit 3\n", 0o644)
	c.do("build", "-q", "--no-cache", dir).fails(3, "returned a non-zero code: 3")
}
