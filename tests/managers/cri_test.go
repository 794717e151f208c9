package managers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"adl.run/adl-runtime/tests/harness"
)

// kubelet speaks to containerd as a kubelet does, in one scenario.
type kubelet struct {
	*testing.T
	cri.RuntimeServiceClient
	ctx     context.Context
	logs    string
	handler string
	pod     string // the sandbox's id
	conf    *cri.PodSandboxConfig
}

// kubelet connects to the daemon.
func (d *containerd) kubelet(t *testing.T) *kubelet {
	conn, err := grpc.NewClient("unix://"+d.dir+"/socket", grpc.WithTransportCredentials(insecure.NewCredentials()))
	harness.Must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), limit(2*time.Minute))
	k := &kubelet{T: t, RuntimeServiceClient: cri.NewRuntimeServiceClient(conn), ctx: ctx, logs: prepareDir(t), handler: handler}
	before := look()
	t.Cleanup(func() {
		k.tidy()
		cancel()
		conn.Close()
		before.noLeaks(t)
	})
	return k
}

func (d *containerd) testCRI(t *testing.T) {
	for _, s := range []struct {
		name  string
		short bool
		run   func(*kubelet)
	}{
		{"status", true, criStatus},
		{"pod", true, criPod},
		{"exec", true, criExec},
		{"exec -it", false, criExecTerminal},
		{"security", false, criSecurity},
		{"resources", false, criResources},
		{"namespaces", false, criNamespaces},
		{"failures", false, criFailures},
		{"host network", false, criHost},
		{"kill", false, criKill},
	} {
		t.Run(s.name, func(t *testing.T) {
			if testing.Short() && !s.short {
				t.Skip("not part of the short selection")
			}
			s.run(d.kubelet(t))
		})
	}
}

// tidy removes all pods.
func (k *kubelet) tidy() {
	list, err := k.ListPodSandbox(k.ctx, &cri.ListPodSandboxRequest{})
	harness.Must(k, err)
	for _, p := range list.Items {
		_, err = k.StopPodSandbox(k.ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.Id})
		harness.Must(k, err)
		_, err = k.RemovePodSandbox(k.ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Id})
		harness.Must(k, err)
	}
}

// run makes a pod; change may be nil.
func (k *kubelet) run(change func(*cri.PodSandboxConfig)) {
	k.Helper()
	k.conf = &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: "pod", Uid: harness.Random(), Namespace: "tests"},
		Hostname:     "pod",
		LogDirectory: k.logs,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    "/" + env.cgroup + "/pod",
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}},
		},
	}
	if systemd() {
		k.conf.Linux.CgroupParent = env.cgroup + "-pod.slice"
	}
	if change != nil {
		change(k.conf)
	}
	r, err := k.RunPodSandbox(k.ctx, &cri.RunPodSandboxRequest{Config: k.conf, RuntimeHandler: k.handler})
	harness.Must(k, err)
	k.pod = r.PodSandboxId
}

// create makes a container of the pod that runs a script; change may be nil.
func (k *kubelet) create(name, script string, change func(*cri.ContainerConfig)) string {
	k.Helper()
	c := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: image},
		Command:  []string{"sh", "-c", script},
		LogPath:  name + ".log",
		Linux:    &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: k.conf.Linux.SecurityContext.NamespaceOptions}},
	}
	if change != nil {
		change(c)
	}
	r, err := k.CreateContainer(k.ctx, &cri.CreateContainerRequest{PodSandboxId: k.pod, Config: c, SandboxConfig: k.conf})
	harness.Must(k, err)
	return r.ContainerId
}

// start is create and StartContainer.
func (k *kubelet) start(name, script string, change func(*cri.ContainerConfig)) string {
	k.Helper()
	id := k.create(name, script, change)
	_, err := k.StartContainer(k.ctx, &cri.StartContainerRequest{ContainerId: id})
	harness.Must(k, err)
	return id
}

// exec runs a script in a container and returns what it prints.
func (k *kubelet) exec(id, script string) string {
	k.Helper()
	r, err := k.ExecSync(k.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", script}, Timeout: 30})
	harness.Must(k, err)
	if r.ExitCode != 0 {
		k.Errorf("exec %s: exit status %d: %s", script, r.ExitCode, r.Stderr)
	}
	return string(r.Stdout)
}

func (k *kubelet) status(id string) *cri.ContainerStatus {
	k.Helper()
	r, err := k.ContainerStatus(k.ctx, &cri.ContainerStatusRequest{ContainerId: id})
	harness.Must(k, err)
	return r.Status
}

// output waits for the container's end and returns what it has logged, without the
// log's own columns.
func (k *kubelet) output(id string) string {
	k.Helper()
	eventually(k.T, "the end of the container", func() bool { return k.status(id).State == cri.ContainerState_CONTAINER_EXITED })
	data, err := os.ReadFile(k.status(id).LogPath)
	harness.Must(k, err)
	var text strings.Builder
	for _, line := range harness.Lines(string(data)) {
		f := strings.SplitN(line, " ", 4) // time, stream, F or P, text
		text.WriteString(f[len(f)-1] + "\n")
	}
	return text.String()
}

func criStatus(k *kubelet) {
	r, err := k.Status(k.ctx, &cri.StatusRequest{})
	harness.Must(k, err)
	for _, c := range r.Status.Conditions {
		if !c.Status {
			k.Errorf("%s is false: %s %s", c.Type, c.Reason, c.Message)
		}
	}
}

func criPod(k *kubelet) {
	k.run(nil)
	s, err := k.PodSandboxStatus(k.ctx, &cri.PodSandboxStatusRequest{PodSandboxId: k.pod})
	harness.Must(k, err)
	if s.Status.State != cri.PodSandboxState_SANDBOX_READY || s.Status.RuntimeHandler != handler || s.Status.Network.Ip == "" {
		k.Errorf("pod: %v", s.Status)
	}
	id := k.start("one", "echo out; echo err >&2; hostname; "+forever, nil)
	if got := k.status(id); got.State != cri.ContainerState_CONTAINER_RUNNING {
		k.Errorf("container: %v", got)
	}
	is(k.T, "network", k.exec(id, "ip -o -4 addr show eth0"), ".*"+s.Status.Network.Ip+"/24.*")
	stats, err := k.ContainerStats(k.ctx, &cri.ContainerStatsRequest{ContainerId: id})
	harness.Must(k, err)
	if stats.Stats.Memory.GetWorkingSetBytes().GetValue() == 0 || stats.Stats.Cpu.GetUsageCoreNanoSeconds().GetValue() == 0 {
		k.Errorf("stats: %v", stats.Stats)
	}
	_, err = k.StopContainer(k.ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 10})
	harness.Must(k, err)
	if got := k.status(id); got.ExitCode != 7 || got.State != cri.ContainerState_CONTAINER_EXITED {
		k.Errorf("after stop: %v", got)
	}
	is(k.T, "log", k.output(id), "out\nerr\npod|err\nout\npod|out\npod\nerr")
	_, err = k.RemoveContainer(k.ctx, &cri.RemoveContainerRequest{ContainerId: id})
	harness.Must(k, err)
	again := k.start("one", "exit 3", func(c *cri.ContainerConfig) { c.Metadata.Attempt = 1 })
	k.output(again)
	is(k.T, "exit status", fmt.Sprint(k.status(again).ExitCode), "3")
}

func criExec(k *kubelet) {
	k.run(nil)
	id := k.start("one", forever, func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Key: "A", Value: []byte("b")}} })
	is(k.T, "exec", k.exec(id, "echo $A $(id -u); grep -c while /proc/1/cmdline"), "b 0\n1")
	r, err := k.ExecSync(k.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 9"}, Timeout: 10})
	harness.Must(k, err)
	is(k.T, "exec", fmt.Sprintf("%s%s%d", r.Stdout, r.Stderr, r.ExitCode), "out\nerr\n9")
	_, err = k.ExecSync(k.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"missing"}, Timeout: 10})
	is(k.T, "exec of a missing program", fmt.Sprint(err), `.*executable file not found in \$PATH.*`)
	_, err = k.ExecSync(k.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sleep", "1000"}, Timeout: 1})
	is(k.T, "exec that takes too long", fmt.Sprint(err), ".*(?i)(timeout|deadline).*")
	for range 20 {
		is(k.T, "probe", k.exec(id, "echo ok"), "ok")
	}
	is(k.T, "processes afterwards", k.exec(id, "ps | grep -c '[s]leep 1000' || true"), "0")
}

// criExecTerminal is `kubectl exec -it`: the streams go through the daemon's own
// server, by the protocol that kubectl uses (one byte for the channel, then data).
func criExecTerminal(k *kubelet) {
	k.run(nil)
	id := k.start("one", forever, nil)
	r, err := k.Exec(k.ctx, &cri.ExecRequest{ContainerId: id, Cmd: []string{"sh"}, Tty: true, Stdin: true, Stdout: true})
	harness.Must(k, err)
	config, err := websocket.NewConfig(strings.Replace(r.Url, "http://", "ws://", 1), "http://localhost")
	harness.Must(k, err)
	config.Protocol = []string{"v4.channel.k8s.io"}
	ws, err := websocket.DialConfig(config)
	harness.Must(k, err)
	defer ws.Close()
	harness.Must(k, ws.SetDeadline(time.Now().Add(limit(30*time.Second))))
	send := func(text string) { harness.Must(k, websocket.Message.Send(ws, []byte(text))) }
	send("\x04" + `{"Width":100,"Height":30}`)
	send("\x00tty; while test \"$(stty size)\" != '30 100'; do :; done; exit 4\n")
	var output, status string
	for {
		var frame []byte
		if err := websocket.Message.Receive(ws, &frame); err != nil {
			break // the server hangs up at the end
		}
		switch {
		case len(frame) > 0 && frame[0] == 1:
			output += string(frame[1:])
		case len(frame) > 0 && frame[0] == 3:
			status += string(frame[1:])
		}
	}
	is(k.T, "output", output, ".*/dev/pts/.*")
	is(k.T, "status", status, `.*"reason":"ExitCode","message":"4".*`)
}

func criSecurity(k *kubelet) {
	k.run(func(p *cri.PodSandboxConfig) {
		p.Linux.Sysctls = map[string]string{"net.ipv4.ip_default_ttl": "99"}
		p.Linux.SecurityContext.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	})
	const show = "id -u; id -G; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; touch /x 2>&1 || true; cat /proc/sys/net/ipv4/ip_default_ttl"
	id := k.start("strict", show, func(c *cri.ContainerConfig) {
		s := c.Linux.SecurityContext
		s.RunAsUser, s.RunAsGroup, s.SupplementalGroups = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 1000}, []int64{77}
		s.ReadonlyRootfs, s.NoNewPrivs = true, true
		s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}}
		s.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
		s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/sys"}
	})
	is(k.T, "a strict container", k.output(id), "1000\n1000 77 ?[0-9]*\nCapEff:\t0+\nNoNewPrivs:\t1\nSeccomp:\t2\ntouch: /x: Read-only file system\n99")
	id = k.start("profile", "mkdir /tmp/x 2>&1 || true", func(c *cri.ContainerConfig) {
		c.Linux.SecurityContext.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: filepath.Join(k.logs, "seccomp.json")}
	})
	is(k.T, "with a profile", k.output(id), ".*Too many links")
	id = k.start("mounts", "cat /v/file; grep ' /v ' /proc/mounts; stat -c %t:%T /dev/mine", func(c *cri.ContainerConfig) {
		c.Mounts = []*cri.Mount{{ContainerPath: "/v", HostPath: filepath.Join(k.logs, "v"), Readonly: true}}
		c.Devices = []*cri.Device{{ContainerPath: "/dev/mine", HostPath: "/dev/zero", Permissions: "r"}}
	})
	is(k.T, "mounts", k.output(id), "content\n[^ ]+ /v [^ ]+ ro,[^\n]*\n1:5")
}

func criResources(k *kubelet) {
	k.run(nil)
	id := k.start("one", forever, func(c *cri.ContainerConfig) {
		c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuQuota: 50000, CpuPeriod: 100000, CpuShares: 512, OomScoreAdj: 900}
	})
	memory, cpu := limitIs("memory/memory.limit_in_bytes", "memory.max"), limitIs("cpu/cpu.cfs_quota_us", "cpu.max")
	is(k.T, "limits", k.exec(id, memory+";"+cpu+"; cat /proc/1/oom_score_adj"), "67108864\n50000( 100000)?\n900")
	_, err := k.UpdateContainerResources(k.ctx, &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, CpuQuota: 20000, CpuPeriod: 100000}})
	harness.Must(k, err)
	is(k.T, "limits after an update", k.exec(id, memory+";"+cpu), "33554432\n20000( 100000)?")
	id = k.start("big", "exec tail /dev/zero", func(c *cri.ContainerConfig) {
		c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 8 << 20}
	})
	k.output(id)
	if s := k.status(id); s.ExitCode != 137 || s.Reason != "OOMKilled" {
		k.Errorf("out of memory: exit status %d, %s", s.ExitCode, s.Reason)
	}
}

func criNamespaces(k *kubelet) {
	k.run(func(p *cri.PodSandboxConfig) { p.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD })
	a := k.start("a", "echo x >/dev/shm/seen; "+forever, nil)
	b := k.start("b", forever, nil)
	for _, name := range []string{"pid", "net", "ipc", "uts"} {
		script := "readlink /proc/self/ns/" + name
		if x, y := k.exec(a, script), k.exec(b, script); x != y {
			k.Errorf("%s: %s and %s", name, x, y)
		}
	}
	is(k.T, "shared memory", k.exec(b, "cat /dev/shm/seen"), "x")
	is(k.T, "shared processes", k.exec(b, "ps | grep -c '[w]hile'"), "2")
	is(k.T, "process 1", k.exec(b, "cat /proc/1/comm"), "sleep")
}

func criFailures(k *kubelet) {
	k.run(nil)
	for _, f := range []struct{ command, want string }{
		{"missing", `executable file not found in \$PATH`},
		{"/etc/passwd", "permission denied"},
	} {
		id := k.create(filepath.Base(f.command), "", func(c *cri.ContainerConfig) { c.Command = []string{f.command} })
		_, err := k.StartContainer(k.ctx, &cri.StartContainerRequest{ContainerId: id})
		is(k.T, f.command, fmt.Sprint(err), ".*"+f.want+".*")
		if s := k.status(id); s.ExitCode != 128 || s.Reason != "StartError" {
			k.Errorf("%s: exit status %d, %s", f.command, s.ExitCode, s.Reason)
		}
	}
	id := k.start("one", "exit 4", nil)
	k.output(id)
	if _, err := k.ExecSync(k.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}, Timeout: 10}); err == nil {
		k.Error("exec in a container that has ended succeeds")
	}
}

func criHost(k *kubelet) {
	k.run(func(p *cri.PodSandboxConfig) {
		p.Hostname = ""
		p.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE}
	})
	id := k.start("one", forever, nil)
	for _, name := range []string{"net", "pid", "ipc"} {
		is(k.T, name, k.exec(id, "readlink /proc/self/ns/"+name), ns(name))
	}
}

func criKill(k *kubelet) {
	k.run(nil)
	id := k.start("deaf", "trap '' TERM; while :; do sleep 0.1; done", nil)
	_, err := k.StopContainer(k.ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 1})
	harness.Must(k, err)
	is(k.T, "exit status", fmt.Sprint(k.status(id).ExitCode), "137")
	id = k.start("many", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait", nil)
	_, err = k.StopPodSandbox(k.ctx, &cri.StopPodSandboxRequest{PodSandboxId: k.pod}) // with a running container
	harness.Must(k, err)
	if s := k.status(id); s.State != cri.ContainerState_CONTAINER_EXITED {
		k.Errorf("after the pod's end: %v", s)
	}
}
