package managers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/tests/harness"
)

// flagCase is `run FLAGS IMAGE sh -c SCRIPT`, for podman and for Docker.
type flagCase struct {
	name   string
	flags  string // see words; $DIR is the case's own folder on the host
	script string
	want   string // regular expression for all of the output
	only   string // "podman" or "docker"; "" is both
	short  bool   // part of the short selection
}

// limitIs prints a cgroup file of either version.
func limitIs(v1name, v2name string) string {
	return "cat /sys/fs/cgroup/" + v1name + " 2>/dev/null || cat /sys/fs/cgroup/" + v2name
}

func processFlags() []flagCase {
	return []flagCase{
		{name: "nothing", script: "echo $$ $(id -u) $PWD", want: "1 0 /", short: true},
		{name: "env", flags: "--env A=b", script: "echo $A", want: "b"},
		{name: "hostname", flags: "--hostname h", script: "hostname; cat /etc/hostname", want: "h\nh"},
		{name: "workdir", flags: "--workdir /new/dir", script: "pwd", want: "/new/dir", only: "docker"},
		{name: "workdir", flags: "--workdir /home", script: "pwd", want: "/home"},
		{name: "user", flags: "--user user --group-add 77", script: "id -u; id -g; id -G; echo ok >/dev/stdout", want: "1000\n1000\n1000 [27 0]+\nok", short: true},
		{name: "user by number", flags: "--user 5:6", script: "id -u; id -g; echo $HOME", want: "5\n6\n/"},
		{name: "umask", flags: "--umask 0027", script: "umask", want: "0027", only: "podman"},
		{name: "ulimit", flags: "--ulimit nofile=100:200 --ulimit nproc=300:300", script: "ulimit -n; ulimit -Hn; grep processes /proc/self/limits", want: "100\n200\n.* 300 +300 .*", short: true},
		{name: "oom-score-adj", flags: "--oom-score-adj 123", script: "cat /proc/self/oom_score_adj", want: "123"},
		{name: "cap-add", flags: "--cap-drop ALL --cap-add NET_ADMIN", script: "grep Cap /proc/self/status", want: `CapInh:\t0+\nCapPrm:\t0+1000\nCapEff:\t0+1000\nCapBnd:\t0+1000\nCapAmb:\t0+`},
		{name: "cap-drop", flags: "--cap-drop ALL", script: "grep CapEff /proc/self/status; chown 5 /tmp 2>&1 || true", want: `CapEff:\t0+\nchown: /tmp: Operation not permitted`, short: true},
		{name: "cap-add of a user", flags: "--user user --cap-add NET_ADMIN", script: "grep -E 'CapPrm|CapAmb' /proc/self/status", want: `CapPrm:\t0+1000\nCapAmb:\t0+1000`, only: "podman"},
		{name: "no-new-privileges", flags: "--security-opt no-new-privileges", script: "grep NoNewPrivs /proc/self/status", want: `NoNewPrivs:\t1`},
		{name: "seccomp by default", script: "grep Seccomp: /proc/self/status", want: `Seccomp:\t2`, short: true},
		{name: "seccomp unconfined", flags: "--security-opt seccomp=unconfined", script: "grep Seccomp: /proc/self/status", want: `Seccomp:\t0`},
		{name: "seccomp profile", flags: "--security-opt seccomp=$DIR/seccomp.json", script: "mkdir /tmp/x 2>&1 || true", want: "mkdir: can't create directory '/tmp/x': Too many links"},
		{name: "init", flags: "--init", script: "cat /proc/1/comm; echo $$", want: `(podman-init|catatonit|docker-init|tini)\n[2-9]`, short: true},
	}
}

func fileFlags() []flagCase {
	return []flagCase{
		{name: "read-only", flags: "--read-only", script: "touch /x 2>&1 || true; echo >/dev/shm/x && echo ok", want: "touch: /x: Read-only file system\nok", short: true},
		{name: "read-only has a tmp", flags: "--read-only", script: "echo >/tmp/x && echo ok", want: "ok", only: "podman"},
		{name: "tmpfs", flags: "--tmpfs /scratch:size=1m,mode=1777", script: "grep ' /scratch ' /proc/mounts; stat -c %a /scratch", want: "tmpfs /scratch tmpfs rw,nosuid,nodev,[^\n]*size=1024k[^\n]*\n1777"},
		{name: "tmpfs over files", flags: "--tmpfs /etc", script: "ls /etc | grep -c passwd", want: "1", only: "podman"},
		{name: "volume", flags: "--volume $DIR/v:/v", script: "cat /v/file; echo new >/v/new && cat /v/new", want: "content\nnew", short: true},
		{name: "volume read-only", flags: "--volume $DIR/v:/v:ro", script: "cat /v/file; (echo new >/v/new) 2>&1 || true", want: "content.*Read-only file system"},
		{name: "volume on a file", flags: "--volume $DIR/v/file:/etc/passwd", script: "cat /etc/passwd", want: "content"},
		{name: "mount", flags: "--mount type=bind,source=$DIR/v,target=/v,readonly", script: "cat /v/file; grep ' /v ' /proc/mounts", want: "content\n[^ ]+ /v [^ ]+ ro,.*"},
		{name: "named volume", flags: "--volume named:/etc", script: "grep -c root /etc/passwd; grep ' /etc ' /proc/mounts | wc -l", want: "1\n1"},
		{name: "anonymous volume", flags: "--volume /data", script: "grep ' /data ' /proc/mounts | wc -l", want: "1"},
		{name: "shm-size", flags: "--shm-size 1m", script: "grep ' /dev/shm ' /proc/mounts", want: ".*size=1024k.*"},
		{name: "mask", flags: "--security-opt mask=/proc/uptime", script: "cat /proc/uptime | wc -c", want: "0", only: "podman"},
		{name: "unmask", flags: "--security-opt unmask=ALL", script: "grep -c ' /proc/' /proc/mounts || true", want: "0", only: "podman"},
		{name: "masked by default", script: "cat /proc/kcore | wc -c; (echo x >/proc/sys/kernel/domainname) 2>&1 || true", want: "0\n.*Read-only file system"},
		{name: "device", flags: "--device /dev/zero:/dev/mine", script: "stat -c %F,%t:%T /dev/mine; head -c3 /dev/mine | wc -c", want: "character special file,1:5\n3", short: true},
		{name: "device read-only", flags: "--device /dev/kmsg:/dev/kmsg:r --cap-add SYSLOG", script: "(: </dev/kmsg) && echo read; (: >/dev/kmsg) 2>&1 || true", want: "read\n.*Operation not permitted"},
		{name: "device made inside", script: "mknod /dev/b b 7 200; cat /dev/b 2>&1 || true", want: "cat: can't open '/dev/b': (Operation not permitted|Permission denied)"},
		{name: "device-cgroup-rule", flags: "--device-cgroup-rule=c·1:99·rmw", script: "mknod /dev/c c 1 99; cat /dev/c 2>&1 || true", want: "cat: can't open '/dev/c': No such device or address"},
		{name: "privileged", flags: "--privileged", script: "mount -t tmpfs x /mnt 2>&1 || mkdir /mnt && mount -t tmpfs x /mnt && umount /mnt && echo mounted; test -e /dev/kmsg && echo device; grep ' /sys ' /proc/mounts; grep Seccomp: /proc/self/status", want: `.*mounted\ndevice\nsysfs /sys sysfs rw,.*Seccomp:\t0`, short: true},
	}
}

func limitFlags() []flagCase {
	return []flagCase{
		{name: "memory", flags: "--memory 64m", script: limitIs("memory/memory.limit_in_bytes", "memory.max"), want: "67108864", short: true},
		{name: "memory is enforced", flags: "--memory 16m --memory-swap 16m", script: "sh -c 'head -c 100000000 /dev/zero | tail' >/dev/null 2>&1; echo $?", want: "137|1"},
		{name: "memory-reservation", flags: "--memory-reservation 32m", script: limitIs("memory/memory.soft_limit_in_bytes", "memory.low"), want: "33554432"},
		{name: "cpus", flags: "--cpus 0.5", script: "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max", want: "50000[\n ]100000", short: true},
		{name: "cpu-shares", flags: "--cpu-shares 512", script: limitIs("cpu/cpu.shares", "cpu.weight"), want: "512|20|59"},
		{name: "cpuset-cpus", flags: "--cpuset-cpus 0", script: limitIs("cpuset/cpuset.cpus", "cpuset.cpus") + "; nproc", want: "0\n1"},
		{name: "pids-limit", flags: "--pids-limit 20", script: limitIs("pids/pids.max", "pids.max"), want: "20", short: true},
		{name: "pids-limit is enforced", flags: "--pids-limit 5", script: "(for i in 1 2 3 4 5 6; do sleep 1 & done) 2>/tmp/e; read x </tmp/e; echo $x", want: ".*can't fork.*"},
		{name: "sysctl", flags: "--sysctl net.ipv4.ip_default_ttl=99 --sysctl kernel.msgmax=9000", script: "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax", want: "99\n9000", short: true},
		{name: "pid host", flags: "--pid host", script: "readlink /proc/self/ns/pid", want: ns("pid")},
		{name: "ipc host", flags: "--ipc host", script: "readlink /proc/self/ns/ipc", want: ns("ipc")},
		{name: "uts host", flags: "--uts host", script: "readlink /proc/self/ns/uts", want: ns("uts")},
		{name: "network host", flags: "--network host", script: "readlink /proc/self/ns/net", want: ns("net"), short: true},
		{name: "network none", flags: "--network none", script: "ls /sys/class/net", want: "lo"},
		{name: "network", script: "ip -o -4 addr show eth0 | wc -l; ping -c1 -w5 $(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p') >/dev/null && echo ok", want: "1\nok"},
		{name: "cgroupns host", flags: "--cgroupns host", script: "readlink /proc/self/ns/cgroup", want: ns("cgroup")},
		{name: "cgroupns private", flags: "--cgroupns private", script: "grep -v name= /proc/self/cgroup | cut -d: -f3 | sort -u; ls /sys/fs/cgroup | wc -l", want: "/\n[1-9][0-9]*"},
		{name: "userns", flags: "--uidmap 0:100000:1000 --gidmap 0:100000:1000", script: "cat /proc/self/uid_map; id -u; touch /tmp/x && echo ok", want: `0 +100000 +1000\n0\nok`, only: "podman"},
	}
}

// ns is a namespace of the suite, which is what a manager calls the host's.
func ns(name string) string {
	link, _ := os.Readlink("/proc/self/ns/" + name)
	return strings.NewReplacer("[", `\[`, "]", `\]`).Replace(link)
}

// prepareDir makes the files that the cases' flags name, and returns the folder.
func prepareDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(env.dir, "case")
	harness.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	harness.Must(t, os.Mkdir(filepath.Join(dir, "v"), 0o755))
	harness.WriteFile(t, filepath.Join(dir, "v/file"), "content\n", 0o644)
	harness.WriteFile(t, filepath.Join(dir, "seccomp.json"), fmt.Sprintf(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
		{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": %d}]}`, unix.EMLINK), 0o644)
	return dir
}

// flagScenarios are the cases for one manager.
func flagScenarios(manager string) []scenario {
	var list []scenario
	for _, cases := range [][]flagCase{processFlags(), fileFlags(), limitFlags()} {
		for _, f := range cases {
			if f.only != "" && f.only != manager {
				continue
			}
			list = append(list, scenario{f.name, f.short, func(c client) {
				if f.name == "privileged" && manager == "docker" && !allCapabilities() {
					c.Skip("this machine does not have all capabilities, which Docker then asks for")
				}
				flags := strings.ReplaceAll(f.flags, "$DIR", prepareDir(c.T))
				is(c.T, f.script, c.run(flags, f.script), f.want)
			}})
		}
	}
	return list
}
