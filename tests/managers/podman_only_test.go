package managers

import (
	"os"
	"path/filepath"

	"adl.run/adl-runtime/tests/harness"
)

// podmanScenarios are what only podman has.
func podmanScenarios() []scenario {
	return []scenario{
		{"pod", true, pod},
		{"play kube", false, playKube},
		{"build", true, build},
		{"init", false, func(c client) {
			c.ok(c.args("create --name c1", "echo", "out")...)
			c.line("init c1")
			is(c.T, "status", c.line("inspect -f {{.State.Status}} c1"), "initialized")
			is(c.T, "start", c.line("start -a c1"), "out")
		}},
		{"rootfs", false, rootfs},
		{"layers", true, podmanLayers},
		{"preserve-fds", false, preserveFDs},
		{"hooks", false, hooks},
		{"systemd mode", false, func(c client) {
			is(c.T, "mounts", c.run("--systemd=always", "grep -c 'tmpfs /run ' /proc/mounts; echo $container"), "1\n(podman|oci)")
		}},
		{"commit", false, func(c client) {
			c.start("c1", "", "touch /new; "+forever)
			eventually(c.T, "a file", func() bool { return c.do("exec", "c1", "test", "-e", "/new").code == 0 })
			c.line("commit -q c1 built")
			c.line("rm -f -t 0 c1")
			is(c.T, "run", c.ok("run", "--rm", c.create[0], "built", "ls", "/new"), "/new")
		}},
	}
}

func pod(c client) {
	if v2() && !systemd() {
		c.Skip("podman 4.3 without systemd makes cgroup v2 pods that may use no device, whatever the runtime")
	}
	c.ok("pod", "create", "--name", "p", "--infra-image", image, "--infra-command", "sleep 1000", c.create[0])
	c.ok("run", "-d", "--pod", "p", "--name", "a", image, "sh", "-c", "echo x >/dev/shm/seen; "+forever)
	c.ok("run", "-d", "--pod", "p", "--name", "b", image, "sh", "-c", forever)
	for _, ns := range []string{"net", "ipc", "uts"} {
		script := "readlink /proc/self/ns/" + ns
		if a, b := c.exec("", "a", script), c.exec("", "b", script); a != b {
			c.Errorf("%s: %s and %s", ns, a, b)
		}
	}
	if a, b := c.exec("", "a", "readlink /proc/self/ns/pid"), c.exec("", "b", "readlink /proc/self/ns/pid"); a == b {
		c.Errorf("both are in %s", a)
	}
	is(c.T, "shared memory", c.exec("", "b", "cat /dev/shm/seen"), "x")
	c.line("pod pause p")
	c.line("pod unpause p")
	is(c.T, "top", c.line("pod top p"), "USER.*while.*while.*")
	c.line("pod stop -t 1 p")
	c.line("pod start p")
	c.line("pod rm -f -t 0 p")
}

const kube = `apiVersion: v1
kind: Pod
metadata: {name: k}
spec:
  restartPolicy: Never
  containers:
  - name: one
    image: ` + image + `
    command: ["sh", "-c", "` + forever + `"]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
`

func playKube(c client) {
	file := filepath.Join(prepareDir(c.T), "kube.yaml")
	harness.WriteFile(c, file, kube, 0o644)
	// The pause image is built from the one at hand, as there is no network.
	c.ok("tag", image, "localhost/podman-pause:4.3.1-0")
	c.line("play kube --network none " + file)
	is(c.T, "exec", c.exec("", "k-one", "id -u; touch /x 2>&1 || true; grep CapEff /proc/self/status"), "1000\n.*Read-only.*CapEff:\t0+")
	c.line("play kube --down " + file)
}

func build(c client) {
	dir := prepareDir(c.T)
	harness.WriteFile(c, filepath.Join(dir, "Containerfile"), `FROM `+image+`
RUN echo built >/file && test $(id -u) = 0
USER user
WORKDIR /home
RUN id -u >/tmp/id && pwd >>/tmp/id
ENV A=b
RUN ["sh", "-c", "echo $A >>/tmp/id"]
CMD ["cat", "/file", "/tmp/id"]
`, 0o644)
	build := words("build -q --no-cache --isolation oci")
	if !systemd() { // below the parent, which has containers already
		build = append(build, c.create[0]+"/build")
	}
	c.ok(append(build, "-t", "built", dir)...)
	is(c.T, "the built image", c.ok("run", "--rm", c.create[0], "built"), "built\n1000\n/home\nb")
	harness.WriteFile(c, filepath.Join(dir, "Containerfile"), "FROM "+image+"\nRUN exit 3\n", 0o644)
	if r := c.do(append(build, dir)...); r.code == 0 {
		c.Error("a build whose RUN fails has succeeded")
	}
}

func rootfs(c client) {
	dir := filepath.Join(prepareDir(c.T), "rootfs")
	c.ok("create", "--name", "c1", image)
	mounted := c.line("mount c1")
	harness.Must(c, os.CopyFS(dir, os.DirFS(mounted)))
	c.line("umount c1")
	is(c.T, "run --rootfs", c.ok("run", "--rm", c.create[0], "--rootfs", dir, "/bin/busybox", "echo", "ok"), "ok")
}

func preserveFDs(c client) {
	file := filepath.Join(prepareDir(c.T), "v/file")
	f, err := os.Open(file)
	harness.Must(c, err)
	defer f.Close()
	cmd := c.command(c.Context(), c.args("run --rm --preserve-fds 1", "cat", "/proc/self/fd/3")...)
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	harness.Must(c, err)
	is(c.T, "descriptor 3", string(out), "content")
}

func hooks(c client) {
	dir := filepath.Join(prepareDir(c.T), "v")
	script := filepath.Join(dir, "hook")
	harness.WriteFile(c, script, "#!/bin/sh\ncat >"+dir+"/state-$1\n", 0o755)
	for _, stage := range []string{"prestart", "createRuntime", "poststart", "poststop"} {
		harness.WriteFile(c, filepath.Join(dir, stage+".json"), `{"version": "1.0.0", "when": {"always": true},
			"hook": {"path": "`+script+`", "args": ["hook", "`+stage+`"]}, "stages": ["`+stage+`"]}`, 0o644)
	}
	c.global = append(append([]string{}, c.global...), "--hooks-dir", dir)
	c.run("", "true")
	for _, stage := range []string{"prestart", "createRuntime", "poststart", "poststop"} {
		is(c.T, stage, harness.ReadFile(c, dir+"/state-"+stage), `.*"status":.*`)
	}
}
