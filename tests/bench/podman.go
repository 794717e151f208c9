package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The operations on what a manager configures.
const (
	opRunPodman = "run-podman" // run, with what podman adds to a config.json
	opPause     = "pause"
	opResume    = "resume"
)

// podmanBundle is the bundle with podman's defaults: seccomp filter, eleven
// capabilities, masks, limits, a sysctl, and files of the host mounted into the
// container.
const podmanBundle = "true-podman"

// podmanProfile is podman's default seccomp profile, below this repository's root.
const podmanProfile = "libsandbox/security/seccomp/testdata/podman.json"

// podmanFiles are the files that podman mounts, by their place in the container.
func podmanFiles() []string { return []string{"etc/hosts", "etc/hostname", "run/.containerenv"} }

func podmanProfileFile(base string) string { return filepath.Join(base, "seccomp.json") }

// makePodmanFiles copies the profile to the scratch folder, and makes the files with
// their mount points.
func makePodmanFiles(base string) error {
	path := podmanProfile
	for range 4 { // tests run in their package's folder
		if _, err := os.Stat(path); err == nil {
			break
		}
		path = filepath.Join("..", path)
	}
	profile, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w (the bench has to run inside its repository)", err)
	}
	if err := os.WriteFile(podmanProfileFile(base), profile, 0o644); err != nil {
		return err
	}
	for _, f := range podmanFiles() {
		for _, path := range []string{filepath.Join(rootfsDir(base), f), podmanFile(base, f)} {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func podmanFile(base, f string) string { return filepath.Join(base, "files", f) }

// addPodmanDefaults changes a config.json to what podman 4.3 writes for a container
// without options.
func addPodmanDefaults(base string, spec map[string]any) error {
	raw, err := os.ReadFile(podmanProfileFile(base))
	if err != nil {
		return err
	}
	linux, _ := spec["linux"].(map[string]any)
	process, _ := spec["process"].(map[string]any)
	if linux == nil || process == nil {
		return errors.New("process or linux: missing")
	}
	var profile map[string]any
	if err := json.Unmarshal(raw, &profile); err != nil {
		return fmt.Errorf("%s: %w", podmanProfile, err)
	}
	linux["seccomp"] = profile
	linux["sysctl"] = map[string]any{"net.ipv4.ping_group_range": "0 0"}
	linux["resources"] = map[string]any{
		"devices": []any{map[string]any{"allow": false, "access": "rwm"}},
		"pids":    map[string]any{"limit": 2048},
	}
	linux["maskedPaths"] = []string{
		"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/fs/selinux", "/sys/dev/block",
	}
	linux["readonlyPaths"] = []string{"/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
		"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
	process["capabilities"] = map[string]any{"bounding": caps, "effective": caps, "permitted": caps}
	process["noNewPrivileges"] = false
	process["rlimits"] = []any{map[string]any{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}}
	mounts, _ := spec["mounts"].([]any)
	for _, f := range podmanFiles() {
		mounts = append(mounts, map[string]any{
			"destination": "/" + f, "type": "bind", "source": podmanFile(base, f), "options": []string{"bind", "rprivate"},
		})
	}
	spec["mounts"] = mounts
	return nil
}

// podmanTargets bound what a container costs as managers configure it.
func podmanTargets(gapMS int64) []target {
	var out []target
	for _, gap := range []int64{0, gapMS} {
		out = append(out, target{key{Op: opRunPodman, Metric: latency, N: 1, GapMS: gap}, nameCrun, 0.6})
	}
	return out
}
